package snp

import "fmt"

// TCBVersion is TCB_VERSION, a 64-bit vector of security patch levels. Its
// bytes mean different components on Turin than on Milan and Genoa; this
// package only carries it.
type TCBVersion uint64

// String gives the number as snphost and the kernel print it.
func (t TCBVersion) String() string { return fmt.Sprintf("0x%016x", uint64(t)) }

// TCBParts is a TCB_VERSION of Milan or Genoa in its components.
type TCBParts struct {
	BootLoader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// TCBVersion packs the parts as Milan and Genoa do: boot loader in byte 0,
// TEE in byte 1, SNP in byte 6, microcode in byte 7.
func (p TCBParts) TCBVersion() TCBVersion {
	return TCBVersion(uint64(p.BootLoader) | uint64(p.TEE)<<8 | uint64(p.SNP)<<48 | uint64(p.Microcode)<<56)
}

// Parts unpacks a TCB_VERSION of Milan or Genoa.
func (t TCBVersion) Parts() TCBParts {
	return TCBParts{uint8(t), uint8(t >> 8), uint8(t >> 48), uint8(t >> 56)}
}
