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

	"github.com/snplaunch/snplaunch/snp"
)

// caParts are the three DER blocks of a file that is good.
func caParts(t testing.TB) [3][]byte {
	t.Helper()
	testCA(t)
	data, err := os.ReadFile(filepath.Join(testFolder, caFile))
	if err != nil {
		t.Fatal(err)
	}
	var parts [3][]byte
	for i := range parts {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			t.Fatalf("no block %d", i)
		}
		parts[i] = b.Bytes
	}
	return parts
}

func caOf(parts [3][]byte) []byte {
	var out []byte
	for i, typ := range []string{"CERTIFICATE", "CERTIFICATE", "PRIVATE KEY"} {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: parts[i]})...)
	}
	return out
}

// A root that is whole and yet not one of ours is refused: another product's,
// an unmarked one, one that has run out, keys of another kind.
func TestForeignCA(t *testing.T) {
	keys := [2]*rsa.PrivateKey{}
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	build := func(ark, ask, mark string, from, to time.Time) []byte {
		issue := func(cn string, parent *x509.Certificate, key *rsa.PrivateKey) *x509.Certificate {
			subject := name(cn)
			subject.SerialNumber = mark
			template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, NotBefore: from, NotAfter: to,
				SignatureAlgorithm: x509.SHA384WithRSAPSS, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true}
			if parent == nil {
				parent = template
			}
			der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, keys[0])
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		root := issue(ark, nil, keys[0])
		key, err := x509.MarshalPKCS8PrivateKey(keys[1])
		if err != nil {
			t.Fatal(err)
		}
		return caOf([3][]byte{root.Raw, issue(ask, root, keys[1]).Raw, key})
	}
	now := time.Now()
	before, after := now.Add(-time.Hour), now.Add(time.Hour)
	if _, err := parseCA(build("ARK-Genoa", "SEV-Genoa", snp.SimulatedMarker, before, after)); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"Milan's":      {build("ARK-Milan", "SEV-Milan", snp.SimulatedMarker, before, after), `"ARK-Milan"`},
		"mixed":        {build("ARK-Genoa", "SEV-Milan", snp.SimulatedMarker, before, after), `"SEV-Milan"`},
		"ASVK":         {build("ARK-Genoa", "SEV-VLEK-Genoa", snp.SimulatedMarker, before, after), `"SEV-VLEK-Genoa"`},
		"unmarked":     {build("ARK-Genoa", "SEV-Genoa", "", before, after), "not marked"},
		"other mark":   {build("ARK-Genoa", "SEV-Genoa", "SIMULATED", before, after), "not marked"},
		"has run out":  {build("ARK-Genoa", "SEV-Genoa", snp.SimulatedMarker, before, now.Add(-time.Minute)), "valid until"},
		"PEM of EC":    {slices.Concat([]byte("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"), build("ARK-Genoa", "SEV-Genoa", snp.SimulatedMarker, before, after)), "block 1"},
		"all but NULs": {make([]byte, 4096), "block 1"},
	} {
		if _, err := parseCA(c.data); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want an error that says %s", name, err, c.says)
		}
	}
}

// Every run loads the root: that must not be felt. The best of several tries
// counts, since other work disturbs the clock.
func TestLoadingIsQuick(t *testing.T) {
	testCA(t)
	best := time.Hour
	for range 20 {
		start := time.Now()
		if _, err := LoadOrCreateCA(testFolder, nil); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	t.Logf("%v", best)
	if best > 50*time.Millisecond {
		t.Errorf("loading takes %v, want less than 50 ms", best)
	}
}

// FuzzParseCA changes a good file, in one of its blocks or as text. It never
// panics, and what it takes can certify a chip.
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
		changed := parts
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
			if !bytes.Equal(ca.ark.RawTBSCertificate, mustParse(t, parts[0]).RawTBSCertificate) {
				t.Error("a changed ARK is taken")
			}
			p, err := New(DefaultConfig(), ca)
			if err != nil {
				t.Fatalf("what was read certifies nothing: %v", err)
			}
			if err := mustParse(t, p.vcek).CheckSignatureFrom(ca.ask); err != nil {
				t.Errorf("its VCEK does not verify: %v", err)
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
