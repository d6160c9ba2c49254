package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/snp"
)

// caller is the thread that made a call; it implements kvm.Caller.
//
// It keeps what its writes replaced. A held call can be interrupted at any
// moment (QEMU's io_uring completions do it now and then); the kernel then runs it
// again from the start, and must find its arguments as they were. A count
// that was already put into a list's head, for instance, would pass for the room that
// the caller has.
type caller struct {
	pid      int
	table    *table
	ahead    *readAhead
	replaced []replaced
	denied   error // why its memory could not be reached, but for faults
}

// replaced is what stood at an address before a write.
type replaced struct {
	addr uint64
	old  []byte
}

func (c *caller) PID() int { return c.pid }

// Read implements kvm.Caller with process_vm_readv(2).
func (c *caller) Read(addr uint64, p []byte) error {
	if c.ahead != nil && len(p) == snp.PageSize {
		if c.ahead.read(c, addr, p) {
			return nil
		}
	}
	return c.read(addr, p)
}

func (c *caller) read(addr uint64, p []byte) error {
	for len(p) > 0 {
		n, err := c.readSome(addr, p)
		if err != nil {
			return err
		}
		p, addr = p[n:], addr+uint64(n)
	}
	return nil
}

// readSome reads at least one byte, and as many as can be had at once.
func (c *caller) readSome(addr uint64, p []byte) (int, error) {
	local := [1]unix.Iovec{{Base: &p[0], Len: uint64(len(p))}}
	remote := [1]unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}
	n, err := unix.ProcessVMReadv(c.pid, local[:], remote[:], 0)
	return c.moved(n, err)
}

// moved judges what process_vm_readv or process_vm_writev gave.
func (c *caller) moved(n int, err error) (int, error) {
	if err == nil && n <= 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, unix.EFAULT) && !errors.Is(err, unix.ESRCH) {
		c.denied = err
	}
	return n, err
}

// Write implements kvm.Caller with process_vm_writev(2).
func (c *caller) Write(addr uint64, p []byte) error {
	old := make([]byte, len(p))
	if err := c.read(addr, old); err != nil {
		return err
	}
	c.replaced = append(c.replaced, replaced{addr, old})
	return c.write(addr, p)
}

// restore takes all writes back.
func (c *caller) restore() {
	for i := len(c.replaced) - 1; i >= 0; i-- {
		_ = c.write(c.replaced[i].addr, c.replaced[i].old) // the caller may have gone
	}
	c.replaced = nil
}

func (c *caller) write(addr uint64, p []byte) error {
	if c.ahead != nil {
		c.ahead.drop()
	}
	for len(p) > 0 {
		local := [1]unix.Iovec{{Base: &p[0], Len: uint64(len(p))}}
		remote := [1]unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}
		n, err := unix.ProcessVMWritev(c.pid, local[:], remote[:], 0)
		if n, err = c.moved(n, err); err != nil {
			return err
		}
		p, addr = p[n:], addr+uint64(n)
	}
	return nil
}

// readString reads a NUL-terminated string of at most limit bytes.
func (c *caller) readString(addr uint64, limit int) (string, error) {
	var out []byte
	var buf [256]byte
	for len(out) < limit {
		chunk := buf[:min(4096-int(addr%4096), len(buf))] // a read must not cross into an unmapped page
		if err := c.read(addr, chunk); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(chunk, 0); i >= 0 {
			return string(append(out, chunk[:i]...)), nil
		}
		out, addr = append(out, chunk...), addr+uint64(len(chunk))
	}
	return "", fmt.Errorf("string at 0x%x is longer than %d bytes", addr, limit)
}

// Object implements kvm.Caller.
func (c *caller) Object(fd int) kvm.Object { return c.table.find(c.pid, fd) }

// readAhead reads pages that are asked for one after the other in larger
// pieces: firmware has a thousand of them. It holds nothing beyond one call.
type readAhead struct {
	next uint64 // where the last page ended
	from uint64 // address of buf[0]
	have int    // bytes in buf
	buf  []byte
}

// aheadSize is how much is read at once. More gains nothing.
const aheadSize = 128 << 10

// drop forgets what was read.
func (r *readAhead) drop() { r.next, r.have = 0, 0 }

// read gives a page from what was read ahead, reading on where the page before
// was the last that was asked for.
func (r *readAhead) read(c *caller, addr uint64, p []byte) bool {
	follows := addr == r.next
	r.next = addr + uint64(len(p))
	if follows && (addr < r.from || addr+uint64(len(p)) > r.from+uint64(r.have)) {
		if r.buf == nil {
			r.buf = make([]byte, aheadSize)
		}
		r.from, r.have = addr, 0
		// It may end early, at the end of the memory that there is.
		if n, err := c.readSome(addr, r.buf); err == nil {
			r.have = n
		}
	}
	if addr < r.from || addr+uint64(len(p)) > r.from+uint64(r.have) {
		return false
	}
	copy(p, r.buf[addr-r.from:])
	return true
}
