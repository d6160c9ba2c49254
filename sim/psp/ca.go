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
	"slices"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// CA is a user's simulated AMD: the root (ARK) and the signing keys for VCEKs
// (ASK) and VLEKs (ASVK), made once per user. Its certificates carry AMD's
// names, because verifiers pin them, and snp.SimulatedMarker, because it is not
// AMD.
//
// AMD has its own keys for each product line. Here the lines share the keys and
// each has its own certificates, since making a key takes seconds and nothing
// that verifies compares keys of different lines.
type CA struct {
	lines                   map[string]*line // by product, "Genoa"
	arkKey, askKey, asvkKey *rsa.PrivateKey
}

// line are the certificates of one product line.
type line struct{ ark, ask, asvk *x509.Certificate }

const (
	caFile   = "simulated-roots.pem"
	rsaBits  = 4096
	validity = 25 * 365 * 24 * time.Hour

	// caFileBefore is what earlier versions kept: one product's ARK, ASK and the
	// ASK's key. Their ARK's key was forgotten, so that it can sign neither an
	// ASVK nor a revocation list, and it is replaced.
	caFileBefore = "simulated-ca.pem"
)

// products are the lines that there are roots for.
func products() (out []string) {
	for _, name := range Platforms() {
		if c, err := ParsePlatform(name); err == nil {
			out = append(out, c.Product)
		}
	}
	return out
}

// Types of PEM blocks: first the three keys, then ARK, ASK and ASVK of each
// line in the order of products.
const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
)

// LoadOrCreateCA gives this user's simulated roots, kept in a file of dir with
// mode 0600. The ARK's key is kept with the others: revocation lists are signed
// with it, and those that were not made today must be signable tomorrow.
// making, when set, is called before new ones are made, which takes seconds.
// Two processes that do this at once end up with the same roots.
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
	// link(2) fails when another process was first; then those roots count.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("writing the simulated root key: %w", err)
	}
	if ca, err = loadCA(path); err != nil {
		return nil, err
	}
	// A key that nothing signs with any more should not lie about.
	if err := os.Remove(filepath.Join(dir, caFileBefore)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the simulated root of an earlier version: %w", err)
	}
	return ca, nil
}

// Fingerprint is the SHA-256 of the ARK certificate of the default platform, 64
// hexadecimal digits.
func (c *CA) Fingerprint() string { return c.FingerprintOf(DefaultConfig().Product) }

// FingerprintOf is the SHA-256 of a product's ARK certificate, 64 hexadecimal
// digits; empty for a product that there is no root for.
func (c *CA) FingerprintOf(product string) string {
	l := c.lines[product]
	if l == nil {
		return ""
	}
	sum := sha256.Sum256(l.ark.Raw)
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
	// Whoever has the keys can make reports that this user's roots accept.
	if st, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("reading the simulated root: %w", err)
	} else if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the simulated root's keys in %s are open to other users (mode %04o): remove the file and new ones are made, or chmod 600 it if no one else has them", path, st.Mode().Perm())
	}
	ca, err := parseCA(data)
	if err != nil {
		return nil, fmt.Errorf("the simulated root in %s cannot be used: %w; remove the file and a new one is made", path, err)
	}
	return ca, nil
}

func parseCA(data []byte) (*CA, error) {
	n := 0
	next := func(typ string) ([]byte, error) {
		n++
		block, rest := pem.Decode(data)
		if block == nil || block.Type != typ {
			return nil, fmt.Errorf("its PEM block %d is not a %s", n, typ)
		}
		data = rest
		return block.Bytes, nil
	}
	ca := &CA{lines: map[string]*line{}}
	for _, k := range []struct {
		name string
		into **rsa.PrivateKey
	}{{"ARK", &ca.arkKey}, {"ASK", &ca.askKey}, {"ASVK", &ca.asvkKey}} {
		der, err := next(pemKey)
		if err != nil {
			return nil, err
		}
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("%s's key: %w", k.name, err)
		}
		var isRSA bool
		if *k.into, isRSA = key.(*rsa.PrivateKey); !isRSA {
			return nil, fmt.Errorf("%s's key is no RSA key", k.name)
		}
	}
	for _, product := range products() {
		l := &line{}
		for _, c := range []struct {
			name, common string
			key          *rsa.PrivateKey
			into         **x509.Certificate
		}{
			{"ARK", arkName(product), ca.arkKey, &l.ark},
			{"ASK", askName(product), ca.askKey, &l.ask},
			{"ASVK", asvkName(product), ca.asvkKey, &l.asvk},
		} {
			der, err := next(pemCertificate)
			if err != nil {
				return nil, err
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			*c.into = cert
			if err := checkAuthority(cert, l.ark, c.common, c.key); err != nil {
				return nil, fmt.Errorf("%s: %w", c.common, err)
			}
		}
		ca.lines[product] = l
	}
	if len(bytes.TrimSpace(data)) != 0 {
		return nil, errors.New("something follows its last PEM block")
	}
	return ca, nil
}

// checkAuthority sees that a certificate is the one that stands at its place in
// the file: of that name and key, signed by the ARK, marked, and not run out.
func checkAuthority(cert, ark *x509.Certificate, common string, key *rsa.PrivateKey) error {
	if cert.Subject.CommonName != common {
		return fmt.Errorf("the certificate is that of %q", cert.Subject.CommonName)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return errors.New("the key is not the certificate's")
	}
	if err := cert.CheckSignatureFrom(ark); err != nil {
		return fmt.Errorf("the ARK did not sign it: %w", err)
	}
	if cert.Subject.SerialNumber != snp.SimulatedMarker {
		return errors.New("the certificate is not marked as simulated")
	}
	if time.Now().After(cert.NotAfter) {
		return fmt.Errorf("it was valid until %s", cert.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// newCA makes keys and certificates and gives the file.
func newCA() ([]byte, error) {
	var keys [3]*rsa.PrivateKey // ARK, ASK, ASVK
	errs := make(chan error, len(keys))
	for i := range keys {
		go func() {
			k, err := rsa.GenerateKey(rand.Reader, rsaBits)
			keys[i] = k
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs, <-errs); err != nil {
		return nil, fmt.Errorf("making the simulated root key: %w", err)
	}
	return writeCA(keys, authority)
}

// writeCA gives the file of three keys (ARK, ASK, ASVK) with the certificates
// that issue makes.
func writeCA(keys [3]*rsa.PrivateKey, issue issuer) ([]byte, error) {
	var out bytes.Buffer
	write := func(typ string, der []byte) {
		// pem.Encode fails only where the writer does, which a buffer does not.
		_ = pem.Encode(&out, &pem.Block{Type: typ, Bytes: der})
	}
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, err
		}
		write(pemKey, der)
	}
	for _, product := range products() {
		ark, err := issue(arkName(product), "vcek", product, &keys[0].PublicKey, nil, keys[0])
		if err != nil {
			return nil, err
		}
		ask, err := issue(askName(product), "vcek", product, &keys[1].PublicKey, ark, keys[0])
		if err != nil {
			return nil, err
		}
		asvk, err := issue(asvkName(product), "vlek", product, &keys[2].PublicKey, ark, keys[0])
		if err != nil {
			return nil, err
		}
		for _, c := range []*x509.Certificate{ark, ask, asvk} {
			write(pemCertificate, c.Raw)
		}
	}
	return out.Bytes(), nil
}

// lineOf gives a product's certificates.
func (c *CA) lineOf(product string) (*line, error) {
	if l := c.lines[product]; l != nil {
		return l, nil
	}
	names := make([]string, 0, len(c.lines))
	for n := range c.lines {
		names = append(names, n)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("there is no simulated root for a product %q, only for %s", product, strings.Join(names, ", "))
}
