package e2e_test

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// A launch that fails on an ID block for another guest is told, unasked, what the
// block was made for.
func TestMismatchIsExplained(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*guest.Guest)
		want   string
	}{
		{"CPU model and kernel hashes", func(g *guest.Guest) { g.CPU, g.KernelHashes = "EPYC-Milan-v2", false }, "Your ID block was made for 1 vCPU of EPYC-Milan with kernel hashes off; you launch 1 of EPYC-v4 with them on."},
		{"a newline behind the command line", func(g *guest.Guest) { g.Append += "\n" }, "a newline at its end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := aGuest(t)
			other := *g
			c.change(&other)
			in, err := other.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			m, err := measure.MeasureWith(&other, in, measure.Options{})
			if err != nil {
				t.Fatal(err)
			}
			o := options(t)
			o.Hooks = launcher.Hooks{IDBlock: func(b *snp.IDBlock) { b.LD = m.LaunchDigest }}
			res := launch(t, g, o)
			if res.Error == nil || res.Error.FWError != int(snp.StatusBadMeasurement) {
				t.Fatalf("verdict %s, error %+v", res.Verdict, res.Error)
			}
			if d := res.Diagnosis; d == nil || !strings.Contains(d.Sentence, c.want) || !strings.Contains(res.Error.Message, d.Sentence) {
				t.Errorf("got %+v in %q, want %q", d, res.Error.Message, c.want)
			}
		})
	}
}

// QEMU that launches something else than what was computed and signed is told so,
// too: there the block is right and the launch is not.
func TestOtherLaunchIsExplained(t *testing.T) {
	o := options(t)
	o.Hooks = launcher.Hooks{Launched: func(g *guest.Guest) { g.VCPUs = 2 }}
	res := launch(t, aGuest(t), o)
	const want = "What was launched is 2 vCPUs of EPYC-v4; the description is of 1."
	if res.Diagnosis == nil || res.Diagnosis.Sentence != want {
		t.Fatalf("got %+v, %+v; want %q", res.Diagnosis, res.Error, want)
	}
	// The page that is too many is the second save area.
	if p := res.Diagnosis.Pages; p == nil || p.Differing != 1 || p.PageA != nil || p.PageB == nil || p.PageB.Type != snp.PageVMSA {
		t.Errorf("got %+v", p)
	}
}

// Who launches what must fail knows what was made wrong, and does not have it looked for.
func TestNoDiagnosis(t *testing.T) {
	o := options(t)
	o.NoDiagnosis = true
	o.Hooks = launcher.Hooks{Launched: func(g *guest.Guest) { g.VCPUs = 2 }}
	res := launch(t, aGuest(t), o)
	if res.Error == nil || res.Error.FWError != int(snp.StatusBadMeasurement) || res.Diagnosis != nil {
		t.Errorf("error %+v, diagnosis %+v", res.Error, res.Diagnosis)
	}
}
