package report

import (
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// familyTurin is the combined CPUID family of Turin (Zen 5), whose TCB_VERSION
// has another layout: FMC in byte 0, boot loader, TEE and SNP in bytes 1 to 3,
// microcode in byte 7.
const familyTurin = 0x1A

// tcbParts takes a TCB_VERSION of a report apart. Reports of version 2 do not
// name the processor; they are read as those of Milan and Genoa.
func tcbParts(r *snp.Report, t snp.TCBVersion) snp.TCBParts {
	if r.CPUFamily == familyTurin {
		return snp.TCBParts{BootLoader: uint8(t >> 8), TEE: uint8(t >> 16), SNP: uint8(t >> 24), Microcode: uint8(t >> 56)}
	}
	return t.Parts()
}

func describeParts(p snp.TCBParts) string {
	return fmt.Sprintf("boot loader %d, TEE %d, SNP %d, microcode %d", p.BootLoader, p.TEE, p.SNP, p.Microcode)
}

// describeTCB gives a TCB_VERSION as a number and in its parts.
func describeTCB(r *snp.Report, t snp.TCBVersion) string {
	words := describeParts(tcbParts(r, t))
	if r.CPUFamily == familyTurin {
		words = fmt.Sprintf("FMC %d, %s", uint8(t), words)
	}
	return fmt.Sprintf("%s (%s)", t, words)
}
