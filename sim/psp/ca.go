package psp

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// CA is a simulated AMD root (ARK) and signing key (ASK), made once per user.
// Its certificates carry AMD's names, because verifiers pin them, and
// snp.SimulatedMarker, because it is not AMD.
type CA struct {
	product string
	ark     *x509.Certificate
	ask     *x509.Certificate
	askKey  *rsa.PrivateKey
}

const (
	caProduct = "Genoa"
	caFile    = "simulated-ca.pem"
	rsaBits   = 4096
	validity  = 25 * 365 * 24 * time.Hour
)

// Types of PEM blocks in the file, in their order.
const (
	pemARK    = "CERTIFICATE"
	pemASK    = "CERTIFICATE"
	pemASKKey = "PRIVATE KEY"
)

// LoadOrCreateCA gives this user's simulated root, kept in a file of dir with
// mode 0600. making, when set, is called before a new one is made, which takes
// seconds. Two processes that do this at once end up with the same root.
func LoadOrCreateCA(dir string, making func()) (*CA, error) {
	path := filepath.Join(dir, caFile)
	ca, err := loadCA(path)
	if !errors.Is(err, os.ErrNotExist) {
		return ca, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the simulated root key has no place: %w", err)
	}
	if making != nil {
		making()
	}
	data, err := newCA()
	if err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(dir, caFile+"-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("the simulated root key has no place: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("writing the simulated root key: %w", err)
	}
	// link(2) fails when another process was first; then that root counts.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("writing the simulated root key: %w", err)
	}
	return loadCA(path)
}

// Fingerprint is the SHA-256 of the ARK certificate, 64 hexadecimal digits.
func (c *CA) Fingerprint() string {
	sum := sha256.Sum256(c.ark.Raw)
	return hex.EncodeToString(sum[:])
}

func loadCA(path string) (*CA, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("reading the simulated root: %w", err)
	}
	// Whoever has the key can make reports that this user's roots accept.
	if st, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("reading the simulated root: %w", err)
	} else if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the simulated root's key in %s is open to other users (mode %04o): remove the file and a new one is made, or chmod 600 it if no one else has it", path, st.Mode().Perm())
	}
	ca, err := parseCA(data)
	if err != nil {
		return nil, fmt.Errorf("the simulated root in %s cannot be used: %w; remove the file and a new one is made", path, err)
	}
	return ca, nil
}

func parseCA(data []byte) (*CA, error) {
	var der [3][]byte
	for i, want := range []string{pemARK, pemASK, pemASKKey} {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != want {
			return nil, fmt.Errorf("its PEM block %d is not a %s", i+1, want)
		}
		der[i], data = block.Bytes, rest
	}
	if len(bytes.TrimSpace(data)) != 0 {
		return nil, errors.New("something follows its third PEM block")
	}
	ca := &CA{product: caProduct}
	var err error
	if ca.ark, err = x509.ParseCertificate(der[0]); err != nil {
		return nil, fmt.Errorf("ARK: %w", err)
	}
	if ca.ask, err = x509.ParseCertificate(der[1]); err != nil {
		return nil, fmt.Errorf("ASK: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der[2])
	if err != nil {
		return nil, fmt.Errorf("ASK's key: %w", err)
	}
	var isRSA bool
	if ca.askKey, isRSA = key.(*rsa.PrivateKey); !isRSA || !ca.askKey.PublicKey.Equal(ca.ask.PublicKey) {
		return nil, errors.New("the key is not the certificate's")
	}
	if err := ca.ark.CheckSignatureFrom(ca.ark); err != nil {
		return nil, fmt.Errorf("the ARK did not sign itself: %w", err)
	}
	if err := ca.ask.CheckSignatureFrom(ca.ark); err != nil {
		return nil, fmt.Errorf("the ASK was not signed by the ARK: %w", err)
	}
	if now := time.Now(); now.After(ca.ark.NotAfter) || now.After(ca.ask.NotAfter) {
		return nil, fmt.Errorf("it was valid until %s", ca.ask.NotAfter.Format(time.DateOnly))
	}
	if ca.ark.Subject.SerialNumber != snp.SimulatedMarker || ca.ask.Subject.SerialNumber != snp.SimulatedMarker {
		return nil, errors.New("its certificates are not marked as simulated")
	}
	if ark, ask := ca.ark.Subject.CommonName, ca.ask.Subject.CommonName; ark != "ARK-"+ca.product || ask != "SEV-"+ca.product {
		return nil, fmt.Errorf("its certificates are those of %q and %q, not of a %s's ARK and ASK", ark, ask, ca.product)
	}
	return ca, nil
}

// newCA makes ARK and ASK and gives the file. The ARK's key signs the ASK and
// itself, and is then forgotten.
func newCA() ([]byte, error) {
	var keys [2]*rsa.PrivateKey
	errs := make(chan error, len(keys))
	for i := range keys {
		go func() {
			k, err := rsa.GenerateKey(rand.Reader, rsaBits)
			keys[i] = k
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		return nil, fmt.Errorf("making the simulated root key: %w", err)
	}
	ark, err := authority("ARK-"+caProduct, &keys[0].PublicKey, nil, keys[0])
	if err != nil {
		return nil, err
	}
	ask, err := authority("SEV-"+caProduct, &keys[1].PublicKey, ark, keys[0])
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(keys[1])
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, b := range []*pem.Block{{Type: pemARK, Bytes: ark.Raw}, {Type: pemASK, Bytes: ask.Raw}, {Type: pemASKKey, Bytes: key}} {
		if err := pem.Encode(&out, b); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
