// Package tsmfs is configfs-tsm, Linux's interface to attestation reports
// under /sys/kernel/config/tsm/report, as a FUSE file system: for a guest whose
// reports do not come from the kernel.
//
// Entries, their attributes and what reading and writing them does follow
// Linux 6.12: drivers/virt/coco/tsm.c for the attributes, fs/configfs for the
// files. Programs that use configfs-tsm need not be changed.
//
// One difference is left. An inblob takes effect in configfs when the last
// descriptor of its file is closed; here, when any is, since the kernel tells a
// FUSE server of the last one only after close has returned.
package tsmfs

import "syscall"

// Provider makes reports: what Linux's tsm_ops are.
type Provider interface {
	// NewReport makes a report over inblob, 1 to 64 bytes, for a privilege
	// level (SEV-SNP: the VMPL) of 0 to 3. auxblob may be empty. It is called
	// once at a time.
	NewReport(inblob []byte, privlevel uint32) (outblob, auxblob []byte, errno syscall.Errno)
}

// ProviderName is what the attribute provider reads, before its newline.
const ProviderName = "sev_guest"

// MountPoint is where configfs, and so this file system, belongs.
const MountPoint = "/sys/kernel/config"
