package idblock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxKeyFile is more than any P-384 key file has, in bytes.
const maxKeyFile = 64 << 10

// Errors that callers of LoadKey and LoadPublicKey tell apart.
var (
	// ErrNotP384 marks a key of another curve or another kind.
	ErrNotP384 = errors.New("the firmware takes only P-384 keys (make one with `snplaunch idblock keygen`)")
	// ErrEncrypted marks an encrypted key that was opened without a Password.
	ErrEncrypted = errors.New("it is encrypted, and no password was given (decrypt it with `openssl pkcs8 -in KEY -out NEWKEY`)")
	// ErrWrongPassword marks an encrypted key that its password does not open.
	ErrWrongPassword = errors.New("the password is wrong (or the file is damaged)")
)

// Password gives the password of an encrypted key. It is called only when the
// key turns out to be encrypted; nil means that there is none.
type Password func() ([]byte, error)

// GenerateKey makes a P-384 key.
func GenerateKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
}

// WriteKey writes a private key as PKCS#8 PEM into a new file of mode 0600.
// It never writes over an existing file.
func WriteKey(path string, key *ecdsa.PrivateKey) error {
	return writeKey(path, key, "PRIVATE KEY", func(der []byte) ([]byte, error) { return der, nil })
}

// WriteEncryptedKey is WriteKey with a password, which must not be empty:
// encrypted PKCS#8 (PBES2, AES-256-CBC), which openssl reads, too.
func WriteEncryptedKey(path string, key *ecdsa.PrivateKey, password []byte) error {
	if len(password) == 0 {
		return fmt.Errorf("writing key %s: an empty password protects nothing", path)
	}
	return writeKey(path, key, "ENCRYPTED PRIVATE KEY", func(der []byte) ([]byte, error) { return encryptPKCS8(der, password) })
}

func writeKey(path string, key *ecdsa.PrivateKey, pemType string, seal func([]byte) ([]byte, error)) error {
	if err := checkCurve(&key.PublicKey); err != nil {
		return fmt.Errorf("writing key %s: %w", path, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		der, err = seal(der)
	}
	if err != nil {
		return fmt.Errorf("writing key %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("writing key %s: %w, and keys are never overwritten (choose another name or move it away)", path, os.ErrExist)
	}
	if err != nil {
		return fmt.Errorf("writing key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: pemType, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path) // half a key is no key
		return fmt.Errorf("writing key %s: %w", path, err)
	}
	return nil
}

// EncodePublicKeyPEM gives a public key as "PUBLIC KEY" PEM, for those who
// sign elsewhere or verify.
func EncodePublicKeyPEM(pub *ecdsa.PublicKey) ([]byte, error) {
	if err := checkCurve(pub); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// LoadKey reads a P-384 private key that is not encrypted: PEM or DER, SEC1
// ("EC PRIVATE KEY") or PKCS#8 ("PRIVATE KEY").
func LoadKey(path string) (*ecdsa.PrivateKey, error) { return LoadKeyWith(path, nil) }

// LoadKeyWith is LoadKey for keys that may be encrypted: PKCS#8 with PBES2
// ("ENCRYPTED PRIVATE KEY"), or the older "Proc-Type: 4,ENCRYPTED" that
// `openssl ec -aes256` writes.
func LoadKeyWith(path string, password Password) (*ecdsa.PrivateKey, error) {
	raw, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(raw, password)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return key, nil
}

// LoadPublicKey reads the public half of a P-384 key from a public key (PEM or
// DER, "PUBLIC KEY"), from an X.509 certificate, or from any file that LoadKey
// reads.
func LoadPublicKey(path string) (*ecdsa.PublicKey, error) { return LoadPublicKeyWith(path, nil) }

// LoadPublicKeyWith is LoadPublicKey for private keys that may be encrypted.
func LoadPublicKeyWith(path string, password Password) (*ecdsa.PublicKey, error) {
	raw, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	pub, err := ParsePublicKey(raw, password)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return pub, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", path, err)
	}
	if len(raw) > maxKeyFile {
		return nil, fmt.Errorf("reading key %s: more than %d bytes, so this is no key file", path, maxKeyFile)
	}
	return raw, nil
}

func checkCurve(pub *ecdsa.PublicKey) error {
	if pub.Curve != elliptic.P384() {
		return fmt.Errorf("it is a %s key: %w", pub.Curve.Params().Name, ErrNotP384)
	}
	return nil
}
