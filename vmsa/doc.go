// Package vmsa predicts the save area (VMSA) with which each vCPU of an
// SEV-SNP guest is launched and measured: what the VMM sets at reset and what
// KVM makes of it. Start with Page; Lookup turns a QEMU CPU model into the
// signature that Page needs.
//
// Values: QEMU target/i386/cpu.c (x86_cpu_reset_hold) and sev.c, Linux
// arch/x86/kvm/svm/sev.c (sev_es_sync_vmsa); offsets: AMD64 Architecture
// Programmer's Manual, volume 2, table B-4.
package vmsa
