package guest_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	multierror "github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/snp"
)

func sound() guest.Guest {
	g := guest.Default()
	g.Firmware, g.Kernel = "OVMF.fd", "vmlinuz"
	return g
}

func TestDefault(t *testing.T) {
	g := sound()
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	if g.VCPUs != 1 || g.CPU != "EPYC-v4" || g.Policy != 0x30000 || !g.KernelHashes || g.GuestFeatures != 1 || g.IDBlock.Mode != guest.IDBlockSign {
		t.Errorf("default %+v", g)
	}
}

// TestValidate changes one thing in a sound description and wants one finding
// for the right field.
func TestValidate(t *testing.T) {
	sig := uint32(0x123)
	for _, c := range []struct {
		field  string // "": the change is sound
		change func(*guest.Guest)
	}{
		{"", func(g *guest.Guest) { g.Name = "a-1_b.c" }},
		{"name", func(g *guest.Guest) { g.Name = "a/b" }},
		{"name", func(g *guest.Guest) { g.Name = ".." }},
		{"name", func(g *guest.Guest) { g.Name = "-a" }},
		{"name", func(g *guest.Guest) { g.Name = strings.Repeat("a", 65) }},
		{"firmware", func(g *guest.Guest) { g.Firmware = "" }},
		{"firmware", func(g *guest.Guest) { g.Firmware = "a\x00" }},
		{"", func(g *guest.Guest) { g.Kernel = "" }},
		{"initrd", func(g *guest.Guest) { g.Kernel, g.Initrd = "", "initrd" }},
		{"append", func(g *guest.Guest) { g.Kernel, g.Append = "", "quiet" }},
		{"append", func(g *guest.Guest) { g.Append = "a\x00b" }},
		{"", func(g *guest.Guest) { g.Append = " a\n" }},
		{"vcpus", func(g *guest.Guest) { g.VCPUs = 0 }},
		{"vcpus", func(g *guest.Guest) { g.VCPUs = -1 }},
		{"vcpus", func(g *guest.Guest) { g.VCPUs = 4097 }},
		{"", func(g *guest.Guest) { g.VCPUs = 4096 }},
		{"cpu", func(g *guest.Guest) { g.CPU = "EPYC-Napels" }},
		{"", func(g *guest.Guest) { g.CPU, g.CPUSig = "host", &sig }},
		{"cpu", func(g *guest.Guest) { g.CPU, g.CPUSig = "", &sig }},
		{"memory_mib", func(g *guest.Guest) { g.MemoryMiB = 15 }},
		{"memory_mib", func(g *guest.Guest) { g.MemoryMiB = 1<<24 + 1 }},
		{"guest_features", func(g *guest.Guest) { g.GuestFeatures = 0x20 }},
		{"guest_features", func(g *guest.Guest) { g.GuestFeatures = 1 | 1<<11 }},
		{"", func(g *guest.Guest) { g.GuestFeatures = 0x21 }},
		{"", func(g *guest.Guest) { g.Policy = 0x3BA0000 | 0x137 }},
		{"host_data", func(g *guest.Guest) { g.HostData[31] = 1 }},
		{"", func(g *guest.Guest) { g.HostData[31], g.HostDataSet = 1, true }},
		{"guest_visible_workarounds", func(g *guest.Guest) { g.GuestVisibleWorkarounds = make([]byte, 17) }},
		{"", func(g *guest.Guest) { g.GuestVisibleWorkarounds = make([]byte, 16) }},
		{"command[1]", func(g *guest.Guest) { g.Command = []string{"sh", "a\x00"} }},
		{"timeout", func(g *guest.Guest) { g.Timeout = -1 }},
		{"id_block.mode", func(g *guest.Guest) { g.IDBlock.Mode = "" }},
		{"id_block.mode", func(g *guest.Guest) { g.IDBlock.Mode = "Sign" }},
		{"", func(g *guest.Guest) { g.IDBlock = guest.IDBlock{Mode: guest.IDBlockNone} }},
		{"id_block.id_key", func(g *guest.Guest) { g.IDBlock = guest.IDBlock{Mode: guest.IDBlockNone, IDKey: "k"} }},
		{"id_block.author_key", func(g *guest.Guest) { g.IDBlock = guest.IDBlock{Mode: guest.IDBlockNone, AuthorKey: "k"} }},
		{"id_block.family_id", func(g *guest.Guest) {
			g.IDBlock = guest.IDBlock{Mode: guest.IDBlockNone, FamilyID: snp.FamilyID{1}}
		}},
		{"id_block.image_id", func(g *guest.Guest) {
			g.IDBlock = guest.IDBlock{Mode: guest.IDBlockNone, ImageID: snp.ImageID{1}}
		}},
		{"id_block.guest_svn", func(g *guest.Guest) { g.IDBlock = guest.IDBlock{Mode: guest.IDBlockNone, GuestSVN: 1} }},
		{"id_block.id_block_file", func(g *guest.Guest) { g.IDBlock.IDBlockFile = "f" }},
		{"id_block.id_auth_file", func(g *guest.Guest) { g.IDBlock.IDAuthFile = "f" }},
		{"id_block.id_auth_file", func(g *guest.Guest) {
			g.IDBlock = guest.IDBlock{Mode: guest.IDBlockFiles, IDBlockFile: "f"}
		}},
		{"id_block.id_key", func(g *guest.Guest) {
			g.IDBlock = guest.IDBlock{Mode: guest.IDBlockFiles, IDBlockFile: "f", IDAuthFile: "f", IDKey: "k"}
		}},
		{"", func(g *guest.Guest) {
			g.IDBlock = guest.IDBlock{Mode: guest.IDBlockFiles, IDBlockFile: "f", IDAuthFile: "f"}
		}},
	} {
		g := sound()
		c.change(&g)
		err := g.Validate()
		if c.field == "" {
			if err != nil {
				t.Errorf("a sound description is refused: %v", err)
			}
			continue
		}
		var all *multierror.Error
		if !errors.As(err, &all) || len(all.Errors) != 1 {
			t.Errorf("%s: got %v, want one finding", c.field, err)
			continue
		}
		var f *guest.FieldError
		if !errors.As(all.Errors[0], &f) || f.Field != c.field || f.Value == "" || f.Reason == "" || f.Remedy == "" {
			t.Errorf("%s: got %#v", c.field, all.Errors[0])
		}
	}
}

// TestValidateAll wants all findings at once.
func TestValidateAll(t *testing.T) {
	g := guest.Guest{}
	err := g.Validate()
	var all *multierror.Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v", err)
	}
	for _, field := range []string{"firmware: missing", "vcpus: 0", `cpu: ""`, "memory_mib: 0", "guest_features: 0x0", "id_block.mode: "} {
		if !strings.Contains(err.Error(), "\n  "+field) {
			t.Errorf("no line for %s in:\n%v", field, err)
		}
	}
}

func TestUsesKernelHashes(t *testing.T) {
	for _, c := range []struct {
		kernel string
		on     bool
		want   bool
	}{{"k", true, true}, {"k", false, false}, {"", true, false}} {
		g := guest.Guest{Kernel: c.kernel, KernelHashes: c.on}
		if g.UsesKernelHashes() != c.want {
			t.Errorf("%+v", c)
		}
	}
}

func write(t *testing.T, name, data string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOpen(t *testing.T) {
	g := sound()
	g.Firmware, g.Kernel = write(t, "f", "firmware"), write(t, "k", "kernel")
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	if in.Initrd != nil || in.Firmware.Size != 8 || in.Kernel.Path != g.Kernel {
		t.Errorf("%+v", in)
	}
	// The name moves on, the file does not.
	if err := os.Rename(write(t, "other", "KERNEL"), g.Kernel); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if sum, err := in.Kernel.SHA256(); err != nil || sum != sha256.Sum256([]byte("kernel")) {
				t.Errorf("%x, %v", sum, err)
			}
		})
	}
	wg.Wait()
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := in.Kernel.Unchanged(); err == nil {
		t.Error("a closed file is unchanged")
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	g := sound()
	g.Firmware, g.Kernel, g.Initrd = filepath.Join(dir, "none"), dir, fifo
	_, err := g.Open()
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{"firmware: ", "no such file", "kernel: ", "initrd: ", "not a regular file", fifo} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	g = guest.Default()
	if _, err := g.Open(); err == nil {
		t.Error("opened no firmware")
	}
}

func TestInputChanges(t *testing.T) {
	for name, change := range map[string]func(string) error{
		"grows":   func(p string) error { return os.WriteFile(p, []byte("kernel, more"), 0o600) },
		"shrinks": func(p string) error { return os.Truncate(p, 1) },
		"same size, other time": func(p string) error {
			if err := os.WriteFile(p, []byte("KERNEL"), 0o600); err != nil {
				return err
			}
			return os.Chtimes(p, time.Time{}, time.Now().Add(time.Hour))
		},
	} {
		p := write(t, "k", "kernel")
		in, err := guest.OpenInput(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := change(p); err != nil {
			t.Fatal(err)
		}
		if _, err := in.SHA256(); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: got %v", name, err)
		}
		in.File.Close()
	}
}

func TestKernelKind(t *testing.T) {
	bz := make([]byte, 1024)
	copy(bz, "MZ")
	copy(bz[0x202:], "HdrS")
	multiboot := make([]byte, 1024)
	copy(multiboot, "\x7fELF")
	copy(multiboot[64:], []byte{0x02, 0xB0, 0xAD, 0x1B, 3, 0, 0, 0, 0xFB, 0x4F, 0x52, 0xE4})
	noSum := bytes.Clone(multiboot)
	noSum[72]++
	for _, c := range []struct {
		name     string
		data     []byte
		want     guest.KernelKind
		hashable bool
	}{
		{"bzImage with EFI stub", bz, guest.KernelBzImage, true},
		{"UKI", append([]byte("MZ"), make([]byte, 1000)...), guest.KernelPE, true},
		{"Multiboot in ELF", multiboot, guest.KernelMultiboot, false},
		{"wrong Multiboot checksum", noSum, guest.KernelELF, false},
		{"short ELF", []byte("\x7fELF"), guest.KernelELF, false},
		{"text", []byte("kernel"), guest.KernelOther, true},
		{"nothing", nil, guest.KernelOther, true},
	} {
		got, err := guest.KernelKindOf(bytes.NewReader(c.data), int64(len(c.data)))
		if err != nil || got != c.want || got.Hashable() != c.hashable {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
	}
	if _, err := guest.KernelKindOf(bytes.NewReader(nil), 10); err == nil {
		t.Error("a file that ends too soon passes")
	}
}

// A policy that is refused at launch can be described, with a remark: whoever
// looks into a failure needs to see it.
func TestPolicyRemarks(t *testing.T) {
	for policy, want := range map[snp.GuestPolicy]string{
		0x30000:                       "",
		0x10000:                       "bit 17",
		0x30000 | 1<<26:               "reserved",
		0x30000 | 1<<63:               "reserved",
		0x30000 | snp.PolicyMigrateMA: "MIGRATE_MA",
	} {
		g := guest.Default()
		g.Firmware, g.Policy = "/f", policy
		if err := g.Validate(); err != nil {
			t.Errorf("policy %s cannot be described: %v", policy, err)
		}
		remarks := strings.Join(g.PolicyRemarks(), "; ")
		if (remarks == "") != (want == "") || !strings.Contains(remarks, want) {
			t.Errorf("policy %s: remarks %q, want %q", policy, remarks, want)
		}
	}
}
