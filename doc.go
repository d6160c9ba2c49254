// Package snplaunch is the root of a QEMU launch wrapper and VMM harness for
// AMD SEV-SNP guests; it holds no code. The program is cmd/snplaunch, the main
// job launcher.Run, and docs/design.md the map.
package snplaunch
