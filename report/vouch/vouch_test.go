package vouch_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/report/vouch"
	"github.com/snplaunch/snplaunch/snp"
)

// synthetic is a guest of made-up files.
func synthetic(t *testing.T) guest.Guest {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, contents []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	g := guest.Default()
	kernel := make([]byte, 0x300)
	copy(kernel[0x202:], "HdrS")
	g.Firmware, g.Kernel, g.Initrd = file("OVMF.fd", ovmftest.AmdSev().Build()), file("vmlinuz", kernel), file("initrd", []byte("initrd"))
	g.Append, g.CPU, g.VCPUs, g.KernelHashes = "console=ttyS0", "EPYC-v4", 2, true
	return g
}

// vouched lists what a report vouches for of a guest. The report is of the guest that
// launched makes of it.
func vouched(t *testing.T, described guest.Guest, launched func(*guest.Guest)) (yes, no []string) {
	t.Helper()
	g := described
	launched(&g)
	r := &snp.Report{Policy: g.Policy, HostData: g.HostData}
	measured := func(g *guest.Guest) (*guest.Inputs, *measure.Result) {
		in, err := g.Open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		m, err := measure.MeasureWith(g, in, measure.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return in, m
	}
	_, m := measured(&g)
	r.Measurement = m.LaunchDigest
	in, m := measured(&described)
	claims, err := vouch.Claims(r, &described, in, m)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range claims {
		if c.What == "" || c.Value == "" || c.Why == "" {
			t.Errorf("%+v", c)
		}
		if c.Vouched {
			yes = append(yes, c.What)
		} else {
			no = append(no, c.What)
		}
	}
	return yes, no
}

func TestClaims(t *testing.T) {
	measuredOnly := []string{"firmware", "kernel", "initrd", "command line", "vCPUs", "CPU signature", "SEV_FEATURES"}
	own := []string{"policy", "host data"}
	never := []string{"memory, disks, devices"}
	for _, tt := range []struct {
		name      string
		described func(*guest.Guest)
		launched  func(*guest.Guest)
		yes, no   []string
	}{
		{"as described", func(*guest.Guest) {}, func(*guest.Guest) {}, slices.Concat(measuredOnly, own), never},
		{"more memory", func(*guest.Guest) {}, func(g *guest.Guest) { g.MemoryMiB *= 2 }, slices.Concat(measuredOnly, own), never},
		{"another command line", func(*guest.Guest) {}, func(g *guest.Guest) { g.Append += " quiet" }, own, slices.Concat(measuredOnly, never)},
		{"kernel hashes off, another kernel", func(g *guest.Guest) { g.KernelHashes = false }, func(g *guest.Guest) { g.Kernel = g.Initrd },
			[]string{"firmware", "vCPUs", "CPU signature", "SEV_FEATURES", "policy", "host data"}, []string{"kernel", "initrd", "command line", "memory, disks, devices"}},
		{"another policy", func(*guest.Guest) {}, func(g *guest.Guest) { g.Policy |= 1 << 19 }, slices.Concat(measuredOnly, []string{"host data"}), slices.Concat([]string{"policy"}, never)},
		{"other host data", func(*guest.Guest) {}, func(g *guest.Guest) { g.HostData[31], g.HostDataSet = 1, true }, slices.Concat(measuredOnly, []string{"policy"}), slices.Concat([]string{"host data"}, never)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := synthetic(t)
			tt.described(&g)
			yes, no := vouched(t, g, tt.launched)
			if !slices.Equal(yes, tt.yes) || !slices.Equal(no, tt.no) {
				t.Errorf("vouches for %q, not for %q; want %q, %q", yes, no, tt.yes, tt.no)
			}
		})
	}
}
