// Package psp is the firmware of the AMD Secure Processor in software: guest
// contexts, the launch commands with their checks in the firmware's order, and
// signed attestation reports.
//
// It knows no operating system, no KVM and no QEMU. It shares only layouts
// (package snp) with the code that predicts launches: it folds digests,
// decodes keys and checks signatures on its own, so that agreement between the
// two means something.
//
// The rules follow AMD's SEV-SNP Firmware ABI Specification (56860) as Linux's
// include/uapi/linux/psp-sev.h, github.com/google/go-sev-guest and
// github.com/virtee/sev spell it; orders of checks and details that none of
// them states were observed in SEV firmware 1.55.25.
//
// Methods of one Guest are for one goroutine at a time.
package psp
