package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const yamaScope = "/proc/sys/kernel/yama/ptrace_scope"

// checkMemory says whether this process may read and write the memory of
// those that it supervises, as far as that can be known before there are any.
func checkMemory() error {
	var from, to [1]byte
	local := []unix.Iovec{{Base: &to[0], Len: 1}}
	remote := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&from[0])), Len: 1}}
	// Nothing but a seccomp filter or the kernel's configuration keeps a
	// process from its own memory.
	if _, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0); err != nil {
		return fmt.Errorf("software SNP host: process_vm_readv(2) is not allowed here (%w), as under a container's seccomp profile; allow it, for instance with --cap-add SYS_PTRACE or --security-opt seccomp=unconfined (the kernel needs CONFIG_CROSS_MEMORY_ATTACH)", err)
	}
	scope, err := os.ReadFile(yamaScope)
	if err != nil {
		return nil // this kernel has no Yama
	}
	return checkYama(string(bytes.TrimSpace(scope)), hasCapability(unix.CAP_SYS_PTRACE))
}

// checkYama judges kernel.yama.ptrace_scope (Linux
// Documentation/admin-guide/LSM/Yama.rst). 0 and 1 allow a parent all it needs.
func checkYama(scope string, privileged bool) error {
	switch {
	case scope == "2" && !privileged:
		return errors.New("software SNP host: kernel.yama.ptrace_scope is 2, which keeps this user from the memory of its own processes; run as root, or set it to 1: sysctl kernel.yama.ptrace_scope=1")
	case scope == "3":
		return errors.New("software SNP host: kernel.yama.ptrace_scope is 3, which keeps everyone from the memory of other processes until the next boot; boot with a value of 0 to 2 in /etc/sysctl.d (kernel.yama.ptrace_scope=1)")
	}
	return nil
}

// hasCapability says whether a capability is in effect for this thread.
func hasCapability(capability int) bool {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// unreadable says why the memory of a process cannot be reached, and what may
// be done about it.
func unreadable(pid int, err error) string {
	who := fmt.Sprintf("process %d (%s)", pid, statusField(pid, "Name"))
	uids := bytes.Fields([]byte(statusField(pid, "Uid")))
	var owner unix.Stat_t
	// The files of a process that may not be read belong to root (proc(5)).
	statErr := unix.Stat("/proc/"+strconv.Itoa(pid)+"/mem", &owner)
	switch self := os.Geteuid(); {
	case len(uids) == 4 && string(uids[1]) != strconv.Itoa(self):
		return fmt.Sprintf("%s runs as user %s, whose memory this user may not read (%v): what it does with /dev/kvm and /dev/sev is not simulated; run sim exec as root, or as that user", who, uids[1], err)
	case statErr == nil && int(owner.Uid) != self:
		return fmt.Sprintf("%s cannot be read (%v), as its program may be executed by this user but not read, or it has made itself unreadable: what it does with /dev/kvm and /dev/sev is not simulated; make the program readable (chmod a+r), or run sim exec as root", who, err)
	}
	return fmt.Sprintf("%s cannot be read: process_vm_readv: %v; a security module keeps this process from it (kernel.yama.ptrace_scope, SELinux, AppArmor); allow it, or run sim exec as root", who, err)
}

// statusField finds a line of /proc/PID/status, which everyone may read.
func statusField(pid int, name string) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(b) {
		if v, found := bytes.CutPrefix(line, []byte(name+":")); found {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}
