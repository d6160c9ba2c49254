// Package snp is the vocabulary of AMD SEV-SNP that every other package
// speaks: the names, sizes and byte layouts of what a guest owner, a
// hypervisor and the AMD Secure Processor exchange.
//
// It holds layouts and encodings only. It computes no digest, makes no
// signature and opens no file, so that the code that predicts a launch
// (measure, vmsa, idblock) and the code that judges it (sim) can share it
// without sharing an answer.
//
// Names and layouts follow AMD's SEV Secure Nested Paging Firmware ABI
// Specification (document 56860) as the Linux kernel's
// include/uapi/linux/psp-sev.h and arch/x86/include/uapi/asm/kvm.h and
// github.com/google/go-sev-guest/abi spell them. Multi-byte integers are little-endian.
package snp
