package psp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// A root is made once, for its user alone, and then loaded.
func TestLoadOrCreateCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	const together = 2
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	cas := make([]*CA, together)
	for i := range cas {
		wg.Go(func() {
			ca, err := LoadOrCreateCA(dir, func() { mu.Lock(); made++; mu.Unlock() })
			if err != nil {
				t.Error(err)
			}
			cas[i] = ca
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if made == 0 {
		t.Error("nobody was told that making a key takes a while")
	}
	if cas[0].Fingerprint() != cas[1].Fingerprint() {
		t.Error("two that started at once have two roots")
	}
	again, err := LoadOrCreateCA(dir, func() { t.Error("an existing root was made again") })
	if err != nil {
		t.Fatal(err)
	}
	if again.Fingerprint() != cas[0].Fingerprint() || !again.askKey.Equal(cas[0].askKey) {
		t.Error("the root changed")
	}
	sum := sha256.Sum256(again.ark.Raw)
	if want := hex.EncodeToString(sum[:]); again.Fingerprint() != want {
		t.Errorf("fingerprint %s, want %s", again.Fingerprint(), want)
	}

	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "simulated-ca.pem"): 0o600} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", filepath.Base(path), st.Mode().Perm(), want)
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 {
		t.Errorf("the folder holds %d files, want the root alone", len(list))
	}
}

// A file that is no root is neither used nor replaced; the message names it.
func TestCorruptCA(t *testing.T) {
	testCA(t)
	good, err := os.ReadFile(filepath.Join(testFolder, caFile))
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]byte
	for rest := good; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		blocks = append(blocks, pem.EncodeToMemory(b))
	}
	if len(blocks) != 3 {
		t.Fatalf("%d blocks, want 3", len(blocks))
	}
	for name, c := range map[string]struct {
		data []byte
		mode fs.FileMode
		says string
	}{
		"empty":               {nil, 0o600, "block 1"},
		"cut":                 {good[:len(good)/2], 0o600, "block"},
		"no key":              {slices.Concat(blocks[0], blocks[1]), 0o600, "block 3"},
		"exchanged":           {slices.Concat(blocks[1], blocks[0], blocks[2]), 0o600, "key is not the certificate's"},
		"two ARKs":            {slices.Concat(blocks[0], blocks[0], blocks[2]), 0o600, "key is not the certificate's"},
		"ASK as ARK":          {slices.Concat(blocks[1], blocks[1], blocks[2]), 0o600, "ARK"},
		"garbage at the end":  {append(bytes.Clone(good), "more"...), 0o600, "follows"},
		"garbage certificate": {slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")}), blocks[1], blocks[2]), 0o600, "ARK"},
		"garbage key":         {slices.Concat(blocks[0], blocks[1], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no")})), 0o600, "key"},
		"open to the group":   {good, 0o640, "0640"},
		"open to all":         {good, 0o644, "0644"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, caFile)
		if err := os.WriteFile(path, c.data, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		_, err := LoadOrCreateCA(dir, func() { t.Errorf("%s: a new root is made", name) })
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range []string{path, c.says, "remove the file"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.data) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

// The chain is one that says what AMD's says, and the mark in every Subject.
func TestCertificates(t *testing.T) {
	p := platform(t, nil)
	chain := p.Certificates()
	parse := func(der []byte) *x509.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ark, ask, vcek := parse(chain.ARK), parse(chain.ASK), parse(chain.VCEK)
	for _, c := range []struct {
		cert   *x509.Certificate
		cn, by string
	}{{ark, "ARK-Genoa", "ARK-Genoa"}, {ask, "SEV-Genoa", "ARK-Genoa"}, {vcek, "SEV-VCEK", "SEV-Genoa"}} {
		for _, n := range []struct {
			got string
			cn  string
		}{{c.cert.Subject.String(), c.cn}, {c.cert.Issuer.String(), c.by}} {
			// RFC 2253 writes the comma in the mark as "\,".
			want := "SERIALNUMBER=" + strings.ReplaceAll(snp.SimulatedMarker, ",", `\,`) + ",CN=" + n.cn +
				",OU=Engineering,O=Advanced Micro Devices,L=Santa Clara,ST=CA,C=US"
			if n.got != want {
				t.Errorf("name\n got %s\nwant %s", n.got, want)
			}
		}
		if c.cert.Version != 3 || c.cert.SignatureAlgorithm != x509.SHA384WithRSAPSS {
			t.Errorf("%s: version %d, %s; want 3, SHA384-RSAPSS", c.cn, c.cert.Version, c.cert.SignatureAlgorithm)
		}
	}
	for _, c := range []*x509.Certificate{ark, ask} {
		if k, ok := c.PublicKey.(*rsa.PublicKey); !ok || k.N.BitLen() != 4096 {
			t.Errorf("%s: no RSA key of 4096 bits", c.Subject.CommonName)
		}
		if len(c.CRLDistributionPoints) != 1 || c.CRLDistributionPoints[0] != "https://kdsintf.amd.com/vcek/v1/Genoa/crl" {
			t.Errorf("%s: CRL distribution points %v", c.Subject.CommonName, c.CRLDistributionPoints)
		}
		if !c.IsCA {
			t.Errorf("%s is no CA", c.Subject.CommonName)
		}
	}
	if k, ok := vcek.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve.Params().Name != "P-384" {
		t.Error("the VCEK is no P-384 key")
	}
	pool, inter := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(ark)
	inter.AddCert(ask)
	if _, err := vcek.Verify(x509.VerifyOptions{Roots: pool, Intermediates: inter}); err != nil {
		t.Errorf("the chain does not verify: %v", err)
	}

	// Extensions of AMD 57230 and no others but the authority's key identifier.
	chip := p.ChipID()
	want := map[string][]byte{"1": {2, 1, 1}, "2": append([]byte{0x16, 8}, "Genoa-B1"...), "4": chip[:],
		"3.1": {2, 1, 9}, "3.2": {2, 1, 0}, "3.3": {2, 1, 21}, "3.4": {2, 1, 0}, "3.5": {2, 1, 0}, "3.6": {2, 1, 0}, "3.7": {2, 1, 0}, "3.8": {2, 1, 72}}
	for _, e := range vcek.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 35}) {
			continue
		}
		arc, amd := strings.CutPrefix(e.Id.String(), "1.3.6.1.4.1.3704.1.")
		if v, known := want[arc]; !amd || !known || !bytes.Equal(v, e.Value) || e.Critical {
			t.Errorf("extension %s: % x, want % x", e.Id, e.Value, v)
		}
		delete(want, arc)
	}
	if len(want) != 0 {
		t.Errorf("extensions are missing: %v", want)
	}
	if chip[0] == 2 || chip[0] == 4 || chip[63] == 0 {
		t.Errorf("chip id begins with %#x and ends with %#x", chip[0], chip[63])
	}
}

// The VCEK belongs to chip and TCB, as on hardware, and not to the process.
func TestVCEKFollowsFromTCB(t *testing.T) {
	key := func(change func(*Config)) *big.Int {
		p := platform(t, change)
		b, err := p.key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).SetBytes(b)
	}
	base := key(nil)
	if base.Cmp(key(nil)) != 0 {
		t.Error("the same chip has another VCEK the next time")
	}
	if base.Cmp(key(func(c *Config) { c.TCB.SNP++ })) == 0 {
		t.Error("another TCB has the same VCEK")
	}
	if base.Cmp(key(func(c *Config) { c.ChipID = [64]byte{1} })) == 0 {
		t.Error("another chip has the same VCEK")
	}
	if p := platform(t, func(c *Config) { c.ChipID = [64]byte{7: 9} }); p.ChipID() != ([64]byte{7: 9}) {
		t.Error("the chip id that was asked for was not taken")
	}
}

func TestNewRefusals(t *testing.T) {
	ca := testCA(t)
	with := func(f func(*Config)) Config {
		c := DefaultConfig()
		f(&c)
		return c
	}
	for name, c := range map[string]struct {
		cfg  Config
		ca   *CA
		says string
	}{
		"no root":         {DefaultConfig(), nil, "root"},
		"version 4":       {with(func(c *Config) { c.ReportVersion = 4 }), ca, "report version 4"},
		"zero":            {Config{}, ca, "report version 0"},
		"another product": {with(func(c *Config) { c.Product = "Milan" }), ca, "Milan"},
	} {
		if _, err := New(c.cfg, c.ca); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.says)
		}
	}
}

// The table of an extended report, read by its layout (AMD 56421).
func TestTable(t *testing.T) {
	chain := platform(t, nil).Certificates()
	table := chain.Table()
	want := map[string][]byte{
		"63da758de6644564adc5f4b93be8accd":      chain.VCEK,
		"4ab7b379bbac4fe4a02f05aef327c782":      chain.ASK,
		"c0b406a4a80349529743" + "3fb6014cd0ae": chain.ARK,
	}
	at := 0
	for ; !zero(table[at : at+24]); at += 24 {
		guid := hex.EncodeToString(table[at : at+16])
		offset, length := le.Uint32(table[at+16:]), le.Uint32(table[at+20:])
		if !bytes.Equal(table[offset:offset+length], want[guid]) {
			t.Errorf("entry %s is another certificate", guid)
		}
		delete(want, guid)
	}
	if len(want) != 0 || at != 3*24 {
		t.Errorf("%d bytes of entries; %d certificates are missing", at, len(want))
	}
	if total := 4*24 + len(chain.VCEK) + len(chain.ASK) + len(chain.ARK); len(table) != total {
		t.Errorf("the table has %d bytes, want %d", len(table), total)
	}
}

// BenchmarkStart is what every launch pays: load the root and make the chip.
func BenchmarkStart(b *testing.B) {
	testCA(b)
	for b.Loop() {
		ca, err := LoadOrCreateCA(testFolder, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := New(DefaultConfig(), ca); err != nil {
			b.Fatal(err)
		}
	}
}
