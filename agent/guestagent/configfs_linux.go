package guestagent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/agent/tsmfs"
	"github.com/snplaunch/snplaunch/sim/guestdev"
)

// mountConfigfs mounts the kernel's configfs, which has the reports of the real
// driver under tsm (Linux 6.7 and later), where nobody else does: in a guest
// whose init this is.
func mountConfigfs() error {
	if os.Getpid() != 1 || !exists(tsmfs.MountPoint) {
		return nil
	}
	err := unix.Mount("configfs", tsmfs.MountPoint, "configfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting configfs on %s: %w", tsmfs.MountPoint, err)
	}
	return nil
}

// mountSimulated puts the simulated configfs-tsm where the kernel's would be.
// It covers no configfs that is in use.
func mountSimulated(driver *guestdev.Driver) (unmount func() error, err error) {
	if err := loadModules(ModulesDir, "configfs"); err != nil {
		return nil, err
	}
	there, err := os.ReadDir(tsmfs.MountPoint)
	switch {
	case errors.Is(err, unix.ENOTCONN): // an earlier agent's, which was killed
		if err := unix.Unmount(tsmfs.MountPoint, unix.MNT_DETACH); err != nil {
			return nil, fmt.Errorf("unmounting %s, which nobody serves: %w", tsmfs.MountPoint, err)
		}
	case err != nil:
		return nil, fmt.Errorf("no configfs-tsm in this guest, only %s: %w (the kernel module configfs makes the folder)", devicePath, err)
	case len(there) > 0:
		return nil, fmt.Errorf("no configfs-tsm in this guest, only %s: %s is in use", devicePath, tsmfs.MountPoint)
	}
	return tsmfs.Mount(tsmfs.MountPoint, driver)
}
