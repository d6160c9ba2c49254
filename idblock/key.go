package idblock

import (
	"bytes"
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

// ErrNotP384 marks a key that is an ECDSA key of another curve.
var ErrNotP384 = errors.New("the firmware takes only P-384 keys (make one with `snplaunch idblock keygen`)")

// GenerateKey makes a P-384 key.
func GenerateKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
}

// WriteKey writes a private key as PKCS#8 PEM into a new file of mode 0600.
// It never writes over an existing file.
func WriteKey(path string, key *ecdsa.PrivateKey) error {
	if err := checkCurve(&key.PublicKey); err != nil {
		return fmt.Errorf("writing key %s: %w", path, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
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
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
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

// LoadKey reads a P-384 private key: PEM or DER, SEC1 ("EC PRIVATE KEY") or
// PKCS#8 ("PRIVATE KEY").
func LoadKey(path string) (*ecdsa.PrivateKey, error) {
	raw, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return key, nil
}

// ParseKey reads a P-384 private key as LoadKey does.
func ParseKey(raw []byte) (*ecdsa.PrivateKey, error) {
	der, err := privateDER(raw)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		any, pkcs8Err := x509.ParsePKCS8PrivateKey(der)
		if pkcs8Err != nil {
			return nil, fmt.Errorf("neither a SEC1 nor a PKCS#8 private key (as SEC1: %v; as PKCS#8: %v)", err, pkcs8Err)
		}
		var ok bool
		if key, ok = any.(*ecdsa.PrivateKey); !ok {
			return nil, fmt.Errorf("it is a %T: %w", any, ErrNotP384)
		}
	}
	if err := checkCurve(&key.PublicKey); err != nil {
		return nil, err
	}
	return key, nil
}

// LoadPublicKey reads the public half of a P-384 key from a public key file
// (PEM or DER, "PUBLIC KEY") or from any file that LoadKey reads.
func LoadPublicKey(path string) (*ecdsa.PublicKey, error) {
	raw, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	der := raw
	if block, _ := pem.Decode(raw); block != nil && block.Type == "PUBLIC KEY" {
		der = block.Bytes
	}
	if any, err := x509.ParsePKIXPublicKey(der); err == nil {
		pub, ok := any.(*ecdsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("key %s: it is a %T: %w", path, any, ErrNotP384)
		}
		if err := checkCurve(pub); err != nil {
			return nil, fmt.Errorf("key %s: %w", path, err)
		}
		return pub, nil
	}
	key, err := ParseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return &key.PublicKey, nil
}

// privateDER takes the one private key out of PEM; what is not PEM is DER.
func privateDER(raw []byte) ([]byte, error) {
	if !bytes.Contains(raw, []byte("-----BEGIN ")) {
		return raw, nil
	}
	var der []byte
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "EC PARAMETERS": // openssl ecparam -genkey puts it first
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errors.New("it is encrypted (decrypt it with `openssl pkcs8 -in KEY -out NEWKEY`)")
		case block.Type == "EC PRIVATE KEY" || block.Type == "PRIVATE KEY":
			if der != nil {
				return nil, errors.New("the file has more than one private key (give a file with one)")
			}
			der = block.Bytes
		default:
			return nil, fmt.Errorf("found PEM %q (want EC PRIVATE KEY or PRIVATE KEY)", block.Type)
		}
	}
	if der == nil {
		return nil, errors.New("no private key in this PEM file (want EC PRIVATE KEY or PRIVATE KEY)")
	}
	return der, nil
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
