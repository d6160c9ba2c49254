package images

import (
	"os/exec"
	"syscall"
)

// stopGroup makes the end of cmd's context end what cmd has started as well,
// such as compilers.
func stopGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
