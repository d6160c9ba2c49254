package guestdev

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenCUSE opens /dev/cuse. The device exists until the file is closed.
func OpenCUSE() (*os.File, error) {
	// Blocking and outside the runtime's poller: a read must give exactly
	// one request.
	fd, err := unix.Open("/dev/cuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/cuse: %w (the kernel module cuse makes it, and only root may open it)", err)
	}
	return os.NewFile(uintptr(fd), "/dev/cuse"), nil
}
