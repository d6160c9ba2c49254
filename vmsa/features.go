package vmsa

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// Bits of SEV_FEATURES, which the save area holds and the launch digest
// covers (AMD64 Architecture Programmer's Manual, volume 2, SEV_FEATURES).
const (
	SNPActive            uint64 = 1 << 0
	VTOM                 uint64 = 1 << 1
	ReflectVC            uint64 = 1 << 2
	RestrictedInjection  uint64 = 1 << 3
	AlternateInjection   uint64 = 1 << 4
	DebugSwap            uint64 = 1 << 5
	PreventHostIBS       uint64 = 1 << 6
	BTBIsolation         uint64 = 1 << 7
	VMPLSSS              uint64 = 1 << 8
	SecureTSC            uint64 = 1 << 9
	VMGEXITParameter     uint64 = 1 << 10
	IBSVirtualization    uint64 = 1 << 12
	VMSARegProt          uint64 = 1 << 14
	SMTProtection        uint64 = 1 << 15
	SecureAVIC           uint64 = 1 << 16
	IBPBOnEntry          uint64 = 1 << 21
	FeaturesDefault             = SNPActive // what KVM uses for QEMU's SNP guests since Linux 6.11
	featureNumberMaximum        = 9         // one decimal digit means the same in every base
)

var featureNames = []struct {
	bit  uint64
	name string
}{
	{SNPActive, "SNPActive"},
	{VTOM, "vTOM"},
	{ReflectVC, "ReflectVC"},
	{RestrictedInjection, "RestrictedInjection"},
	{AlternateInjection, "AlternateInjection"},
	{DebugSwap, "DebugSwap"},
	{PreventHostIBS, "PreventHostIBS"},
	{BTBIsolation, "BTBIsolation"},
	{VMPLSSS, "VmplSSS"},
	{SecureTSC, "SecureTSC"},
	{VMGEXITParameter, "VmgexitParameter"},
	{IBSVirtualization, "IbsVirtualization"},
	{VMSARegProt, "VmsaRegProt"},
	{SMTProtection, "SmtProtection"},
	{SecureAVIC, "SecureAVIC"},
	{IBPBOnEntry, "IBPBOnEntry"},
}

// DescribeFeatures gives SEV_FEATURES in words: "0x21 (SNPActive, DebugSwap)".
func DescribeFeatures(f uint64) string { return fmt.Sprintf("0x%x (%s)", f, featureWords(f)) }

// featureWords names the bits of SEV_FEATURES.
func featureWords(f uint64) string {
	var words []string
	for _, n := range featureNames {
		if f&n.bit != 0 {
			words = append(words, n.name)
		}
	}
	if r := ReservedFeatures(f); r != 0 {
		words = append(words, fmt.Sprintf("reserved bits 0x%x", r))
	}
	if len(words) == 0 {
		words = append(words, "none")
	}
	return strings.Join(words, ", ")
}

// ReservedFeatures gives the bits of f that have no name.
func ReservedFeatures(f uint64) uint64 {
	for _, n := range featureNames {
		f &^= n.bit
	}
	return f
}

// ParseFeatures reads SEV_FEATURES: a number with a prefix (0x21, 0b100001),
// one decimal digit, or names with commas between them ("DebugSwap,SecureTSC",
// case does not count, SNPActive is implied). A bare number of several digits
// is refused, because 21 is so often meant as 0x21.
func ParseFeatures(s string) (uint64, error) {
	if v, err := strconv.ParseUint(s, 0, 64); err == nil {
		if v > featureNumberMaximum && s[0] != '0' {
			return 0, fmt.Errorf("guest features %q are ambiguous (write 0x%s for hexadecimal, or 0x%x for decimal %s)", s, s, v, s)
		}
		return v, nil
	}
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		return 0, fmt.Errorf("guest features %q are not a 64-bit number (write e.g. 0x1)", s)
	}
	out := SNPActive
	for _, word := range strings.Split(s, ",") {
		bit := uint64(0)
		for _, n := range featureNames {
			if strings.EqualFold(n.name, strings.TrimSpace(word)) {
				bit = n.bit
			}
		}
		if bit == 0 {
			var all []string
			for _, n := range featureNames {
				all = append(all, n.name)
			}
			word = strings.TrimSpace(word)
			return 0, fmt.Errorf("guest feature %q is unknown (%s; or give a number such as 0x1)", word, suggest.Remedy(word, all))
		}
		out |= bit
	}
	return out, nil
}

// FeatureBits lists the bits of SEV_FEATURES that have a name, SNPActive first.
func FeatureBits() []uint64 {
	out := make([]uint64, len(featureNames))
	for i, n := range featureNames {
		out[i] = n.bit
	}
	return out
}
