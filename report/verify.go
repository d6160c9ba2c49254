package report

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/snplaunch/snplaunch/snp"
)

// Why a report is not accepted; errors.Is tells them apart.
var (
	// ErrSimulated: it comes from a software SNP host that the caller does not trust.
	ErrSimulated = errors.New("the report is simulated")
	// ErrFormat: it is no attestation report.
	ErrFormat = errors.New("this is no attestation report")
	// ErrChain: its certificates do not lead to a trusted root.
	ErrChain = errors.New("the report's certificates are not trusted")
	// ErrSignature: the chip's key did not sign it.
	ErrSignature = errors.New("the report's signature is wrong")
	// ErrExpectation: it is genuine and says something else than expected.
	ErrExpectation = errors.New("the report does not say what was expected")
)

// Roots are trusted roots by product line.
type Roots map[string][]*trust.AMDRootCerts

// productLines are those whose AMD roots go-sev-guest embeds.
var productLines = []string{"Milan", "Genoa", "Turin"}

// AMDRoots are AMD's own roots, as embedded in go-sev-guest.
func AMDRoots() Roots {
	out := Roots{}
	for _, line := range productLines {
		root, err := trust.GetDefaultRootCerts(line)
		if err != nil {
			continue // a line without roots is then trusted by no one
		}
		out[line] = []*trust.AMDRootCerts{root}
	}
	return out
}

// Options of Verify.
type Options struct {
	Roots Roots // required; AMDRoots() for AMD's own
	// TrustSimulated is the fingerprint (SHA-256 of the ARK, hexadecimal) of a
	// software SNP host whose reports are accepted; empty: none.
	TrustSimulated string
	Now            time.Time // zero: the time of the call
}

// Verified is what holds about an accepted report.
type Verified struct {
	Report      *snp.Report
	Simulated   bool
	ProductLine string // "Genoa"
}

// Verify checks the chain up to a trusted root and the signature of a report
// (snp.ReportSize bytes). It connects to nothing.
func Verify(raw []byte, chain Chain, o Options) (*Verified, error) {
	if len(o.Roots) == 0 {
		return nil, errors.New("verifying a report needs trusted roots (report.AMDRoots for AMD's)")
	}
	roots, simulated := o.Roots, chain.simulated()
	if simulated {
		if o.TrustSimulated == "" {
			return nil, fmt.Errorf("%w: it was made by a software SNP host, not by AMD hardware, and simulated roots are not trusted here (--trust-simulated FINGERPRINT accepts one)", ErrSimulated)
		}
		if got := Fingerprint(chain.ARK); len(chain.ARK) == 0 || !strings.EqualFold(got, o.TrustSimulated) {
			return nil, fmt.Errorf("%w: its root has the fingerprint %s, not the trusted %s", ErrSimulated, got, o.TrustSimulated)
		}
		ark, ask, err := chain.pair()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrChain, err)
		}
		line := strings.TrimPrefix(ark.Subject.CommonName, "ARK-")
		roots = Roots{line: {{ProductLine: line, ProductCerts: &trust.ProductCerts{Ark: ark, Ask: ask}}}}
	}
	if len(raw) != snp.ReportSize {
		return nil, fmt.Errorf("%w: got %d bytes, want %d", ErrFormat, len(raw), snp.ReportSize)
	}
	parsed, err := snp.ParseReport(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	proto, err := abi.ReportToProto(raw)
	if err != nil {
		// A bit that was changed in a reserved field lands here, before any
		// signature is looked at.
		return nil, fmt.Errorf("%w: %w (a changed bit would do that, and break the signature)", ErrFormat, err)
	}
	endorsement, role := chain.VCEK, "VCEK"
	if parsed.SigningKey == snp.SigningKeyVLEK {
		endorsement, role = chain.VLEK, "VLEK"
	}
	if len(endorsement) == 0 {
		return nil, fmt.Errorf("%w: there is no %s certificate, which the report is to be verified with", ErrChain, role)
	}
	cert, err := x509.ParseCertificate(endorsement)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrChain, role, err)
	}
	attestation := &spb.Attestation{Report: proto, CertificateChain: &spb.CertificateChain{
		VcekCert: chain.VCEK, VlekCert: chain.VLEK, AskCert: chain.ASK, ArkCert: chain.ARK,
	}}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	err = verify.SnpAttestation(attestation, &verify.Options{
		TrustedRoots: roots, DisableCertFetching: true, Getter: noGetter{}, Now: now,
	})
	if err != nil {
		if verify.SnpReportSignature(raw, cert) != nil {
			return nil, fmt.Errorf("%w: %w", ErrSignature, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	v := &Verified{Report: parsed, Simulated: simulated}
	for line := range roots {
		if strings.HasSuffix(cert.Issuer.CommonName, "-"+line) {
			v.ProductLine = line
		}
	}
	return v, nil
}

// noGetter fetches nothing.
type noGetter struct{}

// Get implements trust.HTTPSGetter.
func (noGetter) Get(url string) ([]byte, error) {
	return nil, fmt.Errorf("%s is not fetched: verification uses only the certificates it is given", url)
}
