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

	// Offsets in struct seccomp_data.
	dataNR   = 0
	dataArch = 4
	dataArg1 = 16 + 8*1
	dataArg2 = 16 + 8*2

	sevIssueCommand = 0xC0105300
	kvmIoctlType    = 0xAE00
)

// filter is the seccomp program. It notifies
//
//   - openat and open whose flags are 0 or whose access mode is O_RDWR
//     without O_CREAT, O_DIRECTORY and O_TMPFILE: how a device node is opened;
//   - ioctl with SEV_ISSUE_CMD, or with a request of KVM's type 0xAE;
//   - execve and execveat, when withExec is set;
//
// and lets everything else run.
func filter(withExec bool) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
		absent = unix.O_ACCMODE | unix.O_CREAT | unix.O_DIRECTORY | (unix.O_TMPFILE &^ unix.O_DIRECTORY)
	)
	execTarget := uint32(retAllow)
	if withExec {
		execTarget = retNotify
	}
	return []unix.SockFilter{
		/* 0*/ {Code: load, K: dataArch},
		/* 1*/ {Code: jeq, K: archX8664, Jt: 1},
		/* 2*/ {Code: ret, K: retAllow},
		/* 3*/ {Code: load, K: dataNR},
		/* 4*/ {Code: jeq, K: unix.SYS_IOCTL, Jt: 5}, // to 10
		/* 5*/ {Code: jeq, K: unix.SYS_OPENAT, Jt: 9}, // to 15
		/* 6*/ {Code: jeq, K: unix.SYS_OPEN, Jt: 10}, // to 17
		/* 7*/ {Code: jeq, K: unix.SYS_EXECVE, Jt: 14}, // to 22
		/* 8*/ {Code: jeq, K: unix.SYS_EXECVEAT, Jt: 13}, // to 22
		/* 9*/ {Code: ret, K: retAllow},
		/*10*/ {Code: load, K: dataArg1},
		/*11*/ {Code: jeq, K: sevIssueCommand, Jt: 11}, // to 23
		/*12*/ {Code: and, K: 0xFF00},
		/*13*/ {Code: jeq, K: kvmIoctlType, Jt: 9}, // to 23
		/*14*/ {Code: ret, K: retAllow},
		/*15*/ {Code: load, K: dataArg2},
		/*16*/ {Code: jeq, K: 0, Jt: 6, Jf: 1}, // to 23, else 18
		/*17*/ {Code: load, K: dataArg1},
		/*18*/ {Code: jeq, K: 0, Jt: 4}, // to 23
		/*19*/ {Code: and, K: absent},
		/*20*/ {Code: jeq, K: unix.O_RDWR, Jt: 2}, // to 23
		/*21*/ {Code: ret, K: retAllow},
		/*22*/ {Code: ret, K: execTarget},
		/*23*/ {Code: ret, K: retNotify},
	}
}

// installFilter puts the filter on the calling thread, which must be locked
// to its goroutine, and gives the listener. The thread and every process
// started from it keep the filter for good.
func installFilter(withExec bool) (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("software SNP host: cannot set no_new_privs: %w", err)
	}
	prog := filter(withExec)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	const setModeFilter, flagNewListener = 1, 1 << 3
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, flagNewListener, uintptr(unsafe.Pointer(&fprog)))
	switch {
	case errno == 0:
		return int(fd), nil
	case errors.Is(errno, unix.EBUSY):
		return -1, errors.New("software SNP host: this process is already under a seccomp supervisor (another `sim exec`, or a container that uses seccomp notification), and Linux allows one; run the command outside of it")
	case errors.Is(errno, unix.EPERM), errors.Is(errno, unix.EACCES):
		return -1, errors.New("software SNP host: seccomp is not allowed here (a container's own seccomp profile?); run with a profile that allows seccomp(2), for instance --security-opt seccomp=unconfined")
	case errors.Is(errno, unix.ENOSYS), errors.Is(errno, unix.EINVAL):
		return -1, fmt.Errorf("software SNP host: this kernel has no seccomp user notification (%w); Linux 5.14 or later with CONFIG_SECCOMP_FILTER is needed", errno)
	}
	return -1, fmt.Errorf("software SNP host: seccomp: %w", errno)
}
