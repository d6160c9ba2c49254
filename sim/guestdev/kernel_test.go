package guestdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// fakeKernel stands for Linux's CUSE and for the process that makes an ioctl:
// it asks as fuse_do_ioctl (fs/fuse/ioctl.c of Linux 6.12) does, handing over
// only the memory that the server asked for, until the server is done.
type fakeKernel struct {
	t      *testing.T
	driver *Driver
	dev    net.Conn
	memory map[uint64][]byte // the process's, by address
	unique uint64
	rounds int
}

// newFakeKernel starts Serve with conn as its way to the host and takes it
// through CUSE_INIT.
func newFakeKernel(t *testing.T, host io.ReadWriter) *fakeKernel {
	t.Helper()
	kernel, server := net.Pipe()
	served := make(chan error, 1)
	d := NewDriver(host, t.Logf)
	go func() { served <- d.Serve(server) }()
	t.Cleanup(func() {
		kernel.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	k := &fakeKernel{t: t, driver: d, dev: kernel, memory: map[uint64][]byte{}}
	init := make([]byte, 16)
	binary.LittleEndian.PutUint32(init[0:], 7)
	binary.LittleEndian.PutUint32(init[4:], 41)
	binary.LittleEndian.PutUint32(init[12:], 1)
	out, errno := k.ask(4096, init)
	if errno != 0 || len(out) <= 72 || string(out[72:]) != "DEVNAME=sev-guest\x00" {
		t.Fatalf("CUSE_INIT: errno %d, answer %q", errno, out)
	}
	if flags := binary.LittleEndian.Uint32(out[12:]); flags != 1 {
		t.Fatalf("CUSE_INIT: flags %d, want 1 (unrestricted ioctls)", flags)
	}
	return k
}

// ask sends one request and reads its reply.
func (k *fakeKernel) ask(opcode uint32, body []byte) ([]byte, int32) {
	k.t.Helper()
	k.unique += 2
	req := make([]byte, 40, 40+len(body))
	binary.LittleEndian.PutUint32(req[0:], uint32(40+len(body)))
	binary.LittleEndian.PutUint32(req[4:], opcode)
	binary.LittleEndian.PutUint64(req[8:], k.unique)
	k.dev.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := k.dev.Write(append(req, body...)); err != nil {
		k.t.Fatal(err)
	}
	buf := make([]byte, 1<<17)
	n, err := k.dev.Read(buf)
	if err != nil {
		k.t.Fatal(err)
	}
	out := buf[:n]
	if n < 16 || int(binary.LittleEndian.Uint32(out)) != n || binary.LittleEndian.Uint64(out[8:]) != k.unique {
		k.t.Fatalf("reply %x does not belong to request %d", out, k.unique)
	}
	return out[16:], int32(binary.LittleEndian.Uint32(out[4:]))
}

// at gives a range of the process's memory.
func (k *fakeKernel) at(base, length uint64) []byte {
	for start, m := range k.memory {
		if base >= start && base+length <= start+uint64(len(m)) {
			return m[base-start : base-start+length]
		}
	}
	return nil
}

// ioctl makes one ioctl and gives its result, 0 or a negative error number.
func (k *fakeKernel) ioctl(cmd uint32, arg uint64) int32 {
	k.t.Helper()
	le := binary.LittleEndian
	var ins, outs [][2]uint64
	for k.rounds = 1; k.rounds < 10; k.rounds++ {
		var in []byte
		for _, v := range ins {
			m := k.at(v[0], v[1])
			if m == nil {
				return -int32(unix.EFAULT)
			}
			in = append(in, m...)
		}
		var room uint64
		for _, v := range outs {
			room += v[1]
		}
		body := make([]byte, 32)
		le.PutUint32(body[8:], 2) // FUSE_IOCTL_UNRESTRICTED
		le.PutUint32(body[12:], cmd)
		le.PutUint64(body[16:], arg)
		le.PutUint32(body[24:], uint32(len(in)))
		le.PutUint32(body[28:], uint32(room))
		out, errno := k.ask(39, append(body, in...))
		if errno != 0 {
			return errno
		}
		if le.Uint32(out[4:])&4 == 0 { // not FUSE_IOCTL_RETRY
			data := out[16:]
			if uint64(len(data)) > room {
				k.t.Fatalf("%d bytes to write where %d were offered", len(data), room)
			}
			for _, v := range outs {
				n := min(uint64(len(data)), v[1])
				if n == 0 {
					break
				}
				m := k.at(v[0], n)
				if m == nil {
					return -int32(unix.EFAULT)
				}
				copy(m, data[:n])
				data = data[n:]
			}
			return int32(le.Uint32(out))
		}
		nIn, nOut := int(le.Uint32(out[8:])), int(le.Uint32(out[12:]))
		if len(out) != 16+16*(nIn+nOut) {
			k.t.Fatalf("retry with %d and %d ranges in %d bytes", nIn, nOut, len(out))
		}
		ins, outs = nil, nil
		for i := range nIn + nOut {
			v := [2]uint64{le.Uint64(out[16+16*i:]), le.Uint64(out[24+16*i:])}
			if i < nIn {
				ins = append(ins, v)
			} else {
				outs = append(outs, v)
			}
		}
	}
	k.t.Fatal("the server asks again and again")
	return 0
}

// Addresses in the fake process.
const (
	argAddr   = 0x1000
	reqAddr   = 0x2000
	respAddr  = 0x10000
	certsAddr = 0x20000
)

// prepare lays out a request as include/uapi/linux/sev-guest.h describes it.
func (k *fakeKernel) prepare(version uint8, req []byte, respSize int) {
	arg := make([]byte, 32)
	arg[0] = version
	binary.LittleEndian.PutUint64(arg[8:], reqAddr)
	binary.LittleEndian.PutUint64(arg[16:], respAddr)
	k.memory[argAddr] = arg
	k.memory[reqAddr] = req
	k.memory[respAddr] = bytes.Repeat([]byte{0xEE}, respSize)
}

func (k *fakeKernel) exitInfo2() uint64 { return binary.LittleEndian.Uint64(k.memory[argAddr][24:]) }

// script is a Handler that answers as it is told and keeps what it was asked.
type script struct {
	rspType uint8
	rsp     []byte
	status  snp.Status
	certs   []byte

	asked   int
	msgType uint8
	version uint8
	payload []byte
}

func (s *script) GuestRequest(msgType, msgVersion uint8, payload []byte) (uint8, []byte, snp.Status) {
	s.asked++
	s.msgType, s.version, s.payload = msgType, msgVersion, bytes.Clone(payload)
	return s.rspType, s.rsp, s.status
}

func (s *script) CertTable() []byte { return s.certs }

// withHost gives a kernel whose device is answered by h.
func withHost(t *testing.T, h Handler) *fakeKernel {
	guest, host := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- ServeHost(t.Context(), host, h) }()
	k := newFakeKernel(t, guest)
	t.Cleanup(func() {
		guest.Close()
		if err := <-served; err != nil && !errors.Is(err, io.ErrClosedPipe) && t.Context().Err() == nil {
			t.Errorf("ServeHost: %v", err)
		}
	})
	return k
}
