package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
)

// Metadata is what an SNP launch digest needs of a firmware image, so that
// whoever has it needs the image no more.
//
// Its JSON form is that of sev-snp-measure-go's parse-metadata, whose files
// are read here and which reads ours, with further keys for what that tool
// does not know: the place of the kernel hashes table, size and SHA-256 of the
// image.
type Metadata struct {
	FirmwareDigest snp.LaunchDigest // after the firmware's pages
	Sections       []ovmf.Section   // in table order
	ResetEIP       *uint32          // nil where the image does not say
	HashTable      *ovmf.Region     // SEV_HASH_TABLE_RV; nil where there is none
	FirmwareSize   int64            // bytes; 0 where not known
	FirmwareSHA256 *[32]byte        // of the image file; nil where not known
}

// metadataJSON is the file: numbers are hexadecimal text, as in
// sev-snp-measure-go, but for the section type and the size of the image.
type metadataJSON struct {
	MetadataItems  []metadataItem
	ResetEIP       string `json:",omitempty"`
	OVMFHash       string
	HashTable      *metadataRegion `json:",omitempty"`
	FirmwareSize   int64           `json:",omitempty"`
	FirmwareSHA256 string          `json:",omitempty"`
}

type metadataItem struct {
	GPA            string
	Size           string
	SectionTypeInt uint32
}

type metadataRegion struct {
	GPA  string
	Size string
}

// maxMetadata is more than any such file has, in bytes.
const maxMetadata = 1 << 20

// MetadataOf gives the metadata of a firmware that was measured in mode SNP. Its
// FirmwareSHA256 is for the caller to add.
func MetadataOf(r *Result) (*Metadata, error) {
	if r.Image == nil || !r.Mode.secureNestedPaging() || r.Mode == SVSM || r.Mode == OVMFHash {
		return nil, fmt.Errorf("mode %s has no firmware metadata (use mode %s)", r.Mode, SNP)
	}
	m := &Metadata{FirmwareDigest: r.FirmwareDigest, Sections: r.Image.Sections, ResetEIP: r.ResetEIP, FirmwareSize: r.Image.Size}
	if t, ok := r.Image.HashTable(); ok {
		m.HashTable = &t
	}
	return m, nil
}

// Image gives the tables as those of an image. They are held to the same rules.
func (m *Metadata) Image() (*ovmf.Image, error) {
	img, err := ovmf.FromTables(m.FirmwareSize, m.Sections, m.ResetEIP, m.HashTable)
	if err != nil {
		return nil, fmt.Errorf("firmware metadata: %w", err)
	}
	return img, nil
}

// JSON gives the file.
func (m *Metadata) JSON() ([]byte, error) {
	f := metadataJSON{MetadataItems: []metadataItem{}, OVMFHash: m.FirmwareDigest.String(), FirmwareSize: m.FirmwareSize}
	for _, s := range m.Sections {
		f.MetadataItems = append(f.MetadataItems, metadataItem{hex32(s.GPA), hex32(s.Size), uint32(s.Type)})
	}
	if m.ResetEIP != nil {
		f.ResetEIP = hex32(*m.ResetEIP)
	}
	if m.HashTable != nil {
		f.HashTable = &metadataRegion{hex32(m.HashTable.Base), hex32(m.HashTable.Size)}
	}
	if m.FirmwareSHA256 != nil {
		f.FirmwareSHA256 = fmt.Sprintf("%x", *m.FirmwareSHA256)
	}
	out, err := json.MarshalIndent(f, "", "    ")
	if err != nil {
		return nil, fmt.Errorf("writing firmware metadata: %w", err)
	}
	return append(out, '\n'), nil
}

// ParseMetadata reads the file.
func ParseMetadata(r io.Reader) (*Metadata, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err != nil {
		return nil, fmt.Errorf("reading firmware metadata: %w", err)
	}
	if len(data) > maxMetadata {
		return nil, fmt.Errorf("firmware metadata has more than %d bytes, so this is none", maxMetadata)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var f metadataJSON
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("firmware metadata: %w (give the file that `measure --metadata-out` or sev-snp-measure-go's parse-metadata writes)", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("firmware metadata: something follows the object (give the file as it was written)")
	}
	m := &Metadata{FirmwareSize: f.FirmwareSize}
	fail := func(key string, err error) (*Metadata, error) {
		return nil, fmt.Errorf("firmware metadata: %s: %w", key, err)
	}
	if m.FirmwareDigest, err = snp.ParseLaunchDigest(f.OVMFHash); err != nil {
		return fail("OVMFHash", err)
	}
	for n, item := range f.MetadataItems {
		s := ovmf.Section{Type: ovmf.SectionType(item.SectionTypeInt)}
		if s.GPA, err = unhex32(item.GPA); err == nil {
			s.Size, err = unhex32(item.Size)
		}
		if err != nil {
			return fail(fmt.Sprintf("MetadataItems[%d]", n), err)
		}
		m.Sections = append(m.Sections, s)
	}
	if f.ResetEIP != "" {
		v, err := unhex32(f.ResetEIP)
		if err != nil {
			return fail("ResetEIP", err)
		}
		m.ResetEIP = &v
	}
	if f.HashTable != nil {
		t := ovmf.Region{}
		if t.Base, err = unhex32(f.HashTable.GPA); err == nil {
			t.Size, err = unhex32(f.HashTable.Size)
		}
		if err != nil {
			return fail("HashTable", err)
		}
		m.HashTable = &t
	}
	if f.FirmwareSHA256 != "" {
		sum, err := snp.ParseSHA256(f.FirmwareSHA256)
		if err != nil {
			return fail("FirmwareSHA256", err)
		}
		m.FirmwareSHA256 = &sum
	}
	if _, err := m.Image(); err != nil {
		return nil, err
	}
	return m, nil
}

func hex32(v uint32) string { return fmt.Sprintf("0x%x", v) }

func unhex32(s string) (uint32, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	v, err := strconv.ParseUint(digits, 16, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is not a number of 32 bits in hexadecimal with 0x before it", s)
	}
	return uint32(v), nil
}
