package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/binary"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/u-root/mkuimage/cpio"
)

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// makeModule makes the least that is a kernel module: an ELF object with a
// .modinfo section.
func makeModule(modinfo string) []byte {
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	h := elf.Header64{
		Ident: [16]byte{0x7F, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2, Shoff: uint64(64 + len(modinfo) + len(names)),
	}
	binary.Write(&b, binary.LittleEndian, h)
	b.WriteString(modinfo + names)
	binary.Write(&b, binary.LittleEndian, []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(modinfo)), Size: uint64(len(names))},
	})
	return b.Bytes()
}

func modules(t *testing.T) string {
	dir := t.TempDir()
	for name, info := range map[string]string{
		"a/top-level.ko":  "name=top_level\x00depends=mid_one,mid-two\x00",
		"a/mid_one.ko":    "depends=base\x00",
		"b/mid-two.ko":    "license=GPL\x00depends=base,inkernel\x00",
		"b/loop_a.ko":     "depends=loop_b\x00",
		"b/loop_b.ko":     "depends=loop_a\x00",
		"b/needs-gone.ko": "depends=gone\x00",
	} {
		write(t, filepath.Join(dir, name), makeModule(info))
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(makeModule("depends=\x00"))
	w.Close()
	write(t, filepath.Join(dir, "c/base.ko.gz"), z.Bytes())
	write(t, filepath.Join(dir, "c/notelf.ko"), []byte("text"))
	write(t, filepath.Join(dir, "modules.builtin"), []byte("kernel/x/inkernel.ko\nkernel/fs/fuse/fuse.ko\n"))
	return dir
}

func TestModuleClosure(t *testing.T) {
	tree, err := openModuleTree(modules(t))
	if err != nil {
		t.Fatal(err)
	}
	list, err := tree.closure("top-level")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list {
		names = append(names, m.name)
		if _, err := elf.NewFile(bytes.NewReader(m.data)); err != nil {
			t.Errorf("%s is not unpacked: %v", m.name, err)
		}
	}
	if want := []string{"base", "mid_one", "mid_two", "top_level"}; !reflect.DeepEqual(names, want) {
		t.Errorf("order %v, want %v", names, want)
	}
	if list, err := tree.closure("fuse"); err != nil || len(list) != 0 {
		t.Errorf("a module that is built in: %v, %v", list, err)
	}
	for name, want := range map[string]string{"loop_a": "depends on itself", "needs-gone": "gone is not in", "notelf": "notelf.ko"} {
		if _, err := tree.closure(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %q", name, err, want)
		}
	}
	if _, err := openModuleTree(t.TempDir()); err == nil {
		t.Error("a folder without modules is taken")
	}
}

// What the kernel does with an archive: everything has its folder before it.
func TestInitrdArchive(t *testing.T) {
	out := filepath.Join(t.TempDir(), "initrd")
	records := append(baseRecords(),
		cpio.StaticFile("lib/x/y/z.ko", "module", 0o644),
		cpio.StaticRecord([]byte("program"), cpio.Info{Name: "init", Mode: cpio.S_IFREG | 0o755, MTime: 12345, UID: 7, Ino: 99}))
	if err := writeInitrd(out, records); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(records)
	if err := writeInitrd(out+"2", records); err != nil {
		t.Fatal(err)
	}
	one, _ := os.ReadFile(out)
	two, _ := os.ReadFile(out + "2")
	if !bytes.Equal(one, two) {
		t.Error("the order of the records shows in the archive")
	}
	z, err := gzip.NewReader(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	list, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{".": true}
	for _, r := range list {
		if !seen[path.Dir(r.Name)] {
			t.Errorf("%s comes before its folder", r.Name)
		}
		if r.MTime != 0 || r.UID != 0 {
			t.Errorf("%s carries time %d and owner %d", r.Name, r.MTime, r.UID)
		}
		seen[r.Name] = true
	}
	for _, want := range []string{"init", "dev/console", "proc", "lib/x/y/z.ko"} {
		if !seen[want] {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestSmallInitrd(t *testing.T) {
	defer func(m []string) { guestModules = m }(guestModules)
	guestModules = []string{"top-level"}
	program := filepath.Join(t.TempDir(), "program")
	// A static executable for the test: this module's own agent.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../agent/cmd/snp-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	mods := modules(t)
	var sums []string
	for range 2 {
		a, err := BuildSmallInitrd(t.Context(), program, InitrdOptions{ModulesDir: mods, CacheDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, a.SHA256)
		if got, _ := hashFile(a.Path); got != a.SHA256 {
			t.Errorf("the file's hash is %s, the artifact says %s", got, a.SHA256)
		}
	}
	if sums[0] != sums[1] {
		t.Error("two builds differ")
	}
	write(t, program+".sh", []byte("#!/bin/sh\n"))
	if _, err := BuildSmallInitrd(t.Context(), program+".sh", InitrdOptions{CacheDir: t.TempDir()}); err == nil {
		t.Error("a script is taken for a static program")
	}
}

// A file in the cache that has changed does not count, and is built anew.
func TestDamagedInitrdIsBuiltAnew(t *testing.T) {
	b, err := newInitrdBuild(InitrdOptions{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	built := 0
	build := func() Artifact {
		a, err := b.finish(t.Context(), "x", strings.Repeat("k", 64), func(string) ([]cpio.Record, error) {
			built++
			return baseRecords(), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := build()
	if build(); built != 1 {
		t.Fatalf("built %d times, want once", built)
	}
	if err := os.Truncate(first.Path, 10); err != nil {
		t.Fatal(err)
	}
	if again := build(); built != 2 || again != first {
		t.Errorf("built %d times, got %+v; want it built anew and the same", built, again)
	}
}

// go.mod keeps what commands.go imports; the initrd is built from urootCommands.
func TestCommandsAreListedTwice(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "commands.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var imported []string
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		imported = append(imported, path.Base(p))
	}
	want := slices.Sorted(slices.Values(urootCommands))
	slices.Sort(imported)
	if !reflect.DeepEqual(imported, want) {
		t.Errorf("commands.go has %v\nurootCommands  %v", imported, want)
	}
}

// The hash of the agent's sources covers all that the agent is compiled from.
func TestSourceHashCoversTheAgent(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", modulePath+"/agent/cmd/snp-agent").Output()
	if err != nil {
		t.Fatal(withStderr(err))
	}
	own := 0
	for _, p := range strings.Fields(string(out)) {
		rel, ok := strings.CutPrefix(p, modulePath+"/")
		if !ok {
			continue
		}
		own++
		if !slices.ContainsFunc(agentDirs, func(d string) bool { return rel == d || strings.HasPrefix(rel, d+"/") }) {
			t.Errorf("%s is part of the agent but not of its hash", p)
		}
	}
	if own < 3 {
		t.Errorf("go list named %d packages of this module", own)
	}
}

func TestSourceHashFollowsTheSources(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"go.mod", "go.sum", "agent/a.go", "sim/guestdev/b.go", "snp/c.go", "images/sh/s.go"} {
		write(t, filepath.Join(dir, f), []byte(f))
	}
	first, commands, err := hashSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "snp/c_test.go"), []byte("x"))
	if got, _, _ := hashSource(dir); got != first {
		t.Error("a test file changes the hash")
	}
	write(t, filepath.Join(dir, "snp/d.go"), []byte("x"))
	second, gotCommands, _ := hashSource(dir)
	if second == first || gotCommands != commands {
		t.Error("a new file of the agent must change the hash of all, and not that of the commands")
	}
	write(t, filepath.Join(dir, "images/sh/s.go"), []byte("x"))
	third, gotCommands, _ := hashSource(dir)
	if third == second || gotCommands == commands {
		t.Error("a change of the shell must change both hashes")
	}
}

func TestQEMUVersion(t *testing.T) {
	v, major, err := parseQEMUVersion("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright (c)…\n")
	if err != nil || v != "10.0.2" || major != 10 {
		t.Errorf("%s, %d, %v", v, major, err)
	}
	if _, _, err := parseQEMUVersion("something else 10.0.2"); err == nil {
		t.Error("a line of another program is taken")
	}
	old := filepath.Join(t.TempDir(), "qemu")
	write(t, old, []byte("#!/bin/sh\necho 'QEMU emulator version 7.2.17 (Debian)'\n"))
	os.Chmod(old, 0o755)
	if _, err := findQEMU(t.Context(), old); err == nil || !strings.Contains(err.Error(), "is version 7.2.17") {
		t.Errorf("error %v", err)
	}
	if _, err := findQEMU(t.Context(), "no-such-qemu"); err == nil || !strings.Contains(err.Error(), "there is no no-such-qemu") {
		t.Errorf("error %v", err)
	}
}

func TestSetupsTakeTurns(t *testing.T) {
	c := &cache{t.TempDir()}
	unlock, err := c.lock(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if _, err := c.lock(ctx, func(s string) { said <- s }); err != context.DeadlineExceeded {
		t.Errorf("a second lock: %v", err)
	}
	if len(said) != 1 {
		t.Errorf("said %d times that it waits, want once", len(said))
	}
	unlock()
	unlock, err = c.lock(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
