package kvm

// leaf is one struct kvm_cpuid_entry2.
type leaf struct {
	function, index, flags uint32
	eax, ebx, ecx, edx     uint32
}

const (
	cpuidEntrySize   = 40
	significantIndex = 1 // KVM_CPUID_FLAG_SIGNIFCANT_INDEX
	maxCPUIDEntries  = 256

	// supportedXCR0: x87, SSE, AVX, the three AVX-512 components and PKRU.
	supportedXCR0 = 0x2E7
	// supportedVMSAFeatures: SNP guests may ask for DebugSwap (bit 5) only,
	// Linux 6.12 sev_supported_vmsa_features.
	supportedVMSAFeatures = 1 << 5
)

// supportedCPUID is KVM_GET_SUPPORTED_CPUID: what KVM offers on a fourth
// generation EPYC ("Genoa", family 19h model 11h), host features and those
// that KVM emulates (x2APIC, TSC deadline, …). QEMU warns about every feature
// of a CPU model that is missing here.
//
// Values: AMD64 Architecture Programmer's Manual volume 3, appendix E, for
// the meaning of the bits, and the feature sets of QEMU's EPYC models for what
// such a part has.
func supportedCPUID() []leaf {
	const (
		authEBX, authEDX, authECX = 0x68747541, 0x69746E65, 0x444D4163 // "AuthenticAMD"
		kvmEBX, kvmECX, kvmEDX    = 0x4B4D564B, 0x564B4D56, 0x4D       // "KVMKVMKVM"
		signature                 = 0x00A10F11
	)
	return []leaf{
		{0, 0, 0, 0x10, authEBX, authECX, authEDX},
		{1, 0, 0, signature, 0x00000800, 0xFEFA3203 | 1<<17 | 1<<24 | 1<<21, 0x178BFBFF},
		{2, 0, 0, 0, 0, 0, 0},
		{5, 0, 0, 0x40, 0x40, 3, 0},
		{6, 0, 0, 4, 0, 0, 0},
		{7, 0, significantIndex, 1, 0xF1BF97AB | 1<<6, 0x00415FDE, 0xFC000010 | 1<<18},
		{7, 1, significantIndex, 0x30 | 1<<10 | 1<<11 | 1<<12, 0, 0, 1<<14 | 1<<8},
		{0xD, 0, significantIndex, supportedXCR0, 0x988, 0x988, 0},
		{0xD, 1, significantIndex, 0xF, 0x988, 0x1800, 0},
		{0xD, 2, significantIndex, 0x100, 0x240, 0, 0},
		{0xD, 5, significantIndex, 0x40, 0x340, 0, 0},
		{0xD, 6, significantIndex, 0x200, 0x380, 0, 0},
		{0xD, 7, significantIndex, 0x400, 0x580, 0, 0},
		{0xD, 9, significantIndex, 0x8, 0x980, 0, 0},
		{0x14, 0, significantIndex, 0, 0, 0, 0},
		{0x80000000, 0, 0, 0x80000022, authEBX, authECX, authEDX},
		{0x80000001, 0, 0, signature, 0, 0x00C011F7 | 0x75C237FF, 0x2FD3FBFF},
		{0x80000005, 0, 0, 0xFF48FF40, 0xFF48FF40, 0x20080140, 0x20080140},
		{0x80000006, 0, 0, 0x5C002200, 0x6C004200, 0x04006140, 0x08009140},
		{0x80000007, 0, 0, 0, 0, 0, 1 << 8},
		{0x80000008, 0, 0, 0x3030, 0x791EF257 | 1<<25 | 1<<28, 0, 0},
		{0x8000000A, 0, 0, 1, 8, 0, 0x1EBFBCFF | 1<<25 | 1<<28},
		{0x8000001A, 0, 0, 6, 0, 0, 0},
		{0x8000001D, 0, significantIndex, 0x121, 0x01C0003F, 0x3F, 0},
		{0x8000001D, 1, significantIndex, 0x122, 0x01C0003F, 0x3F, 0},
		{0x8000001D, 2, significantIndex, 0x143, 0x01C0003F, 0x7FF, 2},
		{0x8000001D, 3, significantIndex, 0x163, 0x03C0003F, 0x7FFF, 1},
		{0x8000001F, 0, 0, 0x1F, 0x73, 0x3EE, 1},
		{0x80000021, 0, 0, 0x00062FCF | 1<<28 | 1<<29 | 1<<30 | 1<<27, 0x15C, 0, 0},
		{0x80000022, 0, 0, 1, 6, 0, 0},
		{0x40000000, 0, 0, 0x40000001, kvmEBX, kvmECX, kvmEDX},
		{0x40000001, 0, 0, 0x0100FEFB, 0, 0, 0},
	}
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
