package ovmf_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/ovmf"
)

// volume makes a firmware volume at 0x100 of an image with one file that has two raw sections.
func volume() []byte {
	image := make([]byte, 0x1000)
	le := binary.LittleEndian
	v := image[0x100:]
	le.PutUint64(v[0x20:], 0x800)
	copy(v[0x28:], "_FVH")
	le.PutUint16(v[0x30:], 0x48)
	file := v[0x48:]
	for i := range 16 {
		file[i] = byte(i + 1)
	}
	file[0x12] = 0x07
	le.PutUint32(file[0x14:], 24+16+8)
	le.PutUint32(file[24:], 16|0x19<<24)
	le.PutUint32(file[40:], 8|0x10<<24)
	for i := 0x48 + 24 + 24; i < 0x800; i++ {
		v[i] = 0xFF
	}
	return image
}

func TestLocate(t *testing.T) {
	image := volume()
	for off, want := range map[int64]string{
		0:                      "outside every firmware volume",
		0x100:                  "firmware volume at 0x100, between its files",
		0x100 + 0x48 + 3:       "firmware volume at 0x100, file 04030201-0605-0807-090a-0b0c0d0e0f10",
		0x100 + 0x48 + 24 + 5:  "section 0 (raw)",
		0x100 + 0x48 + 24 + 16: "section 1 (PE32)",
		0x100 + 0x300:          "between its files",
		0xA00:                  "outside every firmware volume",
		-1:                     "outside every firmware volume",
	} {
		if got := ovmf.Locate(image, off).String(); !strings.HasSuffix(got, want) {
			t.Errorf("0x%x: %s, want %s", off, got, want)
		}
	}
}

// Whatever the bytes are, something is said and nothing read beyond them.
func FuzzLocate(f *testing.F) {
	f.Add(volume(), uint16(0x165))
	f.Fuzz(func(t *testing.T, image []byte, off uint16) {
		if s := ovmf.Locate(image, int64(off)).String(); s == "" {
			t.Error("nothing is said")
		}
	})
}
