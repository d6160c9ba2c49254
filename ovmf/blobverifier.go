package ovmf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

var (
	// guidKernelEntry names the kernel's entry in the hashes table. Code that
	// looks for it checks what it boots.
	guidKernelEntry = mustGUID("4de79437-abd2-427f-b835-d5b172d2045b")
	// guidLZMASection marks a section packed by EDK2's LzmaCustomDecompress
	// (MdeModulePkg/Include/Guid/LzmaDecompress.h).
	guidLZMASection = mustGUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
)

const (
	maxUnpacked   = 32 << 20 // in all; OVMF has 16 MiB
	maxLZMA       = 16       // sections; OVMF has one or two
	sectionHeader = 4        // size u24, type u8; then GUID, DataOffset u16, Attributes u16
)

// VerifiesBlobs says whether this firmware checks the kernel it is given
// against the hashes table, and so refuses one that no table vouches for: the
// AmdSev build of OVMF does, the generic one does not. The two can have the
// same SEV metadata (Debian's 2026.08 builds do), so the code is looked at: EDK2's
// BlobVerifierLibSevHashes holds the GUID of the kernel's table entry. The
// volumes are unpacked for that, which takes some tenths of a second.
func VerifiesBlobs(r io.ReaderAt, size int64) (bool, error) {
	if size < 0 || size > MaxSize {
		return false, fmt.Errorf("firmware has %d bytes; at most %d are read", size, MaxSize)
	}
	image := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), image); err != nil {
		return false, fmt.Errorf("reading the firmware: %w", err)
	}
	if bytes.Contains(image, guidKernelEntry[:]) {
		return true, nil
	}
	left := maxUnpacked
	for at, n := 0, 0; n < maxLZMA; n++ {
		i := bytes.Index(image[at:], guidLZMASection[:])
		if i < 0 {
			break
		}
		at += i + len(guidLZMASection)
		start := at - len(guidLZMASection) - sectionHeader
		if start < 0 || at+2 > len(image) {
			continue
		}
		data := start + int(binary.LittleEndian.Uint16(image[at:]))
		if data > len(image) {
			continue
		}
		unpacked, err := decodeLZMA(image[data:], left)
		left -= len(unpacked)
		if err != nil {
			continue // the GUID stands elsewhere too, in the code that looks for it
		}
		if bytes.Contains(unpacked, guidKernelEntry[:]) {
			return true, nil
		}
	}
	return false, nil
}
