package ovmf

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/snplaunch/snplaunch/snp"
)

const (
	// MaxSize is the largest image accepted, in bytes.
	MaxSize = 16 << 20
	// BIOSAlign is what the size of a file for QEMU's -bios must be a
	// multiple of, in bytes (hw/i386/x86-common.c).
	BIOSAlign = 64 << 10

	fourGiB       = 1 << 32
	hashTableSize = 176 // kernel hashes table with its padding, see package hashes
)

// Image is what an OVMF image says about its launch.
type Image struct {
	Size     int64     // bytes
	BaseGPA  uint64    // guest-physical address of the first byte: 4 GiB - Size for firmware
	Sections []Section // in table order, which is the order of measuring; nil without SEV metadata

	resetEIP   *uint32
	hashTable  *Region
	secretArea *Region
	svsmEntry  *uint32
}

// ResetEIP is where application processors start: CS.base is its upper half,
// RIP its lower. ok is false when the image does not say.
func (i *Image) ResetEIP() (addr uint32, ok bool) {
	if i.resetEIP == nil {
		return 0, false
	}
	return *i.resetEIP, true
}

// HashTable is the area that SEV_HASH_TABLE_RV names, as it stands in the
// image (base 0 in generic builds). ok is false without such an entry.
// HashPage judges it.
func (i *Image) HashTable() (r Region, ok bool) {
	if i.hashTable == nil {
		return Region{}, false
	}
	return *i.hashTable, true
}

// SecretArea is the area for a launch secret; ok is false without one.
func (i *Image) SecretArea() (r Region, ok bool) {
	if i.secretArea == nil {
		return Region{}, false
	}
	return *i.secretArea, true
}

// SVSMEntry is the guest-physical address where an SVSM image starts; ok is
// false in other images.
func (i *Image) SVSMEntry() (addr uint64, ok bool) {
	if i.svsmEntry == nil {
		return 0, false
	}
	return i.BaseGPA + uint64(*i.svsmEntry), true
}

// CheckHashTable says why this firmware cannot take a kernel hashes table in
// an SEV or SEV-ES guest; nil where it can. There the table is measured where
// it lies, so no section is needed.
func (i *Image) CheckHashTable() error {
	switch rv := i.hashTable; {
	case rv == nil:
		return ErrNoHashArea
	case rv.Base == 0:
		return ErrHashBaseZero
	case rv.Size < hashTableSize:
		return fmt.Errorf("%w: it has %d bytes", ErrHashTooSmall, rv.Size)
	}
	return nil
}

// HashSection is the first SNP_KERNEL_HASHES section; ok is false in builds
// without one. Only AmdSev builds have it, and only they verify the table.
func (i *Image) HashSection() (s Section, ok bool) {
	for _, s := range i.Sections {
		if s.Type == SNPKernelHashes {
			return s, true
		}
	}
	return Section{}, false
}

// HashPage gives the guest-physical address of the page that carries the
// kernel hashes table and the table's offset in it, or says why this firmware
// cannot take one. QEMU writes the table at the section's start plus the low
// 12 bits of the entry's base, whatever the rest of the base is
// (target/i386/sev.c), so both must name the same page.
func (i *Image) HashPage() (gpa uint64, offset int, err error) {
	var sections []Section
	for _, s := range i.Sections {
		if s.Type == SNPKernelHashes {
			sections = append(sections, s)
		}
	}
	rv := i.hashTable
	switch {
	case rv == nil && len(sections) == 0:
		return 0, 0, ErrNoHashArea
	case rv == nil:
		return 0, 0, ErrHashEntryMissing
	case rv.Base == 0:
		return 0, 0, ErrHashBaseZero
	case rv.Size < hashTableSize:
		return 0, 0, fmt.Errorf("%w: it has %d bytes", ErrHashTooSmall, rv.Size)
	case len(sections) == 0:
		return 0, 0, ErrHashSectionMissing
	case len(sections) > 1:
		return 0, 0, fmt.Errorf("%w: %s and %s", ErrHashSections, sections[0], sections[1])
	}
	gpa = uint64(sections[0].GPA)
	offset = int(rv.Base % snp.PageSize)
	if uint64(rv.Base)-uint64(offset) != gpa || offset+hashTableSize > snp.PageSize {
		return 0, 0, fmt.Errorf("%w: table 0x%x+0x%x, section %s", ErrHashOutsideSection, rv.Base, rv.Size, sections[0])
	}
	return gpa, offset, nil
}

// CheckBIOS says whether QEMU takes an image of this size with -bios.
func (i *Image) CheckBIOS() error {
	if i.Size%BIOSAlign != 0 {
		return fmt.Errorf("%w: %d bytes, want a multiple of %d", ErrBIOSSize, i.Size, BIOSAlign)
	}
	return nil
}

// Flavour says in words what the tables offer. Whether the firmware also checks
// the kernel that it boots is for VerifiesBlobs to say.
func (i *Image) Flavour() string {
	if len(i.Sections) == 0 {
		return "no SNP metadata"
	}
	if _, _, err := i.HashPage(); err == nil {
		return "SNP with kernel hashes"
	}
	if _, ok := i.HashSection(); ok {
		return "SNP, its kernel hashes area is broken"
	}
	return "SNP without kernel hashes"
}

// Pages gives an Image of a file that ends at 4 GiB and of which only the
// contents count. The size must be one that can be measured by page.
func Pages(size int64) (*Image, error) {
	if size <= 0 || size > MaxSize || size%snp.PageSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes (want whole pages of %d, at most %d)", ErrSize, size, snp.PageSize, MaxSize)
	}
	return &Image{Size: size, BaseGPA: uint64(fourGiB - size)}, nil
}

// FromTables gives an Image of tables that were read elsewhere. size 0 means
// that it is not known.
func FromTables(size int64, sections []Section, resetEIP *uint32, hashTable *Region) (*Image, error) {
	img := &Image{BaseGPA: fourGiB}
	if size != 0 {
		var err error
		if img, err = Pages(size); err != nil {
			return nil, err
		}
	}
	img.Sections, img.resetEIP, img.hashTable = sections, resetEIP, hashTable
	return img, checkSections(sections, img.BaseGPA)
}

// Parse reads the tables of an image of the given size in bytes. An image
// that QEMU could launch without a kernel passes; HashPage says whether it
// can also take kernel hashes, and Sections is empty when it has no SEV
// metadata (QEMU: "Failed to locate SEV metadata header").
func Parse(r io.ReaderAt, size int64) (*Image, error) { return ParseAt(r, size, fourGiB) }

// ParseAt is Parse for an image that ends at another guest-physical address
// than 4 GiB, as an SVSM does.
func ParseAt(r io.ReaderAt, size int64, end uint64) (*Image, error) {
	img, err := Pages(size)
	if err != nil {
		return nil, err
	}
	if end > fourGiB || end%snp.PageSize != 0 || end < uint64(size) {
		return nil, fmt.Errorf("%w: %d bytes that end at 0x%x", ErrSize, size, end)
	}
	img.BaseGPA = end - uint64(size)
	table, err := readTable(r, size)
	if err != nil {
		return nil, err
	}
	if e, ok := table.find(GUIDSEVESReset); ok {
		v, err := words(e, 1, "SEV-ES reset block")
		if err != nil {
			return nil, err
		}
		img.resetEIP = &v[0]
	}
	if e, ok := table.find(GUIDHashTableRV); ok {
		v, err := words(e, 2, "SEV_HASH_TABLE_RV")
		if err != nil {
			return nil, err
		}
		img.hashTable = &Region{v[0], v[1]}
	}
	if e, ok := table.find(GUIDSecretArea); ok {
		v, err := words(e, 2, "SEV secret block")
		if err != nil {
			return nil, err
		}
		img.secretArea = &Region{v[0], v[1]}
	}
	if e, ok := table.find(GUIDSVSMInfo); ok {
		// Further fields than the offset of the first instruction have no meaning yet.
		if len(e) < 4 {
			return nil, fmt.Errorf("%w: SVSM_INFO has %d bytes of data, want at least 4", ErrTableEntry, len(e))
		}
		offset := binary.LittleEndian.Uint32(e)
		img.svsmEntry = &offset
	}
	if e, ok := table.find(GUIDSEVMetadata); ok {
		v, err := words(e, 1, "SEV metadata offset")
		if err != nil {
			return nil, err
		}
		img.Sections, err = readMetadata(r, size, v[0])
		if err != nil {
			return nil, err
		}
		if err := checkSections(img.Sections, img.BaseGPA); err != nil {
			return nil, err
		}
	}
	return img, nil
}
