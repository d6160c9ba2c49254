package supervise

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	retAllow  = 0x7fff0000 // SECCOMP_RET_ALLOW
	retNotify = 0x7fc00000 // SECCOMP_RET_USER_NOTIF

	archX8664 = 0xC000003E // AUDIT_ARCH_X86_64

	// Offsets in struct seccomp_data. Arguments are 64 bits wide, of which
	// the lower half comes first; flags and requests are 32 bits.
	dataNR   = 0
	dataArch = 4
	dataArgs = 16

	sevIssueCommand = 0xC0105300
	kvmIoctlType    = 0xAE00
)

// Opens that are held. A filter sees flags, never a path.
type openKind int

const (
	// opensReadWrite: O_RDWR without O_CREAT, O_DIRECTORY and O_TMPFILE, which is
	// how a device node is opened for ioctls. QEMU makes three such opens.
	opensReadWrite openKind = iota
	// opensAll: all that might read a file that exists, so not O_WRONLY,
	// O_DIRECTORY, O_PATH and O_EXCL.
	opensAll
	opensNone
)

// selection says what a filter holds, besides ioctls with SEV_ISSUE_CMD or of
// KVM's type 0xAE.
type selection struct {
	opens openKind
	// ioctls, where not nil, are the only ones of KVM's type.
	ioctls []uint32
	// paths: stat, access and their relatives, except for those that ask after
	// an open file (AT_EMPTY_PATH, as glibc's fstat does).
	paths bool
	// execs: execve and execveat.
	execs bool
	// ends: what a program writes to descriptor 2, and exit_group.
	ends bool
}

// The filters: of a QEMU that we start ourselves, of a foreign command with
// nodes of its own in /dev, of one without, and of one on the real host.
var (
	selectQEMU    = selection{}
	selectPrivate = selection{execs: true}
	selectTrapped = selection{opens: opensAll, paths: true, execs: true}
	selectHeard   = selection{opens: opensNone} // with ioctls and ends
)

const (
	bpfLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfEq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	bpfRet  = unix.BPF_RET | unix.BPF_K
)

func argument(n uint32) unix.SockFilter { return unix.SockFilter{Code: bpfLoad, K: dataArgs + 8*n} }

// notifyIf ends a block: it notifies when argument n, masked, has a value.
func notifyIf(n, mask, value uint32) []unix.SockFilter {
	return []unix.SockFilter{
		argument(n),
		{Code: bpfAnd, K: mask},
		{Code: bpfEq, K: value, Jf: 1},
		{Code: bpfRet, K: retNotify},
		{Code: bpfRet, K: retAllow},
	}
}

// filter is the seccomp program: a block for each system call that may be
// held, every one of which returns; everything else runs.
func filter(s selection) []unix.SockFilter {
	prog := []unix.SockFilter{
		{Code: bpfLoad, K: dataArch},
		{Code: bpfEq, K: archX8664, Jt: 1},
		{Code: bpfRet, K: retAllow},
		{Code: bpfLoad, K: dataNR},
	}
	on := func(nr uint32, block ...unix.SockFilter) {
		prog = append(prog, unix.SockFilter{Code: bpfEq, K: nr, Jf: uint8(len(block))})
		prog = append(prog, block...)
	}
	always := unix.SockFilter{Code: bpfRet, K: retNotify}
	ioctls := []unix.SockFilter{argument(1)}
	for _, request := range append([]uint32{sevIssueCommand}, s.ioctls...) {
		ioctls = append(ioctls, unix.SockFilter{Code: bpfEq, K: request, Jf: 1}, always)
	}
	if s.ioctls == nil {
		ioctls = append(ioctls, notifyIf(1, 0xFF00, kvmIoctlType)...)
	} else {
		ioctls = append(ioctls, unix.SockFilter{Code: bpfRet, K: retAllow})
	}
	on(unix.SYS_IOCTL, ioctls...)
	opens := func(flags uint32) []unix.SockFilter {
		if s.opens == opensReadWrite {
			return notifyIf(flags, unix.O_ACCMODE|unix.O_CREAT|unix.O_TMPFILE, unix.O_RDWR)
		}
		return append([]unix.SockFilter{
			argument(flags),
			{Code: bpfAnd, K: unix.O_ACCMODE},
			{Code: bpfEq, K: unix.O_WRONLY, Jf: 1},
			{Code: bpfRet, K: retAllow},
		}, notifyIf(flags, unix.O_DIRECTORY|unix.O_PATH|unix.O_EXCL, 0)...)
	}
	if s.opens != opensNone {
		on(unix.SYS_OPENAT, opens(2)...)
		on(unix.SYS_OPEN, opens(1)...)
	}
	if s.paths {
		on(unix.SYS_NEWFSTATAT, notifyIf(3, unix.AT_EMPTY_PATH, 0)...)
		on(unix.SYS_STATX, notifyIf(2, unix.AT_EMPTY_PATH, 0)...)
		for _, nr := range []uint32{unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_OPENAT2} {
			on(nr, always)
		}
	}
	if s.execs {
		on(unix.SYS_EXECVE, always)
		on(unix.SYS_EXECVEAT, always)
	}
	if s.ends {
		on(unix.SYS_WRITE, notifyIf(0, 0xFFFFFFFF, stderrFD)...)
		on(unix.SYS_WRITEV, notifyIf(0, 0xFFFFFFFF, stderrFD)...)
		on(unix.SYS_EXIT_GROUP, always)
	}
	return append(prog, unix.SockFilter{Code: bpfRet, K: retAllow})
}

// installFilter puts the filter on the calling thread, which must be locked
// to its goroutine, and gives the listener. The thread and every process
// started from it keep the filter for good.
//
// Whoever has not CAP_SYS_ADMIN must give up new privileges for it
// (no_new_privs): setuid programs then run as their caller. strict does so in
// any case.
func installFilter(s selection, strict bool) (int, error) {
	prog := filter(s)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	install := func() (uintptr, unix.Errno) {
		const setModeFilter, flagNewListener = 1, 1 << 3
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, flagNewListener, uintptr(unsafe.Pointer(&fprog)))
		return fd, errno
	}
	noNewPrivileges := func() error {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("software SNP host: cannot set no_new_privs: %w", err)
		}
		return nil
	}
	if strict {
		if err := noNewPrivileges(); err != nil {
			return -1, err
		}
	}
	fd, errno := install()
	if errno == unix.EACCES && !strict {
		if err := noNewPrivileges(); err != nil {
			return -1, err
		}
		fd, errno = install()
	}
	if errno != 0 {
		return -1, explainSeccomp(errno)
	}
	return int(fd), nil
}

// explainSeccomp says why the kernel gives no listener, and the remedy.
func explainSeccomp(errno unix.Errno) error {
	switch {
	case errors.Is(errno, unix.EBUSY):
		return errors.New("software SNP host: this process is already under a seccomp supervisor (another `sim exec`, or a container that uses seccomp notification), and Linux allows one; run the command outside of it")
	case errors.Is(errno, unix.EPERM), errors.Is(errno, unix.EACCES):
		return fmt.Errorf("software SNP host: seccomp(2) is not allowed here (%w), as under a container's seccomp profile; run with a profile that allows it, for instance --security-opt seccomp=unconfined", errno)
	case errors.Is(errno, unix.ENOSYS), errors.Is(errno, unix.EINVAL):
		return fmt.Errorf("software SNP host: there is no seccomp user notification here (%w): the kernel must be Linux 5.9 or later with CONFIG_SECCOMP_FILTER, and a container's seccomp profile must allow seccomp(2), for instance --security-opt seccomp=unconfined", errno)
	}
	return fmt.Errorf("software SNP host: seccomp: %w", errno)
}
