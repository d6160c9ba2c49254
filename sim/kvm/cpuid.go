package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/psp"
)

// leaf is one struct kvm_cpuid_entry2.
type leaf struct {
	function, index, flags uint32
	eax, ebx, ecx, edx     uint32
}

const (
	cpuidEntrySize   = 40
	significantIndex = 1 // KVM_CPUID_FLAG_SIGNIFCANT_INDEX
	maxCPUIDEntries  = 256
)

// silicon is what CPUID says on a processor, as far as KVM passes it on. The
// bits are named in AMD64 Architecture Programmer's Manual volume 3, appendix
// E, and in Linux arch/x86/include/asm/cpufeatures.h.
type silicon struct {
	fn1ECX                 uint32
	fn7EBX, fn7ECX, fn7EDX uint32
	fn7sub1EAX             uint32
	xcr0                   uint64
	ext5, ext6             [4]uint32 // caches and TLBs
	ext8EAX, ext8EBX       uint32    // address sizes; speculation
	svmEDX                 uint32
	caches                 [4][4]uint32 // 8000001D
	maxASID, minSEVASID    uint32
	ext21EAX               uint32
	perfmonV2              bool
	patchLevel             uint32 // MSR 8B without its last byte
}

// Bits of CPUID 1 ECX, of 7 ECX and of others that KVM handles by itself.
const (
	fn1Monitor     = 1 << 3
	fn1TSCDeadline = 1 << 24
	fn1OSXSAVE     = 1 << 27
	fn1Hypervisor  = 1 << 31
	fn7TSCAdjust   = 1 << 1
	fn7PQM         = 1 << 12
	fn7PQE         = 1 << 15
	fn7ShadowStack = 1 << 7
	// SPEC_CTRL, INTEL_STIBP, ARCH_CAPABILITIES, SPEC_CTRL_SSBD, from AMD's own bits
	fn7Speculation      = 1<<26 | 1<<27 | 1<<29 | 1<<31
	fn7SpecCtrl         = 1 << 26
	ext8SameMode        = 1 << 19
	ext8IBPBRet         = 1 << 30
	ext21NoSMMCtl       = 1 << 9
	ext21Prefetchi      = 1 << 20
	ext21SRSOUserKernel = 1 << 30
	cetXSS              = 3 << 11
)

// silicons are third, fourth and fifth generation EPYCs.
var silicons = map[string]silicon{
	"Milan": {
		fn1ECX: 0x7EFA320B, fn7EBX: 0x219C97A9, fn7ECX: 0x0040068C, fn7EDX: 0x00000010, xcr0: 0x207,
		ext5: [4]uint32{0xFF40FF40, 0xFF40FF40, 0x20080140, 0x20080140}, ext6: [4]uint32{0x48002200, 0x68004200, 0x02006140, 0x08009140},
		ext8EAX: 0x3030, ext8EBX: 0x110AD205, svmEDX: 0x1001947B,
		caches: [4][4]uint32{
			{0x00004121, 0x01C0003F, 0x0000003F, 0}, {0x00004122, 0x01C0003F, 0x0000003F, 0},
			{0x00004143, 0x01C0003F, 0x000003FF, 2}, {0x0003C163, 0x03C0003F, 0x00007FFF, 1},
		},
		maxASID: 0x1FD, minSEVASID: 100, ext21EAX: 0x18000045, patchLevel: 0x0A001100,
	},
	"Genoa": {
		fn1ECX: 0x7EFA320B, fn7EBX: 0xF1BF97A9, fn7ECX: 0x00415FCE, fn7EDX: 0x00000010, fn7sub1EAX: 0x20, xcr0: 0x2E7,
		ext5: [4]uint32{0xFF48FF40, 0xFF48FF40, 0x20080140, 0x20080140}, ext6: [4]uint32{0x5C002200, 0x6C004200, 0x04006140, 0x08009140},
		ext8EAX: 0x3934, ext8EBX: 0x510AD205, svmEDX: 0x1201947B,
		caches: [4][4]uint32{
			{0x00004121, 0x01C0003F, 0x0000003F, 0}, {0x00004122, 0x01C0003F, 0x0000003F, 0},
			{0x00004143, 0x01C0003F, 0x000007FF, 2}, {0x0003C163, 0x03C0003F, 0x00007FFF, 1},
		},
		maxASID: 0x3EE, minSEVASID: 100, ext21EAX: 0x18000147, perfmonV2: true, patchLevel: 0x0A101100,
	},
	"Turin": {
		fn1ECX: 0x7EFA320B, fn7EBX: 0xF1BF97A9, fn7ECX: 0x18415FCE, fn7EDX: 0x00000110, fn7sub1EAX: 0x30, xcr0: 0x2E7,
		ext5: [4]uint32{0xFF60FF60, 0xFF60FF60, 0x300C0140, 0x20080140}, ext6: [4]uint32{0x5C002200, 0x6C004200, 0x04008140, 0x08009140},
		ext8EAX: 0x3934, ext8EBX: 0x510AD205, svmEDX: 0x1201947B,
		caches: [4][4]uint32{
			{0x00004121, 0x02C0003F, 0x0000003F, 0}, {0x00004122, 0x01C0003F, 0x0000003F, 0},
			{0x00004143, 0x03C0003F, 0x000003FF, 2}, {0x0003C163, 0x03C0003F, 0x00007FFF, 1},
		},
		maxASID: 0x3EE, minSEVASID: 100, ext21EAX: 0x58100147, perfmonV2: true, patchLevel: 0x0B002100,
	},
}

// siliconOf finds the processor of a platform.
func siliconOf(c psp.Config) (silicon, error) {
	s, known := silicons[c.Product]
	if !known {
		return silicon{}, fmt.Errorf("the software SNP host does not know what CPUID says on a %q", c.Product)
	}
	return s, nil
}

// machineCPU is a processor under a kernel.
type machineCPU struct {
	silicon
	kernel    Profile
	signature uint32
	microcode uint8
}

func newMachineCPU(c psp.Config, kernel Profile) (machineCPU, error) {
	s, err := siliconOf(c)
	family, model := uint32(c.Family), uint32(c.Model)
	base := min(family, 0xF)
	return machineCPU{s, kernel, (family-base)<<20 | model>>4<<16 | base<<8 | model&0xF<<4 | uint32(c.SteppingID), c.TCB.Microcode}, err
}

// supportedXSS are the supervisor state components that guests may have.
func (m *machineCPU) supportedXSS() uint64 {
	if m.kernel.shadowStacks {
		return cetXSS
	}
	return 0
}

// supportedCPUID is KVM_GET_SUPPORTED_CPUID: what the processor has and KVM
// lets guests have, and what KVM emulates (Linux arch/x86/kvm/cpuid.c,
// kvm_set_cpu_caps and __do_cpuid_func). QEMU warns about every feature of a CPU
// model that is missing here. Leaves of zeros are left out.
func (m *machineCPU) supportedCPUID() []leaf {
	const (
		authEBX, authEDX, authECX = 0x68747541, 0x69746E65, 0x444D4163 // "AuthenticAMD"
		kvmEBX, kvmECX, kvmEDX    = 0x4B4D564B, 0x564B4D56, 0x4D       // "KVMKVMKVM"
		// CLOCKSOURCE, NOP_IO_DELAY, CLOCKSOURCE2, ASYNC_PF, STEAL_TIME, PV_EOI,
		// PV_UNHALT, PV_TLB_FLUSH, ASYNC_PF_VMEXIT, PV_SEND_IPI, POLL_CONTROL,
		// PV_SCHED_YIELD, ASYNC_PF_INT, CLOCKSOURCE_STABLE
		kvmFeatures = 0x01007EFB
	)
	s := m.silicon
	fn1ECX := s.fn1ECX &^ (fn1Monitor | fn1OSXSAVE)
	if m.kernel.emulatedBits {
		fn1ECX |= fn1TSCDeadline | fn1Hypervisor
	}
	fn7ECX := s.fn7ECX
	if !m.kernel.shadowStacks {
		fn7ECX &^= fn7ShadowStack
	}
	fn7EDX := s.fn7EDX | fn7Speculation
	if m.kernel.newCPUID && s.ext8EBX&ext8IBPBRet == 0 {
		fn7EDX &^= fn7SpecCtrl // Intel's IBPB, which flushes return predictions too (6.13)
	}
	ext8EBX, ext21EAX := s.ext8EBX, s.ext21EAX|ext21NoSMMCtl
	if !m.kernel.newCPUID {
		ext8EBX &^= ext8SameMode
		ext21EAX &^= ext21Prefetchi | ext21SRSOUserKernel
	}
	size := xstateSize(s.xcr0, false)
	leaves := []leaf{
		{0, 0, 0, 0x10, authEBX, authECX, authEDX},
		{1, 0, 0, m.signature, 0x00000800, fn1ECX, 0x178BFBFF &^ (1 << 28)}, // without HTT
		{6, 0, 0, 4, 0, 0, 0}, // ARAT
		{7, 0, significantIndex, min(s.fn7sub1EAX, 1), s.fn7EBX&^(fn7PQM|fn7PQE) | fn7TSCAdjust, fn7ECX, fn7EDX},
	}
	if s.fn7sub1EAX != 0 {
		leaves = append(leaves, leaf{7, 1, significantIndex, s.fn7sub1EAX, 0, 0, 0})
	}
	leaves = append(leaves,
		leaf{0xD, 0, significantIndex, uint32(s.xcr0), size, size, 0},
		// XSAVEOPT, XSAVEC, XGETBV1, XSAVES
		leaf{0xD, 1, significantIndex, 0xF, xstateSize(s.xcr0|m.supportedXSS(), true), uint32(m.supportedXSS()), 0})
	for _, c := range xsaveComponents {
		if c.bit >= 2 && (s.xcr0|m.supportedXSS())>>c.bit&1 != 0 {
			leaves = append(leaves, leaf{0xD, uint32(c.bit), significantIndex, uint32(c.size), uint32(c.offset), uint32(c.supervisor()), 0})
		}
	}
	leaves = append(leaves,
		leaf{0x80000000, 0, 0, 0x80000022, authEBX, authECX, authEDX},
		// LAHF_LM, CMP_LEGACY, SVM, CR8_LEGACY, ABM, SSE4A, MISALIGNSSE,
		// 3DNOWPREFETCH, OSVW, TOPOEXT, PERFCTR_CORE
		leaf{0x80000001, 0, 0, m.signature, 0, 0x00C003F7, 0x2FD3FBFF},
		leaf{0x80000005, 0, 0, s.ext5[0], s.ext5[1], s.ext5[2], s.ext5[3]},
		leaf{0x80000006, 0, 0, s.ext6[0], s.ext6[1], s.ext6[2], s.ext6[3]},
		leaf{0x80000007, 0, 0, 0, 0, 0, 1 << 8}, // CONSTANT_TSC
		leaf{0x80000008, 0, 0, s.ext8EAX | s.ext8EAX&0xFF<<16, ext8EBX, 0, 0},
		leaf{0x8000000A, 0, 0, 1, 8, 0, s.svmEDX},
		leaf{0x8000001A, 0, 0, 6, 0, 0, 0}, // MOVU, FP256
	)
	for i, c := range s.caches {
		leaves = append(leaves, leaf{0x8000001D, uint32(i), significantIndex, c[0], c[1], c[2], c[3]})
	}
	leaves = append(leaves,
		leaf{0x8000001D, uint32(len(s.caches)), significantIndex, 0, 0, 0, 0}, // the end of the list
		leaf{0x8000001E, 0, 0, 0, 0, 0, 0},                                    // no topology of the host
		// SEV, SEV_ES, SEV_SNP, SME_COHERENT; C-bit 51
		leaf{0x8000001F, 0, 0, 1<<1 | 1<<3 | 1<<4 | 1<<10, 51, s.maxASID, s.minSEVASID},
		leaf{0x80000021, 0, 0, ext21EAX, 0, 0, 0},
	)
	if s.perfmonV2 {
		leaves = append(leaves, leaf{0x80000022, 0, 0, 1, 6, 0, 0}) // six core counters
	}
	return append(leaves,
		leaf{0x40000000, 0, 0, 0x40000001, kvmEBX, kvmECX, kvmEDX},
		leaf{0x40000001, 0, 0, kvmFeatures, 0, 0, 0})
}

// emulatedCPUID is KVM_GET_EMULATED_CPUID: what KVM would emulate at a price.
func emulatedCPUID() []leaf {
	const movbe, rdpid = 1 << 22, 1 << 22
	return []leaf{{0, 0, 0, 7, 0, 0, 0}, {1, 0, 0, 0, 0, movbe, 0}, {7, 0, significantIndex, 0, 0, rdpid, 0}}
}

// encodeCPUID gives the entries of a struct kvm_cpuid2, without its head.
func encodeCPUID(leaves []leaf) []byte {
	b := make([]byte, cpuidEntrySize*len(leaves))
	for i, l := range leaves {
		for j, v := range []uint32{l.function, l.index, l.flags, l.eax, l.ebx, l.ecx, l.edx} {
			putU32(b[cpuidEntrySize*i+4*j:], v)
		}
	}
	return b
}

// storeCPUID answers the calls that list CPUID entries. Unlike the lists of
// MSRs, a list that does not fit tells nothing of how long it is; QEMU asks for 1,
// 2, 4… entries.
func storeCPUID(c Caller, addr uint64, leaves []leaf) Answer {
	head, e := load(c, addr, 8)
	if e != 0 {
		return fail(e)
	}
	if readU32(head) < uint32(len(leaves)) {
		return fail(unix.E2BIG)
	}
	putU32(head, uint32(len(leaves)))
	return store(c, addr, append(head, encodeCPUID(leaves)...))
}
