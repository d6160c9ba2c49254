package guest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// KernelKind is what a kernel file is to QEMU.
type KernelKind int

// Kinds of kernel file, in the order in which QEMU tells them apart
// (hw/i386/x86-common.c, x86_load_linux).
const (
	KernelOther     KernelKind = iota // loaded as a kernel of the oldest boot protocol
	KernelBzImage                     // Linux with the setup header "HdrS"
	KernelMultiboot                   // has a Multiboot header
	KernelPE                          // a PE without either header: a unified kernel image
	KernelELF                         // an ELF file, which QEMU starts by PVH
)

// String names the kind.
func (k KernelKind) String() string {
	switch k {
	case KernelBzImage:
		return "a bzImage"
	case KernelMultiboot:
		return "a Multiboot image"
	case KernelPE:
		return "a PE image (UKI)"
	case KernelELF:
		return "an ELF file (vmlinux or PVH)"
	case KernelOther:
		return "of no known kind"
	}
	return fmt.Sprintf("kind %d", int(k))
}

// Hashable says whether QEMU makes a kernel hashes table for this kind.
// For others it aborts with kernel-hashes=on.
func (k KernelKind) Hashable() bool { return k != KernelMultiboot && k != KernelELF }

// KernelKindOf looks at the first 8 KiB of a kernel file.
func KernelKindOf(r io.ReaderAt, size int64) (KernelKind, error) {
	head := make([]byte, min(size, 8192))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return KernelOther, fmt.Errorf("reading the first %d bytes: %w", len(head), err)
	}
	switch {
	case len(head) >= 0x206 && string(head[0x202:0x206]) == "HdrS":
		return KernelBzImage, nil
	case multiboot(head):
		return KernelMultiboot, nil
	case bytes.HasPrefix(head, []byte("MZ")):
		return KernelPE, nil
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return KernelELF, nil
	}
	return KernelOther, nil
}

// multiboot looks for a Multiboot header: on a 4-byte boundary a magic number,
// flags and a checksum that make 0 together (Multiboot specification 0.6.96, 3.1.2).
func multiboot(head []byte) bool {
	le := binary.LittleEndian
	for i := 0; i+12 <= len(head); i += 4 {
		if magic := le.Uint32(head[i:]); magic == 0x1BADB002 && magic+le.Uint32(head[i+4:])+le.Uint32(head[i+8:]) == 0 {
			return true
		}
	}
	return false
}
