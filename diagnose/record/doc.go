// Package record keeps what a program (QEMU) asked the kernel for when it launched
// SEV-SNP guests, and how that ended, in one file that can be explained and replayed elsewhere.
//
// Recorder makes a record from calls as they are heard: on a machine with real SNP,
// where the kernel answers, or on the software SNP host. Read and File.Write are the
// file's form, which docs/records.md describes. ParseTrace makes a record, with less in
// it, of QEMU's own trace; ParseReport one of what `sim exec --report` wrote.
//
// A record is what somebody says was heard. It is no evidence of anything: who wants a
// proof of what a guest was launched with asks the guest for an attestation report.
package record
