package report

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-sev-guest/abi"

	"github.com/snplaunch/snplaunch/snp"
)

// Certificates of Turin have an extension for the FMC's patch level and chip ids of 8
// bytes. go-sev-guest v0.15.0 knows neither and refuses every one of them ("not an
// AMD KDS OID"), so that this file does for Turin what verify.SnpAttestation and
// kds.CertificateExtensions do for the others. It can go once they do.

// hasFMC tells such a certificate by the extension.
func hasFMC(cert *x509.Certificate) bool {
	for _, x := range cert.Extensions {
		if x.Id.Equal(oidFMC) {
			return true
		}
	}
	return false
}

// turinLine is the product line in the names of its certificates.
const turinLine = "Turin"

// verifyTurin checks that a VCEK or VLEK of a Turin was issued under one of the roots
// and is such a certificate. The report's signature is another matter.
func (r Roots) verifyTurin(cert *x509.Certificate, key abi.ReportSigner, now time.Time) error {
	issuer, subject := "SEV-"+turinLine, "SEV-VCEK"
	if key == abi.VlekReportSigner {
		issuer, subject = "SEV-VLEK-"+turinLine, "SEV-VLEK"
	}
	public, isECDSA := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case cert.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		return fmt.Errorf("the %s certificate is signed with %s, not with RSASSA-PSS and SHA-384", key, cert.SignatureAlgorithm)
	case !isECDSA || public.Curve != elliptic.P384():
		return fmt.Errorf("the key of the %s certificate is none of P-384", key)
	}
	if err := amdName(cert.Subject, subject); err != nil {
		return fmt.Errorf("subject of the %s certificate: %w", key, err)
	}
	if err := amdName(cert.Issuer, issuer); err != nil {
		return fmt.Errorf("issuer of the %s certificate: %w", key, err)
	}
	line := Roots{turinLine: r[turinLine]}
	if !line.lead(cert, key, now) {
		return fmt.Errorf("the %s certificate was not issued under a trusted root for %s", key, turinLine)
	}
	return nil
}

// amdName sees that a name is AMD's with that common name (AMD 57230): one value of
// each attribute.
func amdName(n pkix.Name, common string) error {
	for _, a := range []struct {
		name, want string
		got        []string
	}{
		{"OU", "Engineering", n.OrganizationalUnit}, {"C", "US", n.Country}, {"L", "Santa Clara", n.Locality},
		{"ST", "CA", n.Province}, {"O", "Advanced Micro Devices", n.Organization}, {"CN", common, []string{n.CommonName}},
	} {
		if len(a.got) != 1 || a.got[0] != a.want {
			return fmt.Errorf("%s is %q, not %q", a.name, a.got, a.want)
		}
	}
	return nil
}

// turinEndorsement is what the extensions of a certificate say.
type turinEndorsement struct {
	tcb  snp.TCBParts
	hwid []byte // of a VCEK, 8 bytes
}

// oidKDS is the arc of the KDS's extensions.
var (
	oidKDS = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	oidFMC = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3, 9}
)

// turinExtensions reads the extensions of a VCEK or VLEK of a Turin. Each that there
// must be is there once; others of the KDS are refused, as what they say may change
// what the certificate is for.
func turinExtensions(cert *x509.Certificate, key abi.ReportSigner) (turinEndorsement, error) {
	var e turinEndorsement
	var version, spare [4]uint8
	numbers := map[string]*uint8{
		"1": &version[0], "3.1": &e.tcb.BootLoader, "3.2": &e.tcb.TEE, "3.3": &e.tcb.SNP, "3.8": &e.tcb.Microcode, "3.9": &e.tcb.FMC,
		"3.4": &spare[0], "3.5": &spare[1], "3.6": &spare[2], "3.7": &spare[3],
	}
	missing := map[string]bool{"2": true}
	for arc := range numbers {
		missing[arc] = true
	}
	own := "4" // HWID
	if key == abi.VlekReportSigner {
		own = "5" // CSP_ID
	}
	missing[own] = true
	for _, x := range cert.Extensions {
		if len(x.Id) <= len(oidKDS) || !x.Id[:len(oidKDS)].Equal(oidKDS) {
			continue // X.509's own: verifying the chain has looked at them
		}
		arc := x.Id[len(oidKDS):].String()
		if !missing[arc] {
			return e, fmt.Errorf("extension %s of the %s certificate is not one of its kind, or is there twice", x.Id, key)
		}
		delete(missing, arc)
		if n := numbers[arc]; n != nil {
			var v int
			if rest, err := asn1.Unmarshal(x.Value, &v); err != nil || len(rest) != 0 || v < 0 || v > 255 {
				return e, fmt.Errorf("extension %s of the %s certificate is no number from 0 to 255", x.Id, key)
			}
			*n = uint8(v)
		}
		if arc == "4" {
			var err error
			if e.hwid, err = turinChipID(x.Value); err != nil {
				return e, fmt.Errorf("extension %s of the %s certificate: %w", x.Id, key, err)
			}
		}
	}
	for arc := range missing {
		return e, fmt.Errorf("the %s certificate lacks the extension %s.%s", key, oidKDS, arc)
	}
	return e, nil
}

// turinChipID reads HWID: 8 bytes, raw or as an OCTET STRING, and as AMD may have
// filled it up with zeros to the 64 of other lines.
func turinChipID(value []byte) ([]byte, error) {
	const short, long = 8, 64
	if len(value) != short && len(value) != long {
		var octets []byte
		if rest, err := asn1.Unmarshal(value, &octets); err != nil || len(rest) != 0 {
			return nil, errors.New("the chip id has neither 8 nor 64 bytes")
		}
		value = octets
	}
	if len(value) != short && len(value) != long {
		return nil, fmt.Errorf("the chip id has %d bytes, not 8", len(value))
	}
	for _, b := range value[short:] {
		if b != 0 {
			return nil, errors.New("the chip id has more than 8 bytes")
		}
	}
	return value[:short], nil
}
