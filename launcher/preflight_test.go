package launcher

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// bzImage is the least that QEMU takes for one: the setup header's magic number.
func bzImage() []byte {
	b := make([]byte, 8192)
	copy(b[0x202:], "HdrS")
	return b
}

// Each thing that is wrong with the files is told by the check that is about it, and the checks
// after it are made all the same.
func TestPreflightFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	beyond := ovmftest.Generic()
	beyond.Sections = []ovmf.Section{{GPA: 0x4000_0000, Size: 0x1000, Type: ovmf.SNPSecMem}}
	// What one thing brings with it.
	with := map[string]string{"launch-kernel-file": "launch-kernel", "launch-firmware-metadata": "launch-firmware-image"}
	amdsev, kernel := file("amdsev.fd", ovmftest.AmdSev().Build()), file("vmlinuz", bzImage())
	for _, tc := range []struct {
		name   string
		change func(*guest.Guest)
		id     string
		goesOn bool // further checks follow
	}{
		{"sound", func(*guest.Guest) {}, "", true},
		{"half of a flash image", func(g *guest.Guest) {
			g.Firmware = file("code.fd", append(make([]byte, 4096), ovmftest.AmdSev().Build()...))
		}, "launch-firmware-size", true},
		{"no OVMF", func(g *guest.Guest) { g.Firmware = file("zeros.fd", make([]byte, 64<<10)) }, "launch-firmware-image", false},
		{"no SEV metadata, and no reset block either", func(g *guest.Guest) {
			g.Firmware, g.KernelHashes = file("old.fd", ovmftest.Spec{NoMetadata: true}.Build()), false
		}, "launch-firmware-metadata", true},
		{"generic firmware with kernel hashes", func(g *guest.Guest) { g.Firmware = file("generic.fd", ovmftest.Generic().Build()) }, "launch-firmware-hashes", false},
		{"pages beyond memory", func(g *guest.Guest) {
			g.Firmware, g.KernelHashes = file("beyond.fd", beyond.Build()), false
		}, "launch-firmware-memory", true},
		{"ELF kernel", func(g *guest.Guest) {
			g.Kernel = file("vmlinux", append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9000)...))
		}, "launch-kernel-file", true},
		{"text for a kernel", func(g *guest.Guest) { g.Kernel = file("text", bytes.Repeat([]byte("no kernel\n"), 900)) }, "launch-kernel", true},
		{"file that is not there", func(g *guest.Guest) { g.Kernel = filepath.Join(dir, "gone") }, "launch-files", false},
		{"no vCPU", func(g *guest.Guest) { g.VCPUs = 0 }, "launch-description", false},
		{"features that QEMU cannot ask for", func(g *guest.Guest) { g.GuestFeatures = 0x21 }, "launch-host-kernel", true},
		{"key that is not there", func(g *guest.Guest) { g.IDBlock.IDKey = filepath.Join(dir, "key") }, "launch-id-block-files", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := guest.Default()
			g.Firmware, g.Kernel = amdsev, kernel
			tc.change(&g)
			checks := Preflight(t.Context(), &g, Options{Backend: BackendSim})
			at := slices.IndexFunc(checks, func(c host.Check) bool { return c.ID == tc.id })
			if tc.id != "" && (at < 0 || checks[at].Verdict != host.Obstacle || checks[at].Remedy == "") {
				t.Errorf("got %+v", checks)
			}
			for _, c := range checks {
				if c.Verdict == host.Obstacle && c.ID != tc.id && c.ID != with[tc.id] {
					t.Errorf("%+v as well", c)
				}
				if c.Name == c.ID || c.Reason == "" || c.Category != host.Launch {
					t.Errorf("something is empty in %+v", c)
				}
			}
			if goesOn := slices.ContainsFunc(checks, func(c host.Check) bool { return c.ID == "launch-policy" }); goesOn != tc.goesOn {
				t.Errorf("goes on: %v", goesOn)
			}
		})
	}
}

// A launch that is forced is not looked at.
func TestPreflightForce(t *testing.T) {
	g := guest.Default()
	g.Policy = 0x10000
	r := &run{g: &g, o: Options{Backend: BackendSim, Force: true}}
	if err := r.preflight(t.Context()); err != nil {
		t.Errorf("forced: %v", err)
	}
}

func TestSplitRemedy(t *testing.T) {
	for message, want := range map[string][2]string{
		"it is wrong (do this)":     {"it is wrong", "do this"},
		"it (that) is wrong (do)":   {"it (that) is wrong", "do"},
		"it is wrong":               {"it is wrong", "change the description"},
		"(nothing before it)":       {"(nothing before it)", "change the description"},
		"wrong (x) and so it stays": {"wrong (x) and so it stays", "change the description"},
	} {
		if reason, remedy := splitRemedy(message); reason != want[0] || remedy != want[1] {
			t.Errorf("%q: got %q, %q", message, reason, remedy)
		}
	}
}
