package psp

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// Every platform can be made, and is the processor that go-sev-guest's and
// virtee/sev's tables know by its CPUID signature.
func TestPlatforms(t *testing.T) {
	want := map[string]struct {
		product string
		fms     uint32
		report  uint32
	}{
		"milan": {"Milan", 0x00A00F11, 2},
		"genoa": {"Genoa", 0x00A10F11, 3},
		"turin": {"Turin", 0x00B00F21, 5},
	}
	if len(Platforms()) != len(want) {
		t.Errorf("platforms %v, want %d", Platforms(), len(want))
	}
	for _, name := range Platforms() {
		c, err := ParsePlatform(strings.ToUpper(name))
		if err != nil {
			t.Fatal(err)
		}
		w := want[name]
		if c.Product != w.product || c.signature() != w.fms || c.ReportVersion != w.report || !c.CPUIDCheck {
			t.Errorf("%s: %s %#x, reports of version %d, CPUID check %v; want %+v", name, c.Product, c.signature(), c.ReportVersion, c.CPUIDCheck, w)
		}
		p, err := New(c, testCA(t))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := p.Fingerprint(); len(got) != 64 || got != testCA(t).FingerprintOf(w.product) {
			t.Errorf("%s: fingerprint %q", name, got)
		}
		if id := p.ChipID(); !zero(id[c.ChipIDSize:]) || id[c.ChipIDSize-1] == 0 {
			t.Errorf("%s: chip id % x has not %d bytes", name, id, c.ChipIDSize)
		}
	}
	if _, err := ParsePlatform("rome"); err == nil || !strings.Contains(err.Error(), "milan, genoa, turin") {
		t.Errorf("rome: %v, want an error that lists the platforms", err)
	}
	if got := testCA(t).FingerprintOf("Rome"); got != "" {
		t.Errorf("a product without a root has the fingerprint %q", got)
	}
}

// What no processor is, New refuses with a sentence that names it.
func TestConfigRefusals(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"report version 4":          func(c *Config) { c.ReportVersion = 4 },
		"report version 0":          func(c *Config) { c.ReportVersion = 0 },
		`product "Rome"`:            func(c *Config) { c.Product = "Rome" },
		"chip id of 65 bytes":       func(c *Config) { c.ChipIDSize = 65 },
		"chip id of 0 bytes":        func(c *Config) { c.ChipIDSize = 0 },
		"have 8 bytes":              func(c *Config) { c.ChipIDSize, c.ChipID = 8, [64]byte{8: 1} },
		"must not be above":         func(c *Config) { c.CommittedTCB = c.TCB; c.CommittedTCB.SNP++ },
		"must not be above commit":  func(c *Config) { c.ReportedTCB = c.TCB; c.ReportedTCB.Microcode++ },
		"must not be above committ": func(c *Config) { c.CommittedTCB = snp.TCBParts{SNP: 1}; c.ReportedTCB = c.TCB },
	} {
		c := DefaultConfig()
		change(&c)
		if _, err := New(c, testCA(t)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want an error that says %q", err, says)
		}
	}
	if _, err := New(DefaultConfig(), nil); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("without a root: %v", err)
	}
}
