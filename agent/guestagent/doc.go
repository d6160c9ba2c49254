// Package guestagent is the guest's side of package agent: it fetches
// attestation reports over the host's nonces, runs the host's commands, takes and
// gives files, and powers the guest off when the host says goodbye.
//
// Main is the command snp-agent. As process 1, under the name init, it is the
// guest's init as well: it mounts what it needs, loads the kernel modules that
// the initrd brought, and powers off when all is done. A program that is to
// serve as its own initrd calls RunAsInit first thing in main where IsInit says
// so.
//
// Where the kernel does not say that SEV-SNP is active and the host offers the
// port of package guestdev, /dev/sev-guest is the simulated one, and so is
// configfs-tsm below /sys/kernel/config. Where SEV-SNP is active they never are.
package guestagent

// Version is the agent's version, which its hello carries.
const Version = "2"
