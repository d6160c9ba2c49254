package supervise

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Listener hears what supervised programs ask the kernel for, before anyone
// answers: the software host, where there is one, or the kernel itself. Nothing is
// changed for being heard. Its methods are called from one goroutine.
//
// What is heard is what stood in the program's memory while its call was held. A
// program of which another thread changes that memory meanwhile can let the kernel read
// something else: what is heard of a hostile program proves nothing.
type Listener interface {
	// Requests are the ioctls of KVM's type that it wants to hear of. No other is held
	// where the kernel answers. KVM_RUN should not be among them: a filter stays for
	// good, and a guest at work makes a hundred thousand of those a second.
	Requests() []uint32
	// Hear is told of a held call: one of those ioctls, SEV_ISSUE_CMD, a write to
	// descriptor 2, an exit_group.
	Hear(Heard)
	// Taken follows each Hear: whether the call was really made. A signal can
	// interrupt a call that is held; it is then made, and heard, again.
	Taken(bool)
	// Ended is told when a process that was heard before its exit_group is no more.
	Ended(process int)
}

// Heard is a held call.
type Heard struct {
	Process int // that the thread belongs to
	Thread  int
	Call
	Args   [6]uint64
	caller *caller
}

// Read reads the caller's memory.
func (h *Heard) Read(addr uint64, p []byte) error { return h.caller.Read(addr, p) }

// Link is what a descriptor of the caller refers to, as proc_pid_fd(5) tells it:
// "/dev/kvm", "anon_inode:kvm-vm"; on the software host's files "/memfd:snplaunch-vm (deleted)".
// It is empty for a descriptor that is not open.
func (h *Heard) Link(fd int) string {
	link, err := readLink(descriptorPath(h.Thread, fd))
	if err != nil {
		return ""
	}
	return link
}

// Same says whether two descriptors of the caller are one open file (kcmp(2)).
// known is false where this kernel does not tell.
func (h *Heard) Same(a, b int) (same, known bool) {
	const kcmpFile = 0
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(h.Thread), uintptr(h.Thread), kcmpFile, uintptr(a), uintptr(b), 0)
	return r == 0, e == 0
}

// stderrFD is the descriptor that a program says what went wrong on.
const stderrFD = 2

// listening passes calls on to a listener. A nil one does nothing.
type listening struct {
	to        Listener
	requests  map[uint32]bool
	processes map[int]int // pidfd of each process that was heard
	threads   map[int]int // the process of a thread
	heard     bool        // the call that is being served
}

func newListening(to Listener) *listening {
	if to == nil {
		return nil
	}
	requests := map[uint32]bool{sevIssueCommand: true}
	for _, request := range to.Requests() {
		requests[request] = true
	}
	return &listening{to: to, requests: requests, processes: map[int]int{}, threads: map[int]int{}}
}

// hear passes a call on, where it is of a kind that listeners hear.
func (l *listening) hear(n *notification, c *caller) {
	if l == nil {
		return
	}
	l.heard = false
	switch n.NR {
	case unix.SYS_IOCTL:
		if !l.requests[uint32(n.Args[1])] {
			return
		}
	case unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_EXIT_GROUP:
	default:
		return
	}
	process := l.processOf(c.pid)
	if process == 0 {
		return // it has been killed
	}
	h := Heard{Process: process, Thread: c.pid, Call: Call{NR: n.NR}, Args: n.Args, caller: c}
	if n.NR == unix.SYS_IOCTL {
		h.Request = uint32(n.Args[1])
	}
	if n.NR != unix.SYS_EXIT_GROUP { // most processes make no other call that is heard
		l.watch(process)
	}
	l.heard = true
	l.to.Hear(h)
}

func (l *listening) taken(made bool) {
	if l != nil && l.heard {
		l.to.Taken(made)
	}
}

// processOf finds a thread's process; 0 when there is no such thread any more.
func (l *listening) processOf(thread int) int {
	task := func(process int) string { return "/proc/" + strconv.Itoa(process) + "/task/" + strconv.Itoa(thread) }
	if process := l.threads[thread]; process != 0 && unix.Access(task(process), unix.F_OK) == nil {
		return process
	}
	process, err := strconv.Atoi(statusField(thread, "Tgid"))
	if err != nil {
		return 0
	}
	l.threads[thread] = process
	return process
}

// watch sees to it that the end of a process is told.
func (l *listening) watch(process int) {
	if _, known := l.processes[process]; known {
		return
	}
	if fd, err := unix.PidfdOpen(process, 0); err == nil {
		l.processes[process] = fd
	}
}

// watched adds what has to be polled to fds, and tells the processes in the same order.
func (l *listening) watched(fds []unix.PollFd, processes []int) ([]unix.PollFd, []int) {
	if l == nil {
		return fds, processes
	}
	for process, fd := range l.processes {
		processes = append(processes, process)
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return fds, processes
}

func (l *listening) ended(process int) {
	unix.Close(l.processes[process])
	delete(l.processes, process)
	for thread, p := range l.threads {
		if p == process {
			delete(l.threads, thread)
		}
	}
	l.to.Ended(process)
}

// close tells of the end of all that are left.
func (l *listening) close() {
	if l == nil {
		return
	}
	var left []int
	for process := range l.processes {
		left = append(left, process)
	}
	slices.Sort(left)
	for _, process := range left {
		l.ended(process)
	}
}
