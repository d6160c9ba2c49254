package ovmf

import "fmt"

// SectionType is the type of an SEV metadata section.
type SectionType uint32

// Section types (EDK2 OvmfSevMetadata.asm). QEMU launches every type that it
// does not know as ZERO pages, so an unknown type is no error.
const (
	SNPSecMem       SectionType = 1    // memory that the firmware uses before it can accept pages
	SNPSecrets      SectionType = 2    // secrets page, filled by the SEV firmware
	CPUID           SectionType = 3    // CPUID page, checked by the SEV firmware
	SVSMCAA         SectionType = 4    // SVSM calling area
	SNPKernelHashes SectionType = 0x10 // page of the kernel hashes table
)

// String gives EDK2's name of the type.
func (t SectionType) String() string {
	switch t {
	case SNPSecMem:
		return "SNP_SEC_MEM"
	case SNPSecrets:
		return "SNP_SECRETS"
	case CPUID:
		return "CPUID"
	case SVSMCAA:
		return "SVSM_CAA"
	case SNPKernelHashes:
		return "SNP_KERNEL_HASHES"
	}
	return fmt.Sprintf("type 0x%x", uint32(t))
}

// Known says whether the type is one that EDK2 defines.
func (t SectionType) Known() bool {
	switch t {
	case SNPSecMem, SNPSecrets, CPUID, SVSMCAA, SNPKernelHashes:
		return true
	}
	return false
}

// Section is one SEV metadata section: a range of guest memory that takes
// part in the launch. GPA and Size are bytes and multiples of 4096.
type Section struct {
	GPA  uint32
	Size uint32
	Type SectionType
}

// End is the guest-physical address after the last byte.
func (s Section) End() uint64 { return uint64(s.GPA) + uint64(s.Size) }

// String gives e.g. "SNP_SEC_MEM 0x800000+0x9000".
func (s Section) String() string { return fmt.Sprintf("%s 0x%x+0x%x", s.Type, s.GPA, s.Size) }

// Region is a range of guest memory that a table entry names, in bytes.
type Region struct {
	Base uint32
	Size uint32
}
