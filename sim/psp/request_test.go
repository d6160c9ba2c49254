package psp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
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
	chain := p.Certificates()
	signer, der := "VCEK", chain.VCEK
	switch signingKey := raw[0x48] >> 2 & 7; signingKey {
	case 0:
	case 1:
		signer, der = "VLEK", chain.VLEK
	case 7:
		signer = ""
	default:
		t.Fatalf("SIGNING_KEY %d", signingKey)
	}
	if signer == "" {
		if !zero(raw[0x2A0:]) {
			t.Error("a report that no key signed has a signature")
		}
	} else {
		sum := sha512.Sum384(raw[:0x2A0])
		if !ecdsa.Verify(mustParse(t, der).PublicKey.(*ecdsa.PublicKey), sum[:], take(raw[0x2A0:]), take(raw[0x2E8:])) {
			t.Errorf("the %s did not sign the report", signer)
		}
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

// Payload statuses of MSG_REPORT_RSP and their order.
func TestReportStatus(t *testing.T) {
	p := platform(t, nil)
	g := running(t, p)
	masked := launching(t, p)
	must(t, masked.LaunchFinish(FinishParams{VCEKDisabled: true}))
	reserved := reportRequest(snp.ReportData{}, 0, 3)
	reserved[95] = 1
	provider := platform(t, func(c *Config) { c.VLEKLoaded = true })
	withVLEK := running(t, provider)
	noVCEK := launching(t, provider)
	must(t, noVCEK.LaunchFinish(FinishParams{VCEKDisabled: true}))
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
		{"VLEK", withVLEK, reportRequest(snp.ReportData{}, 0, 2), snp.StatusSuccess},
		{"VCEK where a VLEK is loaded", withVLEK, reportRequest(snp.ReportData{}, 0, 1), snp.StatusSuccess},
		{"KEY_SEL 3 where a VLEK is loaded", withVLEK, reportRequest(snp.ReportData{}, 0, 3), snp.StatusInvalidKey},
		{"VCEK_DIS, the VLEK is the choice", noVCEK, reportRequest(snp.ReportData{}, 0, 0), snp.StatusSuccess},
		{"VCEK_DIS, VCEK where a VLEK is loaded", noVCEK, reportRequest(snp.ReportData{}, 0, 1), snp.StatusInvalidKey},
		{"a bad VMPL comes before the key", masked, reportRequest(snp.ReportData{}, 9, 3), snp.StatusInvalidParam},
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
		switch typ {
		case MsgCPUIDRequest, MsgKeyRequest, MsgReportRequest, MsgTSCInfoRequest:
			continue
		}
		if _, rsp, st := g.GuestRequest(uint8(typ), 1, make([]byte, 96)); st != snp.StatusInvalidParam || rsp != nil {
			t.Errorf("type %d: %s", typ, st)
		}
	}
	for _, c := range []struct {
		typ, version uint8
		n            int
	}{
		{5, 0, 96}, {5, 2, 96}, {5, 1, 95}, {5, 1, 97}, {5, 1, 0}, {3, 2, 32}, {3, 2, 47}, {3, 3, 40}, {3, 1, 31}, {3, 1, 40},
		{1, 2, 16}, {1, 1, 15}, {1, 1, 32}, {1, 1, 0}, {0x11, 2, 128}, {0x11, 1, 127}, {0x11, 1, 144},
	} {
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
	if mustKey(t, guest(platform(t, func(c *Config) { c.ChipID = [64]byte{9} }), 1), sel(0)) == plain {
		t.Error("another chip gives the same key")
	}
	vmrk := sel(0, func(b []byte) { b[0] = 1 })
	if mustKey(t, a, vmrk) == mustKey(t, same, vmrk) {
		t.Error("two launches have one VMRK")
	}
}

// Message version 2 mixes a mitigation vector in, at most the guest's own.
func TestDerivedKeyVersion2(t *testing.T) {
	g := running(t, platform(t, func(c *Config) { c.MitVector = 5 }))
	ask := func(n int, change func(b []byte)) (snp.Status, string) {
		t.Helper()
		b := make([]byte, n)
		if change != nil {
			change(b)
		}
		typ, rsp, st := g.GuestRequest(3, 2, b)
		must(t, st)
		if typ != 4 || len(rsp) != 64 {
			t.Fatalf("type %d, %d bytes", typ, len(rsp))
		}
		return snp.Status(le.Uint32(rsp)), string(rsp[0x20:])
	}
	const selectMit = 64
	_, none := ask(40, nil)
	if none != mustKey(t, g, keyRequest(nil)) {
		t.Error("version 2 without its field gives another key than version 1")
	}
	_, zeroMit := ask(40, func(b []byte) { b[8] = selectMit })
	_, mit := ask(40, func(b []byte) { b[8], b[0x20] = selectMit, 4 })
	_, padded := ask(48, func(b []byte) { b[8], b[0x20] = selectMit, 4 })
	if none == zeroMit || zeroMit == mit || none == mit || mit != padded {
		t.Error("the vector is not what makes the difference")
	}
	for name, c := range map[string]struct {
		n      int
		change func(b []byte)
	}{
		"a mitigation that the guest was not launched with": {40, func(b []byte) { b[8], b[0x20] = selectMit, 2 }},
		"padding that is not zero":                          {48, func(b []byte) { b[47] = 1 }},
		"GUEST_FIELD_SELECT bit 7":                          {40, func(b []byte) { b[8] = 128 }},
	} {
		if st, key := ask(c.n, c.change); st != snp.StatusInvalidParam || !zero([]byte(key)) {
			t.Errorf("%s: %s", name, st)
		}
	}
}

// Each root gives keys of its own, and the VLEK's is the same on every chip of the
// provider.
func TestDerivedKeyRoots(t *testing.T) {
	on := func(chip byte) *Guest {
		return running(t, platform(t, func(c *Config) { c.VLEKLoaded = true; c.ChipID = [64]byte{chip} }))
	}
	root := func(b byte) []byte { return keyRequest(func(r []byte) { r[0] = b }) }
	a, b := on(1), on(2)
	vcek, vlek := mustKey(t, a, root(1<<1)), mustKey(t, a, root(2<<1))
	if vcek == vlek || mustKey(t, a, root(0)) != vlek {
		t.Error("the VLEK is not the choice where it is loaded, or gives the VCEK's key")
	}
	if mustKey(t, b, root(1<<1)) == vcek {
		t.Error("two chips give one key from their VCEKs")
	}
	if mustKey(t, b, root(2<<1)) != vlek {
		t.Error("two chips of one provider give two keys from its VLEK")
	}
}

func TestDerivedKeyStatus(t *testing.T) {
	p := platform(t, nil)
	g := launched(t, p)
	must(t, g.LaunchFinish(signedParams(t, g, newKey(t), newKey(t)))) // GUEST_SVN 9
	masked := launching(t, p)
	must(t, masked.LaunchFinish(FinishParams{VCEKDisabled: true}))
	provider := platform(t, func(c *Config) { c.VLEKLoaded = true })
	withVLEK := running(t, provider)
	noVCEK := launching(t, provider)
	must(t, noVCEK.LaunchFinish(FinishParams{VCEKDisabled: true}))
	keyless := running(t, platform(t, func(c *Config) { c.MaskChipKey = true }))
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
		{"a reserved TCB byte", g, func(b []byte) { b[0x1A] = 1 }, snp.StatusInvalidParam},
		{"KEY_SEL 2, VLEK", withVLEK, func(b []byte) { b[0] = 2 << 1 }, snp.StatusSuccess},
		{"VCEK_DIS, VLEK of the platform's choice", noVCEK, nil, snp.StatusSuccess},
		{"VCEK_DIS, VCEK", noVCEK, func(b []byte) { b[0] = 1 << 1 }, snp.StatusInvalidKey},
		{"VMRK and KEY_SEL 3", g, func(b []byte) { b[0] = 3<<1 | 1 }, snp.StatusInvalidKey},
		{"VMRK and KEY_SEL 2, which is not loaded", g, func(b []byte) { b[0] = 2<<1 | 1 }, snp.StatusInvalidKey},
		{"MASK_CHIP_KEY", keyless, nil, snp.StatusInvalidKey},
		{"MASK_CHIP_KEY, but the VMRK", keyless, func(b []byte) { b[0] = 1 }, snp.StatusSuccess},
		{"a bad field comes before the key", masked, func(b []byte) { b[0x10] = 4 }, snp.StatusInvalidParam},
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
	f.Add(uint8(1), uint8(1), cpuidPage(3, [2]uint32{1, 0xB00F21})[:16+3*48])
	f.Add(uint8(0x11), uint8(1), make([]byte, 128))
	f.Add(uint8(3), uint8(2), append(keyRequest(nil), 1, 0, 0, 0, 0, 0, 0, 0))
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
		if rspType != typ+1 || len(rsp) < 0x10 {
			t.Fatalf("type %d answered with type %d, %d bytes", typ, rspType, len(rsp))
		}
		if typ == 5 && binary.LittleEndian.Uint32(rsp) == 0 {
			if r := checkReport(t, p, rspType, rsp); !bytes.Equal(r.ReportData[:], payload[:64]) {
				t.Fatal("the report carries other REPORT_DATA")
			}
		}
	})
}
