package ovmf

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// encode writes a table as it lies before the last 32 bytes of an image.
func (t *table) encode() []byte {
	var out []byte
	for i := len(t.entries) - 1; i >= 0; i-- {
		e := t.entries[i]
		out = append(out, e.data...)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(e.data)+trailer))
		out = append(out, e.guid[:]...)
	}
	if t.lone {
		return out
	}
	out = binary.LittleEndian.AppendUint16(out, uint16(len(out)+trailer))
	return append(out, GUIDTableFooter[:]...)
}

// encodeSections writes the sections as they lie after the metadata's header.
func encodeSections(sections []Section) []byte {
	var out []byte
	for _, s := range sections {
		for _, v := range []uint32{s.GPA, s.Size, uint32(s.Type)} {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
	}
	return out
}

// metadataAt is how far before the end of an image of the fuzzer its metadata lie.
const metadataAt = 0x800

// u32s encodes integers.
func u32s(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

// onePage is an image of one page with a table and metadata.
func onePage(tab, meta []byte) []byte {
	img := bytes.Repeat([]byte{0xFF}, snp.PageSize)
	copy(img[len(img)-metadataAt:], meta)
	tab = tab[max(0, len(tab)-(metadataAt-footerSize)):]
	copy(img[len(img)-footerSize-len(tab):], tab)
	return img
}

// FuzzEncode: what is read of an image, written again, is what stood there; and
// what passes keeps its promises, so that nobody has to ask again.
func FuzzEncode(f *testing.F) {
	full := table{entries: []entry{
		{GUIDSEVMetadata, u32s(metadataAt)}, {GUIDHashTableRV, u32s(0x810C00, 0x400)}, {GUIDSecretArea, u32s(0x810000, 0xC00)},
		{GUIDSVSMInfo, u32s(0x10)}, {GUIDSEVESReset, u32s(0x80B004)},
	}}
	lone := table{entries: []entry{{GUIDSEVESReset, u32s(0x80B004)}}, lone: true}
	meta := append([]byte("ASEV"), u32s(16+2*sectionSize, 1, 2, 0x800000, 0x9000, 1, 0x810000, 0x1000, 0x10)...)
	f.Add(full.encode(), meta)
	f.Add(lone.encode(), meta)
	f.Add(full.encode(), append([]byte("ASEV"), u32s(16+sectionSize, 1, 1, 0, 0xFFFFE000, 1)...))
	f.Fuzz(func(t *testing.T, tableBytes, metaBytes []byte) {
		data := onePage(tableBytes, metaBytes)
		size := int64(len(data))
		img, err := Parse(bytes.NewReader(data), size)
		if err != nil {
			return
		}
		tab, err := readTable(bytes.NewReader(data), size)
		if err != nil {
			t.Fatal(err)
		}
		again := tab.encode()
		if at := len(data) - footerSize - len(again); at < 0 || !bytes.Equal(data[at:at+len(again)], again) {
			t.Errorf("the table is written as\n%x", again)
		}
		if e, ok := tab.find(GUIDSEVMetadata); ok {
			at := len(data) - int(binary.LittleEndian.Uint32(e)) + metadataHeader
			again := encodeSections(img.Sections)
			if !bytes.Equal(data[at:at+len(again)], again) {
				t.Errorf("the sections are written as\n%x", again)
			}
		}
		var total uint64
		for _, s := range img.Sections {
			total += uint64(s.Size)
			if s.Size == 0 || s.GPA%snp.PageSize != 0 || s.Size%snp.PageSize != 0 || s.End() > img.BaseGPA {
				t.Errorf("section %s passes", s)
			}
		}
		if total > maxSections {
			t.Errorf("%d bytes of sections pass", total)
		}
		if gpa, offset, err := img.HashPage(); err == nil {
			if s, ok := img.HashSection(); !ok || uint64(s.GPA) != gpa || offset < 0 || offset > snp.PageSize-hashTableSize {
				t.Errorf("hashes page 0x%x, offset 0x%x", gpa, offset)
			}
		}
		// Read elsewhere, the tables make the same image.
		reset, ok := img.ResetEIP()
		var eip *uint32
		if ok {
			eip = &reset
		}
		if _, err := FromTables(size, img.Sections, eip, img.hashTable); err != nil {
			t.Error(err)
		}
	})
}

// FuzzVerifiesBlobs: code that is looked for in a damaged image.
func FuzzVerifiesBlobs(f *testing.F) {
	packed := append([]byte{0, 0, 0, 2}, guidLZMASection[:]...)
	packed = append(packed, 24, 0, 1, 0)
	f.Add(packed)
	// 13 bytes of header, then a stream that begins with zero.
	f.Add(append(bytes.Clone(packed), []byte("\x5d\x00\x00\x80\x00\xff\xff\x01\x00\x00\x00\x00\x00\x00zzzzzzzzzzzzzzzz")...))
	f.Add(append(bytes.Clone(packed), guidKernelEntry[:]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := VerifiesBlobs(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, guidKernelEntry[:]) && !got {
			t.Error("the GUID stands in the image, but was not seen")
		}
	})
}
