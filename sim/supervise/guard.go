package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
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

// guardSocket is the descriptor on which the guard talks to its supervisor.
const guardSocket = 3

// guardOrder is what the guard is told on its command line.
type guardOrder struct {
	Path string
	Args []string
}

// guardWord is what the guard says: first that the command runs (with the
// listener attached) or why not, then how it ended.
type guardWord struct {
	Error  string
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
	pid    int
	status syscall.WaitStatus
	err    error
	done   chan struct{}
}

// StartForeign starts a command that may start QEMU, itself or through
// others, now or later. path is the program, args its arguments with args[0];
// it gets this process's standard streams, folder and environment.
func StartForeign(path string, args []string, cfg Config) (*Foreign, error) {
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	args = append([]string(nil), args...)
	order, err := json.Marshal(guardOrder{path, args})
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "guard"), os.NewFile(uintptr(pair[1]), "guard")
	defer theirs.Close()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		ours.Close()
		return nil, fmt.Errorf("cannot become the reaper of the command's children: %w", err)
	}
	f := &Foreign{conn: ours, done: make(chan struct{})}
	f.guard = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{guardName, string(order)},
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{theirs},
	}
	if err := f.guard.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("cannot start the guard process: %w", err)
	}
	theirs.Close()
	word, listener, err := f.hear()
	if err == nil && word.Error != "" {
		err = errors.New(word.Error)
	}
	if err == nil && listener < 0 {
		err = errors.New("the guard process sent no listener")
	}
	if err != nil {
		ours.Close()
		_ = f.guard.Wait()
		return nil, err
	}
	if f.loop, err = newLoop(listener, cfg); err != nil {
		unix.Close(listener)
		ours.Close()
		_ = f.guard.Wait()
		return nil, err
	}
	go f.loop.run()
	// The loop has to run before the command is started: its execve is held.
	if _, err := ours.Write([]byte("go")); err != nil {
		f.abandon()
		return nil, fmt.Errorf("the guard process has gone: %w", err)
	}
	if word, _, err = f.hear(); err == nil && word.Error != "" {
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

// watch waits for the command's end, then for the end of everything that it
// started.
func (f *Foreign) watch() {
	defer close(f.done)
	word, _, err := f.hear()
	switch {
	case err != nil:
		f.err = fmt.Errorf("%w before the command had; its processes were killed", err)
		_ = f.guard.Wait()
		killDescendants()
	case word.Ended:
		f.status = syscall.WaitStatus(word.Status)
		_ = f.guard.Wait()
	}
	<-f.loop.done // no process with the filter is left
	f.conn.Close()
	unix.Close(f.loop.wake)
}

// PID is the command's process id.
func (f *Foreign) PID() int { return f.pid }

// Signal sends a signal to the command itself.
func (f *Foreign) Signal(s syscall.Signal) { _ = syscall.Kill(f.pid, s) }

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
		return guardFail(err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return guardFail(err)
	}
	unix.CloseOnExec(guardSocket)
	// The terminal's signals are for the command. They are caught, not
	// ignored: what is ignored stays ignored in a child.
	signal.Notify(make(chan os.Signal, 8), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGTSTP)

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
	go func() { // the socket ends when the supervisor does
		buf := make([]byte, 1)
		for {
			n, err := unix.Read(guardSocket, buf)
			if n <= 0 && !errors.Is(err, unix.EINTR) {
				killDescendants()
				os.Exit(125)
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
	listener, err := installFilter(true)
	if err != nil {
		return 0, err
	}
	guardSay(guardWord{}, listener)
	unix.Close(listener)
	buf := make([]byte, 8)
	if n, err := unix.Read(guardSocket, buf); n <= 0 {
		return 0, fmt.Errorf("the supervisor has gone: %w", err)
	}
	runtime.KeepAlive(o)
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

// killDescendants kills every process below this one, until there is none.
func killDescendants() {
	for range 200 {
		pids := descendants(os.Getpid())
		if len(pids) == 0 {
			return
		}
		for _, p := range pids {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
		for {
			var st syscall.WaitStatus
			if p, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil); err != nil || p <= 0 {
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// descendants lists the living processes below root.
func descendants(root int) []int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// pid (comm) state ppid …; comm may hold anything, also ")".
		i := bytes.LastIndexByte(b, ')')
		fields := bytes.Fields(b[i+1:])
		if i < 0 || len(fields) < 2 || fields[0][0] == 'Z' {
			continue
		}
		ppid, err1 := strconv.Atoi(string(fields[1]))
		pid, err2 := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err1 == nil && err2 == nil {
			children[ppid] = append(children[ppid], pid)
		}
	}
	var out []int
	queue := []int{root}
	for len(queue) > 0 {
		next := children[queue[0]]
		queue = append(queue[1:], next...)
		out = append(out, next...)
	}
	return out
}
