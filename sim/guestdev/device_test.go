package guestdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return b
}

// The numbers of include/uapi/linux/sev-guest.h as other implementations
// spell them out (go-sev-guest client/linuxabi: 'S', size 32, nr 0 to 2).
func TestIoctlNumbers(t *testing.T) {
	for nr, cmd := range []uint32{ioctlGetReport, ioctlGetDerivedKey, ioctlGetExtReport} {
		if want := uint32(3<<30 | 32<<16 | 'S'<<8 | nr); cmd != want {
			t.Errorf("ioctl %d is %#x, want %#x", nr, cmd, want)
		}
	}
}

func TestGetReport(t *testing.T) {
	h := &script{rspType: MsgReportRsp, rsp: counting(32 + snp.ReportSize)}
	k := withHost(t, h)
	req := counting(96)
	k.prepare(1, req, 4000)
	if got := k.ioctl(0xC0205300, argAddr); got != 0 {
		t.Fatalf("ioctl: %d", got)
	}
	if h.msgType != 5 || h.version != 1 || !bytes.Equal(h.payload, req) {
		t.Errorf("the host saw message %d version %d with %x, want MSG_REPORT_REQ version 1 with the request", h.msgType, h.version, h.payload)
	}
	want := append(counting(32+snp.ReportSize), make([]byte, 4000-32-snp.ReportSize)...)
	if !bytes.Equal(k.memory[respAddr], want) {
		t.Error("the response is not the host's answer followed by zeros")
	}
	if k.rounds != 4 {
		t.Errorf("%d rounds, want 4: the ioctl's struct, the request, the places for the answer, the answer", k.rounds)
	}
}

func TestGetDerivedKey(t *testing.T) {
	h := &script{rspType: MsgKeyRsp, rsp: counting(64)}
	k := withHost(t, h)
	k.prepare(2, counting(32), 64)
	if got := k.ioctl(0xC0205301, argAddr); got != 0 {
		t.Fatalf("ioctl: %d", got)
	}
	if h.msgType != 3 || h.version != 2 || !bytes.Equal(h.payload, counting(32)) || !bytes.Equal(k.memory[respAddr], counting(64)) {
		t.Errorf("message %d version %d, response %x", h.msgType, h.version, k.memory[respAddr])
	}
}

func extRequest(certsAddress uint64, certsLen uint32) []byte {
	req := append(counting(96), make([]byte, 16)...)
	binary.LittleEndian.PutUint64(req[96:], certsAddress)
	binary.LittleEndian.PutUint32(req[104:], certsLen)
	return req
}

func TestExtendedReport(t *testing.T) {
	certs := counting(5000) // two pages
	for _, c := range []struct {
		name       string
		certs      []byte
		address    uint64
		room       uint32
		result     int32
		exitInfo2  uint64
		certsLen   uint32
		asked      int
		wantReport bool
	}{
		{"asks how much room", certs, 0, 0, -int32(unix.EIO), 1 << 32, 8192, 0, false},
		{"too little room", certs, certsAddr, 4096, -int32(unix.EIO), 1 << 32, 8192, 0, false},
		{"enough room", certs, certsAddr, 8192, 0, 0, 8192, 1, true},
		{"more room than needed", certs, certsAddr, 16384, 0, 0, 16384, 1, true},
		{"room without an address counts as none", certs, 0, 8192, -int32(unix.EIO), 1 << 32, 8192, 0, false},
		{"no certificates", nil, 0, 0, 0, 0, 0, 1, true},
		{"no certificates, but room", nil, certsAddr, 4096, 0, 0, 4096, 1, true},
		{"room of no whole pages", certs, certsAddr, 4097, -int32(unix.EINVAL), 0xFF, 4097, 0, false},
		{"room beyond the driver's limit", certs, certsAddr, 0x5000, -int32(unix.EINVAL), 0xFF, 0x5000, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &script{rspType: MsgReportRsp, rsp: counting(32 + snp.ReportSize), certs: c.certs}
			k := withHost(t, h)
			k.prepare(1, extRequest(c.address, c.room), 4000)
			k.memory[certsAddr] = bytes.Repeat([]byte{0xEE}, 0x5000)
			if got := k.ioctl(0xC0205302, argAddr); got != c.result {
				t.Fatalf("result %d, want %d", got, c.result)
			}
			if got := k.exitInfo2(); got != c.exitInfo2 {
				t.Errorf("exitinfo2 %#x, want %#x", got, c.exitInfo2)
			}
			if got := binary.LittleEndian.Uint32(k.memory[reqAddr][104:]); got != c.certsLen {
				t.Errorf("certs_len %d, want %d", got, c.certsLen)
			}
			if h.asked != c.asked {
				t.Errorf("the firmware was asked %d times, want %d", h.asked, c.asked)
			}
			if h.asked > 0 && !bytes.Equal(h.payload, counting(96)) {
				t.Errorf("the firmware saw %x, want the report request without the certificates' fields", h.payload)
			}
			if got := bytes.HasPrefix(k.memory[respAddr], counting(32+snp.ReportSize)); got != c.wantReport {
				t.Errorf("report written: %v, want %v", got, c.wantReport)
			}
			if c.wantReport && c.address != 0 {
				want := append(bytes.Clone(c.certs), make([]byte, int(c.room)-len(c.certs))...)
				want = append(want, bytes.Repeat([]byte{0xEE}, 0x5000-int(c.room))...)
				if !bytes.Equal(k.memory[certsAddr], want) {
					t.Error("the certificates' place does not hold the table, zeros to the end of the room, and nothing beyond")
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	good := &script{rspType: MsgReportRsp, rsp: counting(32)}
	const before = 0x1122334455667788 // exitinfo2 as the caller left it
	for _, c := range []struct {
		name      string
		h         *script
		cmd       uint32
		change    func(*fakeKernel)
		result    unix.Errno
		exitInfo2 uint64
		disables  bool
	}{
		{"unknown ioctl", good, 0xC0205303, nil, unix.ENOTTY, 0xFF, false},
		{"an ioctl of terminals", good, 0x5401, nil, unix.ENOTTY, 0xFF, false},
		{"message version 0", good, 0xC0205300, func(k *fakeKernel) { k.memory[argAddr][0] = 0 }, unix.EINVAL, before, false},
		{"message version 0 in an unknown ioctl", good, 0xC0205303, func(k *fakeKernel) { k.memory[argAddr][0] = 0 }, unix.EINVAL, before, false},
		{"no request", good, 0xC0205300, func(k *fakeKernel) { clear(k.memory[argAddr][8:16]) }, unix.EINVAL, 0xFF, false},
		{"no place for the response", good, 0xC0205301, func(k *fakeKernel) { clear(k.memory[argAddr][16:24]) }, unix.EINVAL, 0xFF, false},
		{"struct at a wrong address", good, 0xC0205300, func(k *fakeKernel) { delete(k.memory, argAddr) }, unix.EFAULT, before, false},
		{"request at a wrong address", good, 0xC0205300, func(k *fakeKernel) { delete(k.memory, reqAddr) }, unix.EFAULT, before, false},
		{"the firmware refuses", &script{status: snp.StatusInvalidParam}, 0xC0205300, nil, unix.EIO, 0x16, true},
		{"an answer of another type", &script{rspType: MsgKeyRsp, rsp: counting(32)}, 0xC0205300, nil, unix.EBADMSG, before, true},
		{"an answer that is too long", &script{rspType: MsgKeyRsp, rsp: counting(65)}, 0xC0205301, nil, unix.EBADMSG, before, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := withHost(t, c.h)
			k.prepare(1, counting(96), 4000)
			binary.LittleEndian.PutUint64(k.memory[argAddr][24:], before)
			if c.change != nil {
				c.change(k)
			}
			if got := k.ioctl(c.cmd, argAddr); got != -int32(c.result) {
				t.Errorf("result %d, want -%s", got, unix.ErrnoName(c.result))
			}
			if k.memory[argAddr] != nil && k.exitInfo2() != c.exitInfo2 {
				t.Errorf("exitinfo2 %#x, want %#x", k.exitInfo2(), c.exitInfo2)
			}
			if !bytes.Equal(k.memory[respAddr], bytes.Repeat([]byte{0xEE}, 4000)) {
				t.Error("something was written to the response")
			}
			// What the driver gave up for, it gave up for good.
			asked := c.h.asked
			c.h.rspType, c.h.rsp, c.h.status = MsgReportRsp, counting(32), snp.StatusSuccess
			k.prepare(1, counting(96), 4000)
			binary.LittleEndian.PutUint64(k.memory[argAddr][24:], before)
			got := k.ioctl(0xC0205300, argAddr)
			if c.disables && (got != -int32(unix.ENOTTY) || c.h.asked != asked) {
				t.Errorf("the next request: result %d, asked %d more; want -ENOTTY and no question", got, c.h.asked-asked)
			}
			if !c.disables && got != 0 {
				t.Errorf("the next request: result %d, want 0", got)
			}
			if k.exitInfo2() != before {
				t.Errorf("the next request: exitinfo2 %#x, want %#x as the caller left it", k.exitInfo2(), uint64(before))
			}
		})
	}
}

// A 32-bit program's ioctl finds no entry point, and a request that changes
// between the kernel's rounds does not get an answer that has no room.
func TestIoctlsThatDoNotFit(t *testing.T) {
	d := NewDriver(nil, t.Logf)
	head := make([]byte, 32)
	head[0], head[8], head[16] = 1, 1, 1
	for _, c := range []struct {
		name string
		r    fuseIoctl
		want unix.Errno
	}{
		{"32-bit", fuseIoctl{flags: 3, cmd: 0xC0205300}, unix.ENOTTY},
		{"restricted", fuseIoctl{cmd: 0xC0205300}, unix.EINVAL},
		{"a part of the struct", fuseIoctl{flags: 2, cmd: 0xC0205300, in: head[:31]}, unix.EINVAL},
		{"a part of the request", fuseIoctl{flags: 2, cmd: 0xC0205300, in: append(bytes.Clone(head), 1)}, unix.EINVAL},
		{"room for a refusal only", fuseIoctl{flags: 2, cmd: 0xC0205300, in: append(bytes.Clone(head), counting(96)...), outSize: 32}, unix.EINVAL},
	} {
		if got := d.ioctl(c.r); got.result != -int32(c.want) || got.out != nil || got.retryIn != nil {
			t.Errorf("%s: %+v, want -%s", c.name, got, unix.ErrnoName(c.want))
		}
	}
}

// Without the host the device stays, and says that the firmware was not called.
func TestHostGone(t *testing.T) {
	guest, host := net.Pipe()
	host.Close()
	k := newFakeKernel(t, guest)
	k.prepare(1, counting(96), 4000)
	if got := k.ioctl(0xC0205300, argAddr); got != -int32(unix.EIO) || k.exitInfo2() != 0xFFFFFFFFFFFFFFFF {
		t.Errorf("result %d, exitinfo2 %#x; want -EIO and SEV_RET_NO_FW_CALL", got, k.exitInfo2())
	}
	k.prepare(1, counting(96), 4000)
	if got := k.ioctl(0xC0205300, argAddr); got != -int32(unix.ENOTTY) {
		t.Errorf("result %d, want -ENOTTY", got)
	}
	if _, _, errno := k.driver.NewReport(counting(64), 0); errno != unix.ENOTTY {
		t.Errorf("a report for configfs: %v, want ENOTTY", errno)
	}
}

func TestOtherFileOperations(t *testing.T) {
	k := withHost(t, &script{})
	if out, errno := k.ask(14, make([]byte, 8)); errno != 0 || len(out) != 16 {
		t.Errorf("OPEN: errno %d, %d bytes", errno, len(out))
	}
	if out, errno := k.ask(15, make([]byte, 40)); errno != -int32(unix.ENOSYS) || len(out) != 0 {
		t.Errorf("READ: errno %d, want -ENOSYS", errno)
	}
	if out, errno := k.ask(18, make([]byte, 24)); errno != 0 || len(out) != 0 {
		t.Errorf("RELEASE: errno %d", errno)
	}
	// INTERRUPT is never answered: the next reply is the next request's.
	req := make([]byte, 48)
	req[0], req[4] = 48, 36
	if _, err := k.dev.Write(req); err != nil {
		t.Fatal(err)
	}
	if _, errno := k.ask(25, make([]byte, 24)); errno != 0 {
		t.Errorf("FLUSH after INTERRUPT: errno %d", errno)
	}
}

func TestServeHostRefusesHostileGuests(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"a length of 4 GiB", []byte{0xFF, 0xFF, 0xFF, 0xFF}, "at most"},
		{"a short frame", append([]byte{4, 0, 0, 0}, 5, 1, 0, 0), "at least 8"},
		{"unknown flags", append([]byte{8, 0, 0, 0}, 5, 1, 0x80, 0, 0, 0, 0, 0), "unknown flags"},
		{"an end in the middle", []byte{8, 0, 0, 0, 5}, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &script{}
			err := ServeHost(t.Context(), struct {
				io.Reader
				io.Writer
			}{bytes.NewReader(c.bytes), io.Discard}, h)
			if err == nil || !strings.Contains(err.Error(), c.want) || h.asked != 0 {
				t.Errorf("error %v, asked %d times; want %q and never", err, h.asked, c.want)
			}
		})
	}
}

func TestServeHostEndsWithItsContext(t *testing.T) {
	_, host := net.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ServeHost(ctx, host, &script{}) }()
	select {
	case err := <-done:
		if err != context.DeadlineExceeded {
			t.Errorf("error %v, want the context's", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("ServeHost still waits")
	}
}

func TestServeHostRefusesItsOwnMistakes(t *testing.T) {
	ask := (&request{msgType: MsgReportReq, msgVersion: 1, certs: true, payload: counting(96)}).bytes()
	for _, h := range []*script{
		{certs: make([]byte, MaxCertTable+1)},
		{rspType: MsgReportRsp, rsp: make([]byte, MaxPayload+1)},
	} {
		var out bytes.Buffer
		err := ServeHost(t.Context(), struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(ask), &out}, h)
		if err == nil || out.Len() != 0 {
			t.Errorf("error %v after %d bytes, want an error before any", err, out.Len())
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add((&request{msgType: 5, msgVersion: 1, certs: true, certsRoom: 4096, payload: counting(96)}).bytes()[4:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		if got := r.bytes(); !bytes.Equal(got[4:], b) || int(binary.LittleEndian.Uint32(got)) != len(b) {
			t.Errorf("%x was read as %x", b, got)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add((&answer{msgType: 6, payload: counting(1216), certsLen: 4096, certs: counting(100)}).bytes()[4:])
	f.Add((&answer{vmmError: 1, certsLen: 8192}).bytes()[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err != nil {
			return
		}
		if got := a.bytes(); !bytes.Equal(got[4:], b) || int(binary.LittleEndian.Uint32(got)) != len(b) {
			t.Errorf("%x was read as %x", b, got)
		}
	})
}

// Whatever the kernel sends, a reply belongs to its request and has the length
// it says.
func FuzzHandle(f *testing.F) {
	ioctl := func(cmd uint32, in []byte, room uint32) []byte {
		b := make([]byte, 72)
		binary.LittleEndian.PutUint32(b, uint32(72+len(in)))
		b[4] = 39
		b[48] = 2
		binary.LittleEndian.PutUint32(b[52:], cmd)
		binary.LittleEndian.PutUint64(b[56:], argAddr)
		binary.LittleEndian.PutUint32(b[64:], uint32(len(in)))
		binary.LittleEndian.PutUint32(b[68:], room)
		return append(b, in...)
	}
	head := make([]byte, 32)
	head[0], head[9], head[18] = 1, 0x20, 1
	f.Add(ioctl(0xC0205300, nil, 0), []byte{})
	f.Add(ioctl(0xC0205300, head, 0), []byte{})
	f.Add(ioctl(0xC0205303, head, 32), []byte{})
	f.Add(ioctl(0xC0205302, append(bytes.Clone(head), extRequest(certsAddr, 4096)...), 0), []byte{})
	f.Add(ioctl(0xC0205300, append(bytes.Clone(head), counting(96)...), 4032), (&answer{msgType: 6, payload: counting(1216)}).bytes())
	f.Add(ioctl(0xC0205302, append(bytes.Clone(head), extRequest(certsAddr, 4096)...), 4032+112+4096), (&answer{msgType: 6, payload: counting(1216), certsLen: 4096, certs: counting(3000)}).bytes())
	f.Fuzz(func(t *testing.T, b, fromHost []byte) {
		d := NewDriver(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(fromHost), io.Discard}, nil)
		reply, err := d.handle(b)
		if err != nil || reply == nil {
			return
		}
		if len(reply) < 16 || int(binary.LittleEndian.Uint32(reply)) != len(reply) || !bytes.Equal(reply[8:16], b[8:16]) {
			t.Errorf("reply %x to %x", reply, b)
		}
	})
}
