// Package supervise runs an unmodified program (QEMU, or whatever starts it)
// so that its /dev/kvm and /dev/sev are those of a software SNP host
// (sim/kvm).
//
// The kernel is asked, by a seccomp filter, to hold the few system calls that
// matter (opening those nodes, and ioctls of KVM's type and SEV_ISSUE_CMD) and to tell
// this process, which answers them: files are handed over with
// SECCOMP_IOCTL_NOTIF_ADDFD, arguments are read and written with
// process_vm_readv(2) and process_vm_writev(2). No privilege, no kernel module,
// no change to the program. See seccomp_unotify(2).
//
// Every other system call runs as always, at full speed.
package supervise
