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

	"github.com/snplaunch/snplaunch/snp"
)

// chipID gives each user's simulated machine its own chip id. All 64 bytes are
// used, as verifiers tell Turin by a short one; and it begins with a byte that
// no parser takes for the head of a DER string (snpguest does with 02 and 04).
func chipID(ca *CA) [64]byte {
	id := sha512.Sum512(append([]byte("snplaunch chip id "), ca.ark.Raw...))
	id[0] = 0x5A
	if id[63] == 0 {
		id[63] = 1
	}
	return id
}

// secret is what the keys of this chip come from.
func (c *CA) secret() [32]byte {
	return sha256.Sum256(append([]byte("snplaunch derived keys "), x509.MarshalPKCS1PrivateKey(c.askKey)...))
}

// chipKey derives the VCEK. As on hardware it follows from a secret of the chip
// and from the TCB, so that it is the same in every process. The candidate is
// 128 bits longer than the group order, which leaves no bias worth the name
// (FIPS 186-5, A.2.1).
func (c *CA) chipKey(chip [64]byte, tcb snp.TCBParts) (*ecdsa.PrivateKey, error) {
	secret := c.secret()
	info := fmt.Sprintf("snplaunch VCEK %s %x %s", c.product, chip, tcb.TCBVersion())
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
