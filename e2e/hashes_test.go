package e2e_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
)

// uki makes what QEMU and the firmware take for a unified kernel image: a PE
// file without the setup header of Linux. It boots nothing. QEMU takes the byte
// at 0x1F1 for a number of sectors all the same, so size must be above 128 KiB.
func uki(r *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3C:], 0x80) // where the PE header is
	copy(b[0x80:], "PE\x00\x00")
	copy(b[0x202:], "none") // not HdrS
	return b
}

// randomLine makes a command line of anything but NUL: words, blanks of
// all kinds, what shells, QEMU and YAML have a meaning for, letters of several bytes, bytes
// that are no letters.
func randomLine(r *rand.Rand) string {
	pieces := []string{" ", "  ", "\t", "\n", ",", ",,", "=", "\"", "'", "\\", "$HOME", "%s", "{}", "#", "console=ttyS0", "root=/dev/vda1",
		"rw", "--", "-", "é", "日本", "🙂", "\xff", "\xc3"}
	var b strings.Builder
	for range r.IntN(40) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// The page that carries the hashes table is, to the byte, the one that QEMU gives to the
// firmware, whatever kernel, initrd and command line it hashes.
func TestHashesPageIsQEMUs(t *testing.T) {
	p := parts(t)
	dir := t.TempDir()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ukiFile := file("uki.efi", uki(r, 200_001))
	shortInitrd := file("short.cpio", []byte{0x30})

	type input struct{ kernel, initrd, line string }
	inputs := []input{
		{p.Kernel.Path, p.Initrd.Path, "console=ttyS0"},
		{p.Kernel.Path, p.Initrd.Path, ""},
		{p.Kernel.Path, "", "console=ttyS0"},
		{p.Kernel.Path, "", ""},
		{p.Kernel.Path, shortInitrd, " leading"},
		{p.Kernel.Path, shortInitrd, "trailing "},
		{p.Kernel.Path, shortInitrd, " "},
		{p.Kernel.Path, shortInitrd, "a  b\tc"},
		{p.Kernel.Path, shortInitrd, "line one\nline two\n"},
		{p.Kernel.Path, shortInitrd, strings.Repeat("x", 2048)},
		{p.Kernel.Path, shortInitrd, strings.Repeat("é ", 700)},
		{ukiFile, "", ""},
		{ukiFile, "", "ignored by some, hashed all the same"},
	}
	for range 8 {
		inputs = append(inputs, input{p.Kernel.Path, shortInitrd, randomLine(r)}, input{ukiFile, "", randomLine(r)})
	}

	fw, err := os.ReadFile(p.Firmware.Path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := ovmf.Parse(bytes.NewReader(fw), int64(len(fw)))
	if err != nil {
		t.Fatal(err)
	}
	gpa, offset, err := img.HashPage()
	if err != nil {
		t.Fatal(err)
	}
	isHashPage := func(_ snp.PageType, at uint64) bool { return at == gpa }
	for _, q := range qemus(t) {
		t.Run("QEMU "+q.name, func(t *testing.T) {
			together(len(inputs), runtime.NumCPU(), func(i int) {
				in := inputs[i]
				args := append(bareArguments(), "-accel", "kvm", "-machine", "q35,smm=off,confidential-guest-support=sev0",
					"-object", sevObject("kernel-hashes=on"), "-cpu", "EPYC-v4", "-m", "256M", "-bios", p.Firmware.Path, "-kernel", in.kernel)
				if in.initrd != "" {
					args = append(args, "-initrd", in.initrd)
				}
				if in.line != "" || i%2 == 0 { // no command line is an empty one
					args = append(args, "-append", in.line)
				}
				got, err := direct{qemu: q, args: args}.launch(t.Context(), isHashPage)
				if err != nil || got.status != "exit 0" || len(got.pages) != 1 || got.pages[0].Type != snp.PageNormal {
					t.Errorf("%+v (seed %d): %+v, %v", in, seed, got, err)
					return
				}
				want, err := hashesPage(in.kernel, in.initrd, in.line, offset)
				if err != nil {
					t.Errorf("%+v: %v", in, err)
					return
				}
				if !bytes.Equal(got.pages[0].Bytes, want) {
					t.Errorf("kernel %s, initrd %q, command line %q (seed %d): %s", in.kernel, in.initrd, in.line, seed, firstDifference(got.pages[0].Bytes, want))
				}
			})
		})
	}
}

func hashesPage(kernel, initrd, line string, offset int) ([]byte, error) {
	k, err := os.Open(kernel)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	var rest io.Reader
	if initrd != "" {
		f, err := os.Open(initrd)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		rest = f
	}
	table, err := hashes.New(k, rest, line)
	if err != nil {
		return nil, err
	}
	page, err := table.Page(offset)
	return page[:], err
}
