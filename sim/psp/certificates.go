package psp

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

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

// authority makes the certificate of an ARK (parent nil) or ASK.
func authority(common string, pub *rsa.PublicKey, parent *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, error) {
	n, err := serial()
	if err != nil {
		return nil, err
	}
	now := time.Now().Add(-time.Hour).Truncate(time.Second) // clocks of verifiers differ
	template := &x509.Certificate{
		SerialNumber: n, Subject: name(common), NotBefore: now, NotAfter: now.Add(validity),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, KeyUsage: x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
		CRLDistributionPoints: []string{"https://kdsintf.amd.com/vcek/v1/" + caProduct + "/crl"},
	}
	if parent == nil { // the ARK signs itself and revocation lists; an ASK only chips
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

// Extensions of a VCEK (AMD 57230, "VCEK Certificate and KDS Interface
// Specification"), below 1.3.6.1.4.1.3704.1.
func vcekExtensions(cfg Config, chip [64]byte) ([]pkix.Extension, error) {
	var out []pkix.Extension
	add := func(value any, params string, arc ...int) error {
		der, err := asn1.MarshalWithParams(value, params)
		out = append(out, pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...), Value: der})
		return err
	}
	tcb := cfg.TCB
	err := errors.Join(
		add(1, "", 1), // version of this structure
		add(cfg.Product+"-"+cfg.Stepping, "ia5", 2),
		add(int(tcb.BootLoader), "", 3, 1), add(int(tcb.TEE), "", 3, 2), add(int(tcb.SNP), "", 3, 3),
		add(0, "", 3, 4), add(0, "", 3, 5), add(0, "", 3, 6), add(0, "", 3, 7),
		add(int(tcb.Microcode), "", 3, 8),
	)
	// HWID is the raw chip id, without an ASN.1 head.
	out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}, Value: chip[:]})
	return out, err
}

// issueVCEK certifies a chip's key.
func (c *CA) issueVCEK(cfg Config, chip [64]byte, pub *ecdsa.PublicKey) ([]byte, error) {
	extensions, err := vcekExtensions(cfg, chip)
	if err != nil {
		return nil, err
	}
	n, err := serial()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: n, Subject: name("SEV-VCEK"), NotBefore: c.ask.NotBefore, NotAfter: c.ask.NotAfter,
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: extensions,
	}, c.ask, pub, c.askKey)
	if err != nil {
		return nil, fmt.Errorf("making the simulated VCEK: %w", err)
	}
	return der, nil
}
