package pagediff_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/pagediff"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// launch measures a guest of made-up parts.
func launch(t *testing.T, change func(g *guest.Guest, firmware []byte)) pagediff.Launch {
	t.Helper()
	firmware := ovmftest.AmdSev().Build()
	g := guest.Default()
	g.Append, g.VCPUs = "console=ttyS0", 2
	change(&g, firmware)
	in := &guest.Inputs{
		Firmware: guest.NewInput("OVMF.fd", bytes.NewReader(firmware), int64(len(firmware))),
		Kernel:   guest.NewInput("kernel", strings.NewReader("kernel"), 6),
	}
	r, err := measure.MeasureWith(&g, in, measure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := pagediff.Of("launch", r, in.Firmware)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCompare(t *testing.T) {
	base := launch(t, func(*guest.Guest, []byte) {})
	for name, c := range map[string]struct {
		change    func(g *guest.Guest, firmware []byte)
		what      string
		field     string
		differing int
	}{
		"command line": {func(g *guest.Guest, _ []byte) { g.Append += " " }, "kernel hashes", "hashes table: command line", 1},
		"CPU model":    {func(g *guest.Guest, _ []byte) { g.CPU = "EPYC-Milan" }, "vCPU 0 VMSA", "RDX", 2},
		"features":     {func(g *guest.Guest, _ []byte) { g.GuestFeatures = 0x21 }, "vCPU 0 VMSA", "SEV_FEATURES", 2},
		"one vCPU":     {func(g *guest.Guest, _ []byte) { g.VCPUs = 1 }, "vCPU 1 VMSA", "", 1},
		"no hashes":    {func(g *guest.Guest, _ []byte) { g.KernelHashes = false }, "kernel hashes", "", 1},
		"firmware":     {func(_ *guest.Guest, f []byte) { f[0x1234] ^= 1 }, "firmware", "firmware at 0x1234, outside every firmware volume", 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := pagediff.Compare(base, launch(t, c.change))
			if d.Equal || d.What != c.what || d.Differing != c.differing {
				t.Fatalf("got %+v", d)
			}
			if c.field == "" {
				if len(d.Fields) > 0 {
					t.Errorf("got %+v", d.Fields)
				}
			} else if len(d.Fields) != 1 || !strings.HasPrefix(d.Fields[0].Name, c.field) {
				t.Errorf("got %+v, want %s", d.Fields, c.field)
			}
		})
	}
	if d := pagediff.Compare(base, base); !d.Equal {
		t.Errorf("got %+v", d)
	}
}
