package vmsa_test

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/vmsa"
)

func TestLookupProperties(t *testing.T) {
	for cpu, want := range map[string]uint32{
		"EPYC-v4,+invtsc,-svm":                           0x800F12,
		"EPYC-v4,family=25":                              0xA00F12,
		"EPYC-v4,family=25,model=17,stepping=0":          0xA10F10,
		"EPYC-Genoa,model=0x1,stepping=0x1,phys-bits=40": 0xA00F11,
		"EPYC,family=6,model=0x9e,stepping=10":           0x0906EA,
		"EPYC,family=15":                                 0x000F12,
		"EPYC,family=270,model=255,stepping=15":          0x0FFF0FFF,
		"EPYC,family=23,family=23":                       0x800F12,
		"host,family=25,model=1,stepping=1":              0xA00F11,
		"max,stepping=0,family=26,model=2":               0xB00F20,
	} {
		if got, err := vmsa.Lookup(cpu); err != nil || got != want {
			t.Errorf("%s: 0x%x, %v; want 0x%x", cpu, got, err, want)
		}
	}
}

func TestParseCPU(t *testing.T) {
	c, err := vmsa.ParseCPU("host,family=0x19,migratable=off")
	if err != nil || c.Model != "host" || !c.FromHost() || c.Family == nil || *c.Family != 25 || c.ModelID != nil || c.Stepping != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	if got := c.Apply(0xB20F11); got != 0xA20F11 {
		t.Errorf("0x%x", got)
	}
	if c, err := vmsa.ParseCPU("hosts"); err != nil || c.FromHost() {
		t.Errorf("%+v, %v", c, err)
	}
	for s, hint := range map[string]string{
		"EPYC,stepping=16":         "from 0 to 15",
		"EPYC,model=256":           "from 0 to 255",
		"EPYC,family=-1":           "from 0 to 270",
		"EPYC,family":              "family= is not a number",
		"EPYC,model=1,model=2":     "model is given twice, as 1 and as 2",
		"EPYC,stepping=0x10000000": "from 0 to 15",
	} {
		if _, err := vmsa.ParseCPU(s); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: got %v, want %q", s, err, hint)
		}
	}
}

// TestSplitSignature: splitting undoes making, and CPUFor gives what QEMU makes
// the signature of.
func TestSplitSignature(t *testing.T) {
	for family := range uint32(0x10F) {
		for model := range uint32(0x100) {
			sig := vmsa.Signature(family, model, family&0xF)
			f, m, s := vmsa.SplitSignature(sig)
			if f != family || m != model || s != family&0xF {
				t.Fatalf("%d, %d, %d: 0x%x splits into %d, %d, %d", family, model, family&0xF, sig, f, m, s)
			}
			if got, err := vmsa.Lookup(vmsa.CPUFor(sig)); err != nil || got != sig {
				t.Fatalf("0x%x: CPU %s has 0x%x, %v", sig, vmsa.CPUFor(sig), got, err)
			}
		}
	}
	if got := vmsa.CPUFor(0xB00F00); got != "EPYC-Turin" {
		t.Errorf("got %q", got)
	}
	for _, sig := range []uint32{1 << 31, 1 << 12, 0x00100600} {
		if got := vmsa.CPUFor(sig); got != "" {
			t.Errorf("0x%x: %q", sig, got)
		}
	}
}

func TestSaveAreaGPA(t *testing.T) {
	for _, c := range []struct {
		vmm  vmsa.VMM
		cpu  string
		want uint64
	}{
		{vmsa.QEMU, "EPYC-Genoa", 0xFFFFFFFFF000},
		{vmsa.EC2, "EPYC-Genoa", 0xFFFFFFFFF000},
		{vmsa.GCE, "EPYC", 0xFFFFFFFFF000},
		{vmsa.GCE, "EPYC-Milan", 0xFFFFFFFFF000},
		{vmsa.GCE, "EPYC-Genoa", 0xFFFFFFFFFF000},
		{vmsa.GCE, "EPYC-Genoa,model=160,stepping=2", 0xFFFFFFFFFF000}, // Bergamo
		{vmsa.GCE, "EPYC-Turin", 0xFFFFFFFFFF000},
	} {
		sig, err := vmsa.Lookup(c.cpu)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.vmm.SaveAreaGPA(sig); got != c.want {
			t.Errorf("%s, %s: 0x%x", c.vmm, c.cpu, got)
		}
	}
}
