package idblock

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func secret(s string) Password { return func() ([]byte, error) { return []byte(s), nil } }

// noQuestion fails a test in which a password is asked for without need.
func noQuestion(t *testing.T) Password {
	return func() ([]byte, error) { t.Error("asked for a password"); return nil, nil }
}

func asPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestForeignKeyFiles opens what other tools wrote (testdata/README.md).
func TestForeignKeyFiles(t *testing.T) {
	want := rfcKey(t)
	for _, name := range []string{"sec1.pem", "sec1.der", "bare.der"} {
		got, err := LoadKeyWith("testdata/"+name, noQuestion(t))
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{
		"encrypted.pem", "encrypted-aes128-sha512.der", "encrypted-aes192-sha384.pem", "encrypted-des3-sha1.pem", "encrypted-scrypt.pem",
		"encrypted-old.pem", "encrypted-old-des3.pem",
	} {
		path := "testdata/" + name
		got, err := LoadKeyWith(path, secret("secret"))
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: %v", name, err)
		}
		pub, err := LoadPublicKeyWith(path, secret("secret"))
		if err != nil || !pub.Equal(&want.PublicKey) {
			t.Errorf("%s as public key: %v", name, err)
		}
		for _, wrong := range []string{"Secret", "secret\n", "x"} {
			if _, err := LoadKeyWith(path, secret(wrong)); !errors.Is(err, ErrWrongPassword) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s with password %q: %v", name, wrong, err)
			}
		}
		if _, err := LoadKey(path); !errors.Is(err, ErrEncrypted) {
			t.Errorf("%s without a password: %v", name, err)
		}
		if _, err := LoadKeyWith(path, secret("")); err == nil || !strings.Contains(err.Error(), "empty") {
			t.Errorf("%s with an empty password: %v", name, err)
		}
		cause := errors.New("no terminal")
		if _, err := LoadKeyWith(path, func() ([]byte, error) { return nil, cause }); !errors.Is(err, cause) {
			t.Errorf("%s where no password can be asked for: %v", name, err)
		}
	}
}

// TestWrongPasswords: a wrong password is called that even where its padding
// happens to be good, which it is once in 256 times.
func TestWrongPasswords(t *testing.T) {
	raw := testFile(t, "encrypted-des3-sha1.pem")
	goodPadding := 0
	block, _ := pem.Decode(raw)
	k := must[*encryptedKey](t)(parseEncrypted(block.Bytes))
	for i := range 1500 {
		password := []byte{byte(i), byte(i >> 8), 'x'}
		if _, err := k.decrypt(password); err == nil {
			goodPadding++
		}
		if _, err := ParseKey(raw, func() ([]byte, error) { return password, nil }); !errors.Is(err, ErrWrongPassword) {
			t.Fatalf("password %x: %v", password, err)
		}
		if goodPadding > 1 && i > 100 {
			return
		}
	}
	if goodPadding == 0 {
		t.Error("no wrong password had good padding; the test shows nothing")
	}
}

// TestWrongKeyFiles: each kind of file that is not a P-384 private key is
// called what it is.
func TestWrongKeyFiles(t *testing.T) {
	k := rfcKey(t)
	bytesOf, keyOf := must[[]byte](t), must[*ecdsa.PrivateKey](t)
	sec1 := bytesOf(x509.MarshalECPrivateKey(k))
	pkcs8 := bytesOf(x509.MarshalPKCS8PrivateKey(k))
	spki := bytesOf(x509.MarshalPKIXPublicKey(&k.PublicKey))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Unix(1<<33, 0)}
	cert := bytesOf(x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k))
	request := bytesOf(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k))
	rsaKey := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	rsaCert := bytesOf(x509.CreateCertificate(rand.Reader, template, template, &rsaKey.PublicKey, rsaKey))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256 := keyOf(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p521 := keyOf(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	withHeader := func(h string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": h}, Bytes: der})
	}
	damaged := func(der []byte, at int) []byte { c := bytes.Clone(der); c[at] ^= 0xFF; return c }
	setScalar := func(d []byte) []byte {
		i := bytes.Index(sec1, []byte{4, 48})
		c := bytes.Clone(sec1)
		copy(c[i+2:i+50], d)
		return c
	}
	const private, public = "signing needs the private key", "only P-384"
	for name, c := range map[string]struct {
		data       []byte
		hint       string
		publicHint string // "" when the file has a P-384 public key
	}{
		"nothing":                  {nil, "the file is empty", "the file is empty"},
		"white space":              {[]byte(" \n"), "the file is empty", "the file is empty"},
		"text":                     {[]byte("hello"), "neither PEM nor DER", "neither PEM nor DER"},
		"random bytes":             {bytes.Repeat([]byte{0xA5, 3}, 70), "neither PEM nor DER", "neither PEM nor DER"},
		"another DER":              {[]byte{0x30, 3, 2, 1, 5}, "neither PEM nor DER", "neither PEM nor DER"},
		"public key":               {asPEM("PUBLIC KEY", spki), "it is a public key, and " + private, ""},
		"public key DER":           {spki, "it is a public key, and " + private, ""},
		"certificate":              {asPEM("CERTIFICATE", cert), "it is a certificate, and " + private, ""},
		"certificate DER":          {cert, "it is a certificate, and " + private, ""},
		"certificate request":      {asPEM("CERTIFICATE REQUEST", request), "it is a certificate request", "certificate request"},
		"certificate request DER":  {request, "it is a certificate request", "certificate request"},
		"RSA":                      {asPEM("PRIVATE KEY", bytesOf(x509.MarshalPKCS8PrivateKey(rsaKey))), "an RSA key: the firmware takes only P-384", public},
		"RSA PKCS#1":               {asPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), "an RSA key", public},
		"RSA PKCS#1 DER":           {x509.MarshalPKCS1PrivateKey(rsaKey), "an RSA key", public},
		"RSA public":               {asPEM("PUBLIC KEY", bytesOf(x509.MarshalPKIXPublicKey(&rsaKey.PublicKey))), private, "an RSA key"},
		"RSA certificate":          {asPEM("CERTIFICATE", rsaCert), private, "an RSA key"},
		"RSA certificate DER":      {rsaCert, private, "an RSA key"},
		"Ed25519":                  {asPEM("PRIVATE KEY", bytesOf(x509.MarshalPKCS8PrivateKey(ed))), "an Ed25519 key", "an Ed25519 key"},
		"P-256":                    {asPEM("EC PRIVATE KEY", bytesOf(x509.MarshalECPrivateKey(p256))), "it is a P-256 key: the firmware takes only P-384", "P-256"},
		"P-256 DER":                {bytesOf(x509.MarshalECPrivateKey(p256)), "it is a P-256 key", "P-256"},
		"P-256 public":             {asPEM("PUBLIC KEY", bytesOf(x509.MarshalPKIXPublicKey(&p256.PublicKey))), private, "P-256"},
		"P-521":                    {asPEM("PRIVATE KEY", bytesOf(x509.MarshalPKCS8PrivateKey(p521))), "it is a P-521 key", "P-521"},
		"secp256k1":                {testFile(t, "secp256k1.pem"), "it is a secp256k1 key", "secp256k1"},
		"brainpool":                {testFile(t, "brainpool.pem"), "it is a brainpoolP384r1 key", "brainpoolP384r1"},
		"explicit parameters":      {testFile(t, "explicit.pem"), "-param_enc named_curve", "-param_enc named_curve"},
		"PKCS#12":                  {testFile(t, "bundle.p12"), "it is a PKCS#12 file", "it is a PKCS#12 file"},
		"OpenSSH":                  {testFile(t, "openssh"), "ssh-keygen -p -m PKCS8", "ssh-keygen -p -m PKCS8"},
		"PBES1":                    {testFile(t, "encrypted-pbes1.pem"), "older than PBES2", "older than PBES2"},
		"an ID block":              {testFile(t, "id-block.bin"), "neither PEM nor DER", "neither PEM nor DER"},
		"a signature":              {testFile(t, "id-block.sig"), "neither PEM nor DER", "neither PEM nor DER"},
		"two keys":                 {append(asPEM("EC PRIVATE KEY", sec1), asPEM("EC PRIVATE KEY", sec1)...), "more than one private key", "more than one private key"},
		"two certificates":         {append(asPEM("CERTIFICATE", cert), asPEM("CERTIFICATE", cert)...), private, "more than one public key or certificate"},
		"parameters alone":         {asPEM("EC PARAMETERS", []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}), "names a curve but has no private key", "names a curve"},
		"PEM that is cut short":    {[]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n"), "cut short or damaged", "cut short or damaged"},
		"another PEM":              {asPEM("X509 CRL", sec1), `it is PEM "X509 CRL"`, "no public key"},
		"a wrong label":            {asPEM("PUBLIC KEY", sec1), private, "something else"},
		"DER that is cut short":    {pkcs8[:len(pkcs8)-1], "neither PEM nor DER", "neither PEM nor DER"},
		"DER with more after it":   {append(bytes.Clone(pkcs8), 0), "1 bytes after its DER", "1 bytes after its DER"},
		"a scalar of zero":         {setScalar(make([]byte, 48)), "private key is damaged", "private key is damaged"},
		"a scalar that is too big": {setScalar(elliptic.P384().Params().N.Bytes()), "private key is damaged", "private key is damaged"},
		"no curve":                 {bytesOf(asn1.Marshal(sec1Key{Version: 1, PrivateKey: make([]byte, 48)})), "does not name its curve", "does not name its curve"},
		"a point off the curve":    {asPEM("PUBLIC KEY", damaged(spki, len(spki)-1)), private, "public key is damaged"},
		"an unknown old cipher":    {withHeader("CAMELLIA-256-CBC,00", sec1), "CAMELLIA-256-CBC", "CAMELLIA-256-CBC"},
	} {
		_, err := ParseKey(c.data, secret("secret"))
		if err == nil || !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%s\n got %v\nwant %s", name, err, c.hint)
		}
		pub, err := ParsePublicKey(c.data, secret("secret"))
		switch {
		case c.publicHint == "" && (err != nil || !pub.Equal(&k.PublicKey)):
			t.Errorf("%s, as public key: %v", name, err)
		case c.publicHint != "" && (err == nil || !strings.Contains(err.Error(), c.publicHint)):
			t.Errorf("%s, as public key\n got %v\nwant %s", name, err, c.publicHint)
		}
	}
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "no key file") {
		t.Errorf("a large file: %v", err)
	}
	// A key and its certificate in one file are one key.
	both := append(asPEM("PRIVATE KEY", pkcs8), asPEM("CERTIFICATE", cert)...)
	if got, err := ParseKey(both, nil); err != nil || !got.Equal(k) {
		t.Errorf("key and certificate: %v", err)
	}
	if got, err := ParsePublicKey(both, nil); err != nil || !got.Equal(&k.PublicKey) {
		t.Errorf("key and certificate, as public key: %v", err)
	}
}

// TestEncryptedParameters: parameters that would be refused, crash or take for
// ever are named before any password is asked for.
func TestEncryptedParameters(t *testing.T) {
	der := testFile(t, "encrypted-aes128-sha512.der")
	block, _ := pem.Decode(testFile(t, "encrypted-scrypt.pem"))
	replace := func(der, old, new []byte) []byte {
		if bytes.Count(der, old) != 1 {
			t.Fatalf("% x is not once in the file", old)
		}
		return bytes.Replace(der, old, new, 1)
	}
	for name, c := range map[string]struct {
		der  []byte
		hint string
	}{
		"iterations":           {replace(der, []byte{2, 2, 0x10, 0}, []byte{2, 2, 0, 0}), "PBKDF2"},
		"iterations below 0":   {replace(der, []byte{2, 2, 0x10, 0}, []byte{2, 2, 0xF0, 0}), "-4096 iterations"},
		"function":             {replace(der, []byte{0x86, 0xF7, 0x0D, 2, 11}, []byte{0x86, 0xF7, 0x0D, 2, 12}), "function 1.2.840.113549.2.12"},
		"cipher":               {replace(der, []byte{3, 4, 1, 2, 4}, []byte{3, 4, 1, 3, 4}), "cipher 2.16.840.1.101.3.4.1.3"},
		"key derivation":       {replace(der, []byte{0xF7, 0x0D, 1, 5, 12}, []byte{0xF7, 0x0D, 1, 5, 14}), "key derivation 1.2.840.113549.1.5.14"},
		"vector of 0x10 bytes": {replace(der, append([]byte{3, 4, 1, 2}, 4, 16), append([]byte{3, 4, 1, 2}, 5, 16)), "initialization vector"},
		"scrypt N no power":    {replace(block.Bytes, []byte{2, 2, 0x40, 0}, []byte{2, 2, 0x40, 1}), "scrypt parameters N=16385"},
	} {
		_, err := ParseKey(c.der, noQuestion(t))
		if err == nil || !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%s\n got %v\nwant %s", name, err, c.hint)
		}
	}
	for _, p := range []scryptParameters{{N: 1 << 30, R: 8, P: 1}, {N: 2, R: 1 << 30, P: 1}, {N: 2, R: 1, P: 1 << 20}, {N: 1 << 40, R: 1 << 40, P: 1}, {N: 2, R: 0, P: 1}, {N: 0, R: 1, P: 1}} {
		k := &encryptedKey{scheme: schemes[0]}
		if err := k.useScrypt(pkix.AlgorithmIdentifier{Parameters: asn1.RawValue{FullBytes: must[[]byte](t)(asn1.Marshal(p))}}); err == nil {
			t.Errorf("scrypt %+v is taken", p)
		}
	}
	k := &encryptedKey{scheme: schemes[0]}
	for _, p := range []pbkdf2Parameters{{Iterations: maxIterations + 1}, {Iterations: 1, KeyLength: 16}} {
		if err := k.usePBKDF2(pkix.AlgorithmIdentifier{Parameters: asn1.RawValue{FullBytes: must[[]byte](t)(asn1.Marshal(p))}}); err == nil {
			t.Errorf("PBKDF2 %+v is taken", p)
		}
	}
}

func TestWriteEncryptedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id.pem")
	k := rfcKey(t)
	if err := WriteEncryptedKey(path, k, nil); err == nil {
		t.Error("an empty password is taken")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a refused password left a file")
	}
	if err := WriteEncryptedKey(path, k, []byte("pass word")); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(raw, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")) {
		t.Errorf("begins %.40q", raw)
	}
	d := k.D.FillBytes(make([]byte, 48))
	if block, _ := pem.Decode(raw); bytes.Contains(block.Bytes, d) {
		t.Error("the number of the key is in the file")
	}
	if got, err := LoadKeyWith(path, secret("pass word")); err != nil || !got.Equal(k) {
		t.Errorf("reading it back: %v", err)
	}
	if _, err := LoadKeyWith(path, secret("password")); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("a wrong password: %v", err)
	}
	if err := WriteEncryptedKey(path, k, []byte("x")); !errors.Is(err, os.ErrExist) {
		t.Errorf("writing over it: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(raw, after) {
		t.Error("the file was changed")
	}
}

// FuzzParseKey: what is taken as a key is written and read back as that key,
// private and public.
func FuzzParseKey(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) < 10 {
		f.Fatalf("%d seeds, %v", len(files), err)
	}
	for _, name := range files {
		f.Add(must[[]byte](f)(os.ReadFile(name)))
	}
	k := rfcKey(f)
	f.Add(must[[]byte](f)(x509.MarshalPKIXPublicKey(&k.PublicKey)))
	f.Add(must[[]byte](f)(x509.MarshalPKCS8PrivateKey(k)))
	f.Fuzz(func(t *testing.T, data []byte) {
		der := data
		if block, _ := pem.Decode(data); block != nil {
			der = block.Bytes
		}
		if e, err := parseEncrypted(der); err == nil && e.work > 4096 {
			t.Skip("slow by design")
		}
		if key, err := ParseKey(data, secret("secret")); err == nil {
			again, err := ParseKey(asPEM("PRIVATE KEY", must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))), nil)
			if err != nil || !again.Equal(key) {
				t.Fatalf("a key that was taken is not when it is written: %v", err)
			}
			signed, err := sign(key, data)
			if err != nil {
				t.Fatalf("a key that was taken does not sign: %v", err)
			}
			if _, _, err := DecodeSignature(signed); err != nil {
				t.Fatal(err)
			}
		}
		if pub, err := ParsePublicKey(data, secret("secret")); err == nil {
			raw, err := EncodePublicKey(pub)
			if err != nil {
				t.Fatal(err)
			}
			back, err := DecodePublicKey(raw)
			if err != nil || !back.Equal(pub) {
				t.Fatalf("a public key that was taken is not when the firmware's encoding is read: %v", err)
			}
			text := must[[]byte](t)(EncodePublicKeyPEM(pub))
			if back, err = ParsePublicKey(text, nil); err != nil || !back.Equal(pub) {
				t.Fatalf("a public key that was taken is not when it is written: %v", err)
			}
		}
	})
}
