package guest_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
)

func TestKernelInitSize(t *testing.T) {
	bzImage := func(version uint16) []byte {
		b := make([]byte, 4096)
		copy(b[0x202:], "HdrS")
		binary.LittleEndian.PutUint16(b[0x206:], version)
		binary.LittleEndian.PutUint32(b[0x260:], 56<<20)
		return b
	}
	for _, c := range []struct {
		name string
		file []byte
		want int64
	}{
		{"2.15", bzImage(0x20F), 56 << 20},
		{"2.10", bzImage(0x20A), 56 << 20},
		{"2.09", bzImage(0x209), 0},
		{"cut off", bzImage(0x20F)[:0x263], 0},
		{"PE", append([]byte("MZ"), make([]byte, 4096)...), 0},
		{"empty", nil, 0},
	} {
		if got, err := guest.KernelInitSize(bytes.NewReader(c.file), int64(len(c.file))); err != nil || got != c.want {
			t.Errorf("%s: got %d, %v", c.name, got, err)
		}
	}
	if _, err := guest.KernelInitSize(bytes.NewReader(nil), 10); err == nil {
		t.Error("a file that is shorter than it says has a size")
	}
}
