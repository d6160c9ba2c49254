package ovmf

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	footerSize = 0x20 // bytes after the table: the reset vector code
	trailer    = 18   // u16 length and GUID after an entry's data
)

// table is the GUIDed table as it lies in an image.
type table struct {
	entries []entry // from the footer upwards, which is towards the image's start
	lone    bool    // no table, but one SEV-ES reset block in the footer's place
}

// entry is one entry: its data stand before a u16 length (of the whole entry)
// and the GUID.
type entry struct {
	guid GUID
	data []byte
}

// find gives the data of an entry. Where a GUID occurs twice the one nearest to
// the footer counts, as in QEMU.
func (t *table) find(guid GUID) (data []byte, ok bool) {
	for _, e := range t.entries {
		if e.guid == guid {
			return e.data, true
		}
	}
	return nil, false
}

// readTable walks the GUIDed table backwards from the footer, which is an entry without
// data, whose length covers the whole table.
func readTable(r io.ReaderAt, size int64) (*table, error) {
	end := size - footerSize
	var foot [trailer]byte
	if err := readAt(r, foot[:], end-trailer); err != nil {
		return nil, err
	}
	total := int64(binary.LittleEndian.Uint16(foot[:2]))
	switch GUID(foot[2:]) {
	case GUIDTableFooter:
	case GUIDSEVESReset:
		// Images from before the table existed have one block, at the place
		// of the footer: the reset block. QEMU still reads it.
		if total != trailer+4 {
			return nil, fmt.Errorf("%w: lone SEV-ES reset block has %d bytes, want %d", ErrTableEntry, total, trailer+4)
		}
		data := make([]byte, 4)
		if err := readAt(r, data, end-trailer-4); err != nil {
			return nil, err
		}
		return &table{[]entry{{GUIDSEVESReset, data}}, true}, nil
	default:
		return nil, ErrNoTable
	}
	if total < trailer {
		return nil, fmt.Errorf("%w: footer gives the table %d bytes, want at least %d", ErrTableEntry, total, trailer)
	}
	if total > end {
		return nil, fmt.Errorf("%w: footer gives the table %d bytes, the image has %d before it", ErrTableTruncated, total, end)
	}
	raw := make([]byte, total-trailer)
	if err := readAt(r, raw, end-total); err != nil {
		return nil, err
	}
	t := &table{}
	for len(raw) > 0 {
		if len(raw) < trailer {
			return nil, fmt.Errorf("%w: %d bytes are left at the table's start, an entry has at least %d", ErrTableEntry, len(raw), trailer)
		}
		guid := GUID(raw[len(raw)-16:])
		n := int(binary.LittleEndian.Uint16(raw[len(raw)-trailer:]))
		if n < trailer || n > len(raw) {
			return nil, fmt.Errorf("%w: entry %s says it has %d bytes, want %d to %d", ErrTableEntry, guid, n, trailer, len(raw))
		}
		t.entries = append(t.entries, entry{guid, raw[len(raw)-n : len(raw)-trailer]})
		raw = raw[:len(raw)-n]
	}
	return t, nil
}

// words reads exactly n 32-bit integers.
func words(data []byte, n int, what string) ([]uint32, error) {
	if len(data) != 4*n {
		return nil, fmt.Errorf("%w: %s has %d bytes of data, want %d", ErrTableEntry, what, len(data), 4*n)
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	return out, nil
}

// readAt fills buf from off or says what could not be read.
func readAt(r io.ReaderAt, buf []byte, off int64) error {
	// io.ReaderAt may return io.EOF along with a full buffer.
	if n, err := r.ReadAt(buf, off); n < len(buf) {
		return fmt.Errorf("reading firmware at 0x%x: got %d of %d bytes: %w", off, n, len(buf), err)
	}
	return nil
}
