package psp

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// Common names of a product line's certificates (AMD 57230).
func arkName(product string) string  { return "ARK-" + product }
func askName(product string) string  { return "SEV-" + product }
func asvkName(product string) string { return "SEV-VLEK-" + product }

// name is AMD's distinguished name with our mark. go-sev-guest pins exactly one
// value each of OU, C, L, ST, O and CN.
func name(common string) pkix.Name {
	return pkix.Name{
		OrganizationalUnit: []string{"Engineering"}, Country: []string{"US"}, Locality: []string{"Santa Clara"},
		Province: []string{"CA"}, Organization: []string{"Advanced Micro Devices"}, CommonName: common,
		SerialNumber: snp.SimulatedMarker,
	}
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// issuer makes the certificate of an authority.
type issuer func(common, service, product string, pub *rsa.PublicKey, parent *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, error)

// authority makes the certificate of an ARK (parent nil), ASK or ASVK; service
// is the KDS path of its revocation list, "vcek" or "vlek".
func authority(common, service, product string, pub *rsa.PublicKey, parent *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, error) {
	n, err := serial()
	if err != nil {
		return nil, err
	}
	now := time.Now().Add(-time.Hour).Truncate(time.Second) // clocks of verifiers differ
	template := &x509.Certificate{
		SerialNumber: n, Subject: name(common), NotBefore: now, NotAfter: now.Add(validity),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, KeyUsage: x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
		CRLDistributionPoints: []string{"https://kdsintf.amd.com/" + service + "/v1/" + product + "/crl"},
	}
	if parent == nil { // the ARK signs itself and revocation lists; an ASK or ASVK only chips
		parent = template
		template.KeyUsage |= x509.KeyUsageCRLSign
	} else {
		template.MaxPathLenZero = true
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("making the simulated %s: %w", common, err)
	}
	return x509.ParseCertificate(der)
}

// endorsement is what the certificate of a VCEK or VLEK says.
type endorsement struct {
	product, stepping string
	layout            snp.TCBLayout
	tcb               snp.TCBParts
	hwid              []byte // of a VCEK
	cspID             string // of a VLEK
}

// extensions of a VCEK or VLEK (AMD 57230, "VCEK Certificate and KDS Interface
// Specification"), below 1.3.6.1.4.1.3704.1.
func (e endorsement) extensions() ([]pkix.Extension, error) {
	var out []pkix.Extension
	add := func(value any, params string, arc ...int) error {
		der, err := asn1.MarshalWithParams(value, params)
		out = append(out, pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...), Value: der})
		return err
	}
	product := e.product
	if e.hwid != nil { // a VLEK's name has no stepping
		product += "-" + e.stepping
	}
	err := errors.Join(
		add(1, "", 1), // version of this structure
		add(product, "ia5", 2),
		add(int(e.tcb.BootLoader), "", 3, 1), add(int(e.tcb.TEE), "", 3, 2), add(int(e.tcb.SNP), "", 3, 3),
		add(0, "", 3, 4), add(0, "", 3, 5), add(0, "", 3, 6), add(0, "", 3, 7),
		add(int(e.tcb.Microcode), "", 3, 8),
	)
	if e.layout == snp.TCBLayoutTurin {
		err = errors.Join(err, add(int(e.tcb.FMC), "", 3, 9))
	}
	if e.hwid != nil {
		// HWID is the raw chip id, without an ASN.1 head.
		out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}, Value: e.hwid})
	} else {
		err = errors.Join(err, add(e.cspID, "ia5", 5))
	}
	return out, err
}

// issuable says whether there is anything in an endorsement that cannot be
// certified.
func (c *CA) issuable(e endorsement) error {
	if _, err := c.lineOf(e.product); err != nil {
		return err
	}
	_, err := e.extensions()
	return err
}

// issue certifies the key of a chip (an endorsement with a hwid) or of a
// provider. Its serial number follows from what is certified, so that the
// certificate that a chip brings and the one that the KDS serves are revoked
// together.
func (c *CA) issue(e endorsement, pub *ecdsa.PublicKey) ([]byte, error) {
	l, err := c.lineOf(e.product)
	if err != nil {
		return nil, err
	}
	extensions, err := e.extensions()
	if err != nil {
		return nil, err
	}
	common, parent, signer := "SEV-VCEK", l.ask, c.askKey
	if e.hwid == nil {
		common, parent, signer = "SEV-VLEK", l.asvk, c.asvkKey
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "snplaunch serial %s %s %x %s %+v", common, e.product, e.hwid, e.cspID, e.tcb))
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(sum[:15]), Subject: name(common), NotBefore: parent.NotBefore, NotAfter: parent.NotAfter,
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: extensions,
	}, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("making the simulated %s: %w", common, err)
	}
	return der, nil
}
