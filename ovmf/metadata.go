package ovmf

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/snplaunch/snplaunch/snp"
)

const (
	metadataSignature = "ASEV"
	metadataHeader    = 16 // signature, u32 length, u32 version, u32 count
	sectionSize       = 12 // u32 gpa, u32 size, u32 type
)

// readMetadata reads the SEV metadata that begins offset bytes before the end
// of the image.
func readMetadata(r io.ReaderAt, size int64, offset uint32) ([]Section, error) {
	room := int64(offset)
	if room > size || room < metadataHeader {
		return nil, fmt.Errorf("%w: the table puts it %d bytes before the end of an image of %d bytes", ErrMetadataTruncated, offset, size)
	}
	start := size - room
	var head [metadataHeader]byte
	if err := readAt(r, head[:], start); err != nil {
		return nil, err
	}
	if string(head[:4]) != metadataSignature {
		return nil, fmt.Errorf("%w: found %q at 0x%x", ErrMetadataSignature, head[:4], start)
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	version := binary.LittleEndian.Uint32(head[8:])
	count := int64(binary.LittleEndian.Uint32(head[12:]))
	if version != 1 {
		return nil, fmt.Errorf("%w: %d, want 1", ErrMetadataVersion, version)
	}
	if length > room || length < metadataHeader {
		return nil, fmt.Errorf("%w: it says it has %d bytes, want %d to %d", ErrMetadataTruncated, length, metadataHeader, room)
	}
	if count > (length-metadataHeader)/sectionSize {
		return nil, fmt.Errorf("%w: %d sections in %d bytes", ErrMetadataCount, count, length)
	}
	raw := make([]byte, count*sectionSize)
	if err := readAt(r, raw, start+metadataHeader); err != nil {
		return nil, err
	}
	sections := make([]Section, count)
	for i := range sections {
		b := raw[i*sectionSize:]
		sections[i] = Section{
			GPA:  binary.LittleEndian.Uint32(b),
			Size: binary.LittleEndian.Uint32(b[4:]),
			Type: SectionType(binary.LittleEndian.Uint32(b[8:])),
		}
	}
	return sections, nil
}

// maxSections is the most that all sections may take together, in bytes. Real
// images have less than 1 MiB; each page costs a hash.
const maxSections = 256 << 20

// checkSections refuses what no VMM could launch: parts of pages, pages
// that would be launched twice, and more pages than any firmware has.
func checkSections(sections []Section, firmware uint64) error {
	var total uint64
	for n, s := range sections {
		total += uint64(s.Size)
		if s.Size == 0 || s.GPA%snp.PageSize != 0 || s.Size%snp.PageSize != 0 {
			return fmt.Errorf("%w: section %d, %s", ErrSectionAlignment, n, s)
		}
		if s.End() > firmware {
			return fmt.Errorf("%w: section %d, %s, and the firmware at 0x%x", ErrSectionOverlap, n, s, firmware)
		}
	}
	sorted := slices.Clone(sections)
	slices.SortStableFunc(sorted, func(a, b Section) int {
		switch {
		case a.GPA < b.GPA:
			return -1
		case a.GPA > b.GPA:
			return 1
		}
		return 0
	})
	for n := 1; n < len(sorted); n++ {
		if sorted[n-1].End() > uint64(sorted[n].GPA) {
			return fmt.Errorf("%w: %s and %s", ErrSectionOverlap, sorted[n-1], sorted[n])
		}
	}
	if total > maxSections {
		return fmt.Errorf("%w: %d bytes in %d sections, at most %d are read", ErrSectionsTooLarge, total, len(sections), maxSections)
	}
	return nil
}
