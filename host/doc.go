// Package host tells what this machine can do for SNP guests and what stands
// in the way. [Probe] is where to start; [Choose] picks the backend: snp, on
// the AMD Secure Processor, or sim, on the software SNP host.
//
// Probe only reads: files under /proc, /sys and /dev, and the CPUID
// instruction. It needs no privilege, and starts no guest: that /dev/kvm opens
// does not prove that KVM works.
package host
