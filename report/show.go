package report

import (
	"encoding/hex"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"

	"github.com/snplaunch/snplaunch/snp"
)

// Field is one field of a report in words.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Fields decodes a report; names as in the specification.
func Fields(r *snp.Report) []Field {
	f := []Field{}
	add := func(name, format string, args ...any) { f = append(f, Field{name, fmt.Sprintf(format, args...)}) }
	add("VERSION", "%d", r.Version)
	add("GUEST_SVN", "%d", r.GuestSVN)
	add("POLICY", "%s", r.Policy.Describe())
	add("FAMILY_ID", "%s", r.FamilyID)
	add("IMAGE_ID", "%s", r.ImageID)
	add("VMPL", "%s", vmpl(r.VMPL))
	add("SIGNATURE_ALGO", "%s", signatureAlgo(r.SignatureAlgo))
	add("CURRENT_TCB", "%s", describeTCB(r, r.CurrentTCB))
	add("PLATFORM_INFO", "%s", platformInfo(r.PlatformInfo))
	add("AUTHOR_KEY_EN", "%v", r.AuthorKeyEnabled)
	add("MASK_CHIP_KEY", "%v", r.MaskChipKey)
	add("SIGNING_KEY", "%s", signingKey(r.SigningKey))
	add("REPORT_DATA", "%s", r.ReportData)
	add("MEASUREMENT", "%s", r.Measurement)
	add("HOST_DATA", "%s", r.HostData)
	add("ID_KEY_DIGEST", "%s", r.IDKeyDigest)
	add("AUTHOR_KEY_DIGEST", "%s", r.AuthorKeyDigest)
	add("REPORT_ID", "%s", hex.EncodeToString(r.ReportID[:]))
	add("REPORT_ID_MA", "%s", hex.EncodeToString(r.ReportIDMA[:]))
	add("REPORTED_TCB", "%s", describeTCB(r, r.ReportedTCB))
	if r.Version >= 3 {
		add("CPUID family, model, stepping", "0x%02x, 0x%02x, 0x%x%s", r.CPUFamily, r.CPUModel, r.CPUStepping, product(r))
	}
	add("CHIP_ID", "%s", hex.EncodeToString(r.ChipID[:]))
	add("COMMITTED_TCB", "%s", describeTCB(r, r.CommittedTCB))
	add("CURRENT firmware", "%s", r.CurrentFirmware)
	add("COMMITTED firmware", "%s", r.CommittedFW)
	add("LAUNCH_TCB", "%s", describeTCB(r, r.LaunchTCB))
	if r.Version >= 5 {
		add("LAUNCH_MIT_VECTOR", "0x%x", r.LaunchMitVector)
		add("CURRENT_MIT_VECTOR", "0x%x", r.CurrentMitVector)
	}
	return f
}

// Show writes a report in words, one field a line.
func Show(w io.Writer, r *snp.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range Fields(r) {
		fmt.Fprintf(t, "%s\t%s\n", f.Name, f.Value)
	}
	return t.Flush()
}

func platformInfo(v uint64) string {
	s := fmt.Sprintf("0x%x", v)
	for i, name := range []string{"SMT_EN", "TSME_EN", "ECC_EN", "RAPL_DIS", "CIPHERTEXT_HIDING_DRAM_EN", "ALIAS_CHECK_COMPLETE", "", "TIO_EN"} {
		if name != "" && v&(1<<i) != 0 {
			s += " " + name
		}
	}
	return s
}

func signingKey(k uint8) string {
	switch k {
	case snp.SigningKeyVCEK:
		return "VCEK"
	case snp.SigningKeyVLEK:
		return "VLEK"
	case snp.SigningKeyNone:
		return "none"
	}
	return fmt.Sprintf("%d (reserved)", k)
}

func signatureAlgo(n uint32) string {
	if n == snp.KeyAlgoECDSAP384 {
		return "1 (ECDSA P-384 with SHA-384)"
	}
	return fmt.Sprintf("%d (reserved)", n)
}

func vmpl(n uint32) string {
	if n <= 3 {
		return fmt.Sprintf("%d", n)
	}
	return fmt.Sprintf("0x%x (no guest's)", n)
}

// product names the product line of known processors.
func product(r *snp.Report) string {
	if line := lineOf(r.CPUFamily, r.CPUModel, r.CPUStepping); line != "" {
		return " (" + line + ")"
	}
	return ""
}

// lineOf is the product line of a processor, empty where it is not known.
func lineOf(family, model, stepping uint8) string {
	switch line := kds.ProductLineFromFms(abi.FmsToCpuid1Eax(family, model, stepping)); line {
	case "Milan", "Genoa", turinLine:
		return line
	}
	return ""
}
