package psp

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// caParts are the DER blocks of a file that is good: three keys, then ARK, ASK
// and ASVK of each product.
func caParts(t testing.TB) (parts [][]byte) {
	t.Helper()
	testCA(t)
	data, err := os.ReadFile(filepath.Join(testFolder, caFile))
	if err != nil {
		t.Fatal(err)
	}
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return parts
		}
		parts = append(parts, b.Bytes)
	}
}

func caOf(parts [][]byte) []byte {
	var out []byte
	for i, der := range parts {
		typ := "CERTIFICATE"
		if i < 3 {
			typ = "PRIVATE KEY"
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})...)
	}
	return out
}

// Roots that are whole and yet not ours are refused: unmarked ones, ones that
// have run out, ones of another name, ones that sign nothing.
func TestForeignCA(t *testing.T) {
	keys := [3]*rsa.PrivateKey{}
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	good := x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	build := func(change func(common string, c *x509.Certificate)) []byte {
		data, err := writeCA(keys, func(common, _, _ string, pub *rsa.PublicKey, parent *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, error) {
			template := good
			template.SerialNumber, template.Subject = big.NewInt(1), name(common)
			template.SignatureAlgorithm, template.KeyUsage = x509.SHA384WithRSAPSS, x509.KeyUsageCertSign
			template.BasicConstraintsValid, template.IsCA = true, true
			if change != nil {
				change(common, &template)
			}
			if parent == nil {
				parent = &template
			}
			der, err := x509.CreateCertificate(rand.Reader, &template, parent, pub, signer)
			if err != nil {
				return nil, err
			}
			return x509.ParseCertificate(der)
		})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	only := func(which string, do func(c *x509.Certificate)) []byte {
		return build(func(common string, c *x509.Certificate) {
			if common == which {
				do(c)
			}
		})
	}
	if _, err := parseCA(build(nil)); err != nil {
		t.Fatalf("good ones: %v", err)
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"another ARK":                 {only("ARK-Milan", func(c *x509.Certificate) { c.Subject.CommonName = "ARK-Rome" }), `"ARK-Rome"`},
		"another ASK":                 {only("SEV-Turin", func(c *x509.Certificate) { c.Subject.CommonName = "SEV-Rome" }), `"SEV-Rome"`},
		"unmarked":                    {build(func(_ string, c *x509.Certificate) { c.Subject.SerialNumber = "" }), "not marked"},
		"one unmarked":                {only("SEV-VLEK-Turin", func(c *x509.Certificate) { c.Subject.SerialNumber = "" }), "SEV-VLEK-Turin: the certificate is not marked"},
		"other mark":                  {build(func(_ string, c *x509.Certificate) { c.Subject.SerialNumber = "SIMULATED" }), "not marked"},
		"has run out":                 {only("SEV-Genoa", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), "valid until"},
		"an ARK that is no authority": {only("ARK-Genoa", func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = x509.KeyUsageDigitalSignature }), "did not sign"},
		"PEM of EC":                   {slices.Concat([]byte("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"), build(nil)), "block 1"},
		"nothing but NULs":            {make([]byte, 4096), "block 1"},
	} {
		if _, err := parseCA(c.data); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want an error that says %s", name, err, c.says)
		}
	}
}

// FuzzParseCA changes a good file, in one of its blocks or as text. It never
// panics, and what it takes can certify a chip and a provider.
func FuzzParseCA(f *testing.F) {
	parts := caParts(f)
	for block := range parts {
		for _, at := range []uint16{0, 4, 20, 100, 300, uint16(len(parts[block]) - 1)} {
			f.Add(uint8(block), at, []byte{1}, uint16(0), []byte{})
			f.Add(uint8(block), at, []byte{}, at, []byte{})
		}
	}
	f.Add(uint8(0), uint16(0), []byte{}, uint16(0), []byte{})
	f.Add(uint8(0), uint16(0), []byte{}, uint16(0), []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, block uint8, at uint16, patch []byte, cut uint16, text []byte) {
		changed := slices.Clone(parts)
		i := int(block) % len(changed)
		b := bytes.Clone(changed[i])
		for j, c := range patch {
			b[(int(at)+j)%len(b)] ^= c
		}
		changed[i] = b[:len(b)-int(cut)%len(b)]
		for _, data := range [][]byte{caOf(changed), text, append(caOf(changed), text...), append(bytes.Clone(text), caOf(parts)...)} {
			ca, err := parseCA(data)
			if (ca == nil) == (err == nil) {
				t.Fatalf("%v, %v", ca, err)
			}
			if err != nil {
				continue
			}
			if !bytes.Equal(ca.lines["Genoa"].ark.RawTBSCertificate, mustParse(t, parts[6]).RawTBSCertificate) {
				t.Error("a changed ARK is taken")
			}
			cfg := DefaultConfig()
			cfg.VLEKLoaded = true
			p, err := New(cfg, ca)
			if err != nil {
				t.Fatalf("what was read certifies nothing: %v", err)
			}
			if err := mustParse(t, p.Certificates().VCEK).CheckSignatureFrom(p.line.ask); err != nil {
				t.Errorf("its VCEK does not verify: %v", err)
			}
			if err := mustParse(t, p.Certificates().VLEK).CheckSignatureFrom(p.line.asvk); err != nil {
				t.Errorf("its VLEK does not verify: %v", err)
			}
		}
	})
}

func mustParse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
