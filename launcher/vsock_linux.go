package launcher

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/guest"
)

const (
	vhostVsockPath = "/dev/vhost-vsock"
	// setGuestCID is VHOST_VSOCK_SET_GUEST_CID of linux/vhost.h: _IOW(0xAF, 0x60, __u64).
	setGuestCID = 0x4008AF60
	// vsockTries is how many context identifiers are tried before all count as taken.
	vsockTries = 4096
	// firstAutoCID keeps clear of the small numbers that people choose by hand.
	firstAutoCID = 1 << 10
)

// openVsock opens /dev/vhost-vsock and gives it the guest's context identifier, which
// stays taken as long as the file is open: QEMU inherits it. The kernel alone knows
// which are free, so for guest.VsockAuto one after another is tried, from a place that
// differs from run to run.
func openVsock(cid uint32) (*os.File, uint32, error) {
	f, err := os.OpenFile(vhostVsockPath, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, vsockError(err)
	}
	got, err := claimCID(cid, os.Getpid(), func(cid uint64) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), setGuestCID, uintptr(unsafe.Pointer(&cid))); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, got, nil
}

// claimCID takes a context identifier; set is the ioctl.
func claimCID(cid uint32, seed int, set func(uint64) error) (uint32, error) {
	if cid != guest.VsockAuto {
		err := set(uint64(cid))
		if errors.Is(err, unix.EADDRINUSE) {
			return 0, fmt.Errorf("vsock: the context identifier %d is another guest's (use auto)", cid)
		}
		if err != nil {
			return 0, fmt.Errorf("vsock: taking the context identifier %d: %w", cid, err)
		}
		return cid, nil
	}
	h := fnv.New32a()
	fmt.Fprint(h, seed)
	for i := range uint32(vsockTries) {
		try := firstAutoCID + (h.Sum32()+i)%(guest.VsockAuto-firstAutoCID)
		err := set(uint64(try))
		if err == nil {
			return try, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return 0, fmt.Errorf("vsock: taking a context identifier: %w", err)
		}
	}
	return 0, fmt.Errorf("vsock: %d context identifiers in a row are taken (give one)", vsockTries)
}

// vsockError says what to do about a device that cannot be opened.
func vsockError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("vsock: this machine has no %s (load the kernel module vhost_vsock, or leave vsock out)", vhostVsockPath)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("vsock: %s cannot be opened (join the group it belongs to, often kvm, or leave vsock out)", vhostVsockPath)
	}
	return fmt.Errorf("vsock: %w", err)
}
