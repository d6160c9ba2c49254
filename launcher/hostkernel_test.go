package launcher

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// TestRefusedBeforeQEMU: what would not launch is refused with its sentence
// before a QEMU is asked for.
func TestRefusedBeforeQEMU(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	firmware := func(change func(*ovmftest.Spec)) string {
		spec := ovmftest.AmdSev()
		change(&spec)
		return file("firmware", spec.Build())
	}
	sig := uint32(0xA00F11)
	for name, c := range map[string]struct {
		change  func(*guest.Guest)
		backend string
		want    string // "": accepted
	}{
		"sound":                   {func(g *guest.Guest) {}, BackendSim, ""},
		"features":                {func(g *guest.Guest) { g.GuestFeatures = 0x21 }, BackendSNP, "QEMU launches every guest with what the host's kernel gives, on 6.11+ with 0x1 (SNPActive)"},
		"features of the kernel":  {func(g *guest.Guest) { g.HostKernel, g.GuestFeatures = "amd-6.6", 0x21 }, BackendSNP, ""},
		"the same, simulated":     {func(g *guest.Guest) { g.HostKernel, g.GuestFeatures = "amd-6.6", 0x21 }, BackendSim, "the software SNP host is a Linux 6.11+"},
		"FPU of the kernel":       {func(g *guest.Guest) { g.HostKernel = "amd-6.8" }, BackendSim, "the software SNP host is a Linux 6.11+"},
		"a later kernel":          {func(g *guest.Guest) { g.HostKernel = "7.2" }, BackendSim, ""},
		"kernel without SNP":      {func(g *guest.Guest) { g.HostKernel = "6.8" }, BackendSNP, "launches no SNP guests"},
		"another signature":       {func(g *guest.Guest) { g.CPUSig = &sig }, BackendSNP, "QEMU launches EPYC-v4 with 0x800f12"},
		"the signature":           {func(g *guest.Guest) { g.CPU, g.CPUSig = "EPYC-Milan", &sig }, BackendSNP, ""},
		"the host's signature":    {func(g *guest.Guest) { g.CPU, g.CPUSig = "host", &sig }, BackendSNP, ""},
		"a digest for the kernel": {func(g *guest.Guest) { g.KernelSHA256 = new([32]byte) }, BackendSNP, "enough to measure, but not to launch"},
		"firmware of 68 KiB":      {func(g *guest.Guest) { g.Firmware = firmware(func(s *ovmftest.Spec) { s.Size = 68 << 10 }) }, BackendSNP, "QEMU's -bios takes"},
		"ELF kernel":              {func(g *guest.Guest) { g.Kernel = file("vmlinux", append([]byte("\x7fELF"), make([]byte, 99)...)) }, BackendSNP, "it is an ELF file"},
		"empty kernel":            {func(g *guest.Guest) { g.Kernel = file("empty", nil) }, BackendSNP, "QEMU loads no such kernel"},
		"no place for hashes": {func(g *guest.Guest) {
			g.Kernel, g.Firmware = file("k", []byte("kernel")), firmware(func(s *ovmftest.Spec) { *s = ovmftest.Generic() })
		}, BackendSNP, "a generic build"},
		"no metadata":   {func(g *guest.Guest) { g.Firmware = firmware(func(s *ovmftest.Spec) { s.NoMetadata = true }) }, BackendSNP, "no SEV metadata"},
		"little memory": {func(g *guest.Guest) { g.Firmware = firmware(func(s *ovmftest.Spec) { s.Sections[0].GPA = 1 << 30 }) }, BackendSNP, "memory is too small"},
		"no vCPUs":      {func(g *guest.Guest) { g.VCPUs = 0 }, BackendSNP, "a guest has at least one"},
	} {
		t.Run(name, func(t *testing.T) {
			g := guest.Default()
			g.Firmware = firmware(func(*ovmftest.Spec) {})
			c.change(&g)
			line, err := CommandLine(&g, Options{Backend: c.backend, QEMU: "qemu", Stderr: &bytes.Buffer{}})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, %v, want %q", line, err, c.want)
			}
		})
	}
}
