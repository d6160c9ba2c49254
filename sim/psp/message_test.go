package psp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// seal encrypts a guest message as a guest does, by the layout of Linux's struct
// snp_guest_msg_hdr.
func seal(g *Guest, vmpck uint8, seqno uint64, typ, version uint8, payload []byte) []byte {
	b := make([]byte, 4096)
	le.PutUint64(b[0x20:], seqno)
	b[0x30], b[0x31], b[0x32] = 1, 1, 0x60
	b[0x34], b[0x35] = typ, version
	le.PutUint16(b[0x36:], uint16(len(payload)))
	b[0x3C] = vmpck
	block, err := aes.NewCipher(g.vmpck[vmpck][:])
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	iv := make([]byte, 12)
	le.PutUint64(iv, seqno)
	sealed := gcm.Seal(nil, iv, payload, b[0x30:0x60])
	copy(b[0x60:], sealed[:len(payload)])
	copy(b, sealed[len(payload):])
	return b
}

// open decrypts a response as a guest does.
func open(t testing.TB, g *Guest, vmpck uint8, b []byte) (seqno uint64, typ, version uint8, payload []byte) {
	t.Helper()
	if b[0x30] != 1 || b[0x31] != 1 || le.Uint16(b[0x32:]) != 0x60 || b[0x3C] != vmpck {
		t.Fatalf("header of the response: % x", b[0x30:0x60])
	}
	seqno = le.Uint64(b[0x20:])
	block, err := aes.NewCipher(g.vmpck[vmpck][:])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, 12)
	le.PutUint64(iv, seqno)
	n := int(le.Uint16(b[0x36:]))
	payload, err = gcm.Open(nil, iv, append(bytes.Clone(b[0x60:0x60+n]), b[:16]...), b[0x30:0x60])
	if err != nil {
		t.Fatalf("the response does not decrypt: %v", err)
	}
	return seqno, b[0x34], b[0x35], payload
}

// A conversation with each key: numbers go up by two, each key has its own, the
// response is the request's number, type and version plus one, one and nothing,
// and a request that came before does not come again.
func TestMessages(t *testing.T) {
	p := platform(t, nil)
	g := running(t, p)
	for round := range uint64(3) {
		for vmpck := range uint8(4) {
			data := snp.ReportData{vmpck, byte(round)}
			request := seal(g, vmpck, 2*round+1, MsgReportRequest, 1, reportRequest(data, 3, 0))
			rsp, st := g.Request(request)
			must(t, st)
			seqno, typ, version, payload := open(t, g, vmpck, rsp)
			if seqno != 2*round+2 || typ != MsgReportResponse || version != 1 {
				t.Errorf("VMPCK%d, round %d: number %d, type %d, version %d", vmpck, round, seqno, typ, version)
			}
			if r := checkReport(t, p, typ, payload); r.ReportData != data {
				t.Errorf("VMPCK%d, round %d: another report", vmpck, round)
			}
			if _, st := g.Request(request); st != snp.StatusAEADOverflow {
				t.Errorf("VMPCK%d, round %d: sent again: %s", vmpck, round, st)
			}
		}
	}
	if g.counters != [4]uint64{6, 6, 6, 6} {
		t.Errorf("counters %v", g.counters)
	}
}

// A VMPCK speaks for its level and those below, in reports and in keys.
func TestVMPCKLimitsVMPL(t *testing.T) {
	g := running(t, platform(t, nil))
	next := [4]uint64{1, 1, 1, 1}
	for vmpck := range uint8(4) {
		for vmpl := range uint32(5) {
			want := snp.StatusSuccess
			if vmpl < uint32(vmpck) || vmpl > 3 {
				want = snp.StatusInvalidParam
			}
			for typ, payload := range map[uint8][]byte{
				MsgReportRequest: reportRequest(snp.ReportData{}, vmpl, 0),
				MsgKeyRequest:    keyRequest(func(b []byte) { b[0x10] = byte(vmpl) }),
			} {
				rsp, st := g.Request(seal(g, vmpck, next[vmpck], typ, 1, payload))
				must(t, st)
				next[vmpck] += 2
				_, _, _, answer := open(t, g, vmpck, rsp)
				if got := snp.Status(le.Uint32(answer)); got != want {
					t.Errorf("type %d, VMPCK%d, VMPL %d: %s, want %s", typ, vmpck, vmpl, got, want)
				}
			}
		}
	}
}

// The secrets page gives a guest the keys that its messages are encrypted with.
func TestSecretsPageHasTheKeys(t *testing.T) {
	g := launching(t, platform(t, nil))
	b := page()
	must(t, g.LaunchUpdate(snp.PageSecrets, 0x80D000, b))
	must(t, g.LaunchFinish(FinishParams{}))
	for i := range uint8(4) {
		twin := &Guest{}
		copy(twin.vmpck[i][:], b[0x20+32*int(i):])
		_, st := g.Request(seal(twin, i, 1, MsgKeyRequest, 1, keyRequest(func(b []byte) { b[0x10] = 3 })))
		must(t, st)
	}
}

// MSG_CPUID_REQ: what the processor has is confirmed, what it has not is put right.
func TestCPUIDMessage(t *testing.T) {
	g := running(t, platform(t, nil)) // a Genoa
	n := 0
	ask := func(payload []byte) []byte {
		t.Helper()
		n++
		rsp, st := g.Request(seal(g, 0, uint64(2*n-1), MsgCPUIDRequest, 1, payload))
		must(t, st)
		_, typ, _, answer := open(t, g, 0, rsp)
		if typ != MsgCPUIDResponse || len(answer) != len(payload) {
			t.Fatalf("type %d, %d bytes", typ, len(answer))
		}
		return answer
	}
	good := cpuidPage(2, [2]uint32{0, 0x10}, [2]uint32{1, 0xA10F11})[:16+2*48]
	a := ask(good)
	if le.Uint32(a) != 0 || le.Uint32(a[4:]) != 2 || !zero(a[8:16]) || !bytes.Equal(a[16:], good[16:]) {
		t.Errorf("what is so: STATUS %#x, COUNT %d", le.Uint32(a), le.Uint32(a[4:]))
	}
	a = ask(cpuidPage(2, [2]uint32{0, 0x10}, [2]uint32{1, 0xB00F21})[:16+2*48])
	if le.Uint32(a) != 0x16 || le.Uint32(a[4:]) != 2 || !bytes.Equal(a[16:], good[16:]) {
		t.Errorf("a newer processor: STATUS %#x, EAX %#x", le.Uint32(a), le.Uint32(a[16+48+24:]))
	}
	for name, b := range map[string][]byte{
		"a count above the entries": cpuidPage(3)[:16+2*48],
		"a count below them":        cpuidPage(1)[:16+2*48],
		"a reserved word":           append([]byte{0, 0, 0, 0, 1}, make([]byte, 11)...),
		"a reserved field":          func() []byte { b := cpuidPage(1)[:64]; b[63] = 1; return b }(),
	} {
		if a := ask(b); le.Uint32(a) != 0x16 {
			t.Errorf("%s: STATUS %#x", name, le.Uint32(a))
		}
	}
	// A size that is none of that message's is no message.
	if _, st := g.Request(seal(g, 0, uint64(2*n+1), MsgCPUIDRequest, 1, make([]byte, 32))); st != snp.StatusInvalidParam {
		t.Errorf("32 bytes: %s", st)
	}
}

// MSG_TSC_INFO_RSP by Linux's struct snp_tsc_info_resp.
func TestTSCInfo(t *testing.T) {
	p := platform(t, nil)
	for khz, scale := range map[uint32]uint64{0: 1 << 32, 2_000_000: 1 << 32, 1_000_000: 1 << 31, 3_000_000: 3 << 31} {
		g := p.CreateContext()
		must(t, g.Start(StartParams{Policy: snp.PolicyDefault, DesiredTSCKHz: khz}))
		must(t, g.Activate(1))
		must(t, g.LaunchFinish(FinishParams{}))
		typ, rsp, st := g.GuestRequest(0x11, 1, make([]byte, 128))
		must(t, st)
		if typ != 0x12 || len(rsp) != 128 || le.Uint32(rsp) != 0 || le.Uint64(rsp[8:]) != scale || le.Uint64(rsp[16:]) != 0 || le.Uint32(rsp[24:]) != 200 || !zero(rsp[28:]) {
			t.Errorf("%d kHz: type %d, %d bytes, STATUS %d, scale %#x", khz, typ, len(rsp), le.Uint32(rsp), le.Uint64(rsp[8:]))
		}
		reserved := make([]byte, 128)
		reserved[127] = 1
		if _, rsp, _ := g.GuestRequest(0x11, 1, reserved); le.Uint32(rsp) != 0x16 || !zero(rsp[4:]) {
			t.Errorf("a reserved byte: STATUS %#x", le.Uint32(rsp))
		}
		must(t, g.Decommission())
		p.DFFlush()
	}
}

// FuzzRequest gives pages as requests, and pages that are encrypted rightly with
// any header and payload. Nothing panics; a response comes exactly when the counter
// moves, and is the request's.
func FuzzRequest(f *testing.F) {
	p := platform(f, nil)
	g := running(f, p)
	f.Add(uint8(0), uint64(1), uint8(5), uint8(1), reportRequest(snp.ReportData{1}, 0, 0), uint16(0), byte(0))
	f.Add(uint8(3), uint64(1), uint8(3), uint8(2), append(keyRequest(nil), make([]byte, 16)...), uint16(0), byte(0))
	f.Add(uint8(2), uint64(1), uint8(1), uint8(1), cpuidPage(2, [2]uint32{1, 0xC00F00})[:16+2*48], uint16(0), byte(0))
	f.Add(uint8(1), uint64(1), uint8(0x11), uint8(1), make([]byte, 128), uint16(0), byte(0))
	f.Add(uint8(1), uint64(1), uint8(5), uint8(1), make([]byte, 96), uint16(0x36), byte(0xF0))
	f.Add(uint8(1), uint64(1)<<63, uint8(5), uint8(1), make([]byte, 96), uint16(0x3C), byte(7))
	f.Fuzz(func(t *testing.T, vmpck uint8, seqno uint64, typ, version uint8, payload []byte, at uint16, patch byte) {
		vmpck %= 4
		payload = payload[:min(len(payload), 4096-0x60)]
		b := seal(g, vmpck, seqno, typ, version, payload)
		b[at%4096] ^= patch
		g.counters = [4]uint64{}
		g.counters[vmpck] = seqno - 1
		given, before := bytes.Clone(b), g.counters
		rsp, st := g.Request(b)
		if !bytes.Equal(b, given) {
			t.Fatal("the request was changed")
		}
		if st != snp.StatusSuccess {
			if rsp != nil || g.counters != before {
				t.Fatalf("%s, and a response or another counter", st)
			}
			return
		}
		before[vmpck] += 2
		if g.counters != before {
			t.Fatalf("counters %v, want %v", g.counters, before)
		}
		n, rspType, rspVersion, answer := open(t, g, vmpck, rsp)
		if n != seqno+1 || rspType != typ+1 || rspVersion != version || len(answer) == 0 || len(answer)%16 != 0 {
			t.Fatalf("number %d, type %d, version %d, %d bytes", n, rspType, rspVersion, len(answer))
		}
	})
}
