package launcher

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
)

// The sizes are those of the parts that bootmemory.go tells the measurements of; no amount of memory
// with which they booted is refused or warned of.
func TestBootMemory(t *testing.T) {
	const kernelBytes, initrdBytes, bigInitrdBytes = 11614144, 5053434, 5053434 + 32<<20
	kernel := bzImage()
	binary.LittleEndian.PutUint16(kernel[0x206:], 0x20F)
	binary.LittleEndian.PutUint32(kernel[0x260:], 58572800)
	for _, tc := range []struct {
		memory int
		initrd int64
		want   host.Verdict
	}{
		{16, initrdBytes, host.Obstacle}, {48, initrdBytes, host.Obstacle}, {64, initrdBytes, host.Obstacle},
		{96, initrdBytes, host.Warning}, {128, initrdBytes, host.Warning},
		{152, initrdBytes, host.OK}, {192, initrdBytes, host.OK},
		{128, bigInitrdBytes, host.Obstacle}, {192, bigInitrdBytes, host.Warning}, {240, bigInitrdBytes, host.OK},
		{128, 0, host.Warning}, {152, 0, host.OK},
	} {
		g := guest.Default()
		g.MemoryMiB = tc.memory
		in := &guest.Inputs{Kernel: guest.NewInput("vmlinuz", bytes.NewReader(kernel), kernelBytes)}
		if tc.initrd > 0 {
			in.Initrd = guest.NewInput("initrd", bytes.NewReader(nil), tc.initrd)
		}
		r := &run{g: &g, inputs: in}
		c, err := r.checkBootMemory()
		if err != nil || c.Verdict != tc.want || (c.Remedy == "") != (tc.want == host.OK) {
			t.Errorf("%d MiB, initrd of %d bytes: got %+v, %v", tc.memory, tc.initrd, c, err)
		}
		checks, err := r.kernelChecks()
		if err != nil || !slices.Contains(checks, c) {
			t.Errorf("the kernel's checks are %+v, %v", checks, err)
		}
	}
}

// AmdSev firmware that could not take the kernel in says the same as one that no table was given.
func TestNoBootWithHashesOn(t *testing.T) {
	const said = `BdsDxe: failed to load Boot0000 "x" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)/FvFile(4AF6516A): Not Found` + "\n"
	for _, on := range []bool{false, true} {
		g := guest.Default()
		g.Kernel, g.MemoryMiB, g.KernelHashes = "vmlinuz", 128, on
		r := &Result{Verdict: VerdictNotAttested, Error: &Failure{Message: "x"}, Console: said, guest: &g}
		r.explainConsole()
		if advises := strings.Contains(r.Error.Advice, "Switch kernel hashes on"); advises == on {
			t.Errorf("hashes on: %v; advice %q", on, r.Error.Advice)
		}
		if memory := strings.Contains(r.Error.Message, "128 MiB"); memory != on {
			t.Errorf("hashes on: %v; message %q", on, r.Error.Message)
		}
	}
}
