// Package hashes makes and reads the kernel hashes table, by which an AmdSev
// build of OVMF verifies kernel, initrd and command line. Start with New.
//
// QEMU builds the table with kernel-hashes=on (target/i386/sev.c) and puts it
// in a page of its own, which is measured; the layout is the same here.
package hashes

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// Size is the size of the table with its padding, in bytes.
	Size = 176
	// PageSize is the size of the page that carries the table, in bytes.
	PageSize = 4096

	headerSize = 18 // GUID, u16 length
	entrySize  = 50 // GUID, u16 length, SHA-256
	tableSize  = headerSize + 3*entrySize
)

// GUIDs as they lie in memory: the first three fields are little-endian.
var (
	// 9438d606-4f22-4cc9-b479-a793d411fd21
	guidTable = [16]byte{0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21}
	// 97d02dd8-bd20-4c94-aa78-e7714d36ab2a
	guidCmdline = [16]byte{0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a}
	// 44baf731-3a2f-4bd7-9af1-41e29169781d
	guidInitrd = [16]byte{0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d}
	// 4de79437-abd2-427f-b835-d5b172d2045b
	guidKernel = [16]byte{0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b}
)

// Table holds the SHA-256 digests of a kernel hashes table. All three entries
// are always there: the firmware takes a blob whose entry is missing without
// verifying it.
type Table struct {
	Kernel  [32]byte // of the unmodified file
	Initrd  [32]byte // of the file, or of nothing without one
	Cmdline [32]byte // of the command line and a NUL byte
}

// New hashes a kernel, an initrd and a command line. The readers are streamed;
// nil means empty. QEMU hashes a missing initrd as no bytes and a missing
// command line as one NUL byte, so "no initrd" and "empty initrd" are the
// same. The command line counts to the byte: nothing is trimmed.
func New(kernel, initrd io.Reader, cmdline string) (*Table, error) {
	t := &Table{}
	var err error
	if t.Kernel, err = sum(kernel); err != nil {
		return nil, fmt.Errorf("hashing kernel: %w", err)
	}
	if t.Initrd, err = sum(initrd); err != nil {
		return nil, fmt.Errorf("hashing initrd: %w", err)
	}
	if t.Cmdline, err = Cmdline(cmdline); err != nil {
		return nil, err
	}
	return t, nil
}

// Cmdline hashes a command line as QEMU does: with a NUL byte at its end.
func Cmdline(cmdline string) ([32]byte, error) {
	if n := strings.IndexByte(cmdline, 0); n >= 0 {
		return [32]byte{}, fmt.Errorf("kernel command line has a NUL byte at offset %d, which no program argument can carry (remove it)", n)
	}
	h := sha256.New()
	io.WriteString(h, cmdline)
	h.Write(terminator())
	return [32]byte(h.Sum(nil)), nil
}

// sum hashes r; nil is empty.
func sum(r io.Reader) ([32]byte, error) {
	if r == nil {
		return sha256.Sum256(nil), nil
	}
	digest, _, err := SHA256(r)
	return digest, err
}

// Bytes gives the table as it lies in memory: header, command line, initrd,
// kernel, then 8 zero bytes.
func (t *Table) Bytes() [Size]byte {
	b := make([]byte, 0, Size)
	b = append(b, guidTable[:]...)
	b = append(b, tableSize, 0)
	for _, e := range []struct {
		guid   [16]byte
		digest [32]byte
	}{{guidCmdline, t.Cmdline}, {guidInitrd, t.Initrd}, {guidKernel, t.Kernel}} {
		b = append(b, e.guid[:]...)
		b = append(b, entrySize, 0)
		b = append(b, e.digest[:]...)
	}
	var out [Size]byte
	copy(out[:], b)
	return out
}

// Page gives the page that is measured: the table at offset, zeros elsewhere.
func (t *Table) Page(offset int) ([PageSize]byte, error) {
	var page [PageSize]byte
	if err := checkOffset(offset, PageSize); err != nil {
		return page, err
	}
	b := t.Bytes()
	copy(page[offset:], b[:])
	return page, nil
}

// What Parse finds wrong.
var (
	ErrPlace   = errors.New("kernel hashes table does not fit at this offset")
	ErrNoTable = errors.New("no kernel hashes table at this offset (its GUID is missing; was QEMU started with kernel-hashes=on?)")
	ErrLength  = errors.New("kernel hashes table or entry has a wrong length, and the firmware will refuse it")
	ErrEntry   = errors.New("kernel hashes table lacks an entry where QEMU puts it, and the firmware takes a blob without entry unverified")
	ErrPadding = errors.New("kernel hashes table is not followed by 8 zero bytes")
)

// Find looks for a table in a page, at every multiple of 16 bytes: where it lies is the
// firmware's to say. found is false where there is none that Parse takes.
func Find(page []byte) (t *Table, offset int, found bool) {
	for offset = 0; offset+Size <= len(page); offset += 16 {
		if t, err := Parse(page, offset); err == nil {
			return t, offset, true
		}
	}
	return nil, 0, false
}

// Parse reads the table at offset in page and refuses every table that QEMU
// would not have written. What lies before and after the table is not looked at.
func Parse(page []byte, offset int) (*Table, error) {
	if err := checkOffset(offset, len(page)); err != nil {
		return nil, err
	}
	b := page[offset : offset+Size]
	if !bytes.Equal(b[:16], guidTable[:]) {
		return nil, ErrNoTable
	}
	if n := int(b[16]) | int(b[17])<<8; n != tableSize {
		return nil, fmt.Errorf("%w: the table says %d bytes, want %d", ErrLength, n, tableSize)
	}
	t := &Table{}
	for n, e := range []struct {
		name   string
		guid   [16]byte
		digest *[32]byte
	}{{"cmdline", guidCmdline, &t.Cmdline}, {"initrd", guidInitrd, &t.Initrd}, {"kernel", guidKernel, &t.Kernel}} {
		at := b[headerSize+n*entrySize:]
		if !bytes.Equal(at[:16], e.guid[:]) {
			return nil, fmt.Errorf("%w: entry %d is not %s", ErrEntry, n, e.name)
		}
		if l := int(at[16]) | int(at[17])<<8; l != entrySize {
			return nil, fmt.Errorf("%w: entry %s says %d bytes, want %d", ErrLength, e.name, l, entrySize)
		}
		copy(e.digest[:], at[18:entrySize])
	}
	if !bytes.Equal(b[tableSize:], make([]byte, Size-tableSize)) {
		return nil, ErrPadding
	}
	return t, nil
}

// checkOffset says whether the table fits at offset in size bytes.
func checkOffset(offset, size int) error {
	if offset < 0 || size < Size || offset > size-Size {
		return fmt.Errorf("%w: offset 0x%x in %d bytes, the table has %d", ErrPlace, offset, size, Size)
	}
	return nil
}
