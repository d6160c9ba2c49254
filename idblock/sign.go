package idblock

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// Sign makes the ID authentication information for a block: signed with the
// ID key, which the author key, unless nil, signs in turn. The same input
// always gives the same bytes (RFC 6979), so ID auth is reproducible.
func Sign(block *snp.IDBlock, idKey *ecdsa.PrivateKey, authorKey *ecdsa.PrivateKey) (*snp.IDAuth, error) {
	if idKey == nil {
		return nil, errors.New("signing ID block: no ID key given")
	}
	if authorKey == nil {
		return SignWith(block, idKey, nil)
	}
	return SignWith(block, idKey, authorKey)
}

// SignWith is Sign with keys that may live elsewhere, e.g. in an HSM: each
// Signer must have a P-384 key and return DER, as *ecdsa.PrivateKey does. A nil
// author means no author key. Sign is called without a source of randomness,
// which asks for a deterministic signature. The result has passed Verify.
func SignWith(block *snp.IDBlock, id, author crypto.Signer) (*snp.IDAuth, error) {
	auth := &snp.IDAuth{IDKeyAlgo: snp.KeyAlgoECDSAP384}
	var err error
	if auth.IDKey, err = encodeSigner(id); err != nil {
		return nil, fmt.Errorf("signing ID block: ID key: %w", err)
	}
	raw := block.Bytes()
	if auth.IDBlockSig, err = sign(id, raw[:]); err != nil {
		return nil, fmt.Errorf("signing ID block: %w", err)
	}
	if author != nil {
		auth.AuthorKeyAlgo = snp.KeyAlgoECDSAP384
		if auth.AuthorKey, err = encodeSigner(author); err != nil {
			return nil, fmt.Errorf("signing ID key: author key: %w", err)
		}
		if auth.IDKeySig, err = sign(author, auth.IDKey[:]); err != nil {
			return nil, fmt.Errorf("signing ID key: %w", err)
		}
	}
	if err := Verify(block, auth, author != nil); err != nil {
		return nil, fmt.Errorf("the signer's own signature does not verify: %w", err)
	}
	return auth, nil
}

// encodeSigner gives a signer's public key in the firmware's encoding.
func encodeSigner(s crypto.Signer) (snp.PublicKeyBytes, error) {
	pub, ok := s.Public().(*ecdsa.PublicKey)
	if !ok {
		return snp.PublicKeyBytes{}, fmt.Errorf("it is a %T: %w", s.Public(), ErrNotP384)
	}
	return EncodePublicKey(pub)
}

// sign signs the SHA-384 of msg.
func sign(s crypto.Signer, msg []byte) (snp.SignatureBytes, error) {
	digest := sha512.Sum384(msg)
	der, err := s.Sign(nil, digest[:], crypto.SHA384)
	if err != nil {
		return snp.SignatureBytes{}, err
	}
	return EncodeSignatureASN1(der)
}

// Signed is what a signer outside this program made: a public key, and its
// signature in the firmware's encoding (see ParseSignature).
type Signed struct {
	Key       *ecdsa.PublicKey
	Signature snp.SignatureBytes
}

// Assemble makes the ID authentication information from signatures that were
// made elsewhere, e.g. in an HSM: by the ID key over the block's 96 bytes, and
// by the author key, unless author is nil, over the ID key as EncodePublicKey
// gives it. Nothing is given that does not pass Verify.
func Assemble(block *snp.IDBlock, id Signed, author *Signed) (*snp.IDAuth, error) {
	auth := &snp.IDAuth{IDKeyAlgo: snp.KeyAlgoECDSAP384, IDBlockSig: id.Signature}
	var err error
	if auth.IDKey, err = EncodePublicKey(id.Key); err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	if author != nil {
		auth.AuthorKeyAlgo, auth.IDKeySig = snp.KeyAlgoECDSAP384, author.Signature
		if auth.AuthorKey, err = EncodePublicKey(author.Key); err != nil {
			return nil, fmt.Errorf("author key: %w", err)
		}
	}
	if err := Verify(block, auth, author != nil); err != nil {
		return nil, err
	}
	return auth, nil
}
