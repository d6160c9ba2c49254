// Package kvm is the kernel side of the software SNP host: it answers the
// ioctls that QEMU makes on /dev/kvm, /dev/sev and the VM, vCPU and
// guest_memfd files below them, as Linux does on a host with SEV-SNP, and
// passes the launch commands on to the firmware in sim/psp.
//
// It runs nothing: after SNP_LAUNCH_FINISH a vCPU waits in KVM_RUN until its
// VM is ended or it is kicked. It knows no seccomp and no process; the caller
// of an ioctl is the Caller interface, which sim/supervise implements with
// process_vm_readv and the unit tests with a byte slice.
//
// What is answered follows Linux 6.12 (include/uapi/linux/kvm.h,
// arch/x86/kvm/svm/sev.c, arch/x86/kvm/x86.c, drivers/crypto/ccp/sev-dev.c),
// read for its behaviour; no code is taken from it.
package kvm
