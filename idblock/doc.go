// Package idblock makes and checks the ID block and the ID authentication
// information that SNP_LAUNCH_FINISH takes: keys, signatures, key digests, and
// the encodings that the firmware wants. Start with Sign, or with Assemble for
// signatures that were made elsewhere; Checks and Verify judge foreign ones in
// the firmware's own order. Pair gives what QEMU, libvirt and snpguest take, and
// ParseParts reads it.
//
// Layouts are package snp's. The order of checks was observed in SEV firmware
// 1.55.25; keys and signatures are ECDSA P-384 with SHA-384, the only
// algorithm that firmware knows.
package idblock
