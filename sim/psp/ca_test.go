package psp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Roots are made once, for their user alone, and then loaded; those of an earlier
// version, whose root key is gone, do not stay behind.
func TestLoadOrCreateCA(t *testing.T) {
	testCA(t)
	r := madeTogether()
	dir, cas := testFolder, r.cas
	if r.told == 0 {
		t.Error("nobody was told that making keys takes a while")
	}
	if cas[0].Fingerprint() != cas[1].Fingerprint() {
		t.Error("two that started at once have two roots")
	}
	again, err := LoadOrCreateCA(dir, func() { t.Error("an existing root was made again") })
	if err != nil {
		t.Fatal(err)
	}
	if again.Fingerprint() != cas[0].Fingerprint() || !again.askKey.Equal(cas[0].askKey) || !again.arkKey.Equal(cas[0].arkKey) {
		t.Error("the root changed")
	}
	sum := sha256.Sum256(again.lines["Genoa"].ark.Raw)
	if want := hex.EncodeToString(sum[:]); again.Fingerprint() != want {
		t.Errorf("fingerprint %s, want %s", again.Fingerprint(), want)
	}

	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "simulated-roots.pem"): 0o600} {
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
	if len(blocks) != 12 {
		t.Fatalf("%d blocks, want three keys and three certificates for each of three products", len(blocks))
	}
	replaced := func(i int, b []byte) []byte {
		changed := slices.Clone(blocks)
		changed[i] = b
		return slices.Concat(changed...)
	}
	for name, c := range map[string]struct {
		data []byte
		mode fs.FileMode
		says string
	}{
		"empty":                 {nil, 0o600, "block 1"},
		"cut":                   {good[:len(good)/2], 0o600, "block"},
		"one missing":           {slices.Concat(blocks[:11]...), 0o600, "block 12"},
		"keys exchanged":        {slices.Concat(slices.Concat(blocks[1], blocks[0]), slices.Concat(blocks[2:]...)), 0o600, "key is not the certificate's"},
		"two ARKs":              {replaced(4, blocks[3]), 0o600, `"ARK-Milan"`},
		"ASVK as ASK":           {replaced(4, blocks[5]), 0o600, `"SEV-VLEK-Milan"`},
		"another product's":     {replaced(4, blocks[7]), 0o600, `"SEV-Genoa"`},
		"another product's ARK": {replaced(3, blocks[6]), 0o600, `"ARK-Genoa"`},
		"garbage at the end":    {append(bytes.Clone(good), "more"...), 0o600, "follows"},
		"garbage certificate":   {replaced(3, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")})), 0o600, "ARK"},
		"garbage key":           {replaced(1, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no")})), 0o600, "key"},
		"open to the group":     {good, 0o640, "0640"},
		"open to all":           {good, 0o644, "0644"},
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

// The VCEK belongs to chip and TCB, as on hardware, and not to the process.
func TestVCEKFollowsFromTCB(t *testing.T) {
	key := func(change func(*Config)) *big.Int {
		p := platform(t, change)
		b, err := p.vcek.key.PublicKey.Bytes()
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
	if base.Cmp(key(func(c *Config) { c.ReportedTCB = c.TCB; c.ReportedTCB.SNP-- })) == 0 {
		t.Error("another reported TCB has the same VCEK")
	}
	if p := platform(t, func(c *Config) { c.ChipID = [64]byte{7: 9} }); p.ChipID() != ([64]byte{7: 9}) {
		t.Error("the chip id that was asked for was not taken")
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
