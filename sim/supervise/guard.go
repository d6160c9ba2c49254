package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A foreign command (a script, libvirt, virtme-ng) starts processes of its
// own, which outlive it when they like to. Between it and this process stands a guard: this very
// program, started again under another name. The guard is the subreaper of all
// that the command starts; when this process dies, however it dies, the guard
// sees the end of its socket and kills them all; when the guard dies, this
// process does.
const guardName = "snplaunch-guard"

// guardSocket is the descriptor on which the guard talks to its supervisor: the
// first that the command has not inherited.
var guardSocket = -1

// guardOrder is what the guard is told on its command line.
type guardOrder struct {
	Path    string
	Args    []string
	View    View // private, trapped or real
	CBitPos int
	Ioctls  []uint32 // what a listener wants to hear; nil: there is none
	Socket  int      // guardSocket
	Ignored []int
}

// guardWord is what the guard says: first that the command runs (with the
// listener attached) or why not, then how it ended.
type guardWord struct {
	Error  string
	NoView bool // Error is about the private view
	PID    int
	Ended  bool
	Status int // as wait4(2) gives it
}

// init makes any program that imports this package able to be its own guard.
// The name is one that nobody starts a program under by accident.
func init() {
	if len(os.Args) == 2 && os.Args[0] == guardName {
		os.Exit(guardMain(os.Args[1]))
	}
}

// Foreign is a command that was started by StartForeign, with everything that
// it starts.
type Foreign struct {
	guard  *exec.Cmd
	conn   *os.File
	loop   *loop
	logf   func(string, ...any)
	view   View
	pid    int
	status syscall.WaitStatus
	err    error
	ended  chan struct{} // the command itself
	done   chan struct{}
}

// StartForeign starts a command that may start QEMU, itself or through
// others, now or later. path is the program, args its arguments with args[0];
// it gets this process's open files, folder and environment. With a Config.Host
// it is on that software host, without one on this machine, where Config.Listener hears of
// it and all calls are the kernel's to answer.
//
// This process becomes the reaper of what the command leaves behind, should
// the guard be killed.
func StartForeign(path string, args []string, cfg Config) (*Foreign, error) {
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	if err := checkMemory(); err != nil {
		return nil, err
	}
	view := viewReal
	if cfg.Host != nil || cfg.Listener == nil {
		var err error
		if view, err = cfg.View.resolve(); err != nil {
			return nil, err
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot become the reaper of the command's children: %w", err)
	}
	order := guardOrder{Path: path, Args: append([]string(nil), args...), View: view, CBitPos: cfg.CBitPos}
	if cfg.Listener != nil {
		order.Ioctls = append([]uint32{}, cfg.Listener.Requests()...)
	}
	f, listener, err := startGuard(order)
	var noView *viewError
	if errors.As(err, &noView) && cfg.View == ViewAuto {
		cfg.Logf("software SNP host: %v; the devices are shown by answering system calls instead, which a listing of /dev does not see", err)
		order.View = ViewTrapped
		f, listener, err = startGuard(order)
	}
	if err != nil {
		return nil, err
	}
	f.logf = cfg.Logf
	if f.loop, err = newLoop(listener, cfg); err != nil {
		unix.Close(listener)
		f.conn.Close()
		_ = f.guard.Wait()
		return nil, err
	}
	go f.loop.run()
	// The loop has to run before the command is started: its execve is held.
	if _, err := f.conn.Write([]byte("go")); err != nil {
		f.abandon()
		return nil, fmt.Errorf("the guard process has gone: %w", err)
	}
	word, _, err := f.hear()
	if err == nil && word.Error != "" {
		err = errors.New(word.Error)
	}
	if err != nil {
		f.abandon()
		return nil, err
	}
	f.pid = word.PID
	go f.watch()
	return f, nil
}

// viewError says why there is no private view.
type viewError struct{ reason string }

func (e *viewError) Error() string { return "no private /dev can be had here: " + e.reason }

// startGuard starts a guard, which makes the view and the filter, and gives
// the filter's listener.
func startGuard(o guardOrder) (f *Foreign, listener int, err error) {
	inherited := inheritedFiles()
	defer closeFiles(inherited)
	o.Socket, o.Ignored = stderrFD+1+len(inherited), ignored
	order, err := json.Marshal(o)
	if err != nil {
		return nil, -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	mine, theirs := os.NewFile(uintptr(pair[0]), "guard"), os.NewFile(uintptr(pair[1]), "guard")
	defer theirs.Close()
	defer func() {
		if err != nil {
			mine.Close()
		}
	}()
	f = &Foreign{conn: mine, view: o.View, ended: make(chan struct{}), done: make(chan struct{})}
	f.guard = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{guardName, string(order)},
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: append(slices.Clone(inherited), theirs),
	}
	if o.View == ViewPrivate {
		f.guard.SysProcAttr = ownNamespace()
	}
	if err := f.guard.Start(); err != nil {
		if o.View == ViewPrivate {
			return nil, -1, &viewError{err.Error()}
		}
		return nil, -1, fmt.Errorf("cannot start the guard process: %w", err)
	}
	theirs.Close()
	word, listener, err := f.hear()
	switch {
	case err == nil && word.NoView:
		err = &viewError{word.Error}
	case err == nil && word.Error != "":
		err = errors.New(word.Error)
	case err == nil && listener < 0:
		err = errors.New("the guard process sent no listener")
	}
	if err != nil {
		_ = f.guard.Wait()
		return nil, -1, err
	}
	return f, listener, nil
}

// ownNamespace lets a process be started in a mount namespace of its own, with
// a user namespace around it for those who may not have one otherwise.
func ownNamespace() *syscall.SysProcAttr {
	if hasCapability(unix.CAP_SYS_ADMIN) {
		return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	}
	uid, gid := os.Geteuid(), os.Getegid()
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
	}
}

// abandon ends a guard whose command never ran.
func (f *Foreign) abandon() {
	f.conn.Close()
	_ = f.guard.Wait()
	f.loop.stop()
	<-f.loop.done
	unix.Close(f.loop.wake)
}

// hear waits for a word of the guard.
func (f *Foreign) hear() (guardWord, int, error) {
	var w guardWord
	listener := -1
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	var n, on int
	var err error
	for {
		n, on, _, _, err = unix.Recvmsg(int(f.conn.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return w, -1, os.NewSyscallError("recvmsg", err)
	}
	if n == 0 {
		return w, -1, errors.New("the guard process has ended")
	}
	if on > 0 {
		if msgs, err := unix.ParseSocketControlMessage(oob[:on]); err == nil && len(msgs) == 1 {
			if fds, err := unix.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
				listener = fds[0]
			}
		}
	}
	return w, listener, json.Unmarshal(bytes.TrimRight(buf[:n], "\x00"), &w)
}

// stragglers is how long processes may outlive the command before they are named.
const stragglers = time.Second

// watch waits for the command's end, then for the end of everything that it
// started.
func (f *Foreign) watch() {
	defer close(f.done)
	word, _, err := f.hear()
	if err == nil && word.Ended {
		f.status = syscall.WaitStatus(word.Status)
		close(f.ended)
		name := time.AfterFunc(stragglers, f.nameStragglers)
		_ = f.guard.Wait()
		name.Stop()
	} else {
		if err == nil {
			err = errors.New("the guard process has said what makes no sense")
		}
		f.err = fmt.Errorf("%w before the command had; its processes were killed", err)
		close(f.ended)
		_ = f.guard.Process.Kill()
		_ = f.guard.Wait()
		killOrphans(f.loop.done)
	}
	<-f.loop.done // no process with the filter is left
	f.conn.Close()
	unix.Close(f.loop.wake)
}

// nameStragglers says who keeps this process from ending after the command has.
func (f *Foreign) nameStragglers() {
	var names []string
	for _, pid := range descendants(f.guard.Process.Pid, nil) {
		names = append(names, fmt.Sprintf("%d %s", pid, statusField(pid, "Name")))
	}
	if len(names) > 0 {
		f.logf("software SNP host: the command has ended; waiting for what it has left running: %s", strings.Join(names, ", "))
	}
}

// PID is the command's process id.
func (f *Foreign) PID() int { return f.pid }

// View is how the command sees the host.
func (f *Foreign) View() View { return f.view }

// Stats says what supervision has cost so far.
func (f *Foreign) Stats() Stats { return f.loop.counters.stats() }

// Signal sends a signal to the command itself, unless that has ended.
func (f *Foreign) Signal(s syscall.Signal) {
	select {
	case <-f.ended:
	default:
		_ = syscall.Kill(f.pid, s)
	}
}

// Ended is closed when the command itself has ended; what it started may live on.
func (f *Foreign) Ended() <-chan struct{} { return f.ended }

// Kill ends the command and everything that it started, at once.
func (f *Foreign) Kill() {
	c, err := f.conn.SyscallConn()
	if err != nil {
		return // all has ended and the socket is closed
	}
	_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
}

// Wait waits until the command and everything that it started have ended and
// gives the command's own exit status; 128 and the signal's number when a
// signal ended it, as a shell does.
func (f *Foreign) Wait() (int, error) {
	<-f.done
	if f.err != nil {
		return 0, f.err
	}
	if f.status.Signaled() {
		return 128 + int(f.status.Signal()), nil
	}
	return f.status.ExitStatus(), nil
}

// guardMain is the guard's whole life.
func guardMain(order string) int {
	var o guardOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return 125 // nobody can be told
	}
	guardSocket = o.Socket
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return guardFail(err)
	}
	unix.CloseOnExec(guardSocket)
	// The terminal's signals are for the command. They are caught, not
	// ignored: what is ignored stays ignored in a child, as what was before shall.
	signal.Notify(make(chan os.Signal, 8), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGTSTP)
	for _, s := range o.Ignored {
		signal.Ignore(syscall.Signal(s))
	}
	if o.View == ViewPrivate {
		if err := mountPrivateView(nodes(o.CBitPos)); err != nil {
			guardSay(guardWord{Error: err.Error(), NoView: true}, -1)
			return 125
		}
	}

	pid := make(chan int, 1)
	hold := make(chan struct{})
	go onOtherThread(func() {
		p, err := startGuarded(o)
		if err != nil {
			guardFail(err)
			pid <- -1
			return
		}
		pid <- p
		<-hold // the thread carries the parent-death signal
	})
	child := <-pid
	if child < 0 {
		return 125
	}
	guardSay(guardWord{PID: child}, -1)
	go func() { // the socket ends when the supervisor does, or wants an end
		buf := make([]byte, 1)
		for {
			n, err := unix.Read(guardSocket, buf)
			if n <= 0 && !errors.Is(err, unix.EINTR) {
				killAll()
				return
			}
		}
	}()
	for {
		var st syscall.WaitStatus
		got, err := syscall.Wait4(-1, &st, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil { // ECHILD: nothing is left
			return 0
		}
		if got == child {
			guardSay(guardWord{Ended: true, Status: int(st)}, -1)
		}
	}
}

// startGuarded puts the filter on this thread, hands its listener to the
// supervisor and starts the command from here.
func startGuarded(o guardOrder) (int, error) {
	held := o.View.filterOf()
	held.ends = o.Ioctls != nil
	if o.View == viewReal {
		held.ioctls = append([]uint32{}, o.Ioctls...)
	}
	listener, err := installFilter(held, false)
	if err != nil {
		return 0, err
	}
	guardSay(guardWord{}, listener)
	unix.Close(listener)
	if o.View == ViewPrivate && os.Geteuid() != 0 {
		// Mounting in a user namespace took a capability there, which is none of
		// the command's business. Without the inheritable set it ends at exec.
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return 0, fmt.Errorf("cannot give up capabilities: %w", err)
		}
	}
	buf := make([]byte, 8)
	if n, err := unix.Read(guardSocket, buf); n <= 0 {
		return 0, fmt.Errorf("the supervisor has gone: %w", err)
	}
	pid, err := syscall.ForkExec(o.Path, o.Args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("cannot start %s: %w", o.Path, err)
	}
	return pid, nil
}

func guardSay(w guardWord, fd int) {
	b, err := json.Marshal(w)
	if err != nil {
		return
	}
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	_ = unix.Sendmsg(guardSocket, b, oob, nil, unix.MSG_NOSIGNAL) // a supervisor that has gone is seen by the reader
}

func guardFail(err error) int {
	guardSay(guardWord{Error: err.Error()}, -1)
	return 125
}
