package vmsa_test

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/vmsa"
)

// TestPageDigests: the values are by measure/testdata/recipe.py.
func TestPageDigests(t *testing.T) {
	epyc := vmsa.Config{Signature: 0x800F12, Features: 1}
	for _, c := range []struct {
		bsp  bool
		want string
	}{
		{true, "77920c4c629ff47e90c0e174fc1ad0eb6fa664f88cd4739488058a8c6cb1a77b3856f55378e9518d0da99452d51c553a"},
		{false, "8413b852790765a310d95867a8b00bfca3a802b5a80830044b45e253fe96222657e11e53fcf63eb0e0afd722385bf7b4"},
	} {
		page := vmsa.Page(epyc, c.bsp, 0x0080B004)
		if got := fmt.Sprintf("%x", sha512.Sum384(page[:])); got != c.want {
			t.Errorf("bsp %v\n got %s\nwant %s", c.bsp, got, c.want)
		}
	}
}

// TestPageFields compares variants with the plain page and wants exactly the
// named bytes to differ.
func TestPageFields(t *testing.T) {
	base := vmsa.Config{Signature: 0x800F12, Features: 1}
	plain := vmsa.Page(base, true, 0)
	word := func(off int, v uint64) func([]byte) {
		return func(p []byte) { binary.LittleEndian.PutUint64(p[off:], v) }
	}
	half := func(off int, v uint16) func([]byte) {
		return func(p []byte) { binary.LittleEndian.PutUint16(p[off:], v) }
	}
	for _, c := range []struct {
		name    string
		cfg     vmsa.Config
		bsp     bool
		reset   uint32
		changes []func([]byte)
	}{
		{"the first vCPU does not use the reset address", base, true, 0x12345678, nil},
		{"reset address", base, false, 0x12345678, []func([]byte){word(0x18, 0x12340000), word(0x178, 0x5678)}},
		{"signature", vmsa.Config{Signature: 0xB00F00, Features: 1}, true, 0, []func([]byte){word(0x310, 0xB00F00)}},
		{"features", vmsa.Config{Signature: 0x800F12, Features: 0x8000000000000021}, true, 0, []func([]byte){word(0x3B0, 0x8000000000000021)}},
		{"no FPU", vmsa.Config{Signature: 0x800F12, Features: 1, NoFPU: true}, true, 0, []func([]byte){word(0x408, 0), half(0x410, 0)}},
		{"EC2", vmsa.Config{Signature: 0x800F12, Features: 1, VMM: vmsa.EC2}, true, 0, []func([]byte){
			half(0x12, 0x9A), half(0x22, 0x92), half(0x92, 0x83), word(0x408, 0), half(0x410, 0)}},
		{"EC2, second vCPU", vmsa.Config{Signature: 0x800F12, Features: 1, VMM: vmsa.EC2}, false, 0xFFFFFFF0, []func([]byte){
			half(0x22, 0x92), half(0x92, 0x83), word(0x408, 0), half(0x410, 0)}},
		{"GCE", vmsa.Config{Signature: 0x800F12, Features: 1, VMM: vmsa.GCE}, true, 0, []func([]byte){
			word(0x268, 0x00070106), word(0x408, 0), half(0x410, 0)}},
		{"krun", vmsa.Config{Signature: 0x800F12, Features: 1, VMM: vmsa.Krun}, true, 0, []func([]byte){
			half(0x02, 0x92), half(0x12, 0x9A), half(0x22, 0x92), half(0x32, 0x92), half(0x42, 0x92), half(0x52, 0x92), half(0x92, 0x83)}},
		{"krun, second vCPU", vmsa.Config{Signature: 0x800F12, Features: 1, VMM: vmsa.Krun}, false, 0x12345678, []func([]byte){
			half(0x02, 0x92), half(0x12, 0x9A), half(0x22, 0x92), half(0x32, 0x92), half(0x42, 0x92), half(0x52, 0x92), half(0x92, 0x83)}},
	} {
		want := plain
		for _, change := range c.changes {
			change(want[:])
		}
		if got := vmsa.Page(c.cfg, c.bsp, c.reset); got != want {
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s: byte 0x%x is 0x%02x, want 0x%02x", c.name, i, got[i], want[i])
				}
			}
		}
	}
}

// TestSVSMPage compares the save area of an SVSM's vCPU with that of another,
// field by field.
func TestSVSMPage(t *testing.T) {
	for _, cfg := range []vmsa.Config{{Signature: 0x800F12, Features: 1}, {Signature: 0xB00F00, Features: 0x21, NoFPU: true}} {
		want := vmsa.Page(cfg, true, 0)
		le := binary.LittleEndian
		for off, selector := range map[int]uint16{0x00: 16, 0x10: 8, 0x20: 16, 0x30: 16, 0x40: 16} {
			le.PutUint16(want[off:], selector)
			le.PutUint16(want[off+2:], 0xC93)
			le.PutUint32(want[off+4:], 0xFFFFFFFF)
			le.PutUint64(want[off+8:], 0)
		}
		le.PutUint16(want[0x12:], 0xC9B)
		le.PutUint64(want[0x158:], 0x11)
		le.PutUint64(want[0x178:], 0xFFAB0010)
		if got := vmsa.SVSMPage(cfg, 0xFFAB0010); got != want {
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("byte 0x%x is 0x%02x, want 0x%02x", i, got[i], want[i])
				}
			}
		}
	}
}

func TestSignatureOfVMM(t *testing.T) {
	for vmm, want := range map[vmsa.VMM]uint32{vmsa.QEMU: 0xA00F11, vmsa.EC2: 0x600, vmsa.GCE: 0x600, vmsa.Krun: 0x600} {
		if got := vmm.Signature(0xA00F11); got != want {
			t.Errorf("%s: 0x%x", vmm, got)
		}
		if vmm.UsesResetAddr() != (vmm != vmsa.Krun) {
			t.Errorf("%s", vmm)
		}
	}
}

func TestLookup(t *testing.T) {
	// EAX of CPUID function 1, as AMD's processor programming references give
	// it for Naples B2, Rome B0, Milan B1, Genoa A0 and as QEMU has Turin.
	for sig, names := range map[uint32][]string{
		0x800F12: {"EPYC", "EPYC-v1", "EPYC-v4", "EPYC-v5", "EPYC-IBPB"},
		0x830F10: {"EPYC-Rome", "EPYC-Rome-v1", "EPYC-Rome-v4", "EPYC-Rome-v5"},
		0xA00F11: {"EPYC-Milan", "EPYC-Milan-v2", "EPYC-Milan-v3"},
		0xA10F10: {"EPYC-Genoa", "EPYC-Genoa-v1", "EPYC-Genoa-v2"},
		0xB00F00: {"EPYC-Turin", "EPYC-Turin-v1"},
	} {
		for _, n := range names {
			if got, err := vmsa.Lookup(n); err != nil || got != sig {
				t.Errorf("%s: 0x%x, %v; want 0x%x", n, got, err, sig)
			}
		}
	}
}

func TestLookupErrors(t *testing.T) {
	for name, hint := range map[string]string{
		"":                       "use one of EPYC,",
		"epyc":                   "did you mean EPYC?",
		"epyc-milan-v2":          "did you mean EPYC-Milan-v2?",
		"Milan":                  "did you mean EPYC-Milan?",
		"EPYC-Gnoa-v1":           "did you mean EPYC-Genoa-v1?",
		"EPYC-Rome-v0":           "did you mean EPYC-Rome?",
		"EPYC-Rome-v":            "did you mean EPYC-Rome?",
		"EPYC-Rome-v01":          "did you mean EPYC-Rome?",
		"EPYC-IBPB-v1":           "did you mean EPYC-IBPB?",
		"EPYC-v4-v4":             "use one of EPYC,",
		"EPYC_v4":                "use one of EPYC,",
		"-v1":                    "unknown",
		"Skylake-Server":         "use one of EPYC,",
		"host":                   "the machine it runs on",
		"max":                    "the machine it runs on",
		"EPYC-v4,family=0x10f":   "family=0x10f is not a number from 0 to 270",
		"EPYC-v4,model=":         "model= is not a number",
		"EPYC,family=1,family=2": "family is given twice",
		"host,family=25,model=1": "the machine it runs on",
		strings.Repeat("E", 99):  "use one of EPYC,",
	} {
		_, err := vmsa.Lookup(name)
		if err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: got %v, want a hint %q", name, err, hint)
		}
	}
}

func TestSignature(t *testing.T) {
	for _, c := range []struct{ family, model, stepping, want uint32 }{
		{23, 1, 2, 0x800F12},
		{25, 17, 0, 0xA10F10},
		{15, 0x41, 3, 0x040F13},
		{14, 1, 2, 0x000E12},
		{6, 0x9E, 0xA, 0x0906EA}, // a Coffee Lake: 0x906EA
	} {
		if got := vmsa.Signature(c.family, c.model, c.stepping); got != c.want {
			t.Errorf("family %d, model %d, stepping %d: 0x%x, want 0x%x", c.family, c.model, c.stepping, got, c.want)
		}
	}
}

func TestParseFeatures(t *testing.T) {
	for s, want := range map[string]uint64{
		"0x1": 1, "1": 1, "0x21": 0x21, "0b100001": 0x21, "0": 0,
		"DebugSwap": 0x21, "snpactive": 1, "debugswap, SecureTSC": 0x221, "IBPBOnEntry": 0x200001,
	} {
		if got, err := vmsa.ParseFeatures(s); err != nil || got != want {
			t.Errorf("%q: 0x%x, %v; want 0x%x", s, got, err, want)
		}
	}
	for s, hint := range map[string]string{
		"21":                  "write 0x21",
		"":                    "unknown",
		"0x":                  "64-bit number",
		"0x1ffffffffffffffff": "64-bit number",
		"DebugSwap,,":         "unknown",
		"debugswop":           "did you mean DebugSwap?; or give a number",
		"-1":                  "unknown",
	} {
		if got, err := vmsa.ParseFeatures(s); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: 0x%x, %v; want a hint %q", s, got, err, hint)
		}
	}
	for f, want := range map[uint64]string{
		0:       "0x0 (none)",
		0x21:    "0x21 (SNPActive, DebugSwap)",
		0x801:   "0x801 (SNPActive, reserved bits 0x800)",
		1 << 16: "0x10000 (SecureAVIC)",
	} {
		if got := vmsa.DescribeFeatures(f); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestParseVMM(t *testing.T) {
	for _, v := range []vmsa.VMM{vmsa.QEMU, vmsa.EC2, vmsa.GCE, vmsa.Krun} {
		for _, name := range []string{v.String(), strings.ToUpper(v.String()), strings.ToLower(v.String())} {
			if got, err := vmsa.ParseVMM(name); err != nil || got != v {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
	if _, err := vmsa.ParseVMM("qmu"); err == nil || !strings.Contains(err.Error(), "did you mean QEMU?") {
		t.Errorf("got %v", err)
	}
}
