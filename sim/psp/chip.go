package psp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"

	"github.com/snplaunch/snplaunch/snp"
)

// chipID gives each user's simulated machine its own chip id of size bytes.
// Where there are 64 all are used, as verifiers tell Turin by a short one; and it
// begins with the mark of the software host, whose first byte no parser takes for
// the head of a DER string (snpguest does with 02 and 04).
func chipID(l *line, size int) (id [64]byte) {
	sum := sha512.Sum512(append([]byte("snplaunch chip id "), l.ark.Raw...))
	copy(id[:size], sum[:])
	snp.MarkSimulatedChip(&id)
	if id[size-1] == 0 {
		id[size-1] = 1
	}
	return id
}

// secret is what the keys of this user's chips come from.
func (c *CA) secret() [32]byte {
	return sha256.Sum256(append([]byte("snplaunch derived keys "), x509.MarshalPKCS1PrivateKey(c.askKey)...))
}

// vcekKey derives the VCEK. As on hardware it follows from a secret of the chip
// and from the TCB, so that it is the same in every process.
func (c *CA) vcekKey(e endorsement) (*ecdsa.PrivateKey, error) {
	return c.deriveKey(fmt.Sprintf("snplaunch VCEK %s %x %s", e.product, e.hwid, e.layout.Pack(e.tcb)))
}

// vlekKey derives the VLEK, which follows from the provider's secret and the TCB.
func (c *CA) vlekKey(e endorsement) (*ecdsa.PrivateKey, error) {
	return c.deriveKey(fmt.Sprintf("snplaunch VLEK %s %q %s", e.product, e.cspID, e.layout.Pack(e.tcb)))
}

// deriveKey makes a P-384 key. The candidate is 128 bits longer than the group
// order, which leaves no bias worth the name (FIPS 186-5, A.2.1).
func (c *CA) deriveKey(info string) (*ecdsa.PrivateKey, error) {
	secret := c.secret()
	candidate, err := hkdf.Key(sha512.New384, secret[:], nil, info, 48+16)
	if err != nil {
		return nil, fmt.Errorf("making the simulated chip's key: %w", err)
	}
	one := big.NewInt(1)
	n := new(big.Int).Sub(elliptic.P384().Params().N, one)
	d := new(big.Int).SetBytes(candidate)
	d.Mod(d, n).Add(d, one) // 1 … order-1
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d.FillBytes(make([]byte, 48)))
	if err != nil {
		return nil, fmt.Errorf("making the simulated chip's key: %w", err)
	}
	return key, nil
}

// certified is a key with its certificate, DER. Most launches never ask for the
// certificate, which takes a signature with 4096 bits to make.
type certified struct {
	key  *ecdsa.PrivateKey
	cert func() ([]byte, error)
}

// endorse derives the VCEK (an endorsement with a hwid) or the VLEK and
// certifies it.
func (c *CA) endorse(e endorsement) (certified, error) {
	derive := c.vcekKey
	if e.hwid == nil {
		derive = c.vlekKey
	}
	key, err := derive(e)
	if err != nil {
		return certified{}, err
	}
	if err := c.issuable(e); err != nil {
		return certified{}, err
	}
	return certified{key, sync.OnceValues(func() ([]byte, error) { return c.issue(e, &key.PublicKey) })}, nil
}

// endorsement is what the certificate of this chip's VCEK, or of the VLEK that
// is loaded in it, says for a reported TCB.
func (p *Platform) endorsement(vlek bool, tcb snp.TCBParts) endorsement {
	e := endorsement{product: p.cfg.Product, stepping: p.cfg.Stepping, layout: p.cfg.TCBLayout, tcb: tcb}
	if vlek {
		e.cspID = p.cfg.cspID()
	} else {
		e.hwid = p.chipID[:p.cfg.ChipIDSize]
	}
	return e
}
