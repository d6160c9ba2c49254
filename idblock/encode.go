package idblock

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/snplaunch/snplaunch/snp"
)

const (
	coordBytes = 48 // bytes of a P-384 coordinate or scalar
	keyX       = 4  // offset of Qx in a public key; Qy follows ECDSACoordSize later
	keyEnd     = keyX + 2*snp.ECDSACoordSize
	sigEnd     = 2 * snp.ECDSACoordSize
)

// EncodePublicKey gives a P-384 public key in the firmware's encoding: CURVE
// 2, Qx and Qy little-endian in 72 bytes each, zeros up to 0x404 bytes.
func EncodePublicKey(pub *ecdsa.PublicKey) (snp.PublicKeyBytes, error) {
	var out snp.PublicKeyBytes
	if err := checkCurve(pub); err != nil {
		return out, err
	}
	point, err := pub.Bytes() // 4, X, Y, big-endian
	if err != nil {
		return out, fmt.Errorf("encoding public key: %w", err)
	}
	binary.LittleEndian.PutUint32(out[:], snp.ECDSACurveP384)
	putReversed(out[keyX:], point[1:1+coordBytes])
	putReversed(out[keyX+snp.ECDSACoordSize:], point[1+coordBytes:])
	return out, nil
}

// DecodePublicKey reads a public key in the firmware's encoding. The curve must
// be P-384 and the point on it. Bytes after Qy are not looked at, because the
// firmware does not look at them either, though it hashes them.
func DecodePublicKey(raw snp.PublicKeyBytes) (*ecdsa.PublicKey, error) {
	if curve := binary.LittleEndian.Uint32(raw[:]); curve != snp.ECDSACurveP384 {
		return nil, fmt.Errorf("public key has curve %d, want %d (P-384)", curve, snp.ECDSACurveP384)
	}
	point := make([]byte, 1+2*coordBytes)
	point[0] = 4 // uncompressed
	for n, name := range []string{"Qx", "Qy"} {
		field := raw[keyX+n*snp.ECDSACoordSize:][:snp.ECDSACoordSize]
		if !zero(field[coordBytes:]) {
			return nil, fmt.Errorf("public key's %s is larger than 384 bits (big-endian where little-endian is wanted?)", name)
		}
		putReversed(point[1+n*coordBytes:], field[:coordBytes])
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	if err != nil {
		return nil, errors.New("public key is not a point on P-384 (big-endian where little-endian is wanted?)")
	}
	return pub, nil
}

// KeyDigest gives the digest by which the report names a key: SHA-384 of the
// firmware's encoding. pub must be a P-384 key, as LoadKey, LoadPublicKey,
// GenerateKey and DecodePublicKey give; another one panics.
func KeyDigest(pub *ecdsa.PublicKey) snp.KeyDigest {
	raw, err := EncodePublicKey(pub)
	if err != nil {
		panic("idblock.KeyDigest: " + err.Error())
	}
	return DigestPublicKey(raw)
}

// DigestPublicKey gives the digest of a key that is already encoded, e.g. that
// of an ID auth structure; all of its 0x404 bytes count.
func DigestPublicKey(raw snp.PublicKeyBytes) snp.KeyDigest { return sha512.Sum384(raw[:]) }

// EncodeSignature gives a signature in the firmware's encoding: r and s
// little-endian in 72 bytes each, zeros up to 512 bytes. r and s must be
// between 1 and the order of P-384 minus 1.
func EncodeSignature(r, s *big.Int) (snp.SignatureBytes, error) {
	var out snp.SignatureBytes
	n := elliptic.P384().Params().N
	for i, v := range []*big.Int{r, s} {
		if v.Sign() <= 0 || v.Cmp(n) >= 0 {
			return out, fmt.Errorf("signature's %c is not between 1 and the order of P-384 minus 1", "rs"[i])
		}
		var be [coordBytes]byte
		putReversed(out[i*snp.ECDSACoordSize:], v.FillBytes(be[:]))
	}
	return out, nil
}

// EncodeSignatureASN1 takes the DER form of a signature, as openssl, PKCS#11
// tools and Go's crypto.Signer give it.
func EncodeSignatureASN1(der []byte) (snp.SignatureBytes, error) {
	var v struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil {
		return snp.SignatureBytes{}, fmt.Errorf("signature is not DER: %w", err)
	}
	if len(rest) != 0 {
		return snp.SignatureBytes{}, fmt.Errorf("signature has %d bytes after its DER", len(rest))
	}
	// encoding/asn1 passes over members after s.
	if again, err := asn1.Marshal(v); err != nil || !bytes.Equal(again, der) {
		return snp.SignatureBytes{}, errors.New("signature is not the DER of r and s alone")
	}
	return EncodeSignature(v.R, v.S)
}

// DecodeSignature reads a signature in the firmware's encoding and refuses r
// and s that no P-384 signature has. Bytes after s are not looked at.
func DecodeSignature(raw snp.SignatureBytes) (r, s *big.Int, err error) {
	n := elliptic.P384().Params().N
	var out [2]*big.Int
	for i := range out {
		field := slices.Clone(raw[i*snp.ECDSACoordSize:][:snp.ECDSACoordSize])
		slices.Reverse(field)
		out[i] = new(big.Int).SetBytes(field)
		if out[i].Sign() == 0 || out[i].Cmp(n) >= 0 {
			return nil, nil, fmt.Errorf("signature's %c is not between 1 and the order of P-384 minus 1 (big-endian where little-endian is wanted?)", "rs"[i])
		}
	}
	return out[0], out[1], nil
}

// putReversed writes src backwards to the start of dst.
func putReversed(dst, src []byte) {
	for i, c := range src {
		dst[len(src)-1-i] = c
	}
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
