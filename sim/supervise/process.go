package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
)

// Config says which machine a supervised program sees.
type Config struct {
	// Host answers; nil, with a Listener: this machine's kernel does, and a foreign
	// command is only listened to.
	Host *kvm.Host
	// Listener, when set, hears every call of a foreign command that is held, whoever answers it.
	Listener Listener
	// CBitPos is what CPUID says on this machine (Fn8000_001F EBX[5:0]),
	// which QEMU compares its cbitpos= with; CPUID cannot be answered for. Other values in the
	// arguments of a QEMU that a foreign command starts are put right. -1
	// leaves them alone.
	CBitPos int
	// View is how a foreign command sees the nodes of this host; Start has no
	// use for it.
	View View
	// Logf, when set, is told what went wrong or was changed.
	Logf func(format string, args ...any)
}

// Process is a supervised program that was started by Start.
type Process struct {
	cmd  *exec.Cmd
	loop *loop
	done chan struct{}
	err  error
}

// Start starts cmd under the software host, as a child that does not outlive
// this process. Its standard streams and extra files are cmd's.
//
// The filter is put on a thread of this process, from which the child is
// started, so that no helper program is needed. The thread stays locked until the
// child has ended: it carries the child's parent-death signal.
func Start(cmd *exec.Cmd, cfg Config) (*Process, error) {
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	if err := checkMemory(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go onOtherThread(func() {
		listener, err := installFilter(selectQEMU, true)
		if err != nil {
			started <- err
			return
		}
		l, err := newLoop(listener, cfg)
		if err != nil {
			unix.Close(listener)
			started <- err
			return
		}
		go l.run()
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		if err := cmd.Start(); err != nil {
			l.stop()
			started <- fmt.Errorf("cannot start %s: %w", cmd.Path, err)
			return
		}
		p.loop = l
		ours.add(cmd.Process.Pid)
		started <- nil
		if p.err = cmd.Wait(); errors.Is(p.err, exec.ErrWaitDelay) && cmd.SysProcAttr.Setpgid {
			_ = kill(cmd) // whom it left behind: they have its output
		}
		ours.remove(cmd.Process.Pid)
		l.stop()
		<-l.done
		unix.Close(l.wake)
		close(p.done)
	})
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// onOtherThread runs f on a thread that ends with it, never the main thread: that one
// cannot end, and a filter on it would stay for as long as the process lives.
func onOtherThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // the goroutine ends locked, which ends the thread
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOtherThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the child at once, and where it was started with a process group of its own
// all that is in that; one that has ended already is no error.
func (p *Process) Kill() error {
	select {
	case <-p.done:
		return nil
	default:
		return kill(p.cmd)
	}
}

func kill(cmd *exec.Cmd) error {
	err := cmd.Process.Kill()
	if cmd.SysProcAttr.Setpgid {
		err = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Stats says what supervision has cost so far.
func (p *Process) Stats() Stats { return p.loop.counters.stats() }

// Done is closed when the child has ended and its last call is answered.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the child and gives what exec.Cmd.Wait gave.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}
