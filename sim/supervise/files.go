package supervise

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
)

// inode tells open files apart: a descriptor's number says nothing, since it
// may have been duplicated, passed to another process, closed and used again.
type inode struct{ dev, ino uint64 }

// table finds the objects of the software host by the file that a
// descriptor refers to. Each entry keeps its file open here, so that its inode
// is not given to another.
type table struct {
	host    *kvm.Host
	objects map[inode]entry
	devices map[string]kvm.Object // /dev/kvm and /dev/sev: all opens share one
	owners  map[int]*owner
}

type entry struct {
	object kvm.Object
	owner  *owner // nil for a device
}

// owner is a process that has made a VM. A VM, its vCPUs and its memory belong
// to the address space that they were made in: no other process may use them,
// and with it they end.
type owner struct {
	pid     int
	pidfd   int
	threads map[int]struct{} // that were seen to be its own
	objects []inode
}

func newTable(h *kvm.Host) *table {
	return &table{host: h, objects: map[inode]entry{}, devices: map[string]kvm.Object{}, owners: map[int]*owner{}}
}

func inodeOf(f *os.File) (inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return inode{}, os.NewSyscallError("fstat", err)
	}
	return inode{st.Dev, st.Ino}, nil
}

// device gives the object behind a device node; an error that is a unix.Errno
// is the answer of open(2). The object of an earlier open is used again: it has no
// state, and who holds it cannot be known, since descriptors travel.
func (t *table) device(path string) (kvm.Object, error) {
	o, err := t.host.Open(path)
	if err != nil || o == nil {
		return nil, err
	}
	if known := t.devices[path]; known != nil {
		o.Close()
		return known, nil
	}
	i, err := inodeOf(o.File())
	if err != nil {
		o.Close()
		return nil, err
	}
	t.objects[i] = entry{object: o}
	t.devices[path] = o
	return o, nil
}

// add keeps an object that a thread has made with parent, which is a device or a VM.
func (t *table) add(o, parent kvm.Object, tid int) error {
	own, err := t.ownerOf(parent, tid)
	if err != nil {
		return err
	}
	i, err := inodeOf(o.File())
	if err != nil {
		return err
	}
	t.objects[i] = entry{o, own}
	own.objects = append(own.objects, i)
	return nil
}

func (t *table) ownerOf(parent kvm.Object, tid int) (*owner, error) {
	if i, err := inodeOf(parent.File()); err == nil {
		if own := t.objects[i].owner; own != nil {
			return own, nil
		}
	}
	pid, err := strconv.Atoi(statusField(tid, "Tgid"))
	if err != nil {
		return nil, fmt.Errorf("software SNP host: process of thread %d: %w", tid, err)
	}
	if own := t.owners[pid]; own != nil {
		return own, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("software SNP host: process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	own := &owner{pid: pid, pidfd: fd, threads: map[int]struct{}{}}
	t.owners[pid] = own
	return own, nil
}

// remove forgets an object that was added last.
func (t *table) remove(o kvm.Object) {
	i, err := inodeOf(o.File())
	if err != nil {
		return
	}
	if own := t.objects[i].owner; own != nil && len(own.objects) > 0 {
		own.objects = own.objects[:len(own.objects)-1]
	}
	delete(t.objects, i)
}

// find gives the object behind a thread's descriptor, nil for a file that is
// none of ours.
func (t *table) find(tid, fd int) kvm.Object {
	e, _ := t.lookUp(tid, fd)
	return e.object
}

// lookUp is find with the object's owner.
func (t *table) lookUp(tid, fd int) (entry, bool) {
	if fd < 0 {
		return entry{}, false
	}
	name := descriptorPath(tid, fd)
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return entry{}, false
	}
	if e, ours := t.objects[inode{st.Dev, st.Ino}]; ours {
		return e, true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return entry{}, false
	}
	path := deviceOf(st.Rdev, name)
	if path == "" {
		return entry{}, false
	}
	o, err := t.device(path)
	return entry{object: o}, err == nil && o != nil
}

// deviceOf says which of our devices a character device stands for: KVM by its
// number, and by its name the null device that a private /dev has in its place, or
// the SEV device of a host that has one.
func deviceOf(rdev uint64, name string) string {
	switch {
	case rdev == unix.Mkdev(10, 232):
		return pathKVM
	case rdev == unix.Mkdev(1, 3), unix.Major(rdev) == 10:
		if link, err := readLink(name); err == nil && (link == pathKVM || link == pathSEV) {
			return link
		}
	}
	return ""
}

// foreign says whether a thread is of another process than an object's owner.
// What a thread is cannot change; its number can be used again, but not while it
// waits in a call that we hold.
func (e entry) foreign(tid int) bool {
	if e.owner == nil {
		return false
	}
	if _, known := e.owner.threads[tid]; known {
		return false
	}
	if unix.Access("/proc/"+strconv.Itoa(e.owner.pid)+"/task/"+strconv.Itoa(tid), unix.F_OK) != nil {
		return true
	}
	e.owner.threads[tid] = struct{}{}
	return false
}

// bury closes what belonged to a process that has ended.
func (t *table) bury(own *owner) {
	for _, i := range own.objects {
		if e, have := t.objects[i]; have {
			e.object.Close()
			delete(t.objects, i)
		}
	}
	unix.Close(own.pidfd)
	delete(t.owners, own.pid)
}

func (t *table) close() {
	for _, own := range t.owners {
		t.bury(own)
	}
	for i, e := range t.objects {
		e.object.Close()
		delete(t.objects, i)
	}
	clear(t.devices)
}

func descriptorPath(tid, fd int) string {
	return "/proc/" + strconv.Itoa(tid) + "/fd/" + strconv.Itoa(fd)
}

func readLink(name string) (string, error) {
	buf := make([]byte, maxPath)
	n, err := unix.Readlink(name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
