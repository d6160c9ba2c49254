package measure_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/internal/lacks"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// file writes a file of the test and gives its path.
func file(t testing.TB, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// run opens a guest's files and measures it.
func run(t testing.TB, g *guest.Guest) (*measure.Result, error) {
	t.Helper()
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	return measure.Measure(g, in)
}

// on gives a guest on a synthetic firmware.
func on(t testing.TB, spec ovmftest.Spec) guest.Guest {
	g := guest.Default()
	g.Firmware = file(t, "firmware", spec.Build())
	return g
}

// TestSynthetic compares whole launches with what testdata/recipe.py computes.
func TestSynthetic(t *testing.T) {
	strange := ovmftest.AmdSev()
	strange.Sections = append(strange.Sections, ovmf.Section{GPA: 0x830000, Size: 0x2000, Type: 0x7F})
	for _, c := range []struct {
		name     string
		spec     ovmftest.Spec
		change   func(*guest.Guest)
		want     string
		warnings int
	}{
		{"AmdSev, no kernel, 1 EPYC-v4", ovmftest.AmdSev(), func(g *guest.Guest) {},
			"7f5ad33d38864d2eb502fb71b41065a96a5177a299f706ba6d3fc4a63297480486ee330e18340e560535952df664136d", 0},
		{"AmdSev, kernel, command line, 1 EPYC-v4", ovmftest.AmdSev(), func(g *guest.Guest) {
			g.Kernel = file(t, "kernel", []byte("kernel"))
			g.Append = "console=ttyS0"
		}, "6af5ab7e0a6e7cd80ce6d81b62a580867aeedf8db1ae2621b350823752b921fd10ace14a5b71df870e1f9e1e1ffd4700", 0},
		{"AmdSev, kernel, initrd, 3 EPYC-Milan, features 0x21", ovmftest.AmdSev(), func(g *guest.Guest) {
			g.Kernel = file(t, "kernel", []byte("kernel"))
			g.Initrd = file(t, "initrd", []byte("initrd"))
			g.Append = " quiet\n"
			g.VCPUs, g.CPU, g.GuestFeatures = 3, "EPYC-Milan", 0x21
		}, "7d4b29c75166d880a8be070b38056b4e652ca5ddbbbdbef8dafb08c8bb1504192de07133e9ad4cb30e42c9bfd3e26d3b", 0},
		{"generic, kernel without hashes, 2 EPYC-Turin", ovmftest.Generic(), func(g *guest.Guest) {
			g.Kernel = file(t, "kernel", []byte("kernel"))
			g.KernelHashes = false
			g.VCPUs, g.CPU = 2, "EPYC-Turin"
		}, "278b0a36fd2fd751ca449d44bdf7e8080c51ff1266669b7b50a7d0fcd3c1d151a36c833b122e9aa07a25a99527befd0c", 0},
		{"AmdSev with a section of type 0x7f, kernel, 2 EPYC-Genoa", strange, func(g *guest.Guest) {
			g.Kernel = file(t, "kernel", []byte("kernel"))
			g.VCPUs, g.CPU = 2, "EPYC-Genoa-v2"
		}, "75b08f774906085bfe221b96e0fb68953fa12d3568a4157e53c5a620b98b86223833c199ad0885486b2b4c4403aeaaf2", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := on(t, c.spec)
			c.change(&g)
			r, err := run(t, &g)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "launch digest", r.LaunchDigest.String(), c.want)
			equal(t, "fold of the pages", measure.Fold(r.Updates()), r.LaunchDigest)
			equal(t, "number of warnings", len(r.Warnings), c.warnings)
			equal(t, "CPUSig", fmt.Sprintf("%08x", r.CPUSig), fmt.Sprintf("%08x", must(g.Signature())))
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestResult looks at the parts of one result. The digests of whole files are
// testdata/recipe.py's.
func TestResult(t *testing.T) {
	g := on(t, ovmftest.AmdSev())
	g.Kernel = file(t, "kernel", []byte("kernel"))
	g.Append = "console=ttyS0"
	g.VCPUs = 2
	r, err := run(t, &g)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "firmware digest", r.FirmwareDigest.String(), "1f94fb21793cba43f7fff1cac6078ed7ec839a45a0e70e500ee179a24cff7e6fc7743d136d9b4b3687d0b6e7fac1f314")
	equal(t, "hashes page", r.HashPageGPA, 0x810000)
	equal(t, "SHA-384 of the hashes page", fmt.Sprintf("%x", sha512.Sum384(r.HashPage[:])), "ed1c142b6ba2ad15e072c891bdabcb8d64524446d153a65266099c5ea543564fe37105ec056699cd03386073482b030d")
	table, err := hashes.Parse(r.HashPage[:], 0xC00)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "table in the page", *table, *r.HashTable)

	// 16 firmware pages, 47 of sections other than the hashes', the hashes page, 2 VMSAs.
	equal(t, "number of pages", len(r.Pages), 16+9+3+1+1+1+31+1+2)
	type line struct {
		n      int
		kind   snp.PageType
		gpa    uint64
		source string
	}
	for _, l := range []line{
		{0, snp.PageNormal, 0xFFFF0000, "firmware"},
		{15, snp.PageNormal, 0xFFFFF000, "firmware"},
		{16, snp.PageZero, 0x800000, "metadata 0: SNP_SEC_MEM"},
		{28, snp.PageSecrets, 0x80D000, "metadata 2: SNP_SECRETS"},
		{29, snp.PageCPUID, 0x80E000, "metadata 3: CPUID"},
		{30, snp.PageZero, 0x80F000, "metadata 4: SVSM_CAA"},
		{62, snp.PageNormal, 0x810000, "kernel hashes"},
		{63, snp.PageVMSA, 0xFFFFFFFFF000, "vCPU 0 VMSA"},
		{64, snp.PageVMSA, 0xFFFFFFFFF000, "vCPU 1 VMSA"},
	} {
		p := r.Pages[l.n]
		equal(t, fmt.Sprintf("page %d", l.n), line{l.n, p.Type, p.GPA, p.Source}, l)
	}
	for i, p := range r.Pages {
		if p.Length != snp.PageSize || p.Type.Measured() == (p.Contents == snp.ContentDigest{}) {
			t.Errorf("page %d: %+v", i, p)
		}
	}
}

// TestContext folds the chain of which each step was published by its own
// (and by testdata/recipe.py's extend): zero page, page of zeros, secrets and
// CPUID page, vCPU 0 of an EPYC.
func TestContext(t *testing.T) {
	zeros := sha512.Sum384(make([]byte, snp.PageSize))
	area := vmsa.Page(vmsa.Config{Signature: 0x800F12, Features: 1}, true, 0)
	var c measure.Context
	for _, s := range []struct {
		updates []snp.Update
		want    string
	}{
		{[]snp.Update{{Type: snp.PageZero, GPA: 0x800000, Length: 4096}},
			"4472405c6dbc65e5629805f2be1b3df74eb119841eff12466c24f43e67083c23df5e645b2742b6d9aa0f943e095cebaa"},
		{[]snp.Update{{Type: snp.PageNormal, GPA: 0xFFC00000, Contents: zeros}},
			"bc9bc5b3f16081d96e1a3780d25085616972cd8342caa89d1d35854ef1295068f23b67f20792a1edc8df01d6ddf0cd1f"},
		{[]snp.Update{{Type: snp.PageSecrets, GPA: 0x80D000, Length: 4096}, {Type: snp.PageCPUID, GPA: 0x80E000, Length: 4096}},
			"c7e98bac96dc476651dbf6b8ee7bc3a9b1821a90f208ba95714c585f9979a6ebb47a37bfb45511cea968f7c0b293ae34"},
		{[]snp.Update{{Type: snp.PageVMSA, GPA: snp.VMSAGPA, Length: 4096, Contents: sha512.Sum384(area[:])}},
			"0c6fc05ba350350faed3b4c3816d1fd22a87bcf9eb748947c2c3525693ef912e0a9b999079379fdbeb80ed186beccbe8"},
	} {
		for _, u := range s.updates {
			c.Extend(u)
		}
		equal(t, "digest", c.LD.String(), s.want)
	}
	one := measure.Fold([]snp.Update{{Type: snp.PageZero, GPA: 0x1000, Length: 0x2000}})
	two := measure.Fold([]snp.Update{{Type: snp.PageZero, GPA: 0x1000, Length: 0x1000}, {Type: snp.PageZero, GPA: 0x2000, Length: 0x1000}})
	equal(t, "two pages in one update", one, two)
}

// TestEveryField changes each field of a Guest by itself and says what
// becomes of the digest. A field that is added to Guest must be added here.
func TestEveryField(t *testing.T) {
	const (
		changes = "changes"
		same    = "stays" // the field takes part in the launch, but not in the digest
		refused = "is refused"
	)
	base := on(t, ovmftest.AmdSev())
	base.Kernel = file(t, "kernel", []byte("kernel"))
	base.Initrd = file(t, "initrd", []byte("initrd"))
	base.Append = "console=ttyS0"
	base.VCPUs = 2
	want, err := run(t, &base)
	if err != nil {
		t.Fatal(err)
	}
	other := ovmftest.AmdSev().Build()
	other[100]++
	sig := uint32(0xA00F12)
	zero := uint32(0)
	cases := []struct {
		field, outcome string
		change         func(*guest.Guest)
	}{
		{"Name", same, func(g *guest.Guest) { g.Name = "other" }},
		{"Firmware", changes, func(g *guest.Guest) { g.Firmware = file(t, "f", other) }},
		{"Kernel", changes, func(g *guest.Guest) { g.Kernel = file(t, "k", []byte("Kernel")) }},
		{"Kernel", changes, func(g *guest.Guest) { g.Kernel, g.Initrd, g.Append = "", "", "" }},
		{"Initrd", changes, func(g *guest.Guest) { g.Initrd = file(t, "i", []byte("initrd\x00")) }},
		{"Initrd", changes, func(g *guest.Guest) { g.Initrd = "" }},
		{"Append", changes, func(g *guest.Guest) { g.Append += " " }},
		{"Append", changes, func(g *guest.Guest) { g.Append = "\n" + g.Append }},
		{"Append", changes, func(g *guest.Guest) { g.Append = "" }},
		{"FirmwareSHA256", same, func(g *guest.Guest) { sum := sha256.Sum256(ovmftest.AmdSev().Build()); g.FirmwareSHA256 = &sum }},
		{"FirmwareSHA256", refused, func(g *guest.Guest) { g.FirmwareSHA256 = new([32]byte) }},
		{"KernelSHA256", same, func(g *guest.Guest) { sum := sha256.Sum256([]byte("kernel")); g.KernelSHA256 = &sum }},
		{"KernelSHA256", refused, func(g *guest.Guest) { g.KernelSHA256 = new([32]byte) }},
		{"InitrdSHA256", same, func(g *guest.Guest) { sum := sha256.Sum256([]byte("initrd")); g.InitrdSHA256 = &sum }},
		{"InitrdSHA256", refused, func(g *guest.Guest) { g.InitrdSHA256 = new([32]byte) }},
		{"AppendSHA256", same, func(g *guest.Guest) { sum := sha256.Sum256([]byte("console=ttyS0\x00")); g.AppendSHA256 = &sum }},
		{"AppendSHA256", refused, func(g *guest.Guest) { g.AppendSHA256 = new([32]byte) }},
		{"VCPUs", changes, func(g *guest.Guest) { g.VCPUs = 1 }},
		{"VCPUs", changes, func(g *guest.Guest) { g.VCPUs = 3 }},
		{"CPU", changes, func(g *guest.Guest) { g.CPU = "EPYC-Rome" }},
		{"CPU", same, func(g *guest.Guest) { g.CPU = "EPYC-v5" }},
		{"CPUSig", changes, func(g *guest.Guest) { g.CPUSig = &sig }},
		{"CPUSig", changes, func(g *guest.Guest) { g.CPUSig = &zero }},
		{"MemoryMiB", same, func(g *guest.Guest) { g.MemoryMiB *= 2 }},
		// With another vCPU count, as without hashes the pages are those of a guest without kernel.
		{"KernelHashes", changes, func(g *guest.Guest) { g.KernelHashes, g.VCPUs = false, 5 }},
		{"HostKernel", same, func(g *guest.Guest) { g.HostKernel = "6.12" }},
		{"HostKernel", changes, func(g *guest.Guest) { g.HostKernel = "amd-6.8" }},
		{"HostKernel", refused, func(g *guest.Guest) { g.HostKernel = "amd-6.6" }}, // GuestFeatures is 0x1
		{"GuestFeatures", changes, func(g *guest.Guest) { g.GuestFeatures |= vmsa.DebugSwap }},
		{"Policy", same, func(g *guest.Guest) { g.Policy |= snp.PolicyDebug }},
		{"HostData", same, func(g *guest.Guest) { g.HostData[0], g.HostDataSet = 1, true }},
		{"HostDataSet", same, func(g *guest.Guest) { g.HostDataSet = true }},
		{"IDBlock.Mode", same, func(g *guest.Guest) { g.IDBlock.Mode = guest.IDBlockNone }},
		{"IDBlock.IDKey", same, func(g *guest.Guest) { g.IDBlock.IDKey = "key" }},
		{"IDBlock.AuthorKey", same, func(g *guest.Guest) { g.IDBlock.AuthorKey = "key" }},
		{"IDBlock.FamilyID", same, func(g *guest.Guest) { g.IDBlock.FamilyID[0] = 1 }},
		{"IDBlock.ImageID", same, func(g *guest.Guest) { g.IDBlock.ImageID[0] = 1 }},
		{"IDBlock.GuestSVN", same, func(g *guest.Guest) { g.IDBlock.GuestSVN = 1 }},
		{"IDBlock.IDBlockFile", refused, func(g *guest.Guest) { g.IDBlock.IDBlockFile = "file" }},
		{"IDBlock.IDAuthFile", refused, func(g *guest.Guest) { g.IDBlock.IDAuthFile = "file" }},
		{"VCEKDisabled", same, func(g *guest.Guest) { g.VCEKDisabled = true }},
		{"GuestVisibleWorkarounds", same, func(g *guest.Guest) { g.GuestVisibleWorkarounds = []byte{1} }},
		{"Disks", same, func(g *guest.Guest) { g.Disks = []guest.Disk{{File: "disk", Serial: "one"}} }},
		{"Network.Mode", same, func(g *guest.Guest) { g.Network.Mode = guest.NetworkUser }},
		{"Network.Forwards", same, func(g *guest.Guest) {
			g.Network = guest.Network{Mode: guest.NetworkUser, Forwards: []guest.Forward{{GuestPort: 22}}}
		}},
		{"Network.Restrict", same, func(g *guest.Guest) { g.Network = guest.Network{Mode: guest.NetworkUser, Restrict: true} }},
		{"VsockCID", same, func(g *guest.Guest) { g.VsockCID = guest.VsockAuto }},
		{"GDB", same, func(g *guest.Guest) { g.GDB = "1234" }},
		{"FirmwareLog", same, func(g *guest.Guest) { g.FirmwareLog = "log" }},
		{"MemoryBackend", same, func(g *guest.Guest) { g.MemoryBackend = guest.MemoryMemfd }},
		{"QEMUArgs", same, func(g *guest.Guest) { g.QEMUArgs = []string{"-device", "virtio-rng-pci"} }},
		{"QEMUArgs", refused, func(g *guest.Guest) { g.QEMUArgs = []string{"-smp", "4"} }},
		{"Files.In", same, func(g *guest.Guest) { g.Files.In = []guest.FileIn{{Host: "a", Guest: "/a"}} }},
		{"Files.Out", same, func(g *guest.Guest) { g.Files.Out = []guest.FileOut{{Guest: "/a", Host: "a"}} }},
		{"Env", same, func(g *guest.Guest) { g.Env = []string{"A=b"} }},
		{"Timeouts.Launch", same, func(g *guest.Guest) { g.Timeouts.Launch = time.Second }},
		{"Timeouts.Firmware", same, func(g *guest.Guest) { g.Timeouts.Firmware = time.Second }},
		{"Timeouts.Kernel", same, func(g *guest.Guest) { g.Timeouts.Kernel = time.Second }},
		{"Timeouts.Agent", same, func(g *guest.Guest) { g.Timeouts.Agent = time.Second }},
		{"Timeouts.Command", same, func(g *guest.Guest) { g.Timeouts.Command = time.Second }},
		{"Command", same, func(g *guest.Guest) { g.Command = []string{"id"} }},
		{"Timeout", same, func(g *guest.Guest) { g.Timeout = time.Second }},
	}
	named := map[string]bool{}
	seen := map[snp.LaunchDigest]string{want.LaunchDigest: "the unchanged guest"}
	for n, c := range cases {
		named[c.field] = true
		g := base
		c.change(&g)
		in, err := g.Open()
		if err != nil {
			t.Fatalf("case %d, %s: %v", n, c.field, err)
		}
		r, err := measure.Measure(&g, in)
		in.Close()
		if c.outcome == refused {
			if err == nil {
				t.Errorf("case %d, %s: not refused", n, c.field)
			}
			continue
		}
		if err != nil {
			t.Errorf("case %d, %s: %v", n, c.field, err)
			continue
		}
		was, known := seen[r.LaunchDigest]
		switch {
		case c.outcome == changes && known:
			t.Errorf("case %d, %s: the digest is that of %s", n, c.field, was)
		case c.outcome == same && r.LaunchDigest != want.LaunchDigest:
			t.Errorf("case %d, %s: the digest changed", n, c.field)
		}
		seen[r.LaunchDigest] = fmt.Sprintf("case %d, %s", n, c.field)
	}
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == reflect.TypeFor[guest.Guest]().PkgPath() {
				walk(f.Type, f.Name+".")
			} else if !named[prefix+f.Name] {
				t.Errorf("no case changes %s%s", prefix, f.Name)
			}
		}
	}
	walk(reflect.TypeFor[guest.Guest](), "")
}

// TestEveryFirmwareByte changes one byte in each page of the firmware.
func TestEveryFirmwareByte(t *testing.T) {
	img := ovmftest.AmdSev().Build()
	parsed, err := ovmf.Parse(bytes.NewReader(img), int64(len(img)))
	if err != nil {
		t.Fatal(err)
	}
	digest := func() snp.LaunchDigest {
		pages, err := measure.FirmwarePages(bytes.NewReader(img), parsed)
		if err != nil {
			t.Fatal(err)
		}
		var c measure.Context
		for _, p := range pages {
			c.Extend(p.Update)
		}
		return c.LD
	}
	seen := map[snp.LaunchDigest]int{digest(): -1}
	for off := 7; off < len(img); off += snp.PageSize {
		img[off] ^= 1
		d := digest()
		if was, twice := seen[d]; twice {
			t.Errorf("a change at 0x%x gives the digest of a change at 0x%x", off, was)
		}
		seen[d] = off
		img[off] ^= 1
	}
}

// TestRefusals has one guest for each reason.
func TestRefusals(t *testing.T) {
	kernel := file(t, "kernel", []byte("kernel"))
	with := func(change func(*ovmftest.Spec)) ovmftest.Spec {
		s := ovmftest.AmdSev()
		change(&s)
		return s
	}
	elf := append([]byte("\x7fELF"), make([]byte, 100)...)
	multiboot := append([]byte{0x02, 0xB0, 0xAD, 0x1B, 3, 0, 0, 0, 0xFB, 0x4F, 0x52, 0xE4}, make([]byte, 100)...)
	for _, c := range []struct {
		name   string
		spec   ovmftest.Spec
		change func(*guest.Guest)
		want   error
	}{
		{"no metadata", with(func(s *ovmftest.Spec) { s.NoMetadata = true }), func(g *guest.Guest) {}, measure.ErrNoMetadata},
		{"AmdSev, hashes off", with(func(s *ovmftest.Spec) { s.Code = blobVerifier }), func(g *guest.Guest) { g.Kernel, g.KernelHashes = kernel, false }, measure.ErrHashesOff},
		{"generic, hashes on", ovmftest.Generic(), func(g *guest.Guest) { g.Kernel = kernel }, ovmf.ErrHashBaseZero},
		{"entry without section", with(func(s *ovmftest.Spec) { s.Sections = s.Sections[:6] }), func(g *guest.Guest) { g.Kernel = kernel }, ovmf.ErrHashSectionMissing},
		{"section without entry", with(func(s *ovmftest.Spec) { s.HashTable = nil }), func(g *guest.Guest) { g.Kernel = kernel }, ovmf.ErrHashEntryMissing},
		{"no reset block", with(func(s *ovmftest.Spec) { s.ResetEIP = nil }), func(g *guest.Guest) {}, measure.ErrNoResetEIP},
		{"little memory", with(func(s *ovmftest.Spec) { s.Sections[0].GPA = 32 << 20 }), func(g *guest.Guest) { g.MemoryMiB = 32 }, measure.ErrMemory},
		{"ELF kernel", ovmftest.AmdSev(), func(g *guest.Guest) { g.Kernel = file(t, "elf", elf) }, measure.ErrNotHashable},
		{"size for -bios", with(func(s *ovmftest.Spec) { s.Size = 68 << 10 }), func(g *guest.Guest) {}, ovmf.ErrBIOSSize},
		{"empty kernel", ovmftest.AmdSev(), func(g *guest.Guest) { g.Kernel = file(t, "empty", nil) }, measure.ErrEmptyKernel},
		{"Multiboot kernel", ovmftest.AmdSev(), func(g *guest.Guest) { g.Kernel = file(t, "multiboot", multiboot) }, measure.ErrNotHashable},
		{"no reset block, 2 vCPUs", with(func(s *ovmftest.Spec) { s.ResetEIP = nil }), func(g *guest.Guest) { g.VCPUs = 2 }, measure.ErrNoResetEIP},
		{"hashes area outside its section", with(func(s *ovmftest.Spec) { s.HashTable.Base = 0x811C00 }), func(g *guest.Guest) { g.Kernel = kernel }, ovmf.ErrHashOutsideSection},
		{"overlapping sections", with(func(s *ovmftest.Spec) { s.Sections[1].GPA = 0x808000 }), func(g *guest.Guest) {}, ovmf.ErrSectionOverlap},
		{"unaligned section", with(func(s *ovmftest.Spec) { s.Sections[1].GPA = 0x80A010 }), func(g *guest.Guest) {}, ovmf.ErrSectionAlignment},
		{"no OVMF", with(func(s *ovmftest.Spec) { s.Footer = new(ovmf.GUID) }), func(g *guest.Guest) {}, ovmf.ErrNoTable},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := on(t, c.spec)
			c.change(&g)
			_, err := run(t, &g)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), "(") {
				t.Errorf("no remedy in: %v", err)
			}
		})
	}
	t.Run("files of another guest", func(t *testing.T) {
		g := on(t, ovmftest.AmdSev())
		in, err := g.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		g.Kernel = kernel
		if _, err := measure.Measure(&g, in); err == nil {
			t.Error("measured a kernel that was not opened")
		}
	})
	t.Run("ELF kernel without hashes", func(t *testing.T) {
		g := on(t, ovmftest.Generic())
		g.Kernel, g.KernelHashes = file(t, "elf", elf), false
		if _, err := run(t, &g); err != nil {
			t.Error(err)
		}
	})
}

// TestChangedFile wants a file that grows after it was opened to be noticed.
func TestChangedFile(t *testing.T) {
	for _, name := range []string{"firmware", "kernel", "initrd"} {
		t.Run(name, func(t *testing.T) {
			g := on(t, ovmftest.AmdSev())
			g.Kernel = file(t, "kernel", []byte("kernel"))
			g.Initrd = file(t, "initrd", []byte("initrd"))
			in, err := g.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			path := map[string]string{"firmware": g.Firmware, "kernel": g.Kernel, "initrd": g.Initrd}[name]
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("more"); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if _, err := measure.Measure(&g, in); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error that names %s", err, path)
			}
		})
	}
}

// TestRealFiles measures a real AmdSev build and a real kernel. The expected
// digests are sev-snp-measure 0.0.13's, and what the software host folded from
// QEMU's own launch updates, for Debian's ovmf-amdsev 2026.08+ds-2 and
// linux-image-6.12.95+deb12-cloud-amd64.
func TestRealFiles(t *testing.T) {
	firmware, kernel := os.Getenv("SNPLAUNCH_OVMF"), os.Getenv("SNPLAUNCH_KERNEL")
	if firmware == "" || kernel == "" {
		lacks.End(t, "SNPLAUNCH_OVMF and SNPLAUNCH_KERNEL are not both set (set them to the OVMF.amdsev.fd of ovmf-amdsev and a kernel)")
	}
	for n, want := range map[int]string{
		1: "2cd3cb7ef667c9daf74e53002961657837dc4d729cd3191b29b8b982952ef68898ede8b7610b1acae9089b3da120ae27",
		2: "de6d0dca483049b35a22738fc217cf7e163fa30be38bcc3e12f3ac97994803e157d045ee784f1580523e2adfa2cd4641",
	} {
		g := guest.Default()
		g.Firmware, g.Kernel, g.Append, g.VCPUs = firmware, kernel, "console=ttyS0", n
		r, err := run(t, &g)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "flavour", r.Image.Flavour(), "SNP with kernel hashes")
		if err := r.Image.CheckBIOS(); err != nil {
			t.Error(err)
		}
		raw, err := os.ReadFile(firmware)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		if hex.EncodeToString(sum[:]) != "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f" ||
			hex.EncodeToString(r.HashTable.Kernel[:]) != "fadf27c4528461030ddff1d20e6622f76e1e007f7c64796f5ad9b71e37267a6f" {
			t.Logf("the packages moved on: firmware %x, kernel %x; digest with %d vCPUs %s", sum, r.HashTable.Kernel, n, r.LaunchDigest)
			continue
		}
		equal(t, fmt.Sprintf("launch digest with %d vCPUs", n), r.LaunchDigest.String(), want)
	}
}

// blobVerifier is code that knows the GUID of the kernel's table entry, as
// EDK2's BlobVerifierLibSevHashes does.
var blobVerifier = []byte("code\x37\x94\xe7\x4d\xd2\xab\x7f\x42\xb8\x35\xd5\xb1\x72\xd2\x04\x5bmore")

// Firmware that has a place for the table but does not look at it boots any
// kernel, so that it can be launched without hashes (Debian's generic OVMF.fd
// of 2026.08 is such a build).
func TestHashesOffOnFirmwareThatDoesNotVerify(t *testing.T) {
	g := on(t, ovmftest.AmdSev())
	g.Kernel, g.KernelHashes = file(t, "kernel", []byte("kernel")), false
	r, err := run(t, &g)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Pages {
		if p.Source == "metadata 6: SNP_KERNEL_HASHES" && p.Type != snp.PageZero {
			t.Errorf("the table's page is %s, want ZERO", p.Type)
		}
	}
}
