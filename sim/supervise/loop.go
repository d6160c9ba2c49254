package supervise

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
)

const (
	maxPath = 4096
	kvmRun  = 0xAE80
)

// loop answers the notifications of one listener until no process with the
// filter is left.
type loop struct {
	listener  int
	wake      int // eventfd: end the loop
	cbitpos   int
	logf      func(string, ...any)
	table     *table
	nodes     map[string]*node
	lastNames map[string]bool
	contents  map[*node]*os.File // of nodes that were opened
	told      map[string]bool    // programs that could not be read
	ahead     readAhead
	counters  counters
	listening *listening    // nil: nobody listens
	lost      bool          // the answer to the call that is being served found no one
	done      chan struct{} // closed when the loop has ended

	mu      sync.Mutex
	waiting map[kvm.Object]chan struct{} // vCPUs in KVM_RUN: close to forget
}

func newLoop(listener int, cfg Config) (*loop, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	syncWakeUp(listener)
	n := nodes(cfg.CBitPos)
	return &loop{
		listener: listener, wake: wake, cbitpos: cfg.CBitPos, logf: cfg.Logf,
		table: newTable(cfg.Host), nodes: n, lastNames: lastNames(n), contents: map[*node]*os.File{}, told: map[string]bool{},
		counters: counters{calls: map[Call]*CallStats{}}, listening: newListening(cfg.Listener),
		done: make(chan struct{}), waiting: map[kvm.Object]chan struct{}{},
	}, nil
}

// run serves until the last process with the filter has ended or stop is called.
//
// It keeps a thread to itself: a goroutine that changes threads at each
// blocking call would lose the processor that the kernel hands to it.
func (l *loop) run() {
	runtime.LockOSThread()
	defer close(l.done)
	defer l.release()
	before := threadTime()
	defer func() { l.counters.used(threadTime() - before) }()
	var fds []unix.PollFd
	var owners []*owner
	var processes []int
	for {
		fds = append(fds[:0], unix.PollFd{Fd: int32(l.listener), Events: unix.POLLIN}, unix.PollFd{Fd: int32(l.wake), Events: unix.POLLIN})
		owners = owners[:0]
		for _, own := range l.table.owners {
			owners = append(owners, own)
			fds = append(fds, unix.PollFd{Fd: int32(own.pidfd), Events: unix.POLLIN})
		}
		fds, processes = l.listening.watched(fds, processes[:0])
		if _, err := unix.Poll(fds, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			l.logf("software SNP host: poll: %v", err)
			return
		}
		for i, own := range owners {
			if fds[2+i].Revents != 0 {
				l.table.bury(own)
			}
		}
		for i, pid := range processes {
			if fds[2+len(owners)+i].Revents != 0 {
				l.listening.ended(pid)
			}
		}
		switch {
		case fds[0].Revents&unix.POLLIN != 0:
			var n notification
			e := ioctlPtr(l.listener, ioctlRecv, unsafe.Pointer(&n))
			if e == 0 {
				l.serve(&n)
			} else if e != unix.ENOENT { // ENOENT: the caller was killed meanwhile
				l.logf("software SNP host: receiving a notification: %v", e)
				return
			}
		case fds[0].Revents != 0 || fds[1].Revents != 0:
			return
		}
	}
}

func (l *loop) release() {
	l.mu.Lock()
	for o, c := range l.waiting {
		close(c)
		delete(l.waiting, o)
	}
	l.mu.Unlock()
	l.table.close()
	l.listening.close()
	for _, f := range l.contents {
		f.Close()
	}
	unix.Close(l.listener)
}

// stop ends the loop; calls that are still held then fail with ENOSYS.
func (l *loop) stop() {
	var one [8]byte
	one[0] = 1
	_, _ = unix.Write(l.wake, one[:])
}

// serve answers a call and counts it.
func (l *loop) serve(n *notification) {
	start := time.Now()
	l.ahead.drop()
	c := &caller{pid: int(n.PID), table: l.table, ahead: &l.ahead}
	l.lost = false
	l.listening.hear(n, c)
	ours := l.table.host != nil && l.answer(n, c)
	if c.denied != nil {
		l.unreadable(c)
	}
	if !ours {
		l.send(response{ID: n.ID, Flags: respContinue})
	}
	l.listening.taken(!l.lost)
	call := Call{NR: n.NR}
	if n.NR == unix.SYS_IOCTL {
		call.Request = uint32(n.Args[1])
	}
	l.counters.add(call, ours, l.lost, time.Since(start))
}

// unreadable says once for each program that its memory is out of reach.
func (l *loop) unreadable(c *caller) {
	if name := statusField(c.pid, "Name"); !l.told[name] {
		l.told[name] = true
		l.logf("software SNP host: %s", unreadable(c.pid, c.denied))
	}
}

// answer gives a held call its result; false when the kernel shall run it.
func (l *loop) answer(n *notification, c *caller) bool {
	a := &n.Args
	switch n.NR {
	case unix.SYS_IOCTL:
		return l.ioctl(n, c)
	case unix.SYS_OPENAT:
		return l.open(n, c, int32(a[0]), a[1], a[2])
	case unix.SYS_OPEN:
		return l.open(n, c, unix.AT_FDCWD, a[0], a[1])
	case unix.SYS_OPENAT2: // struct open_how: flags u64, mode u64, resolve u64
		var how [8]byte
		if c.read(a[2], how[:]) != nil {
			return false
		}
		return l.open(n, c, int32(a[0]), a[1], le.Uint64(how[:]))
	case unix.SYS_NEWFSTATAT:
		return l.stat(n, c, int32(a[0]), a[1], a[2])
	case unix.SYS_STAT, unix.SYS_LSTAT:
		return l.stat(n, c, unix.AT_FDCWD, a[0], a[1])
	case unix.SYS_STATX:
		return l.statx(n, c, int32(a[0]), a[1], a[4])
	case unix.SYS_ACCESS:
		return l.access(n, c, unix.AT_FDCWD, a[0], a[1])
	case unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2:
		return l.access(n, c, int32(a[0]), a[1], a[2])
	case unix.SYS_EXECVE:
		l.fitArguments(n, c, a[1])
	case unix.SYS_EXECVEAT:
		l.fitArguments(n, c, a[2])
	}
	return false
}

// send gives the call that is being served its result; false when the caller no
// longer waits.
func (l *loop) send(r response) bool {
	l.lost = !l.deliver(r)
	return !l.lost
}

// deliver is send for a call that was held.
func (l *loop) deliver(r response) bool {
	return ioctlPtr(l.listener, ioctlSend, unsafe.Pointer(&r)) == 0
}

// finish answers with 0 or an errno.
func (l *loop) finish(n *notification, e unix.Errno) bool {
	l.send(response{ID: n.ID, Error: -int32(e)})
	return true
}

func (l *loop) open(n *notification, c *caller, dirFD int32, name, flags uint64) bool {
	path, found := l.lookUp(c, dirFD, name)
	if found == nil {
		return false
	}
	newFDFlags := uint32(flags) & unix.O_CLOEXEC
	switch found.mode & unix.S_IFMT {
	case unix.S_IFCHR:
		o, err := l.table.device(path)
		if err != nil {
			errno := unix.ENOMEM
			if !errors.As(err, &errno) {
				l.logf("%v", err)
			}
			return l.finish(n, errno)
		}
		if o == nil {
			return false
		}
		l.handOver(n, int(o.File().Fd()), newFDFlags)
		return true
	case unix.S_IFREG:
		if flags&unix.O_ACCMODE != unix.O_RDONLY {
			return l.finish(n, unix.EACCES)
		}
		fd, err := l.openContents(found)
		if err != nil {
			l.logf("software SNP host: contents of %s: %v", path, err)
			return false
		}
		l.handOver(n, fd, newFDFlags)
		unix.Close(fd)
		return true
	}
	return false
}

// openContents opens a regular node: a new open file each time, with its own offset.
func (l *loop) openContents(n *node) (int, error) {
	f := l.contents[n]
	if f == nil {
		fd, err := unix.MemfdCreate("snplaunch-node", unix.MFD_CLOEXEC)
		if err != nil {
			return -1, os.NewSyscallError("memfd_create", err)
		}
		f = os.NewFile(uintptr(fd), "node")
		for _, p := range n.pieces {
			if _, err := f.WriteAt(p.data, p.at); err != nil {
				f.Close()
				return -1, err
			}
		}
		l.contents[n] = f
	}
	return unix.Open(descriptorPath(os.Getpid(), int(f.Fd())), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func (l *loop) stat(n *notification, c *caller, dirFD int32, name, buf uint64) bool {
	_, found := l.lookUp(c, dirFD, name)
	if found == nil {
		return false
	}
	st := found.stat()
	return l.store(n, c, buf, unsafe.Slice((*byte)(unsafe.Pointer(st)), unsafe.Sizeof(*st)))
}

func (l *loop) statx(n *notification, c *caller, dirFD int32, name, buf uint64) bool {
	_, found := l.lookUp(c, dirFD, name)
	if found == nil {
		return false
	}
	st := found.statx()
	return l.store(n, c, buf, unsafe.Slice((*byte)(unsafe.Pointer(st)), unsafe.Sizeof(*st)))
}

func (l *loop) store(n *notification, c *caller, addr uint64, b []byte) bool {
	if c.write(addr, b) != nil {
		return l.finish(n, unix.EFAULT)
	}
	return l.finish(n, 0)
}

func (l *loop) access(n *notification, c *caller, dirFD int32, name, mode uint64) bool {
	_, found := l.lookUp(c, dirFD, name)
	if found == nil {
		return false
	}
	return l.finish(n, found.access(uint32(mode)))
}

func (l *loop) ioctl(n *notification, c *caller) bool {
	e, ours := l.table.lookUp(c.pid, int(int32(n.Args[0])))
	if !ours {
		return false
	}
	if e.foreign(c.pid) {
		return l.finish(n, unix.EIO) // kvm_vm_ioctl, kvm_vcpu_ioctl: kvm->mm != current->mm
	}
	request := uint32(n.Args[1])
	if request == kvmRun && l.interrupted(e.object) {
		return l.finish(n, unix.EINTR)
	}
	a := e.object.Ioctl(c, request, n.Args[2])
	switch {
	case a.Errno == 0 && a.New != nil:
		l.install(n, e.object, a)
	case a.Errno == 0 && a.Wait != nil:
		l.hold(n, e.object, a)
	default:
		if l.send(response{ID: n.ID, Val: a.Value, Error: -int32(a.Errno)}) {
			if a.Done != nil {
				a.Done()
			}
		} else {
			if a.Undo != nil {
				a.Undo()
			}
			c.restore()
		}
	}
	return true
}

// interrupted says whether a vCPU is back in KVM_RUN after a signal has
// interrupted it there, and forgets that it was.
//
// KVM gives EINTR to a vCPU that a signal interrupts. A call that is held by seccomp
// ends as most others do: the kernel makes it again after a handler with SA_RESTART,
// or after SIGSTOP and SIGCONT. That cannot be told from a caller that makes the call once
// more, so both get EINTR, once; who calls KVM_RUN in a loop does not mind.
func (l *loop) interrupted(o kvm.Object) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	forget := l.waiting[o]
	if forget == nil {
		return false
	}
	close(forget)
	delete(l.waiting, o)
	return true
}

// handOver puts a file into the caller, whose call returns the descriptor.
//
// SECCOMP_ADDFD_FLAG_SEND, which would do both at once, is not used: when a
// signal (the Go runtime sends itself some) interrupts that ioctl before the
// caller has woken up, Linux takes the file back but lets the call return,
// with 0, and QEMU takes its stdin for the new descriptor (kernel/seccomp.c,
// seccomp_notify_addfd). In two steps, an interruption between them
// leaves the caller a descriptor that it does not know of, until it ends.
func (l *loop) handOver(n *notification, file int, newFDFlags uint32) (delivered bool) {
	add := addFD{ID: n.ID, SrcFD: uint32(file), NewFDFlags: newFDFlags}
	fd, e := ioctlValue(l.listener, ioctlAddFD, unsafe.Pointer(&add))
	if e == unix.EMFILE {
		l.finish(n, unix.EMFILE)
		return false
	}
	l.lost = e != 0
	return e == 0 && l.send(response{ID: n.ID, Val: int64(fd)})
}

// install hands a new object's file to the caller.
func (l *loop) install(n *notification, parent kvm.Object, a kvm.Answer) {
	undo := a.Undo
	if undo == nil {
		undo = a.New.Close
	}
	if err := l.table.add(a.New, parent, int(n.PID)); err != nil {
		l.logf("%v", err)
		undo()
		l.finish(n, unix.ENFILE)
		return
	}
	if !l.handOver(n, int(a.New.File().Fd()), unix.O_CLOEXEC) {
		l.table.remove(a.New)
		undo()
	}
}

// hold keeps a call waiting until its channel closes. A signal ends the wait
// in the kernel; the answer then finds no one and is dropped.
func (l *loop) hold(n *notification, o kvm.Object, a kvm.Answer) {
	forget := make(chan struct{})
	l.mu.Lock()
	l.waiting[o] = forget
	l.mu.Unlock()
	id := n.ID
	go func() {
		select {
		case <-forget:
			return
		case <-a.Wait:
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.waiting[o] != forget {
			return
		}
		delete(l.waiting, o)
		if a.Done != nil {
			a.Done()
		}
		l.deliver(response{ID: id})
	}()
}
