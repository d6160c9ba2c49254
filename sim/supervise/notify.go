package supervise

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// notification is struct seccomp_notif (include/uapi/linux/seccomp.h).
type notification struct {
	ID    uint64
	PID   uint32 // thread id
	Flags uint32
	NR    int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	ID    uint64
	Val   int64
	Error int32 // 0 or -errno
	Flags uint32
}

// addFD is struct seccomp_notif_addfd.
type addFD struct {
	ID         uint64
	Flags      uint32
	SrcFD      uint32
	NewFD      uint32
	NewFDFlags uint32
}

const (
	ioctlRecv     = 0xC0502100
	ioctlSend     = 0xC0182101
	ioctlAddFD    = 0x40182103
	ioctlSetFlags = 0x40082104

	respContinue = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	fdSyncWakeUp = 1 // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6
)

// ioctlValue is an ioctl with a pointer, made again when a signal interrupts it.
func ioctlValue(fd int, request uintptr, p unsafe.Pointer) (int, unix.Errno) {
	for {
		r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(p))
		if e != unix.EINTR {
			return int(r), e
		}
	}
}

func ioctlPtr(fd int, request uintptr, p unsafe.Pointer) unix.Errno {
	_, e := ioctlValue(fd, request, p)
	return e
}

// syncWakeUp asks the kernel to hand the processor straight to us and back,
// which halves the cost of a notification where it is known.
func syncWakeUp(listener int) {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), ioctlSetFlags, fdSyncWakeUp)
}
