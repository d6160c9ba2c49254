package ovmf

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Place is what lies at an offset of an image, as far as it can be told: a
// firmware volume, a file in it, a section of the file.
type Place struct {
	Volume  int64 // offset of the volume's header in the image; -1 outside every volume
	File    GUID  // zero between files
	Section int   // index of the section in the file; -1 outside of sections
	Type    byte  // of the section, EFI_SECTION_*
}

// Layout of firmware volumes and files (UEFI PI specification, volume 3).
const (
	fvSignature = "_FVH"
	fvSigAt     = 0x28
	fvLengthAt  = 0x20
	fvHeaderAt  = 0x30 // HeaderLength, u16
	fvMinHeader = 0x48
	ffsHeader   = 24
	ffsLarge    = 0x01 // FFS_ATTRIB_LARGE_FILE
	ffsPadType  = 0xF0
	ffsAlign    = 8
	secAlign    = 4
)

// sectionTypes are EFI_SECTION_* values.
var sectionTypes = map[byte]string{
	0x01: "compressed", 0x02: "GUID-defined (compressed)", 0x10: "PE32", 0x11: "PIC", 0x12: "TE", 0x13: "DXE dependency", 0x14: "version",
	0x15: "user interface", 0x17: "firmware volume image", 0x18: "free-form", 0x19: "raw", 0x1B: "PEI dependency",
}

// files are those that guidNames does not have: what is no module of EDK2.
var files = map[GUID]string{
	mustGUID("9e21fd93-9c72-4c15-8c4b-e77f1db2d792"): "the compressed volumes of PEI and DXE",
	mustGUID("ffffffff-ffff-ffff-ffff-ffffffffffff"): "padding",
}

// String says it in words.
func (p Place) String() string {
	if p.Volume < 0 {
		return "outside every firmware volume"
	}
	s := fmt.Sprintf("firmware volume at 0x%x", p.Volume)
	if p.File == (GUID{}) {
		return s + ", between its files"
	}
	s += ", file " + p.File.String()
	name, _, known := NameOf(p.File)
	if !known {
		name = files[p.File]
	}
	if name != "" {
		s += " (" + name + ")"
	}
	if p.Section >= 0 {
		name, known := sectionTypes[p.Type]
		if !known {
			name = fmt.Sprintf("type 0x%02x", p.Type)
		}
		s += fmt.Sprintf(", section %d (%s)", p.Section, name)
	}
	return s
}

// Locate says what lies at an offset of an image. It believes nothing that does
// not fit: what is damaged is no volume or no file.
func Locate(image []byte, offset int64) Place {
	none := Place{Volume: -1, Section: -1}
	if offset < 0 || offset >= int64(len(image)) {
		return none
	}
	for at := 0; ; {
		i := bytes.Index(image[at:], []byte(fvSignature))
		if i < 0 {
			return none
		}
		start := at + i - fvSigAt
		at += i + len(fvSignature)
		if start < 0 || start+fvMinHeader > len(image) {
			continue
		}
		length := binary.LittleEndian.Uint64(image[start+fvLengthAt:])
		header := int(binary.LittleEndian.Uint16(image[start+fvHeaderAt:]))
		if length > uint64(len(image)-start) || uint64(header) > length || header < fvMinHeader {
			continue
		}
		if end := start + int(length); offset >= int64(start) && offset < int64(end) {
			p := Place{Volume: int64(start), Section: -1}
			p.file(image[start:end], header, int(offset)-start)
			return p
		}
	}
}

// file finds the file of a volume in which at lies.
func (p *Place) file(volume []byte, header, at int) {
	le := binary.LittleEndian
	// An extended header names the volume.
	if ext := int(le.Uint16(volume[0x34:])); ext != 0 && ext+20 <= len(volume) {
		if size := le.Uint32(volume[ext+16:]); uint64(size) <= uint64(len(volume)-ext) {
			header = ext + int(size)
		}
	}
	for off := align(header, ffsAlign); off+ffsHeader <= len(volume); {
		head := volume[off:]
		size, data := int(le.Uint32(head[0x14:])&0xFFFFFF), ffsHeader
		if head[0x13]&ffsLarge != 0 && len(head) >= ffsHeader+8 {
			large := le.Uint64(head[ffsHeader:])
			if large > uint64(len(head)) {
				return
			}
			size, data = int(large), ffsHeader+8
		}
		if size < data || size > len(head) {
			return // free space, or damage
		}
		if at < off {
			return
		}
		if at < off+size {
			copy(p.File[:], head)
			if head[0x12] != ffsPadType {
				p.section(head[:size], data, at-off)
			}
			return
		}
		off = align(off+size, ffsAlign)
	}
}

// section finds the section of a file in which at lies.
func (p *Place) section(file []byte, off, at int) {
	for n := 0; off+4 <= len(file); n++ {
		size := int(binary.LittleEndian.Uint32(file[off:]) & 0xFFFFFF)
		if size == 0xFFFFFF && off+8 <= len(file) {
			size = int(min(uint64(binary.LittleEndian.Uint32(file[off+4:])), uint64(len(file))))
		}
		if size < 4 || size > len(file)-off || at < off {
			return
		}
		if at < off+size {
			p.Section, p.Type = n, file[off+3]
			return
		}
		off = align(off+size, secAlign)
	}
}

func align(n, to int) int { return (n + to - 1) / to * to }
