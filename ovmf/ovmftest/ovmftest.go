// Package ovmftest builds small synthetic OVMF images for tests: the right
// tables around made-up contents, or wrong ones on request. The images boot
// nothing. Start with AmdSev().Build().
package ovmftest

import (
	"encoding/binary"

	"github.com/snplaunch/snplaunch/ovmf"
)

// Spec describes an image. The zero Spec has a GUID table without entries and
// 64 KiB.
type Spec struct {
	Size       int // bytes; 0 means 64 KiB
	Sections   []ovmf.Section
	NoMetadata bool // leave out the SEV metadata and its table entry
	ResetEIP   *uint32
	HashTable  *ovmf.Region
	SecretArea *ovmf.Region
	Extra      []Entry // further table entries
	// Code is put at 0x1000, where a real image has its volumes.
	Code []byte

	// Lies that a damaged image tells; nil means the truth.
	Footer          *ovmf.GUID
	TableLength     *uint16
	MetadataOffset  *uint32
	MetadataMagic   *[4]byte
	MetadataLength  *uint32
	MetadataVersion *uint32
	MetadataCount   *uint32
}

// Entry is one entry of the GUID table. Length 0 means the truth.
type Entry struct {
	GUID   ovmf.GUID
	Data   []byte
	Length uint16
}

// AmdSev gives the tables of Debian's OVMF.amdsev.fd (ovmf-amdsev 2026.08+ds-2)
// on an image of 64 KiB.
func AmdSev() Spec {
	reset := uint32(0x80B004)
	return Spec{
		Sections: []ovmf.Section{
			{GPA: 0x800000, Size: 0x9000, Type: ovmf.SNPSecMem},
			{GPA: 0x80A000, Size: 0x3000, Type: ovmf.SNPSecMem},
			{GPA: 0x80D000, Size: 0x1000, Type: ovmf.SNPSecrets},
			{GPA: 0x80E000, Size: 0x1000, Type: ovmf.CPUID},
			{GPA: 0x80F000, Size: 0x1000, Type: ovmf.SVSMCAA},
			{GPA: 0x811000, Size: 0x1F000, Type: ovmf.SNPSecMem},
			{GPA: 0x810000, Size: 0x1000, Type: ovmf.SNPKernelHashes},
		},
		ResetEIP:   &reset,
		HashTable:  &ovmf.Region{Base: 0x810C00, Size: 0x400},
		SecretArea: &ovmf.Region{Base: 0x810000, Size: 0xC00},
	}
}

// Generic gives the tables of a generic OvmfPkgX64 build: no place for kernel
// hashes, though the table has an entry that says so.
func Generic() Spec {
	s := AmdSev()
	s.Sections = append(append([]ovmf.Section{}, s.Sections[:5]...), ovmf.Section{GPA: 0x810000, Size: 0x10000, Type: ovmf.SNPSecMem})
	s.HashTable = &ovmf.Region{}
	s.SecretArea = &ovmf.Region{}
	return s
}

const codeAt = 0x1000

// Build gives the image. Bytes outside the tables are byte n = n mod 251, in
// the upper half of the image 0xFF, so that there are pages that differ and
// pages that repeat.
func (s Spec) Build() []byte {
	size := s.Size
	if size == 0 {
		size = 64 << 10
	}
	img := make([]byte, size)
	for n := range img {
		img[n] = 0xFF
		if n < size/2 {
			img[n] = byte(n % 251)
		}
	}

	copy(img[codeAt:], s.Code)

	entries := append([]Entry{}, s.Extra...)
	if s.ResetEIP != nil {
		entries = append(entries, Entry{GUID: ovmf.GUIDSEVESReset, Data: u32s(*s.ResetEIP)})
	}
	if s.HashTable != nil {
		entries = append(entries, Entry{GUID: ovmf.GUIDHashTableRV, Data: u32s(s.HashTable.Base, s.HashTable.Size)})
	}
	if s.SecretArea != nil {
		entries = append(entries, Entry{GUID: ovmf.GUIDSecretArea, Data: u32s(s.SecretArea.Base, s.SecretArea.Size)})
	}

	// The metadata lies 0x800 bytes before the end, the table ends 0x20 before it,
	// as they may lie anywhere.
	const metadataAt = 0x800
	if !s.NoMetadata {
		meta := []byte("ASEV")
		if s.MetadataMagic != nil {
			meta = append([]byte{}, s.MetadataMagic[:]...)
		}
		meta = append(meta, u32s(or(s.MetadataLength, uint32(16+12*len(s.Sections))), or(s.MetadataVersion, 1), or(s.MetadataCount, uint32(len(s.Sections))))...)
		for _, sec := range s.Sections {
			meta = append(meta, u32s(sec.GPA, sec.Size, uint32(sec.Type))...)
		}
		copy(img[size-metadataAt:], meta)
		entries = append(entries, Entry{GUID: ovmf.GUIDSEVMetadata, Data: u32s(or(s.MetadataOffset, metadataAt))})
	}

	var table []byte
	for _, e := range entries {
		table = append(table, e.Data...)
		length := e.Length
		if length == 0 {
			length = uint16(len(e.Data) + 18)
		}
		table = binary.LittleEndian.AppendUint16(table, length)
		table = append(table, e.GUID[:]...)
	}
	table = binary.LittleEndian.AppendUint16(table, or(s.TableLength, uint16(len(table)+18)))
	footer := or(s.Footer, ovmf.GUIDTableFooter)
	table = append(table, footer[:]...)
	copy(img[size-0x20-len(table):], table)
	return img
}

// u32s encodes little-endian integers.
func u32s(v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

// or gives *p, or v without p.
func or[T any](p *T, v T) T {
	if p != nil {
		return *p
	}
	return v
}
