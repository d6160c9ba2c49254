package kvm

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// qemuVCPU says how QEMU sets the registers of a vCPU before the launch.
type qemuVCPU struct {
	reset uint32 // of an AP; 0: the bootstrap processor
	// zeroFPU: QEMU 10.1 and later send FCW 0 and MXCSR 0 for an AP, with XSTATE_BV 0.
	zeroFPU bool
}

// signatureEPYC is CPUID function 1 EAX of QEMU's model EPYC.
const signatureEPYC = 0x800F12

// setQEMURegisters makes the calls that QEMU makes for one vCPU, with what it
// puts into them at reset (observed with QEMU 10.0.2 and 11.1.3).
func (m *machine) setQEMURegisters(v *VCPU, q qemuVCPU) {
	m.Helper()
	segment := func(base uint64, selector uint16, typ, s byte) []byte {
		// present 1, dpl, db, l, g, avl, unusable, padding 0
		return encode(base, uint32(0xFFFF), selector, typ, uint8(1), uint8(0), uint8(0), s, uint8(0), uint8(0), uint8(0), uint8(0), uint8(0))
	}
	csBase, rip := uint64(0xFFFF0000), uint64(0xFFF0)
	if q.reset != 0 {
		csBase, rip = uint64(q.reset&0xFFFF0000), uint64(q.reset&0xFFFF)
	}
	var s []byte
	s = append(s, segment(csBase, 0xF000, 0xB, 1)...)
	for range 5 { // DS, ES, FS, GS, SS
		s = append(s, segment(0, 0, 3, 1)...)
	}
	s = append(s, segment(0, 0, 0xB, 0)...) // TR
	s = append(s, segment(0, 0, 2, 0)...)   // LDT
	for range 2 {                           // GDT, IDT
		s = append(s, encode(uint64(0), uint16(0xFFFF), [3]uint16{})...)
	}
	// CR0, CR2, CR3, CR4, CR8, EFER, APIC_BASE, flags, PDPTRs
	s = append(s, encode(uint64(0x60000010), [5]uint64{}, uint64(0xFEE00900), uint64(0), [4]uint64{})...)
	if len(s) != 320 {
		m.Fatalf("kvm_sregs2 has %d bytes", len(s))
	}
	m.must(v.Ioctl(m, nrSetSREGS2, m.put(s)))

	regs := make([]uint64, 18)
	regs[3], regs[16], regs[17] = signatureEPYC, rip, 2 // RDX, RIP, RFLAGS
	m.must(v.Ioctl(m, nrSetRegs, m.put(encode(regs))))

	xsave := make([]byte, 4096)
	if !q.zeroFPU {
		le.PutUint16(xsave, 0x37F)
		le.PutUint32(xsave[0x18:], 0x1F80)
	}
	m.must(v.Ioctl(m, nrSetXSAVE, m.put(xsave)))
	m.must(v.Ioctl(m, nrSetXCRS, m.put(append(encode(uint32(1), uint32(0), uint32(0), uint32(0), uint64(1)), make([]byte, 368)...))))
	msrs := encode(uint32(3), uint32(0),
		uint32(0x277), uint32(0), uint64(0x0007040600070406), // PAT
		uint32(0x1A0), uint32(0), uint64(1), // MISC_ENABLE
		uint32(0xC0000080), uint32(0), uint64(0)) // EFER
	if a := m.must(v.Ioctl(m, nrSetMSRs, m.put(msrs))); a.Value != 3 {
		m.Fatalf("KVM_SET_MSRS did %d of 3", a.Value)
	}
	debug := make([]byte, 128)
	le.PutUint64(debug[0x20:], 0xFFFF0FF0)
	le.PutUint64(debug[0x28:], 0x400)
	m.must(v.Ioctl(m, nrSetDebugRegs, m.put(debug)))
}

// expectedVMSA is the save area that KVM makes of those registers, byte for byte
// (AMD64 APM volume 2, table B-4; arch/x86/include/asm/svm.h).
func expectedVMSA(reset uint32) []byte {
	p := make([]byte, pageSize)
	segment := func(at int, selector, attr uint16, limit uint32, base uint64) {
		copy(p[at:], encode(selector, attr, limit, base))
	}
	csBase, rip := uint64(0xFFFF0000), uint64(0xFFF0)
	if reset != 0 {
		csBase, rip = uint64(reset&0xFFFF0000), uint64(reset&0xFFFF)
	}
	segment(0x00, 0, 0x93, 0xFFFF, 0)           // ES
	segment(0x10, 0xF000, 0x9B, 0xFFFF, csBase) // CS
	segment(0x20, 0, 0x93, 0xFFFF, 0)           // SS
	segment(0x30, 0, 0x93, 0xFFFF, 0)           // DS
	segment(0x40, 0, 0x93, 0xFFFF, 0)           // FS
	segment(0x50, 0, 0x93, 0xFFFF, 0)           // GS
	segment(0x60, 0, 0, 0xFFFF, 0)              // GDTR
	segment(0x70, 0, 0x82, 0xFFFF, 0)           // LDTR
	segment(0x80, 0, 0, 0xFFFF, 0)              // IDTR
	segment(0x90, 0, 0x8B, 0xFFFF, 0)           // TR
	for at, v := range map[int]uint64{
		0x0D0: 0x1000,             // EFER: SVME
		0x148: 0x40,               // CR4: MCE
		0x158: 0x10,               // CR0: CD and NW taken off
		0x160: 0x400,              // DR7
		0x168: 0xFFFF0FF0,         // DR6
		0x170: 2,                  // RFLAGS
		0x178: rip,                // RIP
		0x268: 0x0007040600070406, // G_PAT
		0x310: signatureEPYC,      // RDX
		0x3B0: 1,                  // SEV_FEATURES
		0x3E8: 1,                  // XCR0
		0x408: 0x1F80,             // MXCSR, FTW 0
		0x410: 0x37F,              // FCW
	} {
		le.PutUint64(p[at:], v)
	}
	return p
}

// apReset is the AP reset address of OVMF's AmdSev build.
const apReset = 0x0080B004

// The pages that the table above gives have the digests that an independent
// script found.
func TestExpectedVMSA(t *testing.T) {
	for reset, want := range map[uint32]string{
		0:       "77920c4c629ff47e90c0e174fc1ad0eb6fa664f88cd4739488058a8c6cb1a77b3856f55378e9518d0da99452d51c553a",
		apReset: "8413b852790765a310d95867a8b00bfca3a802b5a80830044b45e253fe96222657e11e53fcf63eb0e0afd722385bf7b4",
	} {
		sum := sha512.Sum384(expectedVMSA(reset))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("reset %#x: %s, want %s", reset, got, want)
		}
	}
}

func TestVMSA(t *testing.T) {
	for name, q := range map[string]qemuVCPU{
		"BSP": {}, "AP": {reset: apReset}, "AP of QEMU 10.1": {reset: apReset, zeroFPU: true}, "BSP with zeros": {zeroFPU: true},
	} {
		m := newMachine(t, typeSNP)
		m.initialise()
		v := m.vcpu(0)
		m.setQEMURegisters(v, q)
		m.setQEMURegisters(v, q) // QEMU does it twice
		got, want := v.vmsaPage(m.vm.vmsaFeatures), expectedVMSA(q.reset)
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: byte %#x is %#x, want %#x", name, i, got[i], want[i])
			}
		}
	}
}

// QEMU reads all registers back and sets them again before the launch; the
// save area must survive that.
func TestVMSASurvivesReadingBack(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.initialise()
	v := m.vcpu(1)
	m.setQEMURegisters(v, qemuVCPU{reset: apReset, zeroFPU: true})
	for range 2 {
		for _, p := range registerPairs {
			b := m.put(make([]byte, p.size))
			m.must(v.Ioctl(m, p.get, b))
			m.must(v.Ioctl(m, p.set, b))
		}
	}
	if !bytes.Equal(v.vmsaPage(1), expectedVMSA(apReset)) {
		t.Error("the save area has changed")
	}
}

// Every register that KVM puts into the save area arrives at its place, and
// nothing else does: each is set alone and the page compared with that of a
// vCPU at reset.
func TestVMSAFields(t *testing.T) {
	sregs := func(at int, v []byte) func(*machine, *VCPU) {
		return func(m *machine, c *VCPU) {
			b := m.put(make([]byte, 320))
			m.must(c.Ioctl(m, 0x8140AECC, b))
			m.must(answerOf(m.Write(b+uint64(at), v)))
			m.must(c.Ioctl(m, nrSetSREGS2, b))
		}
	}
	reg := func(at int) func(*machine, *VCPU) {
		return func(m *machine, c *VCPU) {
			b := m.put(make([]byte, 144))
			m.must(c.Ioctl(m, nrGetRegs, b))
			m.must(answerOf(m.Write(b+uint64(at), mark)))
			m.must(c.Ioctl(m, nrSetRegs, b))
		}
	}
	msr := func(index uint32) func(*machine, *VCPU) {
		return func(m *machine, c *VCPU) {
			m.must(c.Ioctl(m, nrSetMSRs, m.put(encode(uint32(1), uint32(0), index, uint32(0), mark))))
		}
	}
	xsave := func(at int, v []byte, bv uint64) func(*machine, *VCPU) {
		return func(m *machine, c *VCPU) {
			b := make([]byte, 4096)
			le.PutUint16(b, 0x37F)
			le.PutUint32(b[0x18:], 0x1F80)
			le.PutUint64(b[0x200:], bv)
			copy(b[at:], v)
			m.must(c.Ioctl(m, nrSetXSAVE, m.put(b)))
		}
	}
	// struct kvm_segment: base, limit, selector, type 0xA, present, dpl 2, db, s, l, g, avl, unusable
	seg := encode(uint64(0x1122334455667788), uint32(0x99AABBCC), uint16(0xDDEE), []byte{0xA, 1, 2, 1, 1, 0, 1, 1, 0, 0})
	// VMCB: selector, attributes A | s | dpl 2 | p | avl | db | g, limit, base
	segWant := encode(uint16(0xDDEE), uint16(0x0A|1<<4|2<<5|1<<7|1<<8|1<<10|1<<11), uint32(0x99AABBCC), uint64(0x1122334455667788))
	table := encode(uint64(0x1122334455667788), uint16(0x99AA), [3]uint16{})
	tableWant := encode(uint16(0), uint16(0), uint32(0x99AA), uint64(0x1122334455667788))
	type bytesAt map[int][]byte
	for name, c := range map[string]struct {
		set  func(*machine, *VCPU)
		want bytesAt
	}{
		"CS": {sregs(0x00, seg), bytesAt{0x10: segWant}}, "DS": {sregs(0x18, seg), bytesAt{0x30: segWant}}, "ES": {sregs(0x30, seg), bytesAt{0x00: segWant}},
		"FS": {sregs(0x48, seg), bytesAt{0x40: segWant}}, "GS": {sregs(0x60, seg), bytesAt{0x50: segWant}}, "TR": {sregs(0x90, seg), bytesAt{0x90: segWant}},
		"SS and CPL": {sregs(0x78, seg), bytesAt{0x20: segWant, 0xCB: {2}}}, "LDT": {sregs(0xA8, seg), bytesAt{0x70: segWant}},
		"GDT": {sregs(0xC0, table), bytesAt{0x60: tableWant}}, "IDT": {sregs(0xD0, table), bytesAt{0x80: tableWant}},
		"CR0":  {sregs(0xE0, encode(uint64(0xE0000031))), bytesAt{0x158: encode(uint64(0x80000031))}},
		"CR2":  {sregs(0xE8, mark), bytesAt{0x240: mark}},
		"CR3":  {sregs(0xF0, mark), bytesAt{0x150: mark}},
		"CR4":  {sregs(0xF8, encode(uint64(0x620))), bytesAt{0x148: encode(uint64(0x660))}},
		"EFER": {sregs(0x108, encode(uint64(0x500))), bytesAt{0x0D0: encode(uint64(0x1500))}},

		"CR8": {sregs(0x100, mark), nil}, "APIC_BASE": {sregs(0x110, mark), nil},

		"RAX": {reg(0x00), bytesAt{0x1F8: mark}}, "RBX": {reg(0x08), bytesAt{0x318: mark}}, "RCX": {reg(0x10), bytesAt{0x308: mark}}, "RDX": {reg(0x18), bytesAt{0x310: mark}},
		"RSI": {reg(0x20), bytesAt{0x330: mark}}, "RDI": {reg(0x28), bytesAt{0x338: mark}}, "RSP": {reg(0x30), bytesAt{0x1D8: mark}}, "RBP": {reg(0x38), bytesAt{0x328: mark}},
		"R8": {reg(0x40), bytesAt{0x340: mark}}, "R9": {reg(0x48), bytesAt{0x348: mark}}, "R10": {reg(0x50), bytesAt{0x350: mark}}, "R11": {reg(0x58), bytesAt{0x358: mark}},
		"R12": {reg(0x60), bytesAt{0x360: mark}}, "R13": {reg(0x68), bytesAt{0x368: mark}}, "R14": {reg(0x70), bytesAt{0x370: mark}}, "R15": {reg(0x78), bytesAt{0x378: mark}},
		"RIP": {reg(0x80), bytesAt{0x178: mark}}, "RFLAGS": {reg(0x88), bytesAt{0x170: mark}},

		"STAR": {msr(0xC0000081), bytesAt{0x200: mark}}, "LSTAR": {msr(0xC0000082), bytesAt{0x208: mark}}, "CSTAR": {msr(0xC0000083), bytesAt{0x210: mark}},
		"SFMASK": {msr(0xC0000084), bytesAt{0x218: mark}}, "KERNEL_GS_BASE": {msr(0xC0000102), bytesAt{0x220: mark}},
		"SYSENTER_CS": {msr(0x174), bytesAt{0x228: mark}}, "SYSENTER_ESP": {msr(0x175), bytesAt{0x230: mark}}, "SYSENTER_EIP": {msr(0x176), bytesAt{0x238: mark}},
		"PAT": {msr(0x277), bytesAt{0x268: mark}}, "XSS": {msr(0xDA0), bytesAt{0x140: mark}}, "another MSR": {msr(0x10), nil},

		"XCR0": {func(m *machine, c *VCPU) {
			m.must(c.Ioctl(m, nrSetXCRS, m.put(append(encode(uint32(1), uint32(0), uint32(0), uint32(0), uint64(7)), make([]byte, 368)...))))
		}, bytesAt{0x3E8: encode(uint64(7))}},

		"FCW":   {xsave(0x00, []byte{0x7E, 0x02}, 1), bytesAt{0x410: {0x7E, 0x02}}},
		"FSW":   {xsave(0x02, []byte{0x12, 0x34}, 1), bytesAt{0x40E: {0x12, 0x34}}},
		"FTW":   {xsave(0x04, []byte{0x5A}, 1), bytesAt{0x40C: {0x5A}}},
		"FOP":   {xsave(0x06, []byte{0x34, 0x05}, 1), bytesAt{0x412: {0x34, 0x05}}},
		"FIP":   {xsave(0x08, mark, 1), bytesAt{0x418: mark}},
		"FDP":   {xsave(0x10, mark, 1), bytesAt{0x400: mark}},
		"ST7":   {xsave(0x90, []byte("0123456789abcdef"), 1), bytesAt{0x420 + 70: []byte("0123456789")}},
		"MXCSR": {xsave(0x18, []byte{0xA0, 0x1F}, 2), bytesAt{0x408: {0xA0, 0x1F}}},
		"XMM15": {xsave(0x190, []byte("0123456789abcdef"), 2), bytesAt{0x560: []byte("0123456789abcdef")}},
		"YMM0":  {xsave(0x240, []byte("0123456789abcdef"), 4), bytesAt{0x570: []byte("0123456789abcdef")}},
		"YMM15": {xsave(0x330, []byte("0123456789abcdef"), 4), bytesAt{0x660: []byte("0123456789abcdef")}},

		"XSTATE_BV 0": {xsave(0x00, []byte("0123456789abcdef0123456789abcdef"), 0), nil},
	} {
		m := newMachine(t, typeSNP)
		m.initialise()
		v := m.vcpu(0)
		want := v.vmsaPage(1)
		for at, b := range c.want {
			copy(want[at:], b)
		}
		c.set(m, v)
		got := v.vmsaPage(1)
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: byte %#x is %#x, want %#x", name, i, got[i], want[i])
			}
		}
	}
}

// mark is a value with eight different bytes.
var mark = []byte{0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x76, 0x07}

// DebugSwap, asked for with KVM_SEV_INIT2, stands in SEV_FEATURES, beside
// SNPActive, which KVM adds.
func TestVMSAFeatures(t *testing.T) {
	for features, want := range map[uint64]uint64{0: 1, 1 << 5: 0x21} {
		m := newMachine(t, typeSNP)
		a, _ := m.op(cmdINIT2, m.put(initParams(features, 0, 0)))
		m.must(a)
		a, _ = m.op(cmdSTART, m.put(startParams(0x30000, 0)))
		m.must(a)
		v := m.vcpu(0)
		m.setQEMURegisters(v, qemuVCPU{})
		a, _ = m.finish(finish{})
		m.must(a)
		page := expectedVMSA(0)
		le.PutUint64(page[0x3B0:], want)
		if got := m.digest(); got != fold(snp.LaunchDigest{}, 2, 0xFFFFFFFFF000, sha512.Sum384(page)) {
			t.Errorf("features %#x: the digest is not that of SEV_FEATURES %#x", features, want)
		}
	}
}

// VMSAs follow in the order in which the vCPUs were made, all at one address,
// and without vCPUs there is none.
func TestVMSAsInOrderOfCreation(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	want := snp.LaunchDigest{}
	for i, id := range []uint64{0, 5, 2} {
		v := m.vcpu(id)
		q := qemuVCPU{reset: apReset + uint32(i)<<4}
		if i == 0 {
			q.reset = 0
		}
		m.setQEMURegisters(v, q)
		want = fold(want, 2, 0xFFFFFFFFF000, sha512.Sum384(expectedVMSA(q.reset)))
	}
	a, _ := m.finish(finish{})
	m.must(a)
	if m.digest() != want {
		t.Errorf("digest %s, want %s", m.digest(), want)
	}
	// From now on the registers are encrypted.
	for _, v := range m.vcpus {
		for _, nr := range []uint32{nrGetRegs, nrSetRegs, 0x8140AECC, nrSetSREGS2, 0x8138AE83, 0x4138AE84, nrSetXSAVE, nrGetXSAVE2, 0x9000AEA4, 0x8188AEA6, nrSetXCRS, 0x8080AEA1, nrSetDebugRegs} {
			if a := v.Ioctl(m, nr, m.put(make([]byte, 4096))); a.Errno != unix.EINVAL {
				t.Errorf("ioctl %#x of a launched vCPU: %s, want EINVAL", nr, errnoName(a.Errno))
			}
		}
	}
	none := newMachine(t, typeSNP)
	none.start()
	a, _ = none.finish(finish{})
	none.must(a)
	if none.digest() != (snp.LaunchDigest{}) || len(none.vm.Guest().Updates()) != 0 {
		t.Error("a guest without vCPUs has a VMSA")
	}
}
