// Package supervise runs an unmodified program (QEMU, or whatever starts it)
// so that its /dev/kvm and /dev/sev are those of a software SNP host
// (sim/kvm).
//
// The kernel is asked, by a seccomp filter, to hold the few system calls that
// matter and to tell this process, which answers them: files are handed over
// with SECCOMP_IOCTL_NOTIF_ADDFD, arguments are read and written with
// process_vm_readv(2) and process_vm_writev(2). No privilege, no kernel module,
// no change to the program. See seccomp_unotify(2).
//
// A QEMU that this process starts itself (Start) needs its ioctls of KVM's type
// and SEV_ISSUE_CMD answered, and three opens. A foreign command (StartForeign)
// looks at a host in more ways before it starts a QEMU; View says how those are
// answered. Every other system call runs as always, at full speed.
package supervise
