// Package childgroup starts programs whose end is the end of what they have started, too:
// a script that stands for a program leaves nothing behind.
package childgroup

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// pipePatience is how long output is still read after the end of a command: a process that
// has left its group may hold the pipes for ever.
const pipePatience = time.Second

// Of makes the end of cmd's context, where it was made with one, end its whole process
// group, which is its own, and bounds how long its Wait waits for output after that.
func Of(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = pipePatience
	if cmd.Cancel != nil {
		cmd.Cancel = func() error { return Kill(cmd) }
	}
}

// Kill ends the process group of a command that was started. Nobody left there is no error.
// It may be called until Wait has given anything but exec.ErrWaitDelay: after that, the
// number of the group may be another's.
func Kill(cmd *exec.Cmd) error {
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
