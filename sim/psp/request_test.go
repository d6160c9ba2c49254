package psp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// reportRequest is MSG_REPORT_REQ.
func reportRequest(data snp.ReportData, vmpl, keySel uint32) []byte {
	b := make([]byte, 96)
	copy(b, data[:])
	binary.LittleEndian.PutUint32(b[0x40:], vmpl)
	binary.LittleEndian.PutUint32(b[0x44:], keySel)
	return b
}

// mustReport asks for a report, checks its signature and reads it.
func mustReport(t testing.TB, g *Guest) *snp.Report {
	t.Helper()
	typ, rsp, st := g.GuestRequest(5, 1, reportRequest(snp.ReportData{0: 1, 63: 2}, 0, 0))
	must(t, st)
	return checkReport(t, g.platform, typ, rsp)
}

func checkReport(t testing.TB, p *Platform, typ uint8, rsp []byte) *snp.Report {
	t.Helper()
	if typ != 6 || len(rsp) != 0x20+0x4A0 {
		t.Fatalf("type %d, %d bytes; want MSG_REPORT_RSP with a report", typ, len(rsp))
	}
	if st, size := binary.LittleEndian.Uint32(rsp), binary.LittleEndian.Uint32(rsp[4:]); st != 0 || size != 0x4A0 {
		t.Fatalf("STATUS %#x, REPORT_SIZE %#x; want 0, 0x4A0", st, size)
	}
	if !bytes.Equal(rsp[8:0x20], make([]byte, 24)) {
		t.Errorf("reserved bytes of the response: % x", rsp[8:0x20])
	}
	raw := rsp[0x20:]
	vcek, err := x509.ParseCertificate(p.Certificates().VCEK)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(raw[:0x2A0])
	if !ecdsa.Verify(vcek.PublicKey.(*ecdsa.PublicKey), sum[:], take(raw[0x2A0:]), take(raw[0x2E8:])) {
		t.Error("the VCEK did not sign the report")
	}
	if !bytes.Equal(raw[0x330:], make([]byte, 0x4A0-0x330)) {
		t.Error("something follows s in the signature")
	}
	r, err := snp.ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The fields of a report, at the offsets of AMD 56860's table.
func TestReport(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		p := platform(t, func(c *Config) {
			c.ReportVersion = version
			c.TCB = snp.TCBParts{BootLoader: 4, TEE: 1, SNP: 22, Microcode: 211}
		})
		g := p.CreateContext()
		must(t, g.LaunchStart(snp.PolicyDefault|snp.PolicyDebug, [16]byte{}))
		must(t, g.Activate(1))
		must(t, g.LaunchUpdate(snp.PageZero, 0x800000, page()))
		f := signedParams(t, g, newKey(t), newKey(t))
		must(t, g.LaunchFinish(f))
		data := snp.ReportData{1, 2, 3}
		typ, rsp, st := g.GuestRequest(5, 1, reportRequest(data, 2, 1))
		must(t, st)
		checkReport(t, p, typ, rsp)
		raw := rsp[0x20:]

		le := binary.LittleEndian
		tcb := uint64(4 | 1<<8 | 22<<48 | 211<<56)
		for _, c := range []struct {
			name string
			at   int
			want uint64
		}{
			{"GUEST_SVN and VERSION", 0x000, uint64(version) | 9<<32},
			{"POLICY", 0x008, 0xB0000},
			{"VMPL and SIGNATURE_ALGO", 0x030, 2 | 1<<32},
			{"CURRENT_TCB", 0x038, tcb},
			{"PLATFORM_INFO: SMT_EN", 0x040, 1},
			{"AUTHOR_KEY_EN, SIGNING_KEY VCEK", 0x048, 1},
			{"REPORT_ID_MA", 0x160, 1<<64 - 1},
			{"REPORT_ID_MA, end", 0x178, 1<<64 - 1},
			{"REPORTED_TCB", 0x180, tcb},
			{"family, model, stepping", 0x188, map[uint32]uint64{2: 0, 3: 0x011119}[version]},
			{"COMMITTED_TCB", 0x1E0, tcb},
			{"CURRENT and COMMITTED version 1.55.25", 0x1E8, 0x0001371900013719},
			{"LAUNCH_TCB", 0x1F0, tcb},
			{"LAUNCH_MIT_VECTOR", 0x1F8, 0},
			{"CURRENT_MIT_VECTOR", 0x200, 0},
		} {
			if got := le.Uint64(raw[c.at:]); got != c.want {
				t.Errorf("version %d, %s: %#x, want %#x", version, c.name, got, c.want)
			}
		}
		chip := p.ChipID()
		for _, c := range []struct {
			name string
			at   int
			want []byte
		}{
			{"FAMILY_ID", 0x010, []byte("family id 16 b. ")},
			{"IMAGE_ID", 0x020, []byte("image id, 16 b. ")},
			{"REPORT_DATA", 0x050, data[:]},
			{"MEASUREMENT", 0x090, f.IDBlock[:48]},
			{"HOST_DATA", 0x0C0, f.HostData[:]},
			{"CHIP_ID", 0x1A0, chip[:]},
		} {
			if got := raw[c.at : c.at+len(c.want)]; !bytes.Equal(got, c.want) {
				t.Errorf("version %d, %s: % x, want % x", version, c.name, got, c.want)
			}
		}
		if bytes.Equal(raw[0x140:0x160], make([]byte, 32)) {
			t.Error("REPORT_ID is zero")
		}
		for _, r := range [][2]int{{0x04C, 0x050}, {0x18B, 0x1A0}, {0x1EB, 0x1EC}, {0x1EF, 0x1F0}, {0x208, 0x2A0}} {
			if !zero(raw[r[0]:r[1]]) {
				t.Errorf("version %d: reserved bytes %#x to %#x are not zero", version, r[0], r[1])
			}
		}
	}
}

// Payload statuses of MSG_REPORT_RSP and their order.
func TestReportStatus(t *testing.T) {
	p := platform(t, nil)
	g := running(t, p)
	masked := launching(t, p)
	must(t, masked.LaunchFinish(FinishParams{VCEKDisabled: true}))
	reserved := reportRequest(snp.ReportData{}, 0, 3)
	reserved[95] = 1
	for _, c := range []struct {
		name string
		g    *Guest
		req  []byte
		want snp.Status
	}{
		{"VMPL 3", g, reportRequest(snp.ReportData{}, 3, 0), snp.StatusSuccess},
		{"VMPL 4", g, reportRequest(snp.ReportData{}, 4, 0), snp.StatusInvalidParam},
		{"KEY_SEL 1, VCEK", g, reportRequest(snp.ReportData{}, 0, 1), snp.StatusSuccess},
		{"KEY_SEL 2, VLEK, which is not loaded", g, reportRequest(snp.ReportData{}, 0, 2), snp.StatusInvalidKey},
		{"KEY_SEL 3", g, reportRequest(snp.ReportData{}, 0, 3), snp.StatusInvalidKey},
		{"KEY_SEL bit 2", g, reportRequest(snp.ReportData{}, 0, 4), snp.StatusInvalidParam},
		{"reserved byte comes before KEY_SEL", g, reserved, snp.StatusInvalidParam},
		{"VCEK_DIS, key of choice", masked, reportRequest(snp.ReportData{}, 0, 0), snp.StatusInvalidKey},
		{"VCEK_DIS, VCEK", masked, reportRequest(snp.ReportData{}, 0, 1), snp.StatusInvalidKey},
	} {
		typ, rsp, st := c.g.GuestRequest(5, 1, c.req)
		if st != snp.StatusSuccess || typ != 6 {
			t.Errorf("%s: %s, type %d: a refusal goes in the payload", c.name, st, typ)
			continue
		}
		if got := snp.Status(binary.LittleEndian.Uint32(rsp)); got != c.want {
			t.Errorf("%s: STATUS %s, want %s", c.name, got, c.want)
		}
		if c.want != snp.StatusSuccess && !zero(rsp[4:]) {
			t.Errorf("%s: a refusal carries data", c.name)
		}
	}
}

// What is no request that this firmware knows is refused as a command.
func TestBadRequests(t *testing.T) {
	g := running(t, platform(t, nil))
	for typ := range 256 {
		if typ == MsgKeyRequest || typ == MsgReportRequest {
			continue
		}
		if _, rsp, st := g.GuestRequest(uint8(typ), 1, make([]byte, 96)); st != snp.StatusInvalidParam || rsp != nil {
			t.Errorf("type %d: %s", typ, st)
		}
	}
	for _, c := range []struct {
		typ, version uint8
		n            int
	}{{5, 0, 96}, {5, 2, 96}, {5, 1, 95}, {5, 1, 97}, {5, 1, 0}, {3, 2, 32}, {3, 1, 31}, {3, 1, 40}} {
		if _, _, st := g.GuestRequest(c.typ, c.version, make([]byte, c.n)); st != snp.StatusInvalidParam {
			t.Errorf("type %d version %d with %d bytes: %s, want INVALID_PARAM", c.typ, c.version, c.n, st)
		}
	}
}

// keyRequest is MSG_KEY_REQ.
func keyRequest(change func(b []byte)) []byte {
	b := make([]byte, 32)
	if change != nil {
		change(b)
	}
	return b
}

func mustKey(t testing.TB, g *Guest, req []byte) string {
	t.Helper()
	typ, rsp, st := g.GuestRequest(3, 1, req)
	must(t, st)
	if typ != 4 || len(rsp) != 64 || !zero(rsp[:0x20]) {
		t.Fatalf("type %d, %d bytes, STATUS %#x; want MSG_KEY_RSP with a key", typ, len(rsp), rsp[:4])
	}
	if zero(rsp[0x20:]) {
		t.Error("the key is zero")
	}
	return string(rsp[0x20:])
}

// A derived key depends on what was selected, and on nothing else.
func TestDerivedKey(t *testing.T) {
	p := platform(t, nil)
	id, author := newKey(t), newKey(t)
	guest := func(p *Platform, fill byte) *Guest {
		g := launching(t, p)
		b := page()
		b[0] = fill
		must(t, g.LaunchUpdate(snp.PageNormal, 0, b))
		must(t, g.LaunchFinish(signedParams(t, g, id, author)))
		return g
	}
	a, same, other := guest(p, 1), guest(p, 1), guest(p, 2)
	later := guest(platform(t, nil), 1) // the same chip in another process
	const policy, image, family, measurement, svn, tcb = 1, 2, 4, 8, 16, 32
	sel := func(bits byte, change ...func([]byte)) []byte {
		return keyRequest(func(b []byte) {
			b[8] = bits
			for _, f := range change {
				f(b)
			}
		})
	}
	plain := mustKey(t, a, sel(0))
	measured := mustKey(t, a, sel(measurement))
	for name, g := range map[string]*Guest{"again": a, "an equal guest": same, "in another process": later} {
		if mustKey(t, g, sel(0)) != plain || mustKey(t, g, sel(measurement)) != measured {
			t.Errorf("%s: another key", name)
		}
	}
	if mustKey(t, other, sel(0)) != plain {
		t.Error("a guest with other pages has another key though the measurement was not selected")
	}
	if mustKey(t, other, sel(measurement)) == measured {
		t.Error("a guest with other pages has the same key though the measurement was selected")
	}
	seen := map[string]string{}
	for name, req := range map[string][]byte{
		"nothing": sel(0), "policy": sel(policy), "image": sel(image), "family": sel(family), "measurement": sel(measurement),
		"svn": sel(svn), "tcb": sel(tcb), "all": sel(63),
		"svn 3":  sel(svn, func(b []byte) { b[0x14] = 3 }),
		"tcb 1":  sel(tcb, func(b []byte) { b[0x18] = 1 }),
		"VMPL 1": sel(0, func(b []byte) { b[0x10] = 1 }),
		"VMRK":   sel(0, func(b []byte) { b[0] = 1 }),
	} {
		k := mustKey(t, a, req)
		if was, have := seen[k]; have {
			t.Errorf("%s and %s give one key", name, was)
		}
		seen[k] = name
	}
	if mustKey(t, a, sel(0, func(b []byte) { b[0x14] = 3 })) != plain {
		t.Error("GUEST_SVN that was not selected went into the key")
	}
	vmrk := sel(0, func(b []byte) { b[0] = 1 })
	if mustKey(t, a, vmrk) == mustKey(t, same, vmrk) {
		t.Error("two launches have one VMRK")
	}
}

func TestDerivedKeyStatus(t *testing.T) {
	p := platform(t, nil)
	g := launched(t, p)
	must(t, g.LaunchFinish(signedParams(t, g, newKey(t), newKey(t)))) // GUEST_SVN 9
	masked := launching(t, p)
	must(t, masked.LaunchFinish(FinishParams{VCEKDisabled: true}))
	for _, c := range []struct {
		name   string
		g      *Guest
		change func(b []byte)
		want   snp.Status
	}{
		{"plain", g, nil, snp.StatusSuccess},
		{"highest SVN", g, func(b []byte) { b[0x14] = 9 }, snp.StatusSuccess},
		{"SVN above the ID block's", g, func(b []byte) { b[0x14] = 10 }, snp.StatusInvalidParam},
		{"committed TCB", g, func(b []byte) { b[0x18], b[0x1E], b[0x1F] = 9, 21, 72 }, snp.StatusSuccess},
		{"boot loader above it", g, func(b []byte) { b[0x18] = 10 }, snp.StatusInvalidParam},
		{"TEE above it", g, func(b []byte) { b[0x19] = 1 }, snp.StatusInvalidParam},
		{"SNP above it", g, func(b []byte) { b[0x1E] = 22 }, snp.StatusInvalidParam},
		{"microcode above it", g, func(b []byte) { b[0x1F] = 73 }, snp.StatusInvalidParam},
		{"VMPL 3", g, func(b []byte) { b[0x10] = 3 }, snp.StatusSuccess},
		{"VMPL 4", g, func(b []byte) { b[0x10] = 4 }, snp.StatusInvalidParam},
		{"reserved", g, func(b []byte) { b[4] = 1 }, snp.StatusInvalidParam},
		{"reserved bit 3", g, func(b []byte) { b[0] = 8 }, snp.StatusInvalidParam},
		{"GUEST_FIELD_SELECT bit 6, of version 2", g, func(b []byte) { b[8] = 64 }, snp.StatusInvalidParam},
		{"KEY_SEL 1, VCEK", g, func(b []byte) { b[0] = 1 << 1 }, snp.StatusSuccess},
		{"KEY_SEL 2, VLEK, which is not loaded", g, func(b []byte) { b[0] = 2 << 1 }, snp.StatusInvalidKey},
		{"KEY_SEL 3", g, func(b []byte) { b[0] = 3 << 1 }, snp.StatusInvalidKey},
		{"VCEK_DIS", masked, nil, snp.StatusInvalidKey},
		{"VCEK_DIS, but the VMRK", masked, func(b []byte) { b[0] = 1 }, snp.StatusSuccess},
	} {
		typ, rsp, st := c.g.GuestRequest(3, 1, keyRequest(c.change))
		if st != snp.StatusSuccess || typ != 4 || len(rsp) != 64 {
			t.Errorf("%s: %s, type %d, %d bytes: a refusal goes in the payload", c.name, st, typ, len(rsp))
			continue
		}
		if got := snp.Status(binary.LittleEndian.Uint32(rsp)); got != c.want {
			t.Errorf("%s: STATUS %s, want %s", c.name, got, c.want)
		}
		if c.want != snp.StatusSuccess && !zero(rsp[4:]) {
			t.Errorf("%s: a refusal carries a key", c.name)
		}
	}
}

// FuzzGuestRequest never panics; what is answered is answered in kind, and a
// report is signed and carries the request's REPORT_DATA.
func FuzzGuestRequest(f *testing.F) {
	p := platform(f, nil)
	g := running(f, p)
	f.Add(uint8(5), uint8(1), reportRequest(snp.ReportData{1}, 0, 0))
	f.Add(uint8(5), uint8(1), reportRequest(snp.ReportData{1}, 9, 3))
	f.Add(uint8(3), uint8(1), keyRequest(nil))
	f.Add(uint8(3), uint8(1), keyRequest(func(b []byte) { b[0] = 7; b[8] = 63 }))
	f.Add(uint8(1), uint8(1), []byte{})
	f.Fuzz(func(t *testing.T, typ, version uint8, payload []byte) {
		given := bytes.Clone(payload)
		rspType, rsp, st := g.GuestRequest(typ, version, payload)
		if !bytes.Equal(given, payload) {
			t.Fatal("the request was changed")
		}
		if st != snp.StatusSuccess {
			if rsp != nil || rspType != 0 {
				t.Fatalf("%s with a response", st)
			}
			return
		}
		if rspType != typ+1 || len(rsp) < 0x20 {
			t.Fatalf("type %d answered with type %d, %d bytes", typ, rspType, len(rsp))
		}
		if typ == 5 && binary.LittleEndian.Uint32(rsp) == 0 {
			if r := checkReport(t, p, rspType, rsp); !bytes.Equal(r.ReportData[:], payload[:64]) {
				t.Fatal("the report carries other REPORT_DATA")
			}
		}
	})
}
