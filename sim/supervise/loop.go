package supervise

import (
	"errors"
	"path"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
)

const maxPath = 4096

// loop answers the notifications of one listener until no process with the
// filter is left.
type loop struct {
	listener int
	wake     int // eventfd: end the loop
	host     *kvm.Host
	cbitpos  int
	logf     func(string, ...any)
	table    *table
	done     chan struct{} // closed when the loop has ended

	mu      sync.Mutex
	waiting map[kvm.Object]chan struct{} // vCPUs in KVM_RUN: close to forget
}

func newLoop(listener int, cfg Config) (*loop, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	syncWakeUp(listener)
	return &loop{
		listener: listener, wake: wake, host: cfg.Host, cbitpos: cfg.CBitPos, logf: cfg.Logf,
		table: newTable(), done: make(chan struct{}), waiting: map[kvm.Object]chan struct{}{},
	}, nil
}

// run serves until the last process with the filter has ended or stop is called.
func (l *loop) run() {
	defer close(l.done)
	defer l.release()
	for {
		fds := []unix.PollFd{{Fd: int32(l.listener), Events: unix.POLLIN}, {Fd: int32(l.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			l.logf("software SNP host: poll: %v", err)
			return
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			var n notification
			if _, e := ioctlPtr(l.listener, ioctlRecv, unsafe.Pointer(&n)); e == 0 {
				l.answer(&n)
			} else if e != unix.ENOENT { // ENOENT: the caller was killed meanwhile
				l.logf("software SNP host: receiving a notification: %v", e)
				return
			}
			continue
		}
		if fds[0].Revents != 0 || fds[1].Revents != 0 {
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
	unix.Close(l.listener)
}

// stop ends the loop; calls that are still held then fail with ENOSYS.
func (l *loop) stop() {
	var one [8]byte
	one[0] = 1
	_, _ = unix.Write(l.wake, one[:])
}

func (l *loop) answer(n *notification) {
	switch n.NR {
	case unix.SYS_OPENAT:
		l.open(n, n.Args[1])
	case unix.SYS_OPEN:
		l.open(n, n.Args[0])
	case unix.SYS_IOCTL:
		l.ioctl(n)
	case unix.SYS_EXECVE:
		l.fitArguments(n, n.Args[1])
		l.letRun(n)
	case unix.SYS_EXECVEAT:
		l.fitArguments(n, n.Args[2])
		l.letRun(n)
	default:
		l.letRun(n)
	}
}

func (l *loop) letRun(n *notification) {
	l.send(response{ID: n.ID, Flags: respContinue})
}

// send gives a held call its result; false when the caller no longer waits.
func (l *loop) send(r response) bool {
	_, e := ioctlPtr(l.listener, ioctlSend, unsafe.Pointer(&r))
	return e == 0
}

func (l *loop) open(n *notification, addr uint64) {
	c := &caller{pid: int(n.PID), table: l.table}
	name, err := c.readString(addr, maxPath)
	if err != nil || len(name) == 0 || name[0] != '/' {
		l.letRun(n)
		return
	}
	o, err := l.host.Open(path.Clean(name))
	if err != nil {
		errno := unix.ENOMEM
		if !errors.As(err, &errno) {
			l.logf("%v", err)
		}
		l.send(response{ID: n.ID, Error: -int32(errno)})
		return
	}
	if o == nil {
		l.letRun(n)
		return
	}
	l.table.sweep()
	l.install(n, kvm.Answer{New: o})
}

func (l *loop) ioctl(n *notification) {
	c := &caller{pid: int(n.PID), table: l.table}
	o := l.table.find(c.pid, int(int32(n.Args[0])))
	if o == nil {
		l.letRun(n)
		return
	}
	a := o.Ioctl(c, uint32(n.Args[1]), n.Args[2])
	switch {
	case a.Errno == 0 && a.New != nil:
		l.install(n, a)
	case a.Errno == 0 && a.Wait != nil:
		l.hold(n, o, a)
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
}

// install hands a new object's file to the caller, whose call returns the
// descriptor.
//
// SECCOMP_ADDFD_FLAG_SEND, which would do both at once, is not used: when a
// signal (the Go runtime sends itself some) interrupts that ioctl before the
// caller has woken up, Linux takes the file back but lets the call return,
// with 0, and QEMU takes its stdin for the new descriptor (kernel/seccomp.c,
// seccomp_notify_addfd). In two steps, an interruption between them
// leaves the caller a descriptor that it does not know of, until it ends.
func (l *loop) install(n *notification, a kvm.Answer) {
	if err := l.table.add(a.New, int(n.PID)); err != nil {
		l.logf("software SNP host: %v", err)
		l.send(response{ID: n.ID, Error: -int32(unix.ENFILE)})
		return
	}
	add := addFD{ID: n.ID, SrcFD: uint32(a.New.File().Fd()), NewFDFlags: closeOnExecFlag}
	fd, e := ioctlPtr(l.listener, ioctlAddFD, unsafe.Pointer(&add))
	if e == 0 && l.send(response{ID: n.ID, Val: int64(fd)}) {
		return
	}
	l.table.remove(a.New)
	if a.Undo != nil {
		a.Undo()
	} else {
		a.New.Close()
	}
	if e == unix.EMFILE {
		l.send(response{ID: n.ID, Error: -int32(unix.EMFILE)})
	}
}

// hold keeps a call waiting until its channel closes. A signal ends the wait
// in the kernel; the answer then finds no one and is dropped.
func (l *loop) hold(n *notification, o kvm.Object, a kvm.Answer) {
	forget := make(chan struct{})
	l.mu.Lock()
	if old := l.waiting[o]; old != nil {
		close(old) // it was interrupted: the same vCPU is back in KVM_RUN
	}
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
		l.send(response{ID: id})
	}()
}
