package vmsa_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/vmsa"
)

// TestFields wants exactly these lines for the first save area of an EPYC-v4.
func TestFields(t *testing.T) {
	page := vmsa.Page(vmsa.Config{Signature: 0x800F12, Features: 0x21}, true, 0)
	want := strings.Split(strings.TrimSpace(`
0x000 16 ES selector 0x0000, attributes 0x093, limit 0x0000ffff, base 0x0 | present, data, writable, accessed
0x010 16 CS selector 0xf000, attributes 0x09b, limit 0x0000ffff, base 0xffff0000 | present, code, readable, accessed
0x020 16 SS selector 0x0000, attributes 0x093, limit 0x0000ffff, base 0x0 | present, data, writable, accessed
0x030 16 DS selector 0x0000, attributes 0x093, limit 0x0000ffff, base 0x0 | present, data, writable, accessed
0x040 16 FS selector 0x0000, attributes 0x093, limit 0x0000ffff, base 0x0 | present, data, writable, accessed
0x050 16 GS selector 0x0000, attributes 0x093, limit 0x0000ffff, base 0x0 | present, data, writable, accessed
0x060 16 GDTR selector 0x0000, attributes 0x000, limit 0x0000ffff, base 0x0 | 
0x070 16 LDTR selector 0x0000, attributes 0x082, limit 0x0000ffff, base 0x0 | present, system type 2
0x080 16 IDTR selector 0x0000, attributes 0x000, limit 0x0000ffff, base 0x0 | 
0x090 16 TR selector 0x0000, attributes 0x08b, limit 0x0000ffff, base 0x0 | present, system type 11
0x0d0 8 EFER 0x0000000000001000 | SVME, which KVM sets
0x148 8 CR4 0x0000000000000040 | MCE, which KVM sets
0x158 8 CR0 0x0000000000000010 | ET
0x160 8 DR7 0x0000000000000400 | 
0x168 8 DR6 0x00000000ffff0ff0 | 
0x170 8 RFLAGS 0x0000000000000002 | reset value: interrupts off
0x178 8 RIP 0x000000000000fff0 | the vCPU starts at 0xfffffff0
0x268 8 G_PAT 0x0007040600070406 | reset value
0x310 8 RDX 0x0000000000800f12 | family 23, model 1, stepping 2: EPYC, EPYC-IBPB
0x3b0 8 SEV_FEATURES 0x0000000000000021 | SNPActive, DebugSwap
0x3e8 8 XCR0 0x0000000000000001 | x87
0x408 4 MXCSR 0x00001f80 | reset value; zero under host kernels that do not copy the FPU state
0x410 2 X87_FCW 0x037f | FNINIT's value; zero under host kernels that do not copy the FPU state`), "\n")
	got := vmsa.Fields(&page)
	if len(got) != len(want) {
		t.Errorf("%d fields, want %d", len(got), len(want))
	}
	for i, f := range got[:min(len(got), len(want))] {
		if line := fmt.Sprintf("0x%03x %d %s %s | %s", f.Offset, f.Size, f.Name, f.Value, f.What); line != want[i] {
			t.Errorf("field %d\n got %s\nwant %s", i, line, want[i])
		}
	}
}

// Words that depend on the value.
func TestFieldWords(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset int
		size   int
		value  uint64
		want   string
	}{
		{"RDX", 0x310, 8, vmsa.CloudSignature, "KVM's own reset value, whatever the processor"},
		{"RDX", 0x310, 8, 0xB00F00, "family 26, model 0, stepping 0: EPYC-Turin"},
		{"RDX", 0x310, 8, 0x623, "family 6, model 2, stepping 3"},
		{"RDX", 0x310, 8, 1 << 40, ""},
		{"EFER", 0x0D0, 8, 0x1D00, "LME, LMA, NXE, SVME, which KVM sets"},
		{"CR0", 0x158, 8, 0x100000011, "PE, ET, bits 0x100000000"},
		{"RIP", 0x178, 8, 0x1000, "the vCPU starts at 0x1000"},
		{"SEV_FEATURES", 0x3B0, 8, 1 << 63, "reserved bits 0x8000000000000000"},
		{"GUEST_TSC_SCALE", 0x2F0, 8, 1, "the firmware measures zero instead"},
		{"G_PAT", 0x268, 8, 0x00070106, ""},
		{"MXCSR", 0x408, 4, 1, ""},
		{"X87_FCW", 0x410, 2, 1, ""},
		{"RFLAGS", 0x170, 8, 0x202, ""},
		{"CPL", 0x0CB, 1, 3, ""},
		{"reserved", 0x0CC, 1, 3, "must be zero"},
		{"reserved", 0xFFF, 1, 3, "must be zero"},
	} {
		var page [vmsa.PageSize]byte
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], c.value)
		copy(page[c.offset:c.offset+c.size], word[:])
		found := false
		for _, f := range vmsa.Fields(&page) {
			if f.Offset == c.offset {
				found = true
				if f.Name != c.name || f.Size != c.size || f.What != c.want {
					t.Errorf("%+v, want %s of %d bytes: %q", f, c.name, c.size, c.want)
				}
			}
		}
		if !found {
			t.Errorf("%s is not among the fields", c.name)
		}
	}
	// A segment of an SVSM's 32-bit start, and one that is nothing.
	var page [vmsa.PageSize]byte
	for off, attr := range map[int]uint16{0x12: 0xC9B, 0x22: 0x2F8, 0x32: 0x10} {
		binary.LittleEndian.PutUint16(page[off:], attr)
	}
	for i, want := range []string{"", "present, code, readable, accessed, 32-bit, limit in pages", "present, code, not accessed, DPL 3, 64-bit", "not present, data, read-only, not accessed"} {
		if got := vmsa.Fields(&page)[i].What; got != want {
			t.Errorf("segment %d: %q, want %q", i, got, want)
		}
	}
}

// FuzzFields makes the page again from its fields: nothing is left out.
func FuzzFields(f *testing.F) {
	for _, vmm := range []vmsa.VMM{vmsa.QEMU, vmsa.EC2, vmsa.GCE} {
		page := vmsa.Page(vmsa.Config{Signature: 0x800F12, Features: 1, VMM: vmm}, true, 0)
		f.Add(page[:])
	}
	f.Add([]byte{0xC8: 1, 0xC9: 2, 0xCA: 3, 0xCC: 4, 0xCF: 5, 0x300: 6, 0x66F: 7, 0xFFE: 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		var page, again [vmsa.PageSize]byte
		copy(page[:], data)
		end := 0
		for _, field := range vmsa.Fields(&page) {
			if field.Offset < end || field.Size <= 0 {
				t.Fatalf("%+v overlaps what came before it, which ends at 0x%x", field, end)
			}
			end = field.Offset + field.Size
			dst := again[field.Offset:end]
			if field.Size == 16 && strings.HasPrefix(field.Value, "selector") {
				var selector, attr uint16
				var limit uint32
				var base uint64
				if _, err := fmt.Sscanf(field.Value, "selector 0x%x, attributes 0x%x, limit 0x%x, base 0x%x", &selector, &attr, &limit, &base); err != nil {
					t.Fatal(err)
				}
				binary.LittleEndian.PutUint16(dst, selector)
				binary.LittleEndian.PutUint16(dst[2:], attr)
				binary.LittleEndian.PutUint32(dst[4:], limit)
				binary.LittleEndian.PutUint64(dst[8:], base)
			} else if number, ok := strings.CutPrefix(field.Value, "0x"); ok {
				v, err := strconv.ParseUint(number, 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				var word [8]byte
				binary.LittleEndian.PutUint64(word[:], v)
				copy(dst, word[:])
			} else if _, err := hex.Decode(dst, []byte(field.Value)); err != nil {
				t.Fatal(err)
			}
		}
		if again != page {
			t.Error("the fields do not give the page again")
		}
	})
}
