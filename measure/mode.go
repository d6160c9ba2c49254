package measure

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// Mode is the kind of guest, and with it the digest.
type Mode int

// Modes. Their names are sev-snp-measure's.
const (
	SNP      Mode = iota // SEV-SNP: SHA-384 over PAGE_INFO by PAGE_INFO
	OVMFHash             // SEV-SNP's digest after the firmware's pages alone
	SVSM                 // SEV-SNP, started by a COCONUT-SVSM image below the firmware
	SEVES                // SEV-ES: SHA-256 over firmware, hashes table and save areas
	SEV                  // SEV: SHA-256 over firmware and hashes table
)

var modeNames = []string{SNP: "snp", OVMFHash: "snp:ovmf-hash", SVSM: "snp:svsm", SEVES: "seves", SEV: "sev"}

// Modes lists the names of all modes.
func Modes() []string { return append([]string(nil), modeNames...) }

// String gives the name that ParseMode takes.
func (m Mode) String() string {
	if m >= 0 && int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode %d", int(m))
}

// ParseMode reads the name of a mode as sev-snp-measure spells it, or the
// crate sev ("sev-snp", "sev-es").
func ParseMode(s string) (Mode, error) {
	word := strings.ToLower(s)
	switch word {
	case "sev-snp", "sevsnp":
		return SNP, nil
	case "sev-es":
		return SEVES, nil
	}
	for m, name := range modeNames {
		if word == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("mode %q is unknown (%s)", s, suggest.Remedy(s, modeNames))
}

// secureNestedPaging says whether the guest is one of SEV-SNP.
func (m Mode) secureNestedPaging() bool { return m != SEV && m != SEVES }
