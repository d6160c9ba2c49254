package replay

import (
	"errors"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/snp"
)

// Addresses in the memory of a caller that there is not: each holds one argument at a time.
const (
	argument   = 0x10000
	parameters = 0x40000
	idBlock    = 0x50000
	idAuth     = 0x60000
	pageBase   = 1 << 40
)

// Descriptors of that caller.
const (
	sevFD   = 3
	memfdFD = 100
)

var errFault = errors.New("nothing is at this address")

// caller stands for the thread that makes the calls of a record: kvm.Caller, and
// kvm.Digests for pages that the record has only the digests of.
type caller struct {
	kept   map[snp.ContentDigest][]byte
	memory map[uint64][]byte
	files  map[int]kvm.Object
	memfds int
	update *record.Update
}

func newCaller(kept map[snp.ContentDigest][]byte) *caller {
	return &caller{kept: kept, memory: map[uint64][]byte{}, files: map[int]kvm.Object{}}
}

// put places an argument, with room behind it for what is answered.
func (c *caller) put(addr uint64, b []byte) uint64 {
	c.memory[addr] = append(append(make([]byte, 0, len(b)+64), b...), make([]byte, 64)...)
	return addr
}

// at gives what is at an address that put has filled.
func (c *caller) at(addr uint64) []byte { return c.memory[addr] }

// pages lets the pages of an update be where it says that they are, and gives that address. What is
// not kept and would be looked at is told.
func (c *caller) pages(u *record.Update, unchecked func(string)) uint64 {
	c.update = u
	if u.Type == snp.PageCPUID && (len(u.Contents) == 0 || c.bytes(u.Contents[0]) == nil) {
		unchecked("the CPUID page: its contents are not in the record")
	}
	return pageBase
}

// bytes gives a page's bytes where they are known.
func (c *caller) bytes(d snp.ContentDigest) []byte {
	if d == zeroPage {
		return make([]byte, snp.PageSize)
	}
	return c.kept[d]
}

// page finds the page at an address: its digest, and whether there is one.
func (c *caller) page(addr uint64) (snp.ContentDigest, bool) {
	if addr < pageBase || c.update == nil || (addr-pageBase)/snp.PageSize >= uint64(len(c.update.Contents)) {
		return snp.ContentDigest{}, false
	}
	return c.update.Contents[(addr-pageBase)/snp.PageSize], true
}

// Contents implements kvm.Digests.
func (c *caller) Contents(addr uint64) (snp.ContentDigest, bool) {
	d, there := c.page(addr)
	return d, there && c.bytes(d) == nil
}

// Read implements kvm.Caller. A page of which the bytes are not known, and are not
// measured either, is one of zeros.
func (c *caller) Read(addr uint64, p []byte) error {
	if addr >= pageBase {
		d, there := c.page(addr)
		if !there && c.update.Contents != nil {
			return errFault // nor could it be read when it was recorded
		}
		clear(p)
		if there {
			copy(p, c.bytes(d))
		}
		return nil
	}
	for base, b := range c.memory {
		if addr >= base && addr-base < uint64(len(b)) {
			n := copy(p, b[addr-base:])
			clear(p[n:])
			return nil
		}
	}
	return errFault
}

// Write implements kvm.Caller. What the firmware writes into pages is of no use here.
func (c *caller) Write(addr uint64, p []byte) error {
	if addr >= pageBase {
		return nil
	}
	for base, b := range c.memory {
		if addr >= base && addr-base < uint64(len(b)) {
			copy(b[addr-base:], p)
			return nil
		}
	}
	return errFault
}

// Object implements kvm.Caller.
func (c *caller) Object(fd int) kvm.Object { return c.files[fd] }

// PID implements kvm.Caller.
func (c *caller) PID() int { return 0 }
