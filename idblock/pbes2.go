package idblock

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/scrypt"
)

// Bounds on what an encrypted key file may ask of whoever opens it. They are
// far above what any tool writes and keep a hostile file to seconds and to 256
// MiB.
const (
	maxIterations  = 10_000_000 // of PBKDF2; openssl writes 2048
	maxScryptBytes = 256 << 20  // 128·N·r; openssl writes 16 MiB
	maxScryptP     = 16
)

// writtenIterations is what WriteEncryptedKey uses: OWASP's advice for
// PBKDF2-HMAC-SHA-256 since 2023, about a tenth of a second.
const writtenIterations = 600_000

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// prf is a pseudo-random function of PBKDF2 (RFC 8018, B.1.2).
type prf struct {
	oid asn1.ObjectIdentifier
	new func() hash.Hash
}

var prfs = []prf{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}, sha1.New}, // the default, when the file names none
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 8}, sha256.New224},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, sha256.New},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}, sha512.New384},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}, sha512.New},
}

// scheme is an encryption scheme in CBC mode (RFC 8018, B.2; RFC 3565).
type scheme struct {
	oid     asn1.ObjectIdentifier
	keySize int
	new     func([]byte) (cipher.Block, error)
}

var schemes = []scheme{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.NewCipher}, // what WriteEncryptedKey writes
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher},
}

// encryptedPrivateKeyInfo is RFC 5958's EncryptedPrivateKeyInfo.
type encryptedPrivateKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Parameters struct {
	KeyDerivation pkix.AlgorithmIdentifier
	Scheme        pkix.AlgorithmIdentifier
}

type pbkdf2Parameters struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

type scryptParameters struct {
	Salt      []byte
	N, R, P   int
	KeyLength int `asn1:"optional"`
}

// encryptedKey is an EncryptedPrivateKeyInfo whose every parameter is known
// and within bounds.
type encryptedKey struct {
	derive func(password []byte) ([]byte, error)
	work   int // iterations of PBKDF2, or N·r·p of scrypt
	scheme scheme
	iv     []byte
	data   []byte
}

// looksEncrypted says whether DER is an EncryptedPrivateKeyInfo.
func looksEncrypted(der []byte) bool {
	var info encryptedPrivateKeyInfo
	rest, err := asn1.Unmarshal(der, &info)
	return err == nil && len(rest) == 0
}

// parseEncrypted reads an EncryptedPrivateKeyInfo. Only PBES2 (RFC 8018) is
// known: what came before it derives keys with MD5 or from PKCS#12.
func parseEncrypted(der []byte) (*encryptedKey, error) {
	var info encryptedPrivateKeyInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) != 0 {
		return nil, errors.New("its encrypted PKCS#8 is damaged")
	}
	if !info.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("it is encrypted with scheme %s, which is older than PBES2 (convert it with `openssl pkcs8 -in KEY | openssl pkcs8 -topk8 -v2 aes-256-cbc -out NEWKEY`)", info.Algorithm.Algorithm)
	}
	var params pbes2Parameters
	if err := unmarshalParameters(info.Algorithm, &params); err != nil {
		return nil, errors.New("its PBES2 parameters are damaged")
	}
	k := &encryptedKey{data: info.Data}
	known := false
	for _, s := range schemes {
		if s.oid.Equal(params.Scheme.Algorithm) {
			k.scheme, known = s, true
		}
	}
	if !known {
		return nil, fmt.Errorf("it is encrypted with cipher %s, which is not known here (use aes-256-cbc)", params.Scheme.Algorithm)
	}
	block, err := k.scheme.new(make([]byte, k.scheme.keySize))
	if err != nil {
		return nil, err
	}
	if err := unmarshalParameters(params.Scheme, &k.iv); err != nil || len(k.iv) != block.BlockSize() {
		return nil, errors.New("the initialization vector of its encryption is damaged")
	}
	if len(k.data) == 0 || len(k.data)%block.BlockSize() != 0 {
		return nil, fmt.Errorf("it is cut short: %d encrypted bytes are no multiple of %d", len(k.data), block.BlockSize())
	}
	switch kdf := params.KeyDerivation; {
	case kdf.Algorithm.Equal(oidPBKDF2):
		err = k.usePBKDF2(kdf)
	case kdf.Algorithm.Equal(oidScrypt):
		err = k.useScrypt(kdf)
	default:
		err = fmt.Errorf("its password goes through key derivation %s, which is not known here (use PBKDF2 or scrypt)", kdf.Algorithm)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (k *encryptedKey) usePBKDF2(kdf pkix.AlgorithmIdentifier) error {
	var p pbkdf2Parameters
	if err := unmarshalParameters(kdf, &p); err != nil {
		return errors.New("its PBKDF2 parameters are damaged")
	}
	if p.Iterations < 1 || p.Iterations > maxIterations {
		return fmt.Errorf("its PBKDF2 has %d iterations, and only 1 to %d are taken", p.Iterations, maxIterations)
	}
	if p.KeyLength != 0 && p.KeyLength != k.scheme.keySize {
		return fmt.Errorf("its PBKDF2 makes a key of %d bytes, but the cipher takes %d", p.KeyLength, k.scheme.keySize)
	}
	use := prfs[0]
	if len(p.PRF.Algorithm) != 0 {
		use = prf{}
		for _, f := range prfs {
			if f.oid.Equal(p.PRF.Algorithm) {
				use = f
			}
		}
		if use.new == nil {
			return fmt.Errorf("its PBKDF2 uses function %s, which is not known here (use hmacWithSHA256)", p.PRF.Algorithm)
		}
	}
	k.work = p.Iterations
	k.derive = func(password []byte) ([]byte, error) {
		return pbkdf2.Key(use.new, string(password), p.Salt, p.Iterations, k.scheme.keySize)
	}
	return nil
}

func (k *encryptedKey) useScrypt(kdf pkix.AlgorithmIdentifier) error {
	var p scryptParameters
	if err := unmarshalParameters(kdf, &p); err != nil {
		return errors.New("its scrypt parameters are damaged")
	}
	if p.N < 2 || p.N&(p.N-1) != 0 || p.R < 1 || p.P < 1 || p.P > maxScryptP || p.R > maxScryptBytes/128 || p.N > maxScryptBytes/128/p.R {
		return fmt.Errorf("its scrypt parameters N=%d, r=%d, p=%d are not ones that are taken (128·N·r at most %d MiB, p at most %d)", p.N, p.R, p.P, maxScryptBytes>>20, maxScryptP)
	}
	if p.KeyLength != 0 && p.KeyLength != k.scheme.keySize {
		return fmt.Errorf("its scrypt makes a key of %d bytes, but the cipher takes %d", p.KeyLength, k.scheme.keySize)
	}
	k.work = p.N * p.R * p.P
	k.derive = func(password []byte) ([]byte, error) {
		return scrypt.Key(password, p.Salt, p.N, p.R, p.P, k.scheme.keySize)
	}
	return nil
}

// decrypt gives the PrivateKeyInfo. The only evidence that a password is right
// is that the padding is, and that what comes out is a key; the caller judges
// the latter.
func (k *encryptedKey) decrypt(password []byte) ([]byte, error) {
	key, err := k.derive(password)
	if err != nil {
		return nil, fmt.Errorf("deriving the key from the password: %w", err)
	}
	block, err := k.scheme.new(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(k.data))
	cipher.NewCBCDecrypter(block, k.iv).CryptBlocks(plain, k.data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > block.BlockSize() || pad >= len(plain) {
		return nil, ErrWrongPassword
	}
	for _, c := range plain[len(plain)-pad:] {
		if int(c) != pad {
			return nil, ErrWrongPassword
		}
	}
	return plain[:len(plain)-pad], nil
}

// encryptPKCS8 encrypts a PrivateKeyInfo with PBES2: PBKDF2 with HMAC-SHA-256,
// AES-256-CBC.
func encryptPKCS8(plain, password []byte) ([]byte, error) {
	s := schemes[0]
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	for _, b := range [][]byte{salt, iv} {
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
	}
	key, err := pbkdf2.Key(sha256.New, string(password), salt, writtenIterations, s.keySize)
	if err != nil {
		return nil, err
	}
	block, err := s.new(key)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	data := append([]byte(nil), plain...)
	for range pad {
		data = append(data, byte(pad))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	kdf, err := asn1.Marshal(pbkdf2Parameters{Salt: salt, Iterations: writtenIterations,
		PRF: pkix.AlgorithmIdentifier{Algorithm: prfs[2].oid, Parameters: asn1.NullRawValue}})
	if err != nil {
		return nil, err
	}
	ivDER, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	params, err := asn1.Marshal(pbes2Parameters{
		KeyDerivation: pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: kdf}},
		Scheme:        pkix.AlgorithmIdentifier{Algorithm: s.oid, Parameters: asn1.RawValue{FullBytes: ivDER}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedPrivateKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: params}}, Data: data})
}

// unmarshalParameters reads the parameters of an AlgorithmIdentifier, all of them.
func unmarshalParameters(a pkix.AlgorithmIdentifier, out any) error {
	rest, err := asn1.Unmarshal(a.Parameters.FullBytes, out)
	if err == nil && len(rest) != 0 {
		err = errors.New("bytes after the parameters")
	}
	return err
}
