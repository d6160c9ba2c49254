package kvm

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// Caller is the thread that made an ioctl: its memory and its open files.
type Caller interface {
	// Read fills p from the caller's memory at addr; a fault is an error.
	Read(addr uint64, p []byte) error
	// Write stores p into the caller's memory at addr; a fault is an error.
	Write(addr uint64, p []byte) error
	// Object finds the object behind one of the caller's file descriptors,
	// nil when that descriptor is none of ours.
	Object(fd int) Object
	// PID is the caller's thread id, for messages.
	PID() int
}

// Digests is a Caller that has, of some of its pages, only the SHA-384 of their
// contents: a record of a launch that is made once more.
type Digests interface {
	// Contents gives it for the page at addr; only is false where Read has the bytes.
	Contents(addr uint64) (digest snp.ContentDigest, only bool)
}

// Object is an open file that this package answers for: /dev/kvm, /dev/sev,
// a VM, a vCPU or a guest_memfd.
type Object interface {
	// Ioctl answers one ioctl on the file.
	Ioctl(c Caller, request uint32, arg uint64) Answer
	// File is the file that the caller's descriptor refers to. It has no
	// meaning but its identity (and, for a vCPU, the mapped kvm_run).
	File() *os.File
	// Close lets go of what the object holds, once no process has it open.
	Close()
}

// Answer is the outcome of an ioctl.
type Answer struct {
	Value int64      // what ioctl(2) returns, when Errno is 0
	Errno unix.Errno // 0 or the error
	// New, when set, is an object whose file is to be installed in the caller;
	// the descriptor's number is then the ioctl's value.
	New Object
	// Wait, when set, means that the call does not return yet: the thread
	// is in KVM_RUN. The caller is answered with 0 when the channel closes.
	Wait <-chan struct{}
	// Undo, when set, takes the effect of the call back. It is called when
	// the answer could not be delivered because the call was interrupted: the
	// kernel restarts it, and what it did must not happen twice.
	Undo func()
	// Done, when set, is called once the answer has been taken.
	Done func()
}

func ok() Answer                { return Answer{} }
func value(v int64) Answer      { return Answer{Value: v} }
func fail(e unix.Errno) Answer  { return Answer{Errno: e} }
func readU32(b []byte) uint32   { return binary.LittleEndian.Uint32(b) }
func readU64(b []byte) uint64   { return binary.LittleEndian.Uint64(b) }
func putU32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }
func putU64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }
func readU16(b []byte) uint16   { return binary.LittleEndian.Uint16(b) }
func putU16(b []byte, v uint16) { binary.LittleEndian.PutUint16(b, v) }

// load reads n bytes at addr, or gives EFAULT.
func load(c Caller, addr uint64, n int) ([]byte, unix.Errno) {
	b := make([]byte, n)
	if err := c.Read(addr, b); err != nil {
		return nil, unix.EFAULT
	}
	return b, 0
}

// store answers 0 after writing b at addr, or EFAULT.
func store(c Caller, addr uint64, b []byte) Answer {
	if err := c.Write(addr, b); err != nil {
		return fail(unix.EFAULT)
	}
	return ok()
}

// storeList answers the "n entries that follow a count" calls: the count that
// would be needed goes back with E2BIG when the caller has room for fewer.
func storeList(c Caller, addr uint64, count, headSize int, body []byte) Answer {
	head, e := load(c, addr, headSize)
	if e != 0 {
		return fail(e)
	}
	room := int(readU32(head))
	putU32(head, uint32(count))
	if room < count {
		if err := c.Write(addr, head); err != nil {
			return fail(unix.EFAULT)
		}
		return fail(unix.E2BIG)
	}
	return store(c, addr, append(head, body...))
}

// newFile makes the anonymous file that stands for an object in the caller.
func newFile(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("ftruncate", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
