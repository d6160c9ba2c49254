package guest

import (
	"encoding/binary"
	"io"
)

// KernelInitSize gives how many bytes of memory in one piece a bzImage wants for its own
// unpacking and start; 0 where it does not say, which takes boot protocol 2.10 (Linux
// Documentation/arch/x86/boot.rst, init_size).
func KernelInitSize(r io.ReaderAt, size int64) (int64, error) {
	const version, initSize = 0x206, 0x260
	kind, err := KernelKindOf(r, size)
	if err != nil || kind != KernelBzImage || size < initSize+4 {
		return 0, err
	}
	var head [initSize + 4]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	if le.Uint16(head[version:]) < 0x20A {
		return 0, nil
	}
	return int64(le.Uint32(head[initSize:])), nil
}
