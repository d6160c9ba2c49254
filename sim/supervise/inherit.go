package supervise

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command finds what this process was started with: descriptors beyond the three
// standard ones, and the signals that it ignores, which nohup and the shell's & set.
// (The Go runtime tells of no others than these two that they were ignored.)

// ignored are the signals that were ignored when this process was started.
var ignored = func() (out []int) {
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			out = append(out, int(s))
		}
	}
	return out
}()

// inheritedFiles gives copies of the descriptors from 3 on that this process was
// started with, to the first number that is free: there the guard's socket goes. Those above it
// a child gets anyhow, as nothing closes them; all that Go opens is closed on exec.
func inheritedFiles() (out []*os.File) {
	for fd := stderrFD + 1; ; fd++ {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			return out
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return out
		}
		out = append(out, os.NewFile(uintptr(own), "inherited"))
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
