package report

import (
	"fmt"

	"github.com/google/go-sev-guest/abi"

	"github.com/snplaunch/snplaunch/snp"
)

// This file is for those who look for the certificate of a report before it is
// verified. Nothing here says that a certificate can be trusted.

// Endorses says whether a certificate (DER) is the one that a report is to be verified
// with: a VCEK of the chip and the TCB that the report names, or a VLEK of that TCB.
// Who issued it is not looked at.
func Endorses(r *snp.Report, der []byte) error {
	c := Chain{VCEK: der}
	if r.SigningKey == snp.SigningKeyVLEK {
		c = Chain{VLEK: der}
	}
	cert, key, err := endorsement(r, c)
	if err != nil {
		return err
	}
	if cert.Subject.CommonName != "SEV-"+key.String() {
		return fmt.Errorf("it is the certificate of %q, not of a %s", cert.Subject.CommonName, key)
	}
	return matches(r, cert, key)
}

// ProductLine is the product line of the processor that a report names ("Genoa"). It is
// empty for reports of version 2, which name none, and for processors that are not
// known here.
func ProductLine(r *snp.Report) string {
	if r.Version < 3 {
		return ""
	}
	return lineOf(r.CPUFamily, r.CPUModel, r.CPUStepping)
}

// ReportedTCB gives the parts of REPORTED_TCB, which the certificate of a report is
// for. FMC is 0 but on Turin.
func ReportedTCB(r *snp.Report) snp.TCBParts { return tcbParts(r, r.ReportedTCB) }

// Simulated says whether a chain carries the mark of the software SNP host, in
// whichever certificate.
func (c Chain) Simulated() bool { return c.simulated() }

// SigningKey names the key that a report says it was signed with: "VCEK" or "VLEK";
// empty for none.
func SigningKey(r *snp.Report) string {
	switch r.SigningKey {
	case snp.SigningKeyVCEK:
		return abi.VcekReportSigner.String()
	case snp.SigningKeyVLEK:
		return abi.VlekReportSigner.String()
	}
	return ""
}
