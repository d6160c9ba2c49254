// Package host tells what this machine can do for SNP guests and what stands
// in the way. [Probe] is where to start; [Choose] picks the backend: snp, on
// the AMD Secure Processor, or sim, on the software SNP host. [CheckArguments] looks
// at a QEMU command line for what an SNP launch does not take.
//
// Probe only reads: files under /proc, /sys and /dev, the CPUID instruction, and
// what /dev/sev and /dev/kvm answer about themselves. It needs no privilege (what only root
// may read is then unknown), and starts no guest: that /dev/kvm opens
// does not prove that KVM works.
package host
