package report

import (
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// FamilyTurin is the combined CPUID family of Turin (Zen 5).
const FamilyTurin = 0x1A

// layoutOf is that of the TCB_VERSIONs in a report. Reports of version 2 do not
// name the processor; they are read as those of Milan and Genoa.
func layoutOf(r *snp.Report) snp.TCBLayout {
	if r.CPUFamily == FamilyTurin {
		return snp.TCBLayoutTurin
	}
	return snp.TCBLayoutMilan
}

// tcbParts takes a TCB_VERSION of a report apart.
func tcbParts(r *snp.Report, t snp.TCBVersion) snp.TCBParts { return layoutOf(r).Unpack(t) }

func describeParts(p snp.TCBParts) string {
	return fmt.Sprintf("boot loader %d, TEE %d, SNP %d, microcode %d", p.BootLoader, p.TEE, p.SNP, p.Microcode)
}

// describeTCB gives a TCB_VERSION as a number and in its parts.
func describeTCB(r *snp.Report, t snp.TCBVersion) string {
	words := describeParts(tcbParts(r, t))
	if r.CPUFamily == FamilyTurin {
		words = fmt.Sprintf("FMC %d, %s", uint8(t), words)
	}
	return fmt.Sprintf("%s (%s)", t, words)
}
