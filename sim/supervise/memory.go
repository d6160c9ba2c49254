package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
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
	replaced []replaced
}

// replaced is what stood at an address before a write.
type replaced struct {
	addr uint64
	old  []byte
}

func (c *caller) PID() int { return c.pid }

// Read implements kvm.Caller with process_vm_readv(2).
func (c *caller) Read(addr uint64, p []byte) error {
	return transfer(p, addr, func(local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
		return unix.ProcessVMReadv(c.pid, local, remote, 0)
	})
}

// Write implements kvm.Caller with process_vm_writev(2).
func (c *caller) Write(addr uint64, p []byte) error {
	old := make([]byte, len(p))
	if err := c.Read(addr, old); err != nil {
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
	return transfer(p, addr, func(local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
		return unix.ProcessVMWritev(c.pid, local, remote, 0)
	})
}

func transfer(p []byte, addr uint64, do func([]unix.Iovec, []unix.RemoteIovec) (int, error)) error {
	for len(p) > 0 {
		local := []unix.Iovec{{Base: &p[0]}}
		local[0].SetLen(len(p))
		n, err := do(local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}})
		if err != nil {
			return err
		}
		if n <= 0 {
			return io.ErrUnexpectedEOF
		}
		p, addr = p[n:], addr+uint64(n)
	}
	return nil
}

// readString reads a NUL-terminated string of at most limit bytes.
func (c *caller) readString(addr uint64, limit int) (string, error) {
	var out []byte
	for len(out) < limit {
		chunk := make([]byte, min(4096-int(addr%4096), 512)) // a read must not cross into an unmapped page
		if err := c.Read(addr, chunk); err != nil {
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

// inode tells open files apart: a descriptor's number says nothing, since it
// may have been duplicated, closed and used again.
type inode struct{ dev, ino uint64 }

// table finds the objects of the software host by the file that a
// descriptor refers to. Each entry keeps its file open here, so that its inode
// is not given to another.
type table struct {
	objects map[inode]entry
}

type entry struct {
	object kvm.Object
	owner  int // process that it was made for
}

func newTable() *table { return &table{objects: map[inode]entry{}} }

func inodeOf(f *os.File) (inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return inode{}, os.NewSyscallError("fstat", err)
	}
	return inode{st.Dev, st.Ino}, nil
}

func (t *table) add(o kvm.Object, tid int) error {
	i, err := inodeOf(o.File())
	if err != nil {
		return err
	}
	t.objects[i] = entry{o, processOf(tid)}
	return nil
}

func (t *table) remove(o kvm.Object) {
	if i, err := inodeOf(o.File()); err == nil {
		delete(t.objects, i)
	}
}

func (t *table) find(pid, fd int) kvm.Object {
	if fd < 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/fd/"+strconv.Itoa(fd), &st); err != nil {
		return nil
	}
	return t.objects[inode{st.Dev, st.Ino}].object
}

// sweep closes the objects of processes that have ended.
func (t *table) sweep() {
	alive := map[int]bool{}
	for i, e := range t.objects {
		if _, known := alive[e.owner]; !known {
			alive[e.owner] = !errors.Is(unix.Kill(e.owner, 0), unix.ESRCH)
		}
		if !alive[e.owner] {
			e.object.Close()
			delete(t.objects, i)
		}
	}
}

func (t *table) close() {
	for i, e := range t.objects {
		e.object.Close()
		delete(t.objects, i)
	}
}

// processOf gives the process that a thread belongs to.
func processOf(tid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return tid
	}
	for _, line := range bytes.Split(b, []byte("\n")) {
		if v, found := bytes.CutPrefix(line, []byte("Tgid:")); found {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(v))); err == nil {
				return n
			}
		}
	}
	return tid
}
