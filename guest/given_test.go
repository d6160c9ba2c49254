package guest_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
)

// TestNewInput: bytes stand for a file.
func TestNewInput(t *testing.T) {
	data := []byte("kernel")
	in := guest.NewInput("kernel", bytes.NewReader(data), int64(len(data)))
	if sum, err := in.SHA256(); err != nil || sum != sha256.Sum256(data) {
		t.Errorf("%x, %v", sum, err)
	}
	if got, err := io.ReadAll(in.Reader()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", got, err)
	}
	if err := in.Unchanged(); err != nil || !in.HasContents() {
		t.Error(err)
	}
	if err := (&guest.Inputs{Kernel: in}).Close(); err != nil {
		t.Error(err)
	}
	short := guest.NewInput("kernel", bytes.NewReader(data), 7)
	if _, err := short.SHA256(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a size that is not the reader's: %v", err)
	}
}

// TestDigestInput: a digest is no file to read.
func TestDigestInput(t *testing.T) {
	in := guest.DigestInput("the kernel", [32]byte{1, 2})
	if sum, err := in.SHA256(); err != nil || sum != [32]byte{1, 2} {
		t.Errorf("%x, %v", sum, err)
	}
	if _, err := in.ReadAt(make([]byte, 1), 0); err == nil || !strings.Contains(err.Error(), "the kernel is known by its digest only") {
		t.Errorf("%v", err)
	}
	if in.HasContents() {
		t.Error("it has contents")
	}
}

// TestGivenDigests: with a file the digest is held against it, without one it
// stands for it.
func TestGivenDigests(t *testing.T) {
	g := sound()
	g.Firmware, g.Kernel = write(t, "f", "firmware"), write(t, "k", "kernel")
	sum := sha256.Sum256([]byte("kernel"))
	g.KernelSHA256, g.InitrdSHA256 = &sum, &[32]byte{7}
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := in.Kernel.SHA256(); err != nil || got != sum {
		t.Errorf("%x, %v", got, err)
	}
	if got, err := in.Initrd.SHA256(); err != nil || got != [32]byte{7} || in.Initrd.HasContents() {
		t.Errorf("%x, %v", got, err)
	}
	g.KernelSHA256 = &[32]byte{}
	boot, err := g.OpenBoot()
	if err != nil {
		t.Fatal(err)
	}
	defer boot.Close()
	if _, err := boot.Kernel.SHA256(); err == nil || !strings.Contains(err.Error(), g.Kernel) || !strings.Contains(err.Error(), "was given for it") {
		t.Errorf("%v", err)
	}
	if boot.Firmware != nil {
		t.Error("the firmware was opened")
	}
}

// TestSealKeepsBytes: sealing takes what stands for files, too.
func TestSealKeepsBytes(t *testing.T) {
	in := &guest.Inputs{
		Firmware: guest.NewInput("f", bytes.NewReader([]byte("firmware")), 8),
		Kernel:   guest.DigestInput("k", [32]byte{1}),
	}
	if err := in.Seal(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := io.ReadAll(in.Firmware.Reader()); err != nil || string(got) != "firmware" || in.Firmware.File == nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSetHostKernel(t *testing.T) {
	g := sound()
	if err := g.SetHostKernel("amd-6.7"); err != nil || g.GuestFeatures != 0x21 || g.HostKernel != "amd-6.7" {
		t.Errorf("0x%x, %v", g.GuestFeatures, err)
	}
	if err := g.Validate(); err != nil {
		t.Error(err)
	}
	if err := g.SetHostKernel("amd-1.0"); err == nil || g.HostKernel != "amd-6.7" {
		t.Errorf("%s, %v", g.HostKernel, err)
	}
	p, err := g.HostProfile()
	if err != nil || !p.NoFPU {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestValidateMeasure: what only a launch minds is no error for measuring.
func TestValidateMeasure(t *testing.T) {
	sig := uint32(1)
	for _, c := range []struct {
		name      string
		change    func(*guest.Guest)
		obstacles int
		measures  bool
		launches  bool
	}{
		{"sound", func(g *guest.Guest) {}, 0, true, true},
		{"features without SNPActive", func(g *guest.Guest) { g.GuestFeatures = 0 }, 1, true, false},
		{"reserved features, little memory", func(g *guest.Guest) { g.GuestFeatures, g.MemoryMiB = 1|1<<63, 1 }, 2, true, false},
		{"a digest for a kernel", func(g *guest.Guest) { g.Kernel, g.KernelSHA256 = "", &[32]byte{} }, 0, true, false},
		{"a digest for an initrd", func(g *guest.Guest) { g.InitrdSHA256 = &[32]byte{} }, 0, true, false},
		{"a digest for a command line", func(g *guest.Guest) { g.AppendSHA256 = &[32]byte{} }, 0, true, false},
		{"the digest of an empty command line", func(g *guest.Guest) { sum := sha256.Sum256([]byte{0}); g.AppendSHA256 = &sum }, 0, true, true},
		{"a signature alone", func(g *guest.Guest) { g.CPU, g.CPUSig = "", &sig }, 0, true, false},
		{"no vCPUs", func(g *guest.Guest) { g.VCPUs = 0 }, 0, false, false},
		{"a digest without kernel", func(g *guest.Guest) { g.Kernel, g.InitrdSHA256 = "", &[32]byte{} }, 0, false, false},
	} {
		g := sound()
		c.change(&g)
		obstacles, err := g.ValidateMeasure()
		if len(obstacles) != c.obstacles || (err == nil) != c.measures {
			t.Errorf("%s: obstacles %v, %v", c.name, obstacles, err)
		}
		if err := g.Validate(); (err == nil) != c.launches {
			t.Errorf("%s: to be launched: %v", c.name, err)
		}
	}
}
