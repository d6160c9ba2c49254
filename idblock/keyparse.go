package idblock

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParseKey reads a P-384 private key as LoadKeyWith does. What is wrong is
// said in one sentence about "it", to which callers add the file's name.
func ParseKey(raw []byte, password Password) (*ecdsa.PrivateKey, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, errors.New("the file is empty")
	}
	if !isPEM(raw) {
		return privateFromDER(raw, password)
	}
	f, err := readPEM(raw)
	if err != nil {
		return nil, err
	}
	switch len(f.private) {
	case 0:
		return nil, fmt.Errorf("%s, and signing needs the private key", f.kinds())
	case 1:
		return privateFromPEM(f.private[0], password)
	}
	return nil, errors.New("the file has more than one private key (give a file with one)")
}

// ParsePublicKey reads the public half of a P-384 key as LoadPublicKeyWith
// does. In a file that has both, the public key or certificate is what counts.
func ParsePublicKey(raw []byte, password Password) (*ecdsa.PublicKey, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, errors.New("the file is empty")
	}
	if !isPEM(raw) {
		if pub, err := publicFromDER(raw); pub != nil || err != nil {
			return pub, err
		}
		key, err := privateFromDER(raw, password)
		if err != nil {
			return nil, err
		}
		return &key.PublicKey, nil
	}
	f, err := readPEM(raw)
	if err != nil {
		return nil, err
	}
	switch {
	case len(f.public) > 1:
		return nil, errors.New("the file has more than one public key or certificate (give a file with one)")
	case len(f.public) == 1:
		pub, err := publicFromDER(f.public[0].Bytes)
		if pub == nil && err == nil {
			err = fmt.Errorf("its PEM %q holds something else, or it is damaged", f.public[0].Type)
		}
		return pub, err
	case len(f.private) > 1:
		return nil, errors.New("the file has more than one private key (give a file with one)")
	case len(f.private) == 1:
		key, err := privateFromPEM(f.private[0], password)
		if err != nil {
			return nil, err
		}
		return &key.PublicKey, nil
	}
	return nil, fmt.Errorf("%s, which has no public key that is known here", f.kinds())
}

// pemFile is a PEM file by what its blocks are for.
type pemFile struct {
	private, public []*pem.Block
	other           []string // types
}

func isPEM(raw []byte) bool { return bytes.Contains(raw, []byte("-----BEGIN ")) }

func readPEM(raw []byte) (*pemFile, error) {
	f := &pemFile{}
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			f.private = append(f.private, block)
		case "PUBLIC KEY", "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
			f.public = append(f.public, block)
		case "EC PARAMETERS": // openssl ecparam -genkey puts it first
		case "RSA PRIVATE KEY", "RSA PUBLIC KEY":
			return nil, fmt.Errorf("it is an RSA key: %w", ErrNotP384)
		case "DSA PRIVATE KEY":
			return nil, fmt.Errorf("it is a DSA key: %w", ErrNotP384)
		case "OPENSSH PRIVATE KEY":
			return nil, errors.New("it is in OpenSSH's own form (convert a copy with `ssh-keygen -p -m PKCS8 -f KEY`)")
		default:
			f.other = append(f.other, block.Type)
		}
	}
	if len(f.private)+len(f.public)+len(f.other) == 0 {
		if bytes.Contains(raw, []byte("-----BEGIN EC PARAMETERS-----")) {
			return nil, errors.New("it names a curve but has no private key (`openssl ecparam -name secp384r1 -genkey -noout -out KEY` makes one)")
		}
		return nil, errors.New("no PEM block in it can be read: it is cut short or damaged, and so no private key")
	}
	return f, nil
}

// kinds says what a file without a private key is.
func (f *pemFile) kinds() string {
	switch {
	case len(f.public) > 0 && f.public[0].Type == "PUBLIC KEY":
		return "it is a public key"
	case len(f.public) > 0:
		return "it is a certificate"
	case f.other[0] == "CERTIFICATE REQUEST" || f.other[0] == "NEW CERTIFICATE REQUEST":
		return "it is a certificate request"
	}
	return fmt.Sprintf("it is PEM %q (want EC PRIVATE KEY, PRIVATE KEY or ENCRYPTED PRIVATE KEY)", f.other[0])
}

func privateFromPEM(block *pem.Block, password Password) (*ecdsa.PrivateKey, error) {
	if block.Headers["DEK-Info"] == "" {
		if block.Type == "ENCRYPTED PRIVATE KEY" {
			return decryptPKCS8(block.Bytes, password)
		}
		return privateFromDER(block.Bytes, password)
	}
	secret, err := askPassword(password)
	if err != nil {
		return nil, err
	}
	// Deprecated because it does not authenticate what it decrypts, which
	// matters to those who let others watch them do it; `openssl ec -aes256`
	// still writes such files, and this is how one reads them.
	der, err := x509.DecryptPEMBlock(block, secret) //nolint:staticcheck // see above
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrWrongPassword
	}
	if err != nil {
		return nil, fmt.Errorf("its %q encryption cannot be undone: %w", block.Headers["DEK-Info"], err)
	}
	return opened(der)
}

func decryptPKCS8(der []byte, password Password) (*ecdsa.PrivateKey, error) {
	k, err := parseEncrypted(der)
	if err != nil {
		return nil, err
	}
	secret, err := askPassword(password)
	if err != nil {
		return nil, err
	}
	plain, err := k.decrypt(secret)
	if err != nil {
		return nil, err
	}
	return opened(plain)
}

// opened reads a key that came out of decryption. A wrong password gives good
// padding once in 256 times, and then no DER.
func opened(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := privateFromDER(der, nil)
	if errors.Is(err, errNoKey) {
		return nil, ErrWrongPassword
	}
	return key, err
}

func askPassword(password Password) ([]byte, error) {
	if password == nil {
		return nil, ErrEncrypted
	}
	secret, err := password()
	if err != nil {
		return nil, err
	}
	if len(secret) == 0 {
		return nil, errors.New("it is encrypted, and the password given is empty")
	}
	return secret, nil
}

var errNoKey = errors.New("it is neither PEM nor DER of a private key")

// sec1Key is RFC 5915's ECPrivateKey, with the parameters unread.
type sec1Key struct {
	Version    int
	PrivateKey []byte
	Parameters asn1.RawValue  `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString `asn1:"optional,explicit,tag:1"`
}

// pkcs8Key is RFC 5958's OneAsymmetricKey as far as it concerns us.
type pkcs8Key struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
}

// privateFromDER reads a private key. It looks at the algorithm itself before
// it lets crypto/x509 read the key, because x509's messages do not say what a
// file is instead.
func privateFromDER(der []byte, password Password) (*ecdsa.PrivateKey, error) {
	if err := oneDER(der); err != nil {
		return nil, err
	}
	var (
		sec1  sec1Key
		pkcs8 pkcs8Key
		key   *ecdsa.PrivateKey
		err   error
	)
	switch {
	case whole(der, &sec1):
		// Of an explicitly tagged RawValue asn1 gives the tag, not what is in it.
		var parameters asn1.RawValue
		if !whole(sec1.Parameters.Bytes, &parameters) {
			parameters = asn1.RawValue{}
		}
		if err := namedP384(parameters); err != nil {
			return nil, err
		}
		key, err = x509.ParseECPrivateKey(der)
	case whole(der, &pkcs8):
		if err := algorithmP384(pkcs8.Algorithm); err != nil {
			return nil, err
		}
		var k any
		k, err = x509.ParsePKCS8PrivateKey(der)
		key, _ = k.(*ecdsa.PrivateKey)
	case looksEncrypted(der):
		return decryptPKCS8(der, password)
	default:
		return nil, foreignDER(der)
	}
	if err == nil && (key == nil || !validScalar(key)) {
		err = errors.New("its number is not between 1 and the order of the curve minus 1")
	}
	if err != nil {
		return nil, fmt.Errorf("its private key is damaged: %w", err)
	}
	if err := checkCurve(&key.PublicKey); err != nil {
		return nil, err
	}
	return key, nil
}

// validScalar is false for a key of zero, which x509 lets pass.
func validScalar(key *ecdsa.PrivateKey) bool {
	raw, err := key.Bytes()
	return err == nil && !zero(raw)
}

// publicFromDER reads a public key or certificate; nil without an error when
// it is neither.
func publicFromDER(der []byte) (*ecdsa.PublicKey, error) {
	if err := oneDER(der); err != nil {
		return nil, nil
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if !whole(der, &spki) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil
		}
		der = cert.RawSubjectPublicKeyInfo
		if !whole(der, &spki) {
			return nil, nil
		}
	}
	if err := algorithmP384(spki.Algorithm); err != nil {
		return nil, err
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("its public key is damaged: %w", err)
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T: %w", k, ErrNotP384)
	}
	return pub, checkCurve(pub)
}

// foreignDER says what DER is that is no private key of ours.
func foreignDER(der []byte) error {
	var pkcs1 struct {
		Version, N, E, D, P, Q, DP, DQ, QInv asn1.RawValue
	}
	var pfx struct {
		Version int
		Content struct {
			Type asn1.ObjectIdentifier
			Data asn1.RawValue `asn1:"optional"`
		}
	}
	switch pub, err := publicFromDER(der); {
	case pub != nil || err != nil:
		what := "it is a public key"
		if _, err := x509.ParseCertificate(der); err == nil {
			what = "it is a certificate"
		}
		return fmt.Errorf("%s, and signing needs the private key", what)
	case whole(der, &pfx):
		return errors.New("it is a PKCS#12 file (take the key out with `openssl pkcs12 -in FILE -nocerts -out KEY`)")
	case whole(der, &pkcs1):
		return fmt.Errorf("it is an RSA key: %w", ErrNotP384)
	}
	if _, err := x509.ParseCertificateRequest(der); err == nil {
		return errors.New("it is a certificate request, and signing needs the private key")
	}
	return errNoKey
}

// oneDER wants a single DER value and nothing after it.
func oneDER(der []byte) error {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil || v.Class != asn1.ClassUniversal || v.Tag != asn1.TagSequence {
		return errNoKey
	}
	if len(rest) != 0 {
		return fmt.Errorf("it has %d bytes after its DER, so it is not one key", len(rest))
	}
	return nil
}

// whole says whether DER is v and nothing else. A SEQUENCE may have members
// after those of v, which asn1.Unmarshal passes over: PKCS#8 has attributes
// and a public key there.
func whole(der []byte, v any) bool {
	rest, err := asn1.Unmarshal(der, v)
	return err == nil && len(rest) == 0
}

// Object identifiers of key algorithms and curves, with the names that users know.
var (
	oidEC   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP384 = asn1.ObjectIdentifier{1, 3, 132, 0, 34}

	algorithmNames = map[string]string{
		"1.2.840.113549.1.1.1": "an RSA", "1.2.840.113549.1.1.10": "an RSA-PSS", "1.2.840.10040.4.1": "a DSA",
		"1.3.101.110": "an X25519", "1.3.101.111": "an X448", "1.3.101.112": "an Ed25519", "1.3.101.113": "an Ed448",
	}
	curveNames = map[string]string{
		"1.2.840.10045.3.1.7": "P-256", "1.3.132.0.33": "P-224", "1.3.132.0.35": "P-521", "1.3.132.0.10": "secp256k1",
		"1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1", "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1", "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
	}
)

// algorithmP384 wants the algorithm of an EC key on P-384.
func algorithmP384(a pkix.AlgorithmIdentifier) error {
	if a.Algorithm.Equal(oidEC) {
		return namedP384(a.Parameters)
	}
	if name, ok := algorithmNames[a.Algorithm.String()]; ok {
		return fmt.Errorf("it is %s key: %w", name, ErrNotP384)
	}
	return fmt.Errorf("it is a key of algorithm %s: %w", a.Algorithm, ErrNotP384)
}

// namedP384 wants EC parameters to name P-384.
func namedP384(params asn1.RawValue) error {
	var oid asn1.ObjectIdentifier
	if whole(params.FullBytes, &oid) {
		if oid.Equal(oidP384) {
			return nil
		}
		name, ok := curveNames[oid.String()]
		if !ok {
			name = "curve " + oid.String()
		}
		return fmt.Errorf("it is a %s key: %w", name, ErrNotP384)
	}
	if params.Tag == asn1.TagSequence && params.Class == asn1.ClassUniversal {
		return errors.New("it spells its curve out instead of naming it (convert it with `openssl ec -in KEY -param_enc named_curve -out NEWKEY`)")
	}
	return errors.New("it does not name its curve, so whether it is a P-384 key cannot be told")
}
