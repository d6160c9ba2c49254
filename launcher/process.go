package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/internal/childgroup"
	"github.com/snplaunch/snplaunch/qmp"
	"github.com/snplaunch/snplaunch/sim/supervise"
)

// firstInherited is the number of the first file that a child inherits beyond
// its standard streams.
const firstInherited = 3

// keptOutput is how much of QEMU's stderr and the guest's console is kept, in bytes.
const keptOutput = 64 << 10

// process is a started QEMU.
type process interface {
	PID() int
	Kill() error
	Done() <-chan struct{}
	Wait() error
}

// vm is a QEMU with its channels. All of them are inherited socketpairs: no
// path leads to them and they end with the processes that hold them.
type vm struct {
	process
	name      string
	started   Invocation
	qmp       *qmp.Client // nil until connect
	life      *life       // nil until connect
	qmpConn   net.Conn
	console   net.Conn
	agentConn net.Conn
	agent     *agent.Client // nil until the guest has said hello
	sevGuest  net.Conn
	stderr    *tail
	screen    *tail
	lookout   *lookout
	screens   sync.WaitGroup
	// memoryPath is where QEMU B finds the file that it writes its memory to.
	memoryPath string
	// launchOnly says that it never ran a guest.
	launchOnly bool
	// attended says that somebody sits at the guest's console, and sees for themselves
	// what becomes of it. What looks like a panic may be a log that they read there.
	attended bool
}

// starter collects what a QEMU inherits before it is started.
type starter struct {
	files []*os.File
	conns []net.Conn
	names []string // what QEMU calls a file, and what its owner does, in turn
}

// channel makes a socketpair: our end, and the number of the other in QEMU.
func (s *starter) channel(name string) (net.Conn, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("making the %s channel: %w", name, err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), name), os.NewFile(uintptr(pair[1]), name)
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, 0, fmt.Errorf("making the %s channel: %w", name, err)
	}
	s.conns = append(s.conns, conn)
	return conn, s.inherit(theirs), nil
}

// inherit passes a file on and gives its number in QEMU.
func (s *starter) inherit(f *os.File) int {
	s.files = append(s.files, f)
	return firstInherited + len(s.files) - 1
}

// closeFiles closes our copies of what QEMU has inherited.
func (s *starter) closeFiles() {
	for _, f := range s.files {
		f.Close()
	}
}

func (s *starter) closeAll() {
	s.closeFiles()
	for _, c := range s.conns {
		c.Close()
	}
}

// serial is what a guest's serial port is connected to on our side; nil: nothing.
type serial struct {
	screen   io.Writer
	keyboard io.Reader
}

// startVM starts a QEMU whose arguments depend on its channels. sim is nil for one
// that runs on the machine as it is.
func startVM(name, path string, sim *supervise.Config, withSevGuest bool, serial serial,
	arguments func(*starter, plumbing) ([]string, error)) (*vm, error) {
	s := &starter{}
	v := &vm{name: name, stderr: newTail(keptOutput), screen: newTail(keptOutput), lookout: newLookout(), attended: serial.keyboard != nil}
	var p plumbing
	var err error
	for _, c := range []struct {
		name string
		conn *net.Conn
		fd   *int
		want bool
	}{
		{"QMP", &v.qmpConn, &p.qmp, true}, {"console", &v.console, &p.console, true},
		{"agent", &v.agentConn, &p.agent, true}, {"sev-guest", &v.sevGuest, &p.sevGuest, withSevGuest},
	} {
		if !c.want {
			continue
		}
		if *c.conn, *c.fd, err = s.channel(c.name); err != nil {
			s.closeAll()
			return nil, err
		}
	}
	args, err := arguments(s, p)
	if err != nil {
		s.closeAll()
		return nil, err
	}
	v.started = Invocation{name, append([]string{path}, args...)}
	cmd := exec.Command(path, args...)
	v.stderr.names = strings.NewReplacer(s.names...)
	cmd.ExtraFiles = s.files
	cmd.Stderr = v.stderr
	// What stands for QEMU may be a script: what it starts ends with it.
	childgroup.Of(cmd)
	if sim != nil {
		v.process, err = supervise.Start(cmd, *sim)
	} else {
		v.process, err = startPlain(cmd)
	}
	if err != nil {
		s.closeAll()
		return nil, err
	}
	s.closeFiles()
	v.screens.Add(1)
	go func() {
		defer v.screens.Done()
		w := io.MultiWriter(v.screen, v.lookout)
		if serial.screen != nil {
			w = io.MultiWriter(v.screen, v.lookout, serial.screen)
		}
		_, _ = io.Copy(w, v.console) // ends with QEMU
	}()
	if serial.keyboard != nil {
		go func() { _, _ = io.Copy(v.console, serial.keyboard) }()
	}
	return v, nil
}

// connect greets QEMU. One that died before gives an error; its stderr says why.
func (v *vm) connect(ctx context.Context) error {
	c, err := qmp.Dial(ctx, v.qmpConn)
	if err != nil {
		return err
	}
	v.qmp = c
	v.life = watchLife(c)
	go v.endAfterShutdown()
	if !v.attended {
		go v.giveUpAfterPanic()
	}
	return nil
}

// panicPatience is how long a guest may go on after its kernel has panicked: to say
// why, and to reboot where panic= on its command line has it do so.
const panicPatience = 2 * time.Second

// giveUpAfterPanic ends the wait for a guest whose kernel has panicked and, as it does
// without panic= on its command line, stands there for ever.
func (v *vm) giveUpAfterPanic() {
	select {
	case <-v.lookout.panicked:
	case <-v.Done():
		return
	}
	if !v.ended(panicPatience) {
		v.life.stick()
	}
}

// killed says what signal ended this QEMU, where one did that it was not sent by us.
func (v *vm) killed() string {
	if !v.ended(0) {
		return ""
	}
	var exit *exec.ExitError
	if !errors.As(v.Wait(), &exit) {
		return ""
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return ""
	}
	s := fmt.Sprintf("QEMU was ended by signal %d (%s)", int(status.Signal()), unix.SignalName(status.Signal()))
	if status.Signal() == syscall.SIGKILL {
		s += ", as the kernel does with a process when memory runs out; see dmesg"
	}
	return s
}

// shutdownPatience is how long QEMU may take to end once its guest has.
const shutdownPatience = 3 * time.Second

// endAfterShutdown ends a QEMU whose guest has shut down and that does not end by
// itself: QEMU 10 and 11 wait for ever where a command came over QMP as they were ending.
func (v *vm) endAfterShutdown() {
	select {
	case <-v.life.shut:
	case <-v.Done():
		return
	}
	if !v.ended(shutdownPatience) {
		_ = v.Kill() // close tells of one that cannot be killed
	}
}

// ended says whether QEMU has ended, waiting a moment for one that is about to.
func (v *vm) ended(wait time.Duration) bool {
	select {
	case <-v.Done(): // first, as of two that are ready select takes either
		return true
	default:
	}
	select {
	case <-v.Done():
		return true
	case <-time.After(wait):
		return false
	}
}

// politePatience is how long QEMU has for each of: answering quit, ending by it,
// ending by SIGTERM.
const politePatience = time.Second

// screenPatience is how long what the guest wrote last is still read after QEMU's end.
const screenPatience = 5 * time.Second

// close ends QEMU and gives back everything that it had: politely, then firmly.
func (v *vm) close() error {
	var errs *multierror.Error
	// One that was never greeted has nothing to say goodbye to, and one that ran
	// nothing has nothing to put in order.
	polite := v.qmp != nil && !v.launchOnly
	if polite && !v.ended(0) {
		ctx, cancel := context.WithTimeout(context.Background(), politePatience)
		_ = v.qmp.Quit(ctx) // one that does not heed it hears more below
		cancel()
		if !v.ended(politePatience) {
			_ = unix.Kill(v.PID(), unix.SIGTERM)
		}
	}
	if !polite || !v.ended(politePatience) {
		if err := v.Kill(); err != nil {
			errs = multierror.Append(errs, fmt.Errorf("%s: kill: %w", v.name, err))
		}
	}
	_ = v.Wait() // its exit status says nothing: it is 0 after a panic, too
	if v.qmp != nil {
		_ = v.qmp.Close()
	}
	if v.agent != nil {
		v.agent.Close()
	}
	for _, c := range []net.Conn{v.qmpConn, v.agentConn, v.sevGuest} {
		if c != nil {
			_ = c.Close() // the peer has gone: there is nothing left to lose
		}
	}
	// QEMU's end of the console is gone with it. Should somebody still have it who has
	// left its group, he is not waited for.
	_ = v.console.SetReadDeadline(time.Now().Add(screenPatience))
	v.screens.Wait()
	_ = v.console.Close()
	return errs.ErrorOrNil()
}

// plainProcess is a child that does not outlive this process.
type plainProcess struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// startPlain starts a child from a thread that stays until it has ended: the
// parent-death signal is sent when that thread ends.
func startPlain(cmd *exec.Cmd) (*plainProcess, error) {
	p := &plainProcess{cmd: cmd, done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("cannot start %s: %w", cmd.Path, err)
			return
		}
		started <- nil
		if p.err = cmd.Wait(); errors.Is(p.err, exec.ErrWaitDelay) {
			_ = childgroup.Kill(cmd) // whom it left behind: they have its stderr
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *plainProcess) PID() int              { return p.cmd.Process.Pid }
func (p *plainProcess) Done() <-chan struct{} { return p.done }
func (p *plainProcess) Wait() error           { <-p.done; return p.err }
func (p *plainProcess) Kill() error {
	select {
	case <-p.done:
		return nil
	default:
		return childgroup.Kill(p.cmd)
	}
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	b     []byte
	total int64
	names *strings.Replacer // nil: none
}

func newTail(limit int) *tail { return &tail{limit: limit} }

// Write implements io.Writer; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total += int64(len(p))
	t.b = append(t.b, p...)
	if over := len(t.b) - t.limit; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names != nil {
		return t.names.Replace(string(t.b))
	}
	return string(t.b)
}

// lines gives the last n lines that hold anything, for a message.
func (t *tail) lines(n int) string {
	var kept []string
	for _, l := range strings.Split(t.String(), "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.Contains(l, ": warning: ") {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept[max(0, len(kept)-n):], "\n")
}
