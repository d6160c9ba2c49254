package ovmf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

func parse(img []byte) (*ovmf.Image, error) {
	return ovmf.Parse(bytes.NewReader(img), int64(len(img)))
}

func ptr[T any](v T) *T { return &v }

func TestParse(t *testing.T) {
	spec := ovmftest.AmdSev()
	img, err := parse(spec.Build())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(img.Sections, spec.Sections) {
		t.Errorf("sections\n got %v\nwant %v", img.Sections, spec.Sections)
	}
	if img.Size != 65536 || img.BaseGPA != 0xFFFF0000 {
		t.Errorf("size %d at 0x%x", img.Size, img.BaseGPA)
	}
	if a, ok := img.ResetEIP(); !ok || a != 0x80B004 {
		t.Errorf("reset EIP 0x%x, %v", a, ok)
	}
	if r, ok := img.HashTable(); !ok || r != (ovmf.Region{Base: 0x810C00, Size: 0x400}) {
		t.Errorf("hash table %+v, %v", r, ok)
	}
	if r, ok := img.SecretArea(); !ok || r != (ovmf.Region{Base: 0x810000, Size: 0xC00}) {
		t.Errorf("secret area %+v, %v", r, ok)
	}
	if gpa, off, err := img.HashPage(); gpa != 0x810000 || off != 0xC00 || err != nil {
		t.Errorf("hash page 0x%x+0x%x, %v", gpa, off, err)
	}
	if err := img.CheckBIOS(); err != nil {
		t.Error(err)
	}
}

// TestAbsent wants every optional entry to be reported as absent.
func TestAbsent(t *testing.T) {
	img, err := parse(ovmftest.Spec{NoMetadata: true, Size: 4096}.Build())
	if err != nil {
		t.Fatal(err)
	}
	_, reset := img.ResetEIP()
	_, table := img.HashTable()
	_, secret := img.SecretArea()
	_, section := img.HashSection()
	if reset || table || secret || section || img.Sections != nil {
		t.Errorf("an empty table gave %+v", img)
	}
	if img.CheckBIOS() == nil {
		t.Error("4096 bytes pass for -bios")
	}
}

func TestFlavour(t *testing.T) {
	broken := ovmftest.AmdSev()
	broken.HashTable = nil
	for want, spec := range map[string]ovmftest.Spec{
		"SNP with kernel hashes":                ovmftest.AmdSev(),
		"SNP, its kernel hashes area is broken": broken,
		"SNP without kernel hashes":             ovmftest.Generic(),
		"no SNP metadata":                       {NoMetadata: true},
	} {
		img, err := parse(spec.Build())
		if err != nil {
			t.Fatal(err)
		}
		if got := img.Flavour(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestParseErrors has one damaged image for each error.
func TestParseErrors(t *testing.T) {
	section := func(s ...ovmf.Section) func(*ovmftest.Spec) {
		return func(spec *ovmftest.Spec) { spec.Sections = append(spec.Sections, s...) }
	}
	for _, c := range []struct {
		name   string
		damage func(*ovmftest.Spec)
		want   error
	}{
		{"wrong footer", func(s *ovmftest.Spec) { s.Footer = ptr(ovmf.GUIDTDXMetadata) }, ovmf.ErrNoTable},
		{"table length below the footer's own", func(s *ovmftest.Spec) { s.TableLength = ptr(uint16(17)) }, ovmf.ErrTableEntry},
		{"table longer than the image", func(s *ovmftest.Spec) { s.Size, s.TableLength = 4096, ptr(uint16(4096)) }, ovmf.ErrTableTruncated},
		{"table cuts an entry", func(s *ovmftest.Spec) { s.TableLength = ptr(uint16(18 + 22 + 10)) }, ovmf.ErrTableEntry},
		{"entry length 0x11", func(s *ovmftest.Spec) { s.Extra = []ovmftest.Entry{{GUID: ovmf.GUIDTDXMetadata, Length: 0x11}} }, ovmf.ErrTableEntry},
		{"entry longer than the table", func(s *ovmftest.Spec) { s.Extra = []ovmftest.Entry{{GUID: ovmf.GUIDTDXMetadata, Length: 0x100}} }, ovmf.ErrTableEntry},
		{"reset block of 8 bytes", func(s *ovmftest.Spec) {
			s.ResetEIP, s.Extra = nil, []ovmftest.Entry{{GUID: ovmf.GUIDSEVESReset, Data: make([]byte, 8)}}
		}, ovmf.ErrTableEntry},
		{"hash table entry of 4 bytes", func(s *ovmftest.Spec) {
			s.HashTable, s.Extra = nil, []ovmftest.Entry{{GUID: ovmf.GUIDHashTableRV, Data: make([]byte, 4)}}
		}, ovmf.ErrTableEntry},
		{"secret entry of 4 bytes", func(s *ovmftest.Spec) {
			s.SecretArea, s.Extra = nil, []ovmftest.Entry{{GUID: ovmf.GUIDSecretArea, Data: make([]byte, 4)}}
		}, ovmf.ErrTableEntry},
		{"metadata entry of 2 bytes", func(s *ovmftest.Spec) {
			s.NoMetadata, s.Extra = true, []ovmftest.Entry{{GUID: ovmf.GUIDSEVMetadata, Data: make([]byte, 2)}}
		}, ovmf.ErrTableEntry},
		{"metadata before the image", func(s *ovmftest.Spec) { s.MetadataOffset = ptr(uint32(65537)) }, ovmf.ErrMetadataTruncated},
		{"metadata offset 0", func(s *ovmftest.Spec) { s.MetadataOffset = ptr(uint32(0)) }, ovmf.ErrMetadataTruncated},
		{"metadata header over the end", func(s *ovmftest.Spec) { s.MetadataOffset = ptr(uint32(15)) }, ovmf.ErrMetadataTruncated},
		{"metadata longer than the image", func(s *ovmftest.Spec) { s.MetadataLength = ptr(uint32(0x801)) }, ovmf.ErrMetadataTruncated},
		{"metadata shorter than its header", func(s *ovmftest.Spec) { s.MetadataLength = ptr(uint32(15)) }, ovmf.ErrMetadataTruncated},
		{"metadata elsewhere", func(s *ovmftest.Spec) { s.MetadataOffset = ptr(uint32(0x900)) }, ovmf.ErrMetadataSignature},
		{"metadata signature", func(s *ovmftest.Spec) { s.MetadataMagic = &[4]byte{'A', 'S', 'E', 'W'} }, ovmf.ErrMetadataSignature},
		{"metadata version", func(s *ovmftest.Spec) { s.MetadataVersion = ptr(uint32(2)) }, ovmf.ErrMetadataVersion},
		{"one section too many", func(s *ovmftest.Spec) { s.MetadataCount = ptr(uint32(8)) }, ovmf.ErrMetadataCount},
		{"a count that overflows 32 bits", func(s *ovmftest.Spec) { s.MetadataCount = ptr(uint32(0xFFFFFFFF)) }, ovmf.ErrMetadataCount},
		{"empty section", section(ovmf.Section{GPA: 0x900000, Type: 1}), ovmf.ErrSectionAlignment},
		{"section of half a page", section(ovmf.Section{GPA: 0x900000, Size: 0x800, Type: 1}), ovmf.ErrSectionAlignment},
		{"section between pages", section(ovmf.Section{GPA: 0x900800, Size: 0x1000, Type: 1}), ovmf.ErrSectionAlignment},
		{"section twice", section(ovmf.Section{GPA: 0x80D000, Size: 0x1000, Type: 2}), ovmf.ErrSectionOverlap},
		{"section around another", section(ovmf.Section{GPA: 0x700000, Size: 0x200000, Type: 1}), ovmf.ErrSectionOverlap},
		{"section in the firmware", section(ovmf.Section{GPA: 0xFFFEF000, Size: 0x2000, Type: 1}), ovmf.ErrSectionOverlap},
		{"section over 4 GiB", section(ovmf.Section{GPA: 0xFFFFF000, Size: 0xFFFFF000, Type: 1}), ovmf.ErrSectionOverlap},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := ovmftest.AmdSev()
			c.damage(&spec)
			_, err := parse(spec.Build())
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestHashPageErrors has one image for each reason why there is no place for
// kernel hashes; without a kernel all of them can be launched.
func TestHashPageErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(*ovmftest.Spec)
		want   error
	}{
		{"neither entry nor section", func(s *ovmftest.Spec) { s.HashTable, s.Sections = nil, s.Sections[:6] }, ovmf.ErrNoHashArea},
		{"entry without section", func(s *ovmftest.Spec) { s.Sections = s.Sections[:6] }, ovmf.ErrHashSectionMissing},
		{"section without entry", func(s *ovmftest.Spec) { s.HashTable = nil }, ovmf.ErrHashEntryMissing},
		{"base 0", func(s *ovmftest.Spec) { s.HashTable.Base = 0 }, ovmf.ErrHashBaseZero},
		{"generic", func(s *ovmftest.Spec) { *s = ovmftest.Generic() }, ovmf.ErrHashBaseZero},
		{"175 bytes", func(s *ovmftest.Spec) { s.HashTable.Size = 175 }, ovmf.ErrHashTooSmall},
		{"page before the section", func(s *ovmftest.Spec) { s.HashTable.Base -= 0x1000 }, ovmf.ErrHashOutsideSection},
		{"page after the section", func(s *ovmftest.Spec) { s.HashTable.Base += 0x1000 }, ovmf.ErrHashOutsideSection},
		{"over the page's end", func(s *ovmftest.Spec) { s.HashTable.Base = 0x810000 + 4096 - 175 }, ovmf.ErrHashOutsideSection},
		{"two sections", func(s *ovmftest.Spec) {
			s.Sections = append(s.Sections, ovmf.Section{GPA: 0x900000, Size: 0x1000, Type: ovmf.SNPKernelHashes})
		}, ovmf.ErrHashSections},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := ovmftest.AmdSev()
			c.damage(&spec)
			img, err := parse(spec.Build())
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := img.HashPage(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	last := ovmftest.AmdSev()
	last.HashTable = &ovmf.Region{Base: 0x810000 + 4096 - 176, Size: 176}
	img, err := parse(last.Build())
	if err != nil {
		t.Fatal(err)
	}
	if _, off, err := img.HashPage(); off != 4096-176 || err != nil {
		t.Errorf("table at the page's end: offset 0x%x, %v", off, err)
	}
}

func TestSizes(t *testing.T) {
	for _, size := range []int64{-4096, 0, 1, 4095, 4097, ovmf.MaxSize + 4096, 1 << 40} {
		if _, err := ovmf.Parse(bytes.NewReader(nil), size); !errors.Is(err, ovmf.ErrSize) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	spec := ovmftest.AmdSev()
	spec.Size = ovmf.MaxSize
	img, err := parse(spec.Build())
	if err != nil {
		t.Fatal(err)
	}
	if img.BaseGPA != 0xFF000000 {
		t.Errorf("base 0x%x", img.BaseGPA)
	}
	// A file that is shorter than it is said to be.
	if _, err := ovmf.Parse(bytes.NewReader(make([]byte, 4096)), 8192); err == nil || !strings.Contains(err.Error(), "reading firmware at 0x1fce") {
		t.Errorf("truncated file: got %v", err)
	}
}

// TestNearestEntryCounts: where a GUID occurs twice, QEMU takes the entry
// nearest to the footer.
func TestNearestEntryCounts(t *testing.T) {
	spec := ovmftest.AmdSev()
	spec.Extra = []ovmftest.Entry{{GUID: ovmf.GUIDSEVESReset, Data: binary.LittleEndian.AppendUint32(nil, 0xDEAD)}}
	img, err := parse(spec.Build())
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := img.ResetEIP(); a != 0x80B004 {
		t.Errorf("reset EIP 0x%x", a)
	}
}

// TestLoneResetBlock reads an image from before the table existed: a reset
// block where the footer would be.
func TestLoneResetBlock(t *testing.T) {
	img := make([]byte, 65536)
	end := img[len(img)-0x20-22:]
	binary.LittleEndian.PutUint32(end, 0x80B004)
	binary.LittleEndian.PutUint16(end[4:], 22)
	copy(end[6:], ovmf.GUIDSEVESReset[:])
	got, err := parse(img)
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := got.ResetEIP(); !ok || a != 0x80B004 || got.Flavour() != "no SNP metadata" {
		t.Errorf("reset EIP 0x%x, %v, %s", a, ok, got.Flavour())
	}
	binary.LittleEndian.PutUint16(end[4:], 23)
	if _, err := parse(img); !errors.Is(err, ovmf.ErrTableEntry) {
		t.Errorf("wrong length: got %v", err)
	}
}

func TestGUID(t *testing.T) {
	const text = "96b582de-1fb2-45f7-baea-a366c55a082d"
	want := ovmf.GUID{0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d}
	if ovmf.GUIDTableFooter != want || want.String() != text {
		t.Errorf("%x, %s", ovmf.GUIDTableFooter[:], want)
	}
}

// FuzzParse wants no panic, and of each accepted image what the rest relies
// on: sections that are whole pages below the firmware and apart from each other.
func FuzzParse(f *testing.F) {
	tail := func(s ovmftest.Spec) []byte {
		s.Size = 4096
		return s.Build()
	}
	f.Add(tail(ovmftest.AmdSev()))
	f.Add(tail(ovmftest.Generic()))
	f.Add(tail(ovmftest.Spec{}))
	f.Add(tail(ovmftest.Spec{MetadataCount: ptr(uint32(0x15555556))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 8192 {
			return
		}
		// The tables lie at the end: pad at the start up to whole pages.
		img := append(make([]byte, (4096-len(b)%4096)%4096), b...)
		got, err := parse(img)
		if err != nil {
			if got != nil {
				t.Fatal("an image and an error")
			}
			return
		}
		pages := map[uint64]bool{}
		for _, s := range got.Sections {
			if s.Size == 0 || s.Size%4096 != 0 || s.GPA%4096 != 0 || s.End() > got.BaseGPA {
				t.Fatalf("accepted %s below 0x%x", s, got.BaseGPA)
			}
			if s.Size > 1<<24 {
				continue
			}
			for a := uint64(s.GPA); a < s.End(); a += 4096 {
				if pages[a] {
					t.Fatalf("page 0x%x is in two sections", a)
				}
				pages[a] = true
			}
		}
		if gpa, off, err := got.HashPage(); err == nil && (gpa%4096 != 0 || off < 0 || off+176 > 4096) {
			t.Fatalf("hash page 0x%x+0x%x", gpa, off)
		}
		_ = got.Flavour()
	})
}
