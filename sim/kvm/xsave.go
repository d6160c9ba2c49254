package kvm

// fpState is a vCPU's floating point state as the kernel keeps it. It matters
// to the measurement: sev_es_sync_vmsa copies the legacy area raw.
//
// The kernel does not copy what user space hands to KVM_SET_XSAVE: it overlays
// only the components whose bit in XSTATE_BV is set, and everything else keeps
// what it had, which starts as FCW 0x37F and MXCSR 0x1F80 (Linux
// arch/x86/kernel/fpu/xstate.c, copy_uabi_to_xstate and copy_xstate_to_uabi_buf).
// QEMU 10.1 and later send zeros there with XSTATE_BV 0, so copying blindly
// gives another digest.
type fpState struct {
	area [xsaveSize]byte
}

const (
	xsaveSize     = 4096
	xsaveFCW      = 0x00
	xsaveFSW      = 0x02
	xsaveFTW      = 0x04
	xsaveFOP      = 0x06
	xsaveRIP      = 0x08
	xsaveRDP      = 0x10
	xsaveMXCSR    = 0x18
	xsaveST       = 0x20
	xsaveXMM      = 0xA0
	xsaveXMMEnd   = 0x1A0
	xsaveBV       = 0x200
	xsaveYMM      = 0x240
	initialFCW    = 0x37F
	initialMXCSR  = 0x1F80
	xfeatureFP    = 1 << 0
	xfeatureSSE   = 1 << 1
	xfeatureYMM   = 1 << 2
	xsaveMXCSREnd = xsaveMXCSR + 8 // MXCSR and MXCSR_MASK
)

// component says where a user-visible state component lies in the
// uncompacted area, as CPUID leaf 0xD gives it (see supportedCPUID).
type component struct{ bit, offset, size int }

var xsaveComponents = []component{
	{0, 0, xsaveXMM},
	{1, xsaveXMM, xsaveXMMEnd - xsaveXMM},
	{2, xsaveYMM, 0x100},
	{5, 0x340, 0x40},
	{6, 0x380, 0x200},
	{7, 0x580, 0x400},
	{9, 0x980, 0x8},
	{11, 0, 0x10}, // CET_U
	{12, 0, 0x18}, // CET_S
}

// supervisor is 1 for a component of XSS, which the uncompacted area has no
// place for, and 0 for one of XCR0.
func (c component) supervisor() int {
	if cetXSS>>c.bit&1 != 0 {
		return 1
	}
	return 0
}

// xstateSize is how large an area with the components of mask is, which holds
// at least the legacy area and the header (xstate_required_size).
func xstateSize(mask uint64, compacted bool) uint32 {
	size := xsaveYMM // 512 bytes and the header
	for _, c := range xsaveComponents {
		switch {
		case c.bit < 2 || mask>>c.bit&1 == 0:
		case compacted:
			size += c.size
		default:
			size = max(size, c.offset+c.size)
		}
	}
	return uint32(size)
}

func newFPState() *fpState {
	f := &fpState{}
	putU16(f.area[xsaveFCW:], initialFCW)
	putU32(f.area[xsaveMXCSR:], initialMXCSR)
	return f
}

// set overlays what KVM_SET_XSAVE brings. in has xsaveSize bytes.
func (f *fpState) set(in []byte) {
	bv := readU64(in[xsaveBV:])
	if bv&xfeatureFP == 0 && bv&(xfeatureSSE|xfeatureYMM) != 0 {
		copy(f.area[xsaveMXCSR:xsaveMXCSR+4], in[xsaveMXCSR:])
	}
	for _, c := range xsaveComponents {
		if c.supervisor() == 0 && bv&(1<<c.bit) != 0 {
			copy(f.area[c.offset:c.offset+c.size], in[c.offset:])
		}
	}
	putU64(f.area[xsaveBV:], bv)
}

// get gives what KVM_GET_XSAVE2 gives: components that are not in use read as
// their initial values.
func (f *fpState) get() []byte {
	out := make([]byte, xsaveSize)
	putU16(out[xsaveFCW:], initialFCW)
	putU32(out[xsaveMXCSR:], initialMXCSR)
	bv := readU64(f.area[xsaveBV:])
	for _, c := range xsaveComponents {
		if c.supervisor() != 0 || bv&(1<<c.bit) == 0 {
			continue
		}
		copy(out[c.offset:c.offset+c.size], f.area[c.offset:])
	}
	switch {
	case bv&(xfeatureSSE|xfeatureYMM) != 0:
		copy(out[xsaveMXCSR:xsaveMXCSREnd], f.area[xsaveMXCSR:])
	case bv&xfeatureFP != 0:
		putU32(out[xsaveMXCSR:], initialMXCSR)
		putU32(out[xsaveMXCSR+4:], 0)
	}
	putU64(out[xsaveBV:], bv)
	return out
}
