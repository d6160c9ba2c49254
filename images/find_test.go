package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// kernelEntry is the GUID of the kernel's entry in a hashes table as it lies in
// memory (EDK2's BlobVerifierLibSevHashes); code that has it verifies kernels.
var kernelEntry = []byte{0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b}

// The images that the tests are about. Debian's generic build of today has the
// tables of an AmdSev build; only its code differs.
var (
	sevImage     = func() []byte { s := ovmftest.AmdSev(); s.Code = kernelEntry; return s.Build() }()
	newGeneric   = ovmftest.AmdSev().Build()
	olderGeneric = ovmftest.Generic().Build()
)

const amdSevDescriptor = `{"mapping":{"device":"memory","filename":"/opt/fw/amdsev.fd"},
 "targets":[{"architecture":"x86_64","machines":["pc-q35-*"]}],"features":["amd-sev","amd-sev-es","amd-sev-snp"]}`

func TestFindFirmware(t *testing.T) {
	sev, plain := sevImage, olderGeneric
	for _, c := range []struct {
		name  string
		files map[string][]byte
		kind  firmwareKind
		want  string
	}{
		{"nothing", nil, amdSev, ""},
		{"where Debian puts it", map[string][]byte{"usr/share/ovmf/OVMF.amdsev.fd": sev}, amdSev, "usr/share/ovmf/OVMF.amdsev.fd"},
		{"where Fedora puts it", map[string][]byte{"usr/share/edk2/ovmf/OVMF.amdsev.fd": sev}, amdSev, "usr/share/edk2/ovmf/OVMF.amdsev.fd"},
		{"a descriptor comes first", map[string][]byte{
			"usr/share/qemu/firmware/60-x.json": []byte(amdSevDescriptor), "opt/fw/amdsev.fd": sev, "usr/share/ovmf/OVMF.amdsev.fd": sev}, amdSev, "opt/fw/amdsev.fd"},
		{"a hidden descriptor", map[string][]byte{
			"etc/qemu/firmware/60-x.json": []byte("{}"), "usr/share/qemu/firmware/60-x.json": []byte(amdSevDescriptor), "opt/fw/amdsev.fd": sev}, amdSev, ""},
		{"a descriptor for flash", map[string][]byte{
			"usr/share/qemu/firmware/60-x.json": []byte(strings.Replace(amdSevDescriptor, "memory", "flash", 1)), "opt/fw/amdsev.fd": sev}, amdSev, ""},
		{"a descriptor without SEV-SNP", map[string][]byte{
			"usr/share/qemu/firmware/60-x.json": []byte(strings.Replace(amdSevDescriptor, `,"amd-sev-snp"`, "", 1)), "opt/fw/amdsev.fd": sev}, amdSev, ""},
		{"a descriptor for another machine", map[string][]byte{
			"usr/share/qemu/firmware/60-x.json": []byte(strings.Replace(amdSevDescriptor, "x86_64", "aarch64", 1)), "opt/fw/amdsev.fd": sev}, amdSev, ""},
		{"a descriptor that names a generic build", map[string][]byte{
			"usr/share/qemu/firmware/60-x.json": []byte(amdSevDescriptor), "opt/fw/amdsev.fd": newGeneric}, amdSev, ""},
		{"a descriptor that names the usual place", map[string][]byte{
			"usr/share/qemu/firmware/60-x.json": []byte(strings.Replace(amdSevDescriptor, "opt/fw/amdsev.fd", "usr/share/ovmf/OVMF.amdsev.fd", 1)), "usr/share/ovmf/OVMF.amdsev.fd": sev}, amdSev, "usr/share/ovmf/OVMF.amdsev.fd"},
		{"an image that takes no hashes", map[string][]byte{"usr/share/ovmf/OVMF.amdsev.fd": plain}, amdSev, ""},
		{"an image that is none", map[string][]byte{"usr/share/ovmf/OVMF.fd": make([]byte, 64<<10)}, generic, ""},
		{"a generic image", map[string][]byte{"usr/share/ovmf/OVMF.fd": plain}, generic, "usr/share/ovmf/OVMF.fd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for f, b := range c.files {
				write(t, filepath.Join(root, f), b)
			}
			want := c.want
			if want != "" {
				want = filepath.Join(root, want)
			}
			if got := findFirmware(root, c.kind); got != want {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
}

// addTestPart puts a firmware into the cache as Setup does.
func addTestPart(t *testing.T, c *cache, r role, version string, content []byte) *manifest {
	t.Helper()
	dir, err := c.tempDir()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "fw.fd"), content)
	m := &manifest{Package: "p", Version: version, Suite: "s", Path: "fw.fd", dir: dir}
	if err := m.record("fw.fd"); err != nil {
		t.Fatal(err)
	}
	if m, err = c.addPart(r, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPartsInTheCache(t *testing.T) {
	c := &cache{t.TempDir()}
	if c.part(roleFirmware, true) != nil {
		t.Fatal("an empty cache has a part")
	}
	addTestPart(t, c, roleFirmware, "1", []byte("one"))
	m := addTestPart(t, c, roleFirmware, "2", []byte("two"))
	got := c.part(roleFirmware, true)
	if got == nil || got.artifact() != m.artifact() || got.Version != "2" {
		t.Fatalf("got %+v, want the newer part", got)
	}
	// SHA-256 of "two", from sha256sum(1).
	if a := got.artifact(); a.SHA256 != "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3" {
		t.Errorf("SHA-256 %s", a.SHA256)
	}
	if olds, _ := filepath.Glob(c.path(string(roleFirmware), "*")); len(olds) != 1 {
		t.Errorf("the cache keeps %v", olds)
	}
	// The same size and time with other contents deceive Find, not Setup.
	path := got.artifact().Path
	st, _ := os.Stat(path)
	write(t, path, []byte("owt"))
	os.Chtimes(path, time.Now(), st.ModTime())
	if c.part(roleFirmware, false) == nil || c.part(roleFirmware, true) != nil {
		t.Error("a changed file must be seen by its contents")
	}
	write(t, path, []byte("three"))
	if c.part(roleFirmware, false) != nil {
		t.Error("a file of another size counts")
	}
	// A damaged part does not keep a good one of the same version out.
	if m := addTestPart(t, c, roleFirmware, "2", []byte("two")); c.part(roleFirmware, true) == nil {
		t.Errorf("the new part at %s does not count", m.dir)
	}
}

func TestManifestOutsideItsFolder(t *testing.T) {
	c := &cache{t.TempDir()}
	m := addTestPart(t, c, roleKernel, "1", []byte("x"))
	b, _ := os.ReadFile(filepath.Join(m.dir, manifestName))
	write(t, filepath.Join(m.dir, manifestName), []byte(strings.ReplaceAll(string(b), "fw.fd", "../../../etc/passwd")))
	if c.part(roleKernel, false) != nil {
		t.Error("a manifest that points outside its folder counts")
	}
}

func TestFindInAnEmptyPlace(t *testing.T) {
	root := t.TempDir()
	o := Options{CacheDir: filepath.Join(root, "cache")}
	t.Setenv("PATH", root)
	s, err := find(t.Context(), o, root, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Missing(), "\n"); len(s.Missing()) != 5 ||
		!strings.Contains(got, "--qemu") || !strings.Contains(got, "--ovmf") || !strings.Contains(got, "--kernel") || !strings.Contains(got, "--initrd") {
		t.Errorf("missing:\n%s", got)
	}
	if _, err := os.Stat(o.CacheDir); err == nil {
		t.Error("Find made the cache")
	}
}

func TestNamedFilesAreTaken(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", root)
	fw, kernel, initrd := filepath.Join(root, "fw"), filepath.Join(root, "k"), filepath.Join(root, "i")
	write(t, fw, sevImage)
	write(t, kernel, []byte("kernel"))
	write(t, initrd, []byte("initrd"))
	o := Options{CacheDir: filepath.Join(root, "cache"), Firmware: fw, GenericFirmware: fw, Kernel: kernel, Initrd: initrd}
	s, err := find(t.Context(), o, root, false)
	if err != nil || s.Firmware.Path != fw || s.Kernel.Path != kernel || s.Initrd.Path != initrd || len(s.Missing()) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	o.Firmware = kernel
	if _, err := find(t.Context(), o, root, false); err == nil || !strings.Contains(err.Error(), kernel) {
		t.Errorf("a kernel named as firmware: error %v", err)
	}
	o.Firmware, o.Kernel = fw, filepath.Join(root, "gone")
	if _, err := find(t.Context(), o, root, false); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a kernel that is not there: error %v", err)
	}
}

// The initrd of the cache is taken only with the kernel and the sources that it
// was built for.
func TestStaleInitrd(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", root)
	src := filepath.Join(root, "src")
	for _, f := range []string{"go.sum", "agent/a.go", "sim/guestdev/b.go", "snp/c.go", "images/sh/s.go"} {
		write(t, filepath.Join(src, f), []byte(f))
	}
	write(t, filepath.Join(src, "go.mod"), []byte("module "+modulePath+"\n"))
	hash, _, err := hashSource(src)
	if err != nil {
		t.Fatal(err)
	}
	c := &cache{filepath.Join(root, "cache")}
	addTestPart(t, c, roleKernel, "1", []byte("kernel"))
	write(t, filepath.Join(root, "new"), []byte("initrd"))
	path := c.path("initrd", "x")
	sum, err := c.add(filepath.Join(root, "new"), path)
	if err != nil {
		t.Fatal(err)
	}
	record := func(modules string) {
		write(t, c.path(initrdRecordName("")), []byte(`{"artifact":{"path":"`+path+`","sha256":"`+sum+`"},"modules":"`+modules+`","source":"`+hash+`"}`))
	}
	lookup := func() (*Set, string) {
		s, err := find(t.Context(), Options{CacheDir: c.dir, SourceDir: src}, root, false)
		if err != nil {
			t.Fatal(err)
		}
		return s, strings.Join(s.Missing(), "\n")
	}
	record("")
	if s, missing := lookup(); s.Initrd.Path != path {
		t.Fatalf("not found: %s", missing)
	}
	record("/other")
	if s, missing := lookup(); s.Initrd.Path != "" || !strings.Contains(missing, "another kernel") {
		t.Errorf("for another kernel: %s", missing)
	}
	record("")
	write(t, filepath.Join(src, "agent/a.go"), []byte("changed"))
	if s, missing := lookup(); s.Initrd.Path != "" || !strings.Contains(missing, "other sources") {
		t.Errorf("of other sources: %s", missing)
	}
	write(t, filepath.Join(src, "agent/a.go"), []byte("agent/a.go"))
	// Another checkout has built its own since.
	write(t, c.path(initrdRecordName("")), []byte(`{"artifact":{"path":"`+path+`","sha256":"`+sum+`"},"modules":"","source":"of another"}`))
	if s, missing := lookup(); s.Initrd.Path != "" || !strings.Contains(missing, "other sources") {
		t.Errorf("of another checkout: %s", missing)
	}
	write(t, c.path(initrdRecordName(hash)), []byte(`{"artifact":{"path":"`+path+`","sha256":"`+sum+`"},"modules":"","source":"`+hash+`"}`))
	if s, missing := lookup(); s.Initrd.Path != path {
		t.Errorf("one's own, beside another checkout's: %s", missing)
	}
	write(t, path, []byte("damaged initrd"))
	if s, missing := lookup(); s.Initrd.Path != "" || !strings.Contains(missing, "damaged") {
		t.Errorf("damaged: %s", missing)
	}
}

func TestCheckKind(t *testing.T) {
	dir := t.TempDir()
	for name, b := range map[string][]byte{"sev": sevImage, "new": newGeneric, "older": olderGeneric} {
		write(t, filepath.Join(dir, name), b)
		path := filepath.Join(dir, name)
		if got := checkKind(path, amdSev) == nil; got != (name == "sev") {
			t.Errorf("%s is taken for an AmdSev build: %v", name, got)
		}
		if got := checkKind(path, generic) == nil; got != (name != "sev") {
			t.Errorf("%s is taken for a generic build: %v", name, got)
		}
	}
}
