package psp

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// crlValidity is how long a revocation list counts. A verifier may keep one until
// then.
const crlValidity = 7 * 24 * time.Hour

// CertChain is what the KDS serves as cert_chain of a product: ASK and ARK, or with
// vlek ASVK and ARK, in PEM.
func (c *CA) CertChain(product string, vlek bool) ([]byte, error) {
	l, err := c.lineOf(product)
	if err != nil {
		return nil, err
	}
	authority := l.ask
	if vlek {
		authority = l.asvk
	}
	return inPEM(authority.Raw, l.ark.Raw), nil
}

func inPEM(ders ...[]byte) []byte {
	var out bytes.Buffer
	for _, der := range ders {
		// pem.Encode fails only where the writer does, which a buffer does not.
		_ = pem.Encode(&out, &pem.Block{Type: pemCertificate, Bytes: der})
	}
	return out.Bytes()
}

// RevocationList is a product's list of revoked certificates, signed by its ARK
// now, DER. One list serves for the VCEK's and the VLEK's chain.
func (c *CA) RevocationList(product string, revoked ...*big.Int) ([]byte, error) {
	l, err := c.lineOf(product)
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Second)
	var entries []x509.RevocationListEntry
	for _, n := range revoked {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		SignatureAlgorithm: x509.SHA384WithRSAPSS, RevokedCertificateEntries: entries,
		Number: big.NewInt(now.Unix()), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(crlValidity),
	}, l.ark, c.arkKey)
	if err != nil {
		return nil, fmt.Errorf("making the simulated revocation list of %s: %w", product, err)
	}
	return der, nil
}

// VCEK is the certificate of this chip's key for a reported TCB, DER, as the KDS
// issues it to whoever asks.
func (p *Platform) VCEK(tcb snp.TCBParts) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tcb == p.settings.reported {
		return p.vcek.cert()
	}
	c, err := p.ca.endorse(p.endorsement(false, tcb))
	if err != nil {
		return nil, err
	}
	return c.cert()
}
