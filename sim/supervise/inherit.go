package supervise

import (
	"os"
	"os/signal"
	"strconv"
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
// started with, nil for a number that it was not: all that Go opens is closed on exec.
func inheritedFiles() []*os.File {
	var out []*os.File
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= stderrFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			continue
		}
		slot := fd - stderrFD - 1
		for len(out) <= slot {
			out = append(out, nil)
		}
		out[slot] = os.NewFile(uintptr(own), "inherited")
	}
	return out
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
