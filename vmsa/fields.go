package vmsa

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Field is a field of a save area, as it stands in a page and in words.
type Field struct {
	Offset int    `json:"offset"` // bytes
	Size   int    `json:"size"`   // bytes
	Name   string `json:"name"`
	Value  string `json:"value"`          // hexadecimal; for a segment register its four parts
	What   string `json:"what,omitempty"` // in words, where there are any
}

// layout is the save area of SEV-ES and SEV-SNP guests (AMD64 Architecture
// Programmer's Manual, volume 2, table B-4). What lies between is reserved.
// Segment registers have 16 bytes, the others as many as size says.
var layout = []struct {
	offset, size int
	name         string
	what         func(page *[PageSize]byte, value uint64) string
}{
	{0x000, segmentSize, "ES", nil},
	{0x010, segmentSize, "CS", nil},
	{0x020, segmentSize, "SS", nil},
	{0x030, segmentSize, "DS", nil},
	{0x040, segmentSize, "FS", nil},
	{0x050, segmentSize, "GS", nil},
	{0x060, segmentSize, "GDTR", nil},
	{0x070, segmentSize, "LDTR", nil},
	{0x080, segmentSize, "IDTR", nil},
	{0x090, segmentSize, "TR", nil},
	{0x0A0, 8, "PL0_SSP", nil},
	{0x0A8, 8, "PL1_SSP", nil},
	{0x0B0, 8, "PL2_SSP", nil},
	{0x0B8, 8, "PL3_SSP", nil},
	{0x0C0, 8, "U_CET", nil},
	{0x0CA, 1, "VMPL", nil},
	{0x0CB, 1, "CPL", nil},
	{0x0D0, 8, "EFER", bits(eferBits)},
	{0x140, 8, "XSS", nil},
	{0x148, 8, "CR4", bits(cr4Bits)},
	{0x150, 8, "CR3", nil},
	{0x158, 8, "CR0", bits(cr0Bits)},
	{0x160, 8, "DR7", nil},
	{0x168, 8, "DR6", nil},
	{0x170, 8, "RFLAGS", rflagsWords},
	{0x178, 8, "RIP", ripWords},
	{0x180, 8, "DR0", nil},
	{0x188, 8, "DR1", nil},
	{0x190, 8, "DR2", nil},
	{0x198, 8, "DR3", nil},
	{0x1A0, 8, "DR0_ADDR_MASK", nil},
	{0x1A8, 8, "DR1_ADDR_MASK", nil},
	{0x1B0, 8, "DR2_ADDR_MASK", nil},
	{0x1B8, 8, "DR3_ADDR_MASK", nil},
	{0x1D8, 8, "RSP", nil},
	{0x1E0, 8, "S_CET", nil},
	{0x1E8, 8, "SSP", nil},
	{0x1F0, 8, "ISST_ADDR", nil},
	{0x1F8, 8, "RAX", nil},
	{0x200, 8, "STAR", nil},
	{0x208, 8, "LSTAR", nil},
	{0x210, 8, "CSTAR", nil},
	{0x218, 8, "SFMASK", nil},
	{0x220, 8, "KERNEL_GS_BASE", nil},
	{0x228, 8, "SYSENTER_CS", nil},
	{0x230, 8, "SYSENTER_ESP", nil},
	{0x238, 8, "SYSENTER_EIP", nil},
	{0x240, 8, "CR2", nil},
	{0x268, 8, "G_PAT", patWords},
	{0x270, 8, "DBGCTL", nil},
	{0x278, 8, "BR_FROM", nil},
	{0x280, 8, "BR_TO", nil},
	{0x288, 8, "LAST_EXCP_FROM", nil},
	{0x290, 8, "LAST_EXCP_TO", nil},
	{0x2E8, 4, "PKRU", nil},
	{0x2EC, 4, "TSC_AUX", nil},
	{0x2F0, 8, "GUEST_TSC_SCALE", unmeasuredWords},
	{0x2F8, 8, "GUEST_TSC_OFFSET", unmeasuredWords},
	{0x308, 8, "RCX", nil},
	{0x310, 8, "RDX", rdxWords},
	{0x318, 8, "RBX", nil},
	{0x328, 8, "RBP", nil},
	{0x330, 8, "RSI", nil},
	{0x338, 8, "RDI", nil},
	{0x340, 8, "R8", nil},
	{0x348, 8, "R9", nil},
	{0x350, 8, "R10", nil},
	{0x358, 8, "R11", nil},
	{0x360, 8, "R12", nil},
	{0x368, 8, "R13", nil},
	{0x370, 8, "R14", nil},
	{0x378, 8, "R15", nil},
	{0x390, 8, "GUEST_EXITINFO1", nil},
	{0x398, 8, "GUEST_EXITINFO2", nil},
	{0x3A0, 8, "GUEST_EXITINTINFO", nil},
	{0x3A8, 8, "GUEST_NRIP", nil},
	{0x3B0, 8, "SEV_FEATURES", featuresWords},
	{0x3B8, 8, "VINTR_CTRL", nil},
	{0x3C0, 8, "GUEST_EXIT_CODE", nil},
	{0x3C8, 8, "VIRTUAL_TOM", nil},
	{0x3D0, 8, "TLB_ID", nil},
	{0x3D8, 8, "PCPU_ID", nil},
	{0x3E0, 8, "EVENTINJ", nil},
	{0x3E8, 8, "XCR0", bits(xcr0Bits)},
	{0x400, 8, "X87_DP", nil},
	{0x408, 4, "MXCSR", mxcsrWords},
	{0x40C, 2, "X87_FTW", nil},
	{0x40E, 2, "X87_FSW", nil},
	{0x410, 2, "X87_FCW", fcwWords},
	{0x412, 2, "X87_FOP", nil},
	{0x414, 2, "X87_DS", nil},
	{0x416, 2, "X87_CS", nil},
	{0x418, 8, "X87_RIP", nil},
	{0x420, 80, "FPREG_X87", nil},
	{0x470, 256, "FPREG_XMM", nil},
	{0x570, 256, "FPREG_YMM", nil},
}

const segmentSize = 16

// Fields reads a save area: the segment registers and every other field that is
// not zero, in order, with reserved bytes that are not zero as fields named
// "reserved". So every byte that Fields does not mention is zero.
func Fields(page *[PageSize]byte) []Field {
	var out []Field
	reserved := func(from, to int) {
		for ; from < to && page[from] == 0; from++ {
		}
		for ; from < to && page[to-1] == 0; to-- {
		}
		if from < to {
			out = append(out, Field{from, to - from, "reserved", fmt.Sprintf("%x", page[from:to]), "must be zero"})
		}
	}
	end := 0
	for _, l := range layout {
		reserved(end, l.offset)
		end = l.offset + l.size
		raw := page[l.offset:end]
		f := Field{Offset: l.offset, Size: l.size, Name: l.name}
		switch {
		case l.size == segmentSize:
			f.Value, f.What = segmentWords(raw)
		case allZero(raw):
			continue
		case l.size > 8:
			f.Value = fmt.Sprintf("%x", raw)
		default:
			var word [8]byte
			copy(word[:], raw)
			v := binary.LittleEndian.Uint64(word[:])
			f.Value = fmt.Sprintf("0x%0*x", 2*l.size, v)
			if l.what != nil {
				f.What = l.what(page, v)
			}
		}
		out = append(out, f)
	}
	reserved(end, PageSize)
	return out
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// segmentWords reads a segment register: its parts, and what its attributes
// say (type, S, DPL, P, AVL, L, D/B and G from bit 0 up, as in a descriptor).
func segmentWords(raw []byte) (value, what string) {
	le := binary.LittleEndian
	attr := le.Uint16(raw[2:])
	value = fmt.Sprintf("selector 0x%04x, attributes 0x%03x, limit 0x%08x, base 0x%x", le.Uint16(raw), attr, le.Uint32(raw[4:]), le.Uint64(raw[8:]))
	if attr == 0 {
		return value, ""
	}
	var words []string
	add := func(on bool, yes, no string) {
		if on {
			words = append(words, yes)
		} else if no != "" {
			words = append(words, no)
		}
	}
	add(attr&0x80 != 0, "present", "not present")
	switch {
	case attr&0x10 == 0: // a system segment
		add(true, fmt.Sprintf("system type %d", attr&0xF), "")
	case attr&0x8 != 0:
		add(true, "code", "")
		add(attr&0x2 != 0, "readable", "")
		add(attr&0x1 != 0, "accessed", "not accessed")
	default:
		add(true, "data", "")
		add(attr&0x2 != 0, "writable", "read-only")
		add(attr&0x1 != 0, "accessed", "not accessed")
	}
	add(attr&0x60 != 0, fmt.Sprintf("DPL %d", attr>>5&3), "")
	add(attr&0x200 != 0, "64-bit", "")
	add(attr&0x400 != 0, "32-bit", "")
	add(attr&0x800 != 0, "limit in pages", "")
	return value, strings.Join(words, ", ")
}

// bit is one bit of a register that has a name.
type bit struct {
	mask uint64
	name string
}

// Only the bits that VMMs set before a guest's first instruction.
var (
	eferBits = []bit{{1 << 0, "SCE"}, {1 << 8, "LME"}, {1 << 10, "LMA"}, {1 << 11, "NXE"}, {1 << 12, "SVME, which KVM sets"}}
	cr0Bits  = []bit{{1 << 0, "PE"}, {1 << 1, "MP"}, {1 << 4, "ET"}, {1 << 5, "NE"}, {1 << 16, "WP"}, {1 << 29, "NW"}, {1 << 30, "CD"}, {1 << 31, "PG"}}
	cr4Bits  = []bit{{1 << 4, "PSE"}, {1 << 5, "PAE"}, {1 << 6, "MCE, which KVM sets"}, {1 << 7, "PGE"}, {1 << 9, "OSFXSR"}, {1 << 10, "OSXMMEXCPT"}, {1 << 18, "OSXSAVE"}}
	xcr0Bits = []bit{{1 << 0, "x87"}, {1 << 1, "SSE"}, {1 << 2, "AVX"}, {1 << 9, "PKRU"}}
)

// bits names the bits of a register; others appear as a number.
func bits(names []bit) func(*[PageSize]byte, uint64) string {
	return func(_ *[PageSize]byte, v uint64) string {
		var words []string
		for _, b := range names {
			if v&b.mask != 0 {
				words = append(words, b.name)
				v &^= b.mask
			}
		}
		if v != 0 {
			words = append(words, fmt.Sprintf("bits 0x%x", v))
		}
		return strings.Join(words, ", ")
	}
}

func rflagsWords(_ *[PageSize]byte, v uint64) string {
	if v == 0x2 {
		return "reset value: interrupts off"
	}
	return ""
}

func ripWords(page *[PageSize]byte, _ uint64) string {
	return fmt.Sprintf("the vCPU starts at 0x%x", Start(page))
}

// Start is the linear address of a vCPU's first instruction: CS.base and RIP of
// its save area.
func Start(page *[PageSize]byte) uint64 {
	const csBase, rip = 0x018, 0x178
	return binary.LittleEndian.Uint64(page[csBase:]) + binary.LittleEndian.Uint64(page[rip:])
}

func patWords(_ *[PageSize]byte, v uint64) string {
	if v == patDefault {
		return "reset value"
	}
	return ""
}

func unmeasuredWords(*[PageSize]byte, uint64) string {
	return "the firmware measures zero instead"
}

func rdxWords(_ *[PageSize]byte, v uint64) string {
	switch {
	case v == CloudSignature:
		return "KVM's own reset value, whatever the processor"
	case v > math.MaxUint32:
		return ""
	}
	return DescribeSignature(uint32(v))
}

func featuresWords(_ *[PageSize]byte, v uint64) string { return featureWords(v) }

func mxcsrWords(_ *[PageSize]byte, v uint64) string {
	if v == 0x1F80 {
		return "reset value; zero under host kernels that do not copy the FPU state"
	}
	return ""
}

func fcwWords(_ *[PageSize]byte, v uint64) string {
	if v == 0x037F {
		return "FNINIT's value; zero under host kernels that do not copy the FPU state"
	}
	return ""
}

// DescribeSignature gives EAX of CPUID function 1 in words: family, model,
// stepping and the QEMU models that have it.
func DescribeSignature(sig uint32) string {
	family, model := sig>>8&0xF, sig>>4&0xF
	if family == 0xF {
		family += sig >> 20 & 0xFF
		model |= sig >> 12 & 0xF0
	}
	words := fmt.Sprintf("family %d, model %d, stepping %d", family, model, sig&0xF)
	var same []string
	for _, m := range models {
		if m.Signature() == sig {
			same = append(same, m.Name)
		}
	}
	if len(same) > 0 {
		words += ": " + strings.Join(same, ", ")
	}
	return words
}
