// Package diagnose says why an SNP launch failed. [ParseQEMU] is where to
// start: it reads what QEMU printed. [ReadLog] reads a log of any kind, and
// [FromConsole] what a guest printed that did not boot.
//
// What it knows is a catalogue of entries in data form (catalogue*.go), each
// with a cause, an advice and a reference; sources are QEMU's
// target/i386/sev.c, Linux's arch/x86/kvm/svm/sev.c, AMD's document 56860 and
// public reports. The package knows no VM and starts nothing.
package diagnose
