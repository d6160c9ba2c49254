package report

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-sev-guest/verify/trust"
)

// Roots are trusted roots by product line ("Genoa"), as go-sev-guest takes them.
type Roots map[string][]*trust.AMDRootCerts

// vlekBundles are AMD's certificates for VLEKs (ASVK and ARK) by product line;
// go-sev-guest embeds them, but its default roots have those for VCEKs only.
var vlekBundles = map[string][]byte{
	"Milan": trust.AskArkMilanVlekBytes,
	"Genoa": trust.AskArkGenoaVlekBytes,
	"Turin": trust.AskArkTurinVlekBytes,
}

// AMDRoots are AMD's own roots for VCEKs and VLEKs of Milan, Genoa and Turin,
// as embedded in go-sev-guest.
func AMDRoots() Roots {
	out := Roots{}
	for line, bundle := range vlekBundles {
		root, err := trust.GetDefaultRootCerts(line)
		if err != nil {
			continue // a line without roots is trusted by no one
		}
		certs := &trust.ProductCerts{Ark: root.ProductCerts.Ark, Ask: root.ProductCerts.Ask}
		vlek := &trust.ProductCerts{}
		// go-sev-guest takes nothing after the last certificate, and AMD's bundle
		// for Turin ends with an empty line. One ARK stands above both.
		if err := vlek.FromKDSCertBytes(bytes.TrimSpace(bundle)); err == nil && certs.Ark.Equal(vlek.Ark) {
			certs.Asvk = vlek.Asvk
		}
		out[line] = []*trust.AMDRootCerts{{ProductLine: line, ProductCerts: certs}}
	}
	return out
}

// SimulatedRoots are the roots of one software SNP host, from its ARK and ASK
// certificates (DER). A Verify that has them in its options trusts that host.
// Reports that a VLEK signed need SimulatedChainRoots.
func SimulatedRoots(ark, ask []byte) (Roots, error) {
	return SimulatedChainRoots(Chain{ARK: ark, ASK: ask})
}

// SimulatedChainRoots is SimulatedRoots from the ARK, ASK and ASVK of a chain; of
// the last two one may be missing.
func SimulatedChainRoots(c Chain) (Roots, error) {
	if !marked(c.ARK) || len(c.ASK) > 0 && !marked(c.ASK) || len(c.ASVK) > 0 && !marked(c.ASVK) {
		return nil, errors.New("these certificates are not those of a software SNP host: they lack its mark")
	}
	return c.roots()
}

// roots makes roots of the chain's own ARK with its ASK, its ASVK or both. Whoever
// calls it has already decided to trust that ARK.
func (c Chain) roots() (Roots, error) {
	if len(c.ARK) == 0 || len(c.ASK) == 0 && len(c.ASVK) == 0 {
		return nil, errors.New("the chain lacks its ARK or ASK certificate")
	}
	ark, err := x509.ParseCertificate(c.ARK)
	if err != nil {
		return nil, fmt.Errorf("ARK: %w", err)
	}
	if err := ark.CheckSignatureFrom(ark); err != nil {
		return nil, fmt.Errorf("the ARK did not sign itself: %w", err)
	}
	certs := &trust.ProductCerts{Ark: ark}
	for _, by := range []struct {
		name string
		der  []byte
		into **x509.Certificate
	}{{"ASK", c.ASK, &certs.Ask}, {"ASVK", c.ASVK, &certs.Asvk}} {
		if len(by.der) == 0 {
			continue
		}
		cert, err := x509.ParseCertificate(by.der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", by.name, err)
		}
		if err := cert.CheckSignatureFrom(ark); err != nil {
			return nil, fmt.Errorf("the %s was not signed by the ARK: %w", by.name, err)
		}
		*by.into = cert
	}
	line := strings.TrimPrefix(ark.Subject.CommonName, "ARK-")
	return Roots{line: {{ProductLine: line, ProductCerts: certs}}}, nil
}

// check sees that there is a root and that each is whole. go-sev-guest falls
// back on its own roots when it is given none, and follows nil pointers.
func (r Roots) check() error {
	n := 0
	for line, list := range r {
		for _, root := range list {
			if root == nil || root.ProductCerts == nil || root.ProductCerts.Ark == nil {
				return fmt.Errorf("a trusted root for %s has no ARK certificate", line)
			}
			n++
		}
	}
	if n == 0 {
		return errors.New("verifying a report needs trusted roots (report.AMDRoots for AMD's)")
	}
	return nil
}

// simulatedOnly gives the roots among r that carry the mark of a software SNP
// host and, where ark is given, are that very certificate.
func (r Roots) simulatedOnly(ark []byte) Roots {
	out := Roots{}
	for line, list := range r {
		for _, root := range list {
			if root == nil || root.ProductCerts == nil || root.ProductCerts.Ark == nil {
				continue
			}
			own := root.ProductCerts.Ark.Raw
			if marked(own) && (len(ark) == 0 || string(ark) == string(own)) {
				out[line] = append(out[line], root)
			}
		}
	}
	return out
}
