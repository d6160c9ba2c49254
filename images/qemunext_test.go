package images

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// dynamicELF makes the least that names libraries: an ELF file with a dynamic
// section, and an interpreter where one is given. rpath is DT_RPATH.
func dynamicELF(interp, rpath string, needs ...string) []byte {
	names := "\x00"
	add := func(s string) uint64 {
		at := uint64(len(names))
		names += s + "\x00"
		return at
	}
	var dyn []elf.Dyn64
	for _, n := range needs {
		dyn = append(dyn, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: add(n)})
	}
	if rpath != "" {
		dyn = append(dyn, elf.Dyn64{Tag: int64(elf.DT_RPATH), Val: add(rpath)})
	}
	dyn = append(dyn, elf.Dyn64{})
	var progs []elf.Prog64
	const head, progSize, dynSize = 64, 56, 16
	if interp != "" {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Filesz: uint64(len(interp) + 1)})
	}
	dynAt := uint64(head + progSize*len(progs))
	namesAt := dynAt + uint64(dynSize*len(dyn))
	if interp != "" {
		progs[0].Off = namesAt + add(interp)
	}
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a buffer takes everything
	put(elf.Header64{
		Ident: [16]byte{0x7F, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1,
		Ehsize: head, Phoff: head, Phentsize: progSize, Phnum: uint16(len(progs)),
		Shentsize: 64, Shnum: 3, Shstrndx: 2, Shoff: namesAt + uint64(len(names)),
	})
	put(progs)
	put(dyn)
	b.WriteString(names)
	put([]elf.Section64{
		{},
		{Type: uint32(elf.SHT_DYNAMIC), Off: dynAt, Size: uint64(dynSize * len(dyn)), Link: 2, Entsize: dynSize},
		{Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	})
	return b.Bytes()
}

// qemuTree makes what the packages of a QEMU leave when they are unpacked.
func qemuTree(t *testing.T) string {
	tree := t.TempDir()
	const lib = "usr/lib/x86_64-linux-gnu/"
	for name, b := range map[string][]byte{
		"usr/bin/qemu-system-x86_64":    dynamicELF("/lib64/ld-linux-x86-64.so.2", "", "libone.so.1", "libc.so.6"),
		"usr/bin/qemu-system-i386":      []byte("not asked for"),
		lib + "qemu/block-x.so":         dynamicELF("", "", "libmodule.so.2"),
		lib + "libone.so.1.2.3":         dynamicELF("", "", "libtwo.so", "libc.so.6"),
		lib + "libmodule.so.2":          dynamicELF("", "", "libone.so.1"),
		"usr/lib/libtwo.so":             dynamicELF("", ""),
		lib + "libc.so.6":               dynamicELF("", "", "ld-linux-x86-64.so.2"),
		lib + "ld-linux-x86-64.so.2":    dynamicELF("", ""),
		lib + "libnobody.so.1":          dynamicELF("", "", "libgone.so.1"),
		"usr/share/qemu/kvmvapic.bin":   []byte("vapic"),
		"usr/share/qemu/keymaps/de":     []byte("keys"),
		"usr/share/seabios/vgabios.bin": []byte("vga"),
		"usr/share/doc/x/changelog":     []byte("text"),
	} {
		write(t, filepath.Join(tree, name), b)
	}
	if err := os.Symlink("libone.so.1.2.3", filepath.Join(tree, lib, "libone.so.1")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(tree, "usr/lib64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", filepath.Join(tree, "usr/lib64/ld-linux-x86-64.so.2")); err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestTakeQEMU(t *testing.T) {
	dir := t.TempDir()
	if err := takeQEMU(qemuTree(t), dir); err != nil {
		t.Fatal(err)
	}
	got, err := filesBelow(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bin/qemu-system-x86_64", "lib/ld-linux-x86-64.so.2", "lib/libc.so.6", "lib/libmodule.so.2", "lib/libone.so.1", "lib/libtwo.so",
		"lib/qemu/block-x.so", "qemu-system-x86_64", "share/qemu/keymaps/de", "share/qemu/kvmvapic.bin", "share/seabios/vgabios.bin",
	}
	slices.Sort(got)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("took  %q\nwant %q", got, want)
	}
}

func TestQEMUThatLacksALibrary(t *testing.T) {
	for name, c := range map[string]struct {
		change func(tree string) error
		want   string
	}{
		"not in the tree": {func(tree string) error { return os.Remove(filepath.Join(tree, "usr/lib/libtwo.so")) }, "needs libtwo.so"},
		"a link out of the tree": {func(tree string) error {
			path := filepath.Join(tree, "usr/lib/libtwo.so")
			return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path))
		}, "needs libtwo.so"},
		"a name with a folder": {func(tree string) error {
			return os.WriteFile(filepath.Join(tree, "usr/lib/libtwo.so"), dynamicELF("", "", "../../etc/passwd"), 0o644)
		}, "no name of a library"},
		"its own folder of libraries": {func(tree string) error {
			return os.WriteFile(filepath.Join(tree, "usr/lib/libtwo.so"), dynamicELF("", "/usr/lib/private", "libc.so.6"), 0o644)
		}, "/usr/lib/private"},
		"no ELF file": {func(tree string) error {
			return os.WriteFile(filepath.Join(tree, "usr/bin/qemu-system-x86_64"), []byte("#!/bin/sh\n"), 0o644)
		}, "qemu-system-x86_64"},
		"no program": {func(tree string) error { return os.Remove(filepath.Join(tree, "usr/bin/qemu-system-x86_64")) }, "qemu-system-x86_64"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := qemuTree(t)
			if err := c.change(tree); err != nil {
				t.Fatal(err)
			}
			if err := takeQEMU(tree, t.TempDir()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

// Whatever the name under which the wrapper is started, it becomes the program, in
// the same process, with its own libraries and data.
func TestWrapper(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder")
	if err := takeQEMU(qemuTree(t), dir); err != nil {
		t.Fatal(err)
	}
	// In the loader's place a program that tells how it was called.
	loader := filepath.Join(dir, nextLoader)
	write(t, loader, []byte("#!/bin/sh\necho \"$$ $QEMU_MODULE_DIR\"\nprintf '%s\\n' \"$@\"\n"))
	link := filepath.Join(t.TempDir(), "qemu")
	if err := errors.Join(os.Chmod(loader, 0o755), os.Symlink(filepath.Join(dir, nextWrapper), link)); err != nil {
		t.Fatal(err)
	}
	for name, cmd := range map[string]*exec.Cmd{
		"by its path":       {Path: filepath.Join(dir, nextWrapper)},
		"by a link":         {Path: link},
		"by a folder":       {Path: "./" + nextWrapper, Dir: dir},
		"by its name alone": {Path: nextWrapper, Dir: dir},
	} {
		t.Run(name, func(t *testing.T) {
			cmd.Args = []string{"anything", "-cpu", "EPYC v4", ""}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			want := fmt.Sprintf("%d %s\n", cmd.Process.Pid, filepath.Join(dir, nextModules))
			for _, a := range []string{
				"--inhibit-cache", "--library-path", filepath.Join(dir, nextLibraries), "--argv0", "qemu-system-x86_64",
				filepath.Join(dir, nextProgram), "-cpu", "EPYC v4", "",
				"-L", filepath.Join(dir, nextData), "-L", filepath.Join(dir, nextBIOS),
			} {
				want += a + "\n"
			}
			if got := strings.ReplaceAll(out.String(), "/./", "/"); got != want {
				t.Errorf("the loader was called with\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// A part whose version has an epoch gets a folder that can stand in a list of
// folders.
func TestEpochInAFolder(t *testing.T) {
	c := &cache{t.TempDir()}
	m := addTestPart(t, c, roleQEMUNext, "1:11.1.3+ds-1", []byte("x"))
	if strings.Contains(m.dir, ":") || c.part(roleQEMUNext, true) == nil {
		t.Errorf("the part lies in %s", m.dir)
	}
	s := &setup{cache: &cache{"/a:b"}}
	if _, err := s.fetchQEMUNext(t.Context()); err == nil || !strings.Contains(err.Error(), "SNPLAUNCH_CACHE") {
		t.Errorf("a cache with a colon in its name: error %v", err)
	}
}

// Output of apt-get 2.6 (Debian 12).
func TestSimulation(t *testing.T) {
	got := parseSimulation(`Reading package lists...
The following NEW packages will be installed:
  libc6 qemu-system-x86
Inst libgcc-s1 (16.2.0-4 Debian:unstable [amd64]) []
Inst qemu-system-x86 (1:11.1.3+ds-1 Debian:unstable [amd64])
Conf libgcc-s1 (16.2.0-4 Debian:unstable [amd64])
`, "sid")
	want := []offer{{"libgcc-s1", "16.2.0-4", "sid"}, {"qemu-system-x86", "1:11.1.3+ds-1", "sid"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// What only some ask for is looked for and missed only when it is asked for.
func TestExtrasAreMissedWhenAskedFor(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", root)
	missing := func(o Options) []string {
		o.CacheDir = filepath.Join(root, "cache")
		s, err := find(t.Context(), o, root, false)
		if err != nil {
			t.Fatal(err)
		}
		return s.Missing()
	}
	without := missing(Options{})
	for flag, o := range map[string]Options{"--qemu-next": {QEMUNext: true}, "--plain-firmware": {PlainFirmware: true}} {
		got := missing(o)
		if len(got) != len(without)+1 || !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, flag) }) {
			t.Errorf("with %s missing: %q", flag, got)
		}
	}
}

func TestJoinPlainFirmware(t *testing.T) {
	variables := bytes.Repeat([]byte{0xFF}, 64<<10)
	for name, c := range map[string]struct {
		code []byte
		ok   bool
	}{
		"without metadata": {ovmftest.Spec{NoMetadata: true}.Build(), true},
		"with metadata":    {olderGeneric, false},
		"no firmware":      {make([]byte, 64<<10), false},
	} {
		t.Run(name, func(t *testing.T) {
			tree := t.TempDir()
			write(t, filepath.Join(tree, plainHalves[0]), variables)
			write(t, filepath.Join(tree, plainHalves[1]), c.code)
			to := filepath.Join(tree, "joined")
			err := joinPlain(tree, to)
			if (err == nil) != c.ok {
				t.Fatalf("error %v", err)
			}
			if got, _ := os.ReadFile(to); c.ok && !bytes.Equal(got, slices.Concat(variables, c.code)) {
				t.Error("the image is not the variables and then the code")
			}
		})
	}
	if err := joinPlain(t.TempDir(), filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("halves that are not there are joined")
	}
}

// Files of a part are all checked, those of the libraries too.
func TestFilesBelow(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "b/c"} {
		write(t, filepath.Join(dir, n), nil)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	got, err := filesBelow(dir)
	slices.Sort(got)
	if err != nil || !reflect.DeepEqual(got, []string{"a", "b/c", "link"}) {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Symlink("gone", filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	if _, err := filesBelow(dir); err == nil {
		t.Error("a link to nothing is taken for a file")
	}
}

// Where they cannot be had, one sentence says what, why and what to leave out.
func TestExtrasWithoutAMirror(t *testing.T) {
	for flag, o := range map[string]Options{"--qemu-next": {QEMUNext: true}, "--plain-firmware": {PlainFirmware: true}} {
		s := &setup{o: o, cache: &cache{t.TempDir()}, root: t.TempDir()}
		err := s.fetchExtras(t.Context(), &Set{})
		if !errors.Is(err, errNoMirror) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v", flag, err)
		}
	}
}
