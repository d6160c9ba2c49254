package host

// CPUID is the CPUID instruction: leaf in EAX, subleaf in ECX.
type CPUID func(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// NativeCPUID executes the instruction on the processor that it runs on.
// Built for anything but x86-64 it returns zeros.
func NativeCPUID(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32) { return cpuid(leaf, subleaf) }

// CBitPos is the value that QEMU demands as cbitpos on this machine: CPUID
// 0x8000001f, EBX bits 5:0. It is 0 on an AMD processor without SEV. As QEMU
// does, it asks without looking whether the leaf exists, so other vendors'
// processors give what they give for leaves that they lack.
func CBitPos() uint8 { return cBitPos(cpuid) }

func cBitPos(cpuid CPUID) uint8 {
	_, ebx, _, _ := cpuid(0x8000001f, 0)
	return uint8(ebx & 0x3f)
}

// SEVCapabilities is CPUID 0x8000001f, "Encrypted Memory Capabilities" (AMD64
// Architecture Programmer's Manual, volume 3, appendix E.4).
type SEVCapabilities struct {
	SEV           bool   `json:"sev"`
	SEVES         bool   `json:"sev_es"`
	SNP           bool   `json:"sev_snp"`
	SME           bool   `json:"sme"`
	VMPL          bool   `json:"vmpl"`
	VMPLs         uint8  `json:"vmpls"` // how many levels
	SecureTSC     bool   `json:"secure_tsc"`
	PhysAddrBits  uint8  `json:"phys_bits_taken"` // physical address bits lost while memory encryption is on
	EncryptedVMs  uint32 `json:"asids"`           // ASIDs for all kinds of SEV guests
	MinSEVASID    uint32 `json:"min_sev_asid"`    // ASIDs below it are for SEV-ES and SNP
	SNPGuestASIDs uint32 `json:"snp_asids"`       // how many those are
}

// sevCapabilities returns the zero value where the leaf does not exist.
func sevCapabilities(cpuid CPUID) SEVCapabilities {
	if most, _, _, _ := cpuid(0x80000000, 0); most < 0x8000001f || most > 0x8000ffff {
		return SEVCapabilities{}
	}
	eax, ebx, ecx, edx := cpuid(0x8000001f, 0)
	c := SEVCapabilities{
		SEV:          eax&(1<<1) != 0,
		SEVES:        eax&(1<<3) != 0,
		SNP:          eax&(1<<4) != 0,
		SME:          eax&(1<<0) != 0,
		VMPL:         eax&(1<<5) != 0,
		VMPLs:        uint8(ebx >> 12 & 0xf),
		SecureTSC:    eax&(1<<8) != 0,
		PhysAddrBits: uint8(ebx >> 6 & 0x3f),
		EncryptedVMs: ecx,
		MinSEVASID:   edx,
	}
	if edx > 0 {
		c.SNPGuestASIDs = edx - 1
	}
	return c
}

// vendor is the processor's vendor string, e.g. "AuthenticAMD".
func vendor(cpuid CPUID) string {
	_, b, c, d := cpuid(0, 0)
	var s []byte
	for _, r := range []uint32{b, d, c} {
		s = append(s, byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
	}
	return string(s)
}
