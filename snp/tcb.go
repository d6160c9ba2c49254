package snp

import "fmt"

// TCBVersion is TCB_VERSION, a 64-bit vector of security patch levels. Its
// bytes mean different components on Turin than on Milan and Genoa: TCBLayout
// tells how.
type TCBVersion uint64

// String gives the number as snphost and the kernel print it.
func (t TCBVersion) String() string { return fmt.Sprintf("0x%016x", uint64(t)) }

// TCBParts is a TCB_VERSION in its components.
type TCBParts struct {
	FMC        uint8 // firmware mutable code: Turin only
	BootLoader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// AtMost says whether no component is above that of o, which is what "not
// newer" means of a vector.
func (p TCBParts) AtMost(o TCBParts) bool {
	return p.FMC <= o.FMC && p.BootLoader <= o.BootLoader && p.TEE <= o.TEE && p.SNP <= o.SNP && p.Microcode <= o.Microcode
}

// TCBLayout is where the components stand in a TCB_VERSION (AMD 57230,
// "TCB_VERSION"; virtee/sev, TcbVersion).
type TCBLayout int

const (
	// TCBLayoutMilan is that of Milan and Genoa: boot loader in byte 0, TEE in
	// byte 1, SNP in byte 6, microcode in byte 7.
	TCBLayoutMilan TCBLayout = iota
	// TCBLayoutTurin is that of Turin: FMC in byte 0, boot loader in byte 1, TEE
	// in byte 2, SNP in byte 3, microcode in byte 7.
	TCBLayoutTurin
)

// Pack gives the TCB_VERSION of the parts.
func (l TCBLayout) Pack(p TCBParts) TCBVersion {
	if l == TCBLayoutTurin {
		return TCBVersion(uint64(p.FMC) | uint64(p.BootLoader)<<8 | uint64(p.TEE)<<16 | uint64(p.SNP)<<24 | uint64(p.Microcode)<<56)
	}
	return TCBVersion(uint64(p.BootLoader) | uint64(p.TEE)<<8 | uint64(p.SNP)<<48 | uint64(p.Microcode)<<56)
}

// Unpack gives the parts of a TCB_VERSION. Bytes that the layout does not use
// are left out.
func (l TCBLayout) Unpack(t TCBVersion) TCBParts {
	if l == TCBLayoutTurin {
		return TCBParts{FMC: uint8(t), BootLoader: uint8(t >> 8), TEE: uint8(t >> 16), SNP: uint8(t >> 24), Microcode: uint8(t >> 56)}
	}
	return TCBParts{BootLoader: uint8(t), TEE: uint8(t >> 8), SNP: uint8(t >> 48), Microcode: uint8(t >> 56)}
}

// TCBVersion packs the parts as Milan and Genoa do.
func (p TCBParts) TCBVersion() TCBVersion { return TCBLayoutMilan.Pack(p) }

// Parts unpacks a TCB_VERSION of Milan or Genoa.
func (t TCBVersion) Parts() TCBParts { return TCBLayoutMilan.Unpack(t) }
