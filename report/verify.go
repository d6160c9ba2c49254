package report

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
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
	// ErrChain: its certificates do not lead to a trusted root, or are not those
	// of the chip and the TCB that it names.
	ErrChain = errors.New("the report's certificates are not trusted")
	// ErrSignature: the chip's key did not sign it.
	ErrSignature = errors.New("the report's signature is wrong")
	// ErrExpectation: it is genuine and says something else than expected.
	ErrExpectation = errors.New("the report does not say what was expected")
)

// Options of Verify.
type Options struct {
	// Roots are the trusted roots: AMDRoots() for AMD's own.
	Roots Roots
	// TrustSimulated is the fingerprint (SHA-256 of the ARK, hexadecimal) of a
	// software SNP host whose reports are accepted; empty: none. SimulatedRoots
	// among Roots do the same for one whose certificates are at hand.
	TrustSimulated string
	// RevocationLists are lists of the root (DER or PEM) that no certificate of the
	// chain may be on; none: revocation is not looked at.
	RevocationLists [][]byte
	Now             time.Time // zero: the time of the call
}

// Verified is what holds about an accepted report.
type Verified struct {
	Report      *snp.Report
	Simulated   bool
	ProductLine string // "Genoa"
	// Root is the fingerprint of the root (ARK) that the chain leads to.
	Root string
	// Lists are the revocation lists of Options, as far as their dates.
	Lists []RevocationList
}

// Verify checks the chain up to a trusted root, the signature of a report
// (snp.ReportSize bytes), and that the certificate is the one of the chip and
// the TCB that the report names. It connects to nothing.
func Verify(raw []byte, chain Chain, o Options) (*Verified, error) {
	roots, simulated := o.Roots, chain.simulated()
	if simulated {
		var err error
		if roots, err = o.trustedSimulated(chain); err != nil {
			return nil, err
		}
	}
	if err := roots.check(); err != nil {
		return nil, err
	}
	parsed, proto, err := parse(raw)
	if err != nil {
		return nil, err
	}
	cert, key, err := endorsement(parsed, chain)
	if err != nil {
		return nil, err
	}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	if hasFMC(cert) {
		err = roots.verifyTurin(cert, key, now)
	} else {
		err = verifyWithGo(proto, chain, roots, now)
	}
	// go-sev-guest signs for what its own parser kept of the report, which is
	// not every bit (of the stepping it keeps four): the bytes themselves count.
	signature := verify.SnpReportSignature(raw, cert)
	switch {
	case err != nil && !roots.lead(cert, key, now):
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	case signature != nil:
		return nil, fmt.Errorf("%w: %w", ErrSignature, signature)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	if err := matches(parsed, cert, key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	root := roots.of(cert, key, now)
	if root == nil { // go-sev-guest has just verified it with one of them
		return nil, fmt.Errorf("%w: the %s certificate was not issued under a trusted root", ErrChain, key)
	}
	lists, err := notRevoked(o.RevocationLists, root, cert, key, now)
	if err != nil {
		return nil, err
	}
	v := &Verified{Report: parsed, Simulated: simulated, Root: Fingerprint(root.ProductCerts.Ark.Raw), Lists: lists}
	for line := range roots {
		if strings.HasSuffix(cert.Issuer.CommonName, "-"+line) {
			v.ProductLine = line
		}
	}
	return v, nil
}

// verifyWithGo has go-sev-guest verify a report with certificates that it knows.
func verifyWithGo(proto *spb.Report, chain Chain, roots Roots, now time.Time) error {
	return verify.SnpAttestation(&spb.Attestation{Report: proto, CertificateChain: &spb.CertificateChain{
		VcekCert: chain.VCEK, VlekCert: chain.VLEK, AskCert: chain.ASK, ArkCert: chain.ARK,
	}}, &verify.Options{TrustedRoots: roots, DisableCertFetching: true, Getter: noGetter{}, Now: now})
}

// trustedSimulated gives the roots that a chain with the mark of the software
// SNP host is verified with: those of that very host, and no others.
func (o Options) trustedSimulated(chain Chain) (Roots, error) {
	if roots := o.Roots.simulatedOnly(chain.ARK); len(roots) > 0 {
		return roots, nil
	}
	if o.TrustSimulated == "" {
		return nil, fmt.Errorf("%w: it was made by a software SNP host, not by AMD hardware, and its root is not trusted here (--trust-simulated FINGERPRINT accepts one)", ErrSimulated)
	}
	if len(chain.ARK) == 0 {
		return nil, fmt.Errorf("%w: its root certificate (ARK) did not come with it, so that it cannot be compared with the trusted %s", ErrSimulated, o.TrustSimulated)
	}
	if got := Fingerprint(chain.ARK); !strings.EqualFold(got, o.TrustSimulated) {
		return nil, fmt.Errorf("%w: its root has the fingerprint %s, not the trusted %s", ErrSimulated, got, o.TrustSimulated)
	}
	roots, err := chain.roots()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	return roots, nil
}

// parse reads a report twice: as our own fields and as go-sev-guest's, which
// also sees that what is reserved is zero.
func parse(raw []byte) (*snp.Report, *spb.Report, error) {
	if len(raw) != snp.ReportSize {
		return nil, nil, fmt.Errorf("%w: got %d bytes, want %d", ErrFormat, len(raw), snp.ReportSize)
	}
	if err := abi.ValidateReportFormat(raw); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	parsed, err := snp.ParseReport(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	proto, err := abi.ReportToProto(raw)
	if err != nil {
		// A bit that was changed in a reserved field lands here, before any
		// signature is looked at.
		return nil, nil, fmt.Errorf("%w: %w (a changed bit would do that, and break the signature)", ErrFormat, err)
	}
	return parsed, proto, nil
}

// endorsement gives the certificate that the report says it was signed for.
func endorsement(r *snp.Report, chain Chain) (*x509.Certificate, abi.ReportSigner, error) {
	der, key := chain.VCEK, abi.VcekReportSigner
	switch r.SigningKey {
	case snp.SigningKeyVLEK:
		der, key = chain.VLEK, abi.VlekReportSigner
	case snp.SigningKeyNone:
		return nil, 0, fmt.Errorf("%w: it says that no key signed it (SIGNING_KEY none), which a host asks for with MASK_CHIP_KEY", ErrSignature)
	}
	if len(der) == 0 {
		return nil, 0, fmt.Errorf("%w: there is no %s certificate, which the report is to be verified with", ErrChain, key)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s: %w", ErrChain, key, err)
	}
	return cert, key, nil
}

// lead says whether a certificate was issued under one of the roots.
func (r Roots) lead(cert *x509.Certificate, key abi.ReportSigner, now time.Time) bool {
	return r.of(cert, key, now) != nil
}

// of gives the root that a certificate was issued under, nil for none.
func (r Roots) of(cert *x509.Certificate, key abi.ReportSigner, now time.Time) *trust.AMDRootCerts {
	for _, list := range r {
		for _, root := range list {
			if o := root.X509Options(now, key); o != nil {
				if _, err := cert.Verify(*o); err == nil {
					return root
				}
			}
		}
	}
	return nil
}

// matches holds a report against the chip and the TCB that its certificate was
// issued for. A chip's key follows from its TCB: old firmware can sign any
// REPORTED_TCB it likes, but only with the key of the old one.
func matches(r *snp.Report, cert *x509.Certificate, key abi.ReportSigner) error {
	want, hwid, err := endorsed(cert, key)
	if err != nil {
		return err
	}
	got := tcbParts(r, r.ReportedTCB)
	if !hasFMC(cert) {
		got.FMC = 0
	}
	if got != want {
		return fmt.Errorf("REPORTED_TCB is %s, but the %s certificate was issued for %s", describeParts(got), key, describeParts(want))
	}
	// Where a chip's id has fewer bytes than CHIP_ID the rest of that is zero.
	chip := make([]byte, len(r.ChipID))
	copy(chip, hwid)
	if masked := r.ChipID == [64]byte{}; key == abi.VcekReportSigner && !masked && !bytes.Equal(r.ChipID[:], chip) {
		return fmt.Errorf("CHIP_ID is %s, but the VCEK certificate was issued for %s", hex.EncodeToString(r.ChipID[:]), hex.EncodeToString(hwid))
	}
	return nil
}

// endorsed gives what a certificate was issued for: TCB and, of a VCEK, chip id.
func endorsed(cert *x509.Certificate, key abi.ReportSigner) (snp.TCBParts, []byte, error) {
	if hasFMC(cert) {
		e, err := turinExtensions(cert, key)
		return e.tcb, e.hwid, err
	}
	exts, err := kds.CertificateExtensions(cert, key)
	if err != nil {
		return snp.TCBParts{}, nil, err
	}
	p := kds.DecomposeTCBVersion(exts.TCBVersion)
	return snp.TCBParts{BootLoader: p.BlSpl, TEE: p.TeeSpl, SNP: p.SnpSpl, Microcode: p.UcodeSpl}, exts.HWID, nil
}

// noGetter fetches nothing.
type noGetter struct{}

// Get implements trust.HTTPSGetter.
func (noGetter) Get(url string) ([]byte, error) {
	return nil, fmt.Errorf("%s is not fetched: verification uses only the certificates it is given", url)
}
