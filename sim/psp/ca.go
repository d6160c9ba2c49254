package psp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
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
	if making != nil {
		making()
	}
	data, err := newCA()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the simulated root key has no place: %w", err)
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

// secret is what derived keys of this chip come from.
func (c *CA) secret() [32]byte {
	return sha256.Sum256(append([]byte("snplaunch derived keys "), x509.MarshalPKCS1PrivateKey(c.askKey)...))
}

func loadCA(path string) (*CA, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
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
			return nil, fmt.Errorf("block %d is not a %s", i+1, want)
		}
		der[i], data = block.Bytes, rest
	}
	if len(bytes.TrimSpace(data)) != 0 {
		return nil, errors.New("something follows the third block")
	}
	ca := &CA{product: caProduct}
	var err error
	if ca.ark, err = x509.ParseCertificate(der[0]); err != nil {
		return nil, err
	}
	if ca.ask, err = x509.ParseCertificate(der[1]); err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der[2])
	if err != nil {
		return nil, err
	}
	var isRSA bool
	if ca.askKey, isRSA = key.(*rsa.PrivateKey); !isRSA || !ca.askKey.PublicKey.Equal(ca.ask.PublicKey) {
		return nil, errors.New("the key is not the certificate's")
	}
	if err := ca.ask.CheckSignatureFrom(ca.ark); err != nil {
		return nil, err
	}
	if ca.ark.Subject.SerialNumber != snp.SimulatedMarker || ca.ask.Subject.SerialNumber != snp.SimulatedMarker {
		return nil, errors.New("its certificates are not marked as simulated")
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

// name is AMD's distinguished name with our mark. go-sev-guest pins exactly one
// value each of OU, C, L, ST, O and CN.
func name(common string) pkix.Name {
	return pkix.Name{
		OrganizationalUnit: []string{"Engineering"}, Country: []string{"US"}, Locality: []string{"Santa Clara"},
		Province: []string{"CA"}, Organization: []string{"Advanced Micro Devices"}, CommonName: common,
		SerialNumber: snp.SimulatedMarker,
	}
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// authority makes the certificate of an ARK (parent nil) or ASK.
func authority(common string, pub *rsa.PublicKey, parent *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, error) {
	n, err := serial()
	if err != nil {
		return nil, err
	}
	now := time.Now().Add(-time.Hour).Truncate(time.Second) // clocks of verifiers differ
	template := &x509.Certificate{
		SerialNumber: n, Subject: name(common), NotBefore: now, NotAfter: now.Add(validity),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, KeyUsage: x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
		CRLDistributionPoints: []string{"https://kdsintf.amd.com/vcek/v1/" + caProduct + "/crl"},
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("making the simulated %s: %w", common, err)
	}
	return x509.ParseCertificate(der)
}

// Extensions of a VCEK (AMD 57230, "VCEK Certificate and KDS Interface
// Specification"), below 1.3.6.1.4.1.3704.1.
func vcekExtensions(cfg Config, chip [64]byte) ([]pkix.Extension, error) {
	var out []pkix.Extension
	add := func(value any, params string, arc ...int) error {
		der, err := asn1.MarshalWithParams(value, params)
		out = append(out, pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...), Value: der})
		return err
	}
	tcb := cfg.TCB
	err := errors.Join(
		add(1, "", 1), // version of this structure
		add(cfg.Product+"-"+cfg.Stepping, "ia5", 2),
		add(int(tcb.BootLoader), "", 3, 1), add(int(tcb.TEE), "", 3, 2), add(int(tcb.SNP), "", 3, 3),
		add(0, "", 3, 4), add(0, "", 3, 5), add(0, "", 3, 6), add(0, "", 3, 7),
		add(int(tcb.Microcode), "", 3, 8),
	)
	// HWID is the raw chip id, without an ASN.1 head.
	out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}, Value: chip[:]})
	return out, err
}

// issueVCEK certifies a chip's key.
func (c *CA) issueVCEK(cfg Config, chip [64]byte, pub *ecdsa.PublicKey) ([]byte, error) {
	extensions, err := vcekExtensions(cfg, chip)
	if err != nil {
		return nil, err
	}
	n, err := serial()
	if err != nil {
		return nil, err
	}
	now := time.Now().Add(-time.Hour).Truncate(time.Second)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: n, Subject: name("SEV-VCEK"), NotBefore: now, NotAfter: now.Add(7 * 365 * 24 * time.Hour),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: extensions,
	}, c.ask, pub, c.askKey)
	if err != nil {
		return nil, fmt.Errorf("making the simulated VCEK: %w", err)
	}
	return der, nil
}
