package e2e_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// epycModels asks a QEMU for its EPYC models, versions and aliases among them.
func (q testQEMU) epycModels(t testing.TB) []string {
	t.Helper()
	out, err := exec.Command(q.path, "-cpu", "help").Output()
	if err != nil {
		t.Fatalf("%s -cpu help: %v", q.path, err)
	}
	var models []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(line, " ") && strings.HasPrefix(f[0], "EPYC") {
			models = append(models, f[0])
		}
	}
	return models
}

// shape is a guest of a sweep.
type shape struct {
	qemu      testQEMU
	model     string
	vcpus     int
	maxVCPUs  int // 0: not said
	memoryMiB int
	generic   bool // the generic firmware without kernel hashes, not the AmdSev build with them
}

func (s shape) String() string {
	fw := "AmdSev"
	if s.generic {
		fw = "generic"
	}
	return fmt.Sprintf("QEMU %s, %s, %s, %d of %d vCPUs, %d MiB", s.qemu.name, fw, s.model, s.vcpus, max(s.vcpus, s.maxVCPUs), s.memoryMiB)
}

func (s shape) guest(t testing.TB) *guest.Guest {
	g := aGuest(t)
	g.CPU, g.VCPUs, g.MemoryMiB = s.model, s.vcpus, s.memoryMiB
	if s.generic {
		withoutHashes(t, g)
	}
	return g
}

// arguments are written here anew: the launcher's own have neither maxcpus nor
// a memory backend.
func (s shape) arguments(g *guest.Guest) []string {
	smp := strconv.Itoa(s.vcpus)
	if s.maxVCPUs > 0 {
		smp += ",maxcpus=" + strconv.Itoa(s.maxVCPUs)
	}
	object := sevObject()
	if g.UsesKernelHashes() {
		object = sevObject("kernel-hashes=on")
	}
	return append(bareArguments(), "-accel", "kvm", "-object", object, "-cpu", s.model, "-smp", smp,
		// So much memory is not there; nothing of it is touched.
		"-object", fmt.Sprintf("memory-backend-ram,id=ram0,size=%dM,reserve=off", s.memoryMiB), "-m", fmt.Sprintf("%dM", s.memoryMiB),
		"-machine", "q35,smm=off,confidential-guest-support=sev0,memory-backend=ram0",
		"-bios", g.Firmware, "-kernel", g.Kernel, "-initrd", g.Initrd, "-append", g.Append)
}

// Values of the sweeps. Up to 1 GiB and from 3 GiB on QEMU lays memory out
// differently; 255 is the last APIC id of a local APIC.
var (
	sweptVCPUs  = []int{1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 32}
	manyVCPUs   = []int{48, 64, 96, 127, 128, 129, 192, 254, 255}
	sweptMemory = []int{256, 512, 1024, 1536, 2047, 2048, 3072, 4096, 6144, 8192, 16384}
)

// shapes are all models of a QEMU on both firmwares, vCPUs, memory and
// hot-pluggable vCPUs going round with lengths that have no common divisor, and
// then the large guests.
func shapes(t testing.TB, q testQEMU) []shape {
	var out []shape
	models := q.epycModels(t)
	for i, m := range models {
		for j, generic := range []bool{false, true} {
			n := 2*i + j
			s := shape{q, m, sweptVCPUs[n%len(sweptVCPUs)], 0, sweptMemory[n%len(sweptMemory)], generic}
			if n%5 < 2 {
				s.maxVCPUs = s.vcpus + []int{0, 1, 3, 64}[n%4]
			}
			out = append(out, s)
		}
	}
	// What properties make of a model.
	for i, m := range []string{"EPYC-v4,family=25,model=0x11,stepping=1", "EPYC-Milan,family=6,model=158,stepping=10", "EPYC,family=15"} {
		out = append(out, shape{q, m, 2 + i, 0, 512, false})
	}
	for i, n := range manyVCPUs {
		s := shape{q, models[i*7%len(models)], n, 0, sweptMemory[i%len(sweptMemory)], i%2 == 1}
		if i%3 == 0 {
			s.maxVCPUs = 255
		}
		out = append(out, s)
	}
	return out
}

// Every EPYC model that QEMU lists, by every name that it lists, launches as
// computed, and its save areas are to the byte those that were computed.
// QEMU is asked for the list, so a model that this module has not heard of is a
// failure here.
func TestEveryModelLaunchesAsComputed(t *testing.T) {
	for _, q := range qemus(t) {
		t.Run("QEMU "+q.name, func(t *testing.T) {
			models := q.epycModels(t)
			if len(models) < 15 {
				t.Fatalf("QEMU lists %q", models)
			}
			sweep := shapes(t, q)
			var mu sync.Mutex
			digests := map[snp.LaunchDigest]bool{}
			together(len(sweep), runtime.NumCPU(), func(i int) {
				s := sweep[i]
				d, err := s.check(t)
				if err != nil {
					t.Errorf("%s: %v", s, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				digests[d] = true
			})
			t.Logf("%d models, %d launches, %d different digests", len(models), len(sweep), len(digests))
		})
	}
}

// check launches a guest and holds what the software host was given against what
// was computed: the digest, and each save area.
func (s shape) check(t testing.TB) (snp.LaunchDigest, error) {
	g := s.guest(t)
	in, err := g.Open()
	if err != nil {
		return snp.LaunchDigest{}, err
	}
	defer in.Close()
	want, err := measure.Measure(g, in)
	if err != nil {
		return snp.LaunchDigest{}, err
	}
	isSaveArea := func(typ snp.PageType, _ uint64) bool { return typ == snp.PageVMSA }
	got, err := direct{qemu: s.qemu, args: s.arguments(g), config: anyCPUID}.launch(t.Context(), isSaveArea)
	switch {
	case err != nil:
		return want.LaunchDigest, err
	case got.status != "exit 0" || got.digest == nil:
		return want.LaunchDigest, fmt.Errorf("%s\n%s", got.status, got.stderr)
	case *got.digest != want.LaunchDigest:
		return want.LaunchDigest, fmt.Errorf("launched %s, computed %s", got.digest, want.LaunchDigest)
	case len(got.pages) != s.vcpus:
		return want.LaunchDigest, fmt.Errorf("%d save areas", len(got.pages))
	}
	reset, _ := want.Image.ResetEIP()
	config := vmsa.Config{Signature: want.CPUSig, Features: vmsa.SNPActive}
	bsp, ap := vmsa.Page(config, true, reset), vmsa.Page(config, false, reset)
	for i, p := range got.pages {
		page := ap
		if i == 0 {
			page = bsp
		}
		if !bytes.Equal(p.Bytes, page[:]) {
			return want.LaunchDigest, fmt.Errorf("save area of vCPU %d: %s", i, firstDifference(p.Bytes, page[:]))
		}
	}
	return want.LaunchDigest, nil
}

// anyCPUID is a processor that takes the CPUID page of every model, older and
// newer than itself.
func anyCPUID(c *psp.Config) { c.CPUIDCheck = false }

func firstDifference(got, want []byte) string {
	for i := range want {
		if got[i] != want[i] {
			from := i &^ 15
			return fmt.Sprintf("at 0x%03x\n% x, want\n% x", from, got[from:from+16], want[from:from+16])
		}
	}
	return "they are equal"
}
