package measure_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

var zeroDigest snp.LaunchDigest

// TestMetadata: for each launch whose firmware can be replaced by its
// metadata, that gives the same digest.
func TestMetadata(t *testing.T) {
	tried := 0
	for name, change := range variants {
		v := baseVariant()
		change(v)
		if v.opt.Mode != measure.SNP {
			continue
		}
		tried++
		whole, err := v.measure()
		if err != nil {
			t.Fatal(err)
		}
		m, err := measure.MetadataOf(whole)
		if err != nil {
			t.Fatal(err)
		}
		m.FirmwareSHA256 = &[32]byte{1}
		text, err := m.JSON()
		if err != nil {
			t.Fatal(err)
		}
		read, err := measure.ParseMetadata(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(read, m) {
			t.Errorf("%s: read back as %+v, want %+v", name, read, m)
		}
		in := &guest.Inputs{}
		if v.kernel != "" {
			in.Kernel = input("kernel", []byte(v.kernel))
		}
		if v.initrd != "" {
			in.Initrd = input("initrd", []byte(v.initrd))
		}
		v.opt.Metadata = read
		r, err := measure.MeasureWith(&v.g, in, v.opt)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		equal(t, name, r.LaunchDigest, whole.LaunchDigest)
		equal(t, name+": obstacles", len(r.Obstacles), len(whole.Obstacles))
	}
	if tried < 20 {
		t.Errorf("only %d launches tried", tried)
	}
}

func TestMetadataErrors(t *testing.T) {
	digest := strings.Repeat("00", 48)
	for text, want := range map[string]string{
		"":                                  "EOF",
		"[]":                                "give the file that",
		"{}":                                "OVMFHash: launch digest",
		`{"OVMFHash":"` + digest[2:] + `"}`: "want 96 hexadecimal digits",
		`{"OVMFHash":"` + digest + `"} {}`:  "something follows",
		`{"OVMFHash":"` + digest + `","Colour":1}`:                                                             "unknown field",
		`{"OVMFHash":"` + digest + `","ResetEIP":"12"}`:                                                        "with 0x before it",
		`{"OVMFHash":"` + digest + `","ResetEIP":"0x100000000"}`:                                               "not a number of 32 bits",
		`{"OVMFHash":"` + digest + `","HashTable":{"GPA":"0x1"}}`:                                              "HashTable: ",
		`{"OVMFHash":"` + digest + `","FirmwareSHA256":"00"}`:                                                  "FirmwareSHA256: SHA-256",
		`{"OVMFHash":"` + digest + `","FirmwareSize":-4096}`:                                                   "firmware size is not possible",
		`{"OVMFHash":"` + digest + `","MetadataItems":[{"GPA":"0x0","Size":"0x0","SectionTypeInt":1}]}`:        "not made of whole",
		`{"OVMFHash":"` + digest + `","MetadataItems":[{"GPA":"0x0","Size":"0xfffff000","SectionTypeInt":1}]}`: "larger than any",
		`{"OVMFHash":"` + digest + `","MetadataItems":[{"GPA":"0x0","SectionTypeInt":1}]}`:                     "MetadataItems[0]: ",
		`{"OVMFHash":"` + digest + strings.Repeat(" ", 1<<20):                                                  "more than 1048576 bytes",
	} {
		if _, err := measure.ParseMetadata(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got %v, want %q", text, err, want)
		}
	}
	for _, mode := range []measure.Mode{measure.SEV, measure.OVMFHash, measure.SVSM} {
		v := baseVariant()
		if mode == measure.SVSM {
			v.withSVSM(0, 0)
		}
		v.opt.Mode = mode
		r, err := v.measure()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := measure.MetadataOf(r); err == nil || !strings.Contains(err.Error(), mode.String()) {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// TestPeersMetadata reads the files of sev-snp-measure-go.
func TestPeersMetadata(t *testing.T) {
	dir := os.Getenv(vectorsEnv)
	if dir == "" {
		t.Skipf("%s is not set (set it to the folder that holds published.json and its inputs)", vectorsEnv)
	}
	files, err := filepath.Glob(filepath.Join(dir, "inputs/sev-snp-measure-go/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no metadata of sev-snp-measure-go, %v", err)
	}
	// Its own digests of these have EC2's former RDX, see wrongRDX.
	want := map[string]string{
		"ovmf_img_1.json": "4c6e33087d08fa770259484dddbef367086a15c3e2cf10038dc97229d39c942671c2e22b300178f8de594a3f2fa59303",
		"ovmf_img_2.json": "c2c84b9364fc9f0f54b04534768c860c6e0e386ad98b96e8b98eca46ac8971d05c531ba48373f054c880cfd1f4a0a84e",
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := measure.ParseMetadata(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		g := guest.Default()
		g.VCPUs = 2
		r, err := measure.MeasureWith(&g, &guest.Inputs{}, measure.Options{VMM: vmsa.EC2, Metadata: m, RDX: new(uint32)})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, name, r.LaunchDigest.String(), want[filepath.Base(name)])
	}
}

// TestFromOneVCPU: the digest for one vCPU leads to that for any number.
func TestFromOneVCPU(t *testing.T) {
	for name, change := range map[string]func(*variant){
		"QEMU":    func(v *variant) {},
		"amd-6.6": func(v *variant) { v.host("amd-6.6") },
		"Genoa":   func(v *variant) { v.opt.VMM, v.g.CPU = vmsa.GCE, "EPYC-Genoa" },
		"ec2":     func(v *variant) { v.opt.VMM = vmsa.EC2 },
		"krun":    func(v *variant) { v.opt.VMM = vmsa.Krun },
	} {
		v := baseVariant()
		change(v)
		v.g.VCPUs = 1
		one, err := v.measure()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2, 5} {
			v.g.VCPUs = n
			whole, err := v.measure()
			if err != nil {
				t.Fatal(err)
			}
			r, err := measure.FromOneVCPU(&v.g, one.LaunchDigest, *one.ResetEIP, v.opt)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, name, r.LaunchDigest, whole.LaunchDigest)
			equal(t, name+": pages", len(r.Pages), n-1)
			if _, err := measure.Matrix(r, measure.Axes{VCPUs: []int{1}, CPUs: []measure.MatrixCPU{{}}, Features: []uint64{1}}); err == nil {
				t.Error("a matrix is made of a digest that covers a save area")
			}
		}
	}
	g := guest.Default()
	g.VCPUs = 0
	if _, err := measure.FromOneVCPU(&g, zeroDigest, 0, measure.Options{}); err == nil {
		t.Error("no vCPUs pass")
	}
	g.VCPUs = 2
	if _, err := measure.FromOneVCPU(&g, zeroDigest, 0, measure.Options{Mode: measure.SEVES}); err == nil {
		t.Error("SEV-ES passes")
	}
}

// TestDigestsForFiles: a verifier without kernel and initrd, but with their
// digests, computes the same.
func TestDigestsForFiles(t *testing.T) {
	v := baseVariant()
	whole, err := v.measure()
	if err != nil {
		t.Fatal(err)
	}
	g := guest.Default()
	g.Firmware = file(t, "firmware", v.spec.Build())
	g.VCPUs = 2
	g.KernelSHA256, g.InitrdSHA256, g.AppendSHA256 = &whole.HashTable.Kernel, &whole.HashTable.Initrd, &whole.HashTable.Cmdline
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := measure.MeasureWith(&g, in, measure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "launch digest", r.LaunchDigest, whole.LaunchDigest)
	if len(r.Obstacles) != 0 {
		t.Errorf("obstacles %v", r.Obstacles)
	}
	if err := g.Validate(); err == nil || !strings.Contains(err.Error(), "enough to measure, but not to launch") {
		t.Errorf("to be launched: %v", err)
	}
}

// FuzzMetadata: what is read, written and read again is the same, and can be measured.
func FuzzMetadata(f *testing.F) {
	v := baseVariant()
	r, err := v.measure()
	if err != nil {
		f.Fatal(err)
	}
	m, err := measure.MetadataOf(r)
	if err != nil {
		f.Fatal(err)
	}
	text, err := m.JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"MetadataItems":[{"GPA":"0x1000","Size":"0x1000","SectionTypeInt":77}],"OVMFHash":"` + strings.Repeat("0", 96) + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := measure.ParseMetadata(bytes.NewReader(data))
		if err != nil {
			return
		}
		text, err := m.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := measure.ParseMetadata(bytes.NewReader(text))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%v\n%+v\n%+v", err, again, m)
		}
		twice, err := again.JSON()
		if err != nil || !bytes.Equal(twice, text) {
			t.Fatalf("%v\n%s\n%s", err, text, twice)
		}
		g := guest.Default()
		if r, err := measure.MeasureWith(&g, &guest.Inputs{}, measure.Options{Metadata: m}); err == nil && foldFrom(m.FirmwareDigest, r.Updates()) != r.LaunchDigest {
			t.Error("the listed pages fold to another digest")
		}
	})
}

// FuzzFirmware measures firmware with a few words changed, where the tables
// are and elsewhere.
func FuzzFirmware(f *testing.F) {
	spec := baseVariant().spec
	spec.Size = 8192
	seed := spec.Build()
	f.Add([]byte{0, 8, 4, 0, 0, 0}, true)
	f.Add([]byte{0x20, 0, 1, 2, 3, 4, 0x32, 0, 255, 0, 0, 0}, false)
	for at := 0x20; at < 0xC0; at += 4 {
		f.Add([]byte{byte(at), 0, 0xFF, 0xFF, 0xFF, 0xFF}, true)
	}
	f.Fuzz(func(t *testing.T, patches []byte, kernel bool) {
		img := bytes.Clone(seed)
		// Each patch: how far before the end, u16, and four bytes.
		for ; len(patches) >= 6; patches = patches[6:] {
			at := len(img) - 4 - int(patches[0]) - int(patches[1])<<8&0x1F00
			copy(img[max(at, 0):], patches[2:6])
		}
		g := guest.Default()
		in := &guest.Inputs{Firmware: input("firmware", img)}
		if kernel {
			in.Kernel = input("kernel", []byte("kernel"))
		}
		for _, mode := range []measure.Mode{measure.SNP, measure.SEVES, measure.SEV} {
			r, err := measure.MeasureWith(&g, in, measure.Options{Mode: mode})
			if err == nil && mode == measure.SNP && measure.Fold(r.Updates()) != r.LaunchDigest {
				t.Error("the listed pages fold to another digest")
			}
		}
	})
}

// foldFrom goes on from a digest.
func foldFrom(ld snp.LaunchDigest, updates []snp.Update) snp.LaunchDigest {
	c := measure.Context{LD: ld}
	for _, u := range updates {
		c.Extend(u)
	}
	return c.LD
}
