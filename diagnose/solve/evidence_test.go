package solve_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/internal/lacks"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// The suites below change a description at random, measure what comes of it as its
// owner would, with package measure, and ask for the change. Nothing of the
// solver's takes part in the making.

// other is a description that became another one.
type other struct {
	g        guest.Guest
	opt      measure.Options
	sections func([]ovmf.Section) // puts them in another order
	encode   func(snp.LaunchDigest) snp.LaunchDigest
}

// deviation is one way to change a description.
type deviation struct {
	dimension string
	// change makes it and gives what Change.Found has to contain; ok is false where this description
	// cannot be changed so.
	change func(r *rand.Rand, o *other, w *workshop) (found string, ok bool)
}

// swapped is alone in its deviation: what else is said of a kernel or an initrd that stands in
// the other's place can be said in two ways.
const swapped = "kernel and initrd"

// workshop is the files that a suite works with.
type workshop struct {
	dir     string
	svsm    []byte
	vars    int64
	hostSig uint32
}

func (w *workshop) folder(kind string) string { return filepath.Join(w.dir, kind) }

// sum is the SHA-256 of a file, so that one that is large is hashed once.
var sums = map[string][32]byte{}

func sum(t testing.TB, path string) *[32]byte {
	t.Helper()
	if have, ok := sums[path]; ok {
		return &have
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(b)
	sums[path] = s
	return &s
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// hashed says whether kernel, initrd and command line are measured.
func (o *other) hashed() bool { return o.g.UsesKernelHashes() && o.opt.Mode == measure.SNP }

// deviations is what the suites choose from, the likelier ones several times.
func deviations(t testing.TB) []deviation {
	line := func(f func(r *rand.Rand, text string) string) deviation {
		return deviation{"append", func(r *rand.Rand, o *other, _ *workshop) (string, bool) {
			changed := f(r, o.g.Append)
			if !o.hashed() || changed == o.g.Append {
				return "", false
			}
			// A text with a NUL byte can be hashed, but no program gets it.
			s := sha256.Sum256(append([]byte(changed), 0))
			o.g.Append, o.g.AppendSHA256 = "", &s
			return fmt.Sprintf("%q", changed), true
		}}
	}
	words := func(text string, f func([]string) []string) string {
		return strings.Join(f(strings.Fields(text)), " ")
	}
	vcpus := deviation{"vcpus", func(r *rand.Rand, o *other, _ *workshop) (string, bool) {
		was := o.g.VCPUs
		o.g.VCPUs = pick(r, 1, 2, 4, 8, 16, 32, 1+r.IntN(512))
		return fmt.Sprint(o.g.VCPUs), o.g.VCPUs != was
	}}
	model := deviation{"cpu", func(r *rand.Rand, o *other, _ *workshop) (string, bool) {
		was, err := o.g.Signature()
		if err != nil || o.opt.VMM != vmsa.QEMU {
			return "", false
		}
		name := pick(r, "EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin")
		o.g.CPU, o.g.CPUSig = name+pick(r, "", "-v1", "-v2"), nil
		is, err := o.g.Signature()
		return name, err == nil && is != was
	}}
	hashesOff := deviation{"kernel_hashes", func(_ *rand.Rand, o *other, _ *workshop) (string, bool) {
		if !o.g.HasKernel() || o.opt.Mode != measure.SNP {
			return "", false
		}
		o.g.KernelHashes = !o.g.KernelHashes
		return map[bool]string{true: "on", false: "off"}[o.g.KernelHashes], true
	}}
	hostKernel := deviation{"host_kernel", func(r *rand.Rand, o *other, _ *workshop) (string, bool) {
		if o.g.HostKernel != "" || o.opt.VMM == vmsa.EC2 || o.g.GuestFeatures != vmsa.FeaturesDefault {
			return "", false
		}
		name := pick(r, "amd-6.6-6.7", "amd-6.8", "amd-5.19-6.5")
		return name, o.g.SetHostKernel(name) == nil
	}}
	features := deviation{"guest_features", func(r *rand.Rand, o *other, _ *workshop) (string, bool) {
		if o.g.HostKernel != "" {
			return "", false
		}
		was := o.g.GuestFeatures
		o.g.GuestFeatures = pick(r, vmsa.SNPActive, vmsa.SNPActive|vmsa.DebugSwap, vmsa.SNPActive|vmsa.SecureTSC, 0x15, vmsa.SNPActive|vmsa.VTOM)
		return fmt.Sprintf("0x%x ", o.g.GuestFeatures), o.g.GuestFeatures != was
	}}
	noInitrd := deviation{"initrd", func(_ *rand.Rand, o *other, _ *workshop) (string, bool) {
		was := o.g.Initrd
		o.g.Initrd = ""
		return "none", o.hashed() && was != ""
	}}
	fileOf := func(dimension, kind string, field func(*guest.Guest) *string) deviation {
		return deviation{dimension, func(r *rand.Rand, o *other, w *workshop) (string, bool) {
			entries, err := os.ReadDir(w.folder(kind))
			if err != nil || dimension != "firmware" && !o.hashed() || o.opt.Mode != measure.SNP {
				return "", false
			}
			path := filepath.Join(w.folder(kind), pick(r, entries...).Name())
			*field(&o.g) = path
			return path, true
		}}
	}
	otherInitrd := fileOf("initrd", "initrds", func(g *guest.Guest) *string { return &g.Initrd })
	return []deviation{
		vcpus, vcpus, vcpus, model, model, model, hashesOff, hashesOff, hostKernel, hostKernel, features, features, noInitrd, otherInitrd, otherInitrd,
		{"cpu", func(_ *rand.Rand, o *other, _ *workshop) (string, bool) {
			zero := uint32(0)
			o.g.CPUSig = &zero
			return "0", o.opt.VMM == vmsa.QEMU
		}},
		{"cpu", func(_ *rand.Rand, o *other, w *workshop) (string, bool) {
			o.g.CPUSig = &w.hostSig
			return fmt.Sprintf("0x%x", w.hostSig), o.opt.VMM == vmsa.QEMU
		}},
		line(func(r *rand.Rand, s string) string {
			return s + pick(r, " ", "\n", "\x00", "\r\n", "\t")
		}),
		line(func(r *rand.Rand, s string) string {
			return pick(r, `"`+s+`"`, "'"+s+"'", strings.ReplaceAll(s, " ", `\ `), " "+s)
		}),
		line(func(r *rand.Rand, s string) string {
			return words(s, func(w []string) []string {
				r.Shuffle(len(w), func(i, j int) { w[i], w[j] = w[j], w[i] })
				return w
			})
		}),
		line(func(r *rand.Rand, s string) string {
			return words(s, func(w []string) []string {
				i := r.IntN(len(w))
				return slices.Delete(w, i, i+1)
			})
		}),
		line(func(r *rand.Rand, s string) string { return s + " " + pick(r, "quiet", "debug", "nokaslr") }),
		line(func(*rand.Rand, string) string { return "" }),
		fileOf("firmware", "firmware", func(g *guest.Guest) *string { return &g.Firmware }),
		fileOf("kernel", "kernels", func(g *guest.Guest) *string { return &g.Kernel }),
		{"kernel", func(_ *rand.Rand, o *other, _ *workshop) (string, bool) {
			if !o.hashed() {
				return "", false
			}
			o.g.Kernel, o.g.Initrd, o.g.Append, o.g.AppendSHA256 = "", "", "", nil
			return "none", true
		}},
		{swapped, func(_ *rand.Rand, o *other, _ *workshop) (string, bool) {
			if o.g.Initrd == "" || !o.hashed() {
				return "", false
			}
			o.g.Kernel, o.g.Initrd = o.g.Initrd, o.g.Kernel
			return "exchanged", true
		}},
		{"vmm", func(r *rand.Rand, o *other, _ *workshop) (string, bool) {
			o.opt.VMM = pick(r, vmsa.EC2, vmsa.GCE, vmsa.Krun)
			return o.opt.VMM.String(), o.opt.Mode == measure.SNP && (o.g.CPUSig == nil || *o.g.CPUSig != 0)
		}},
		{"sections", func(r *rand.Rand, o *other, _ *workshop) (string, bool) {
			o.sections = func(s []ovmf.Section) {
				slices.SortFunc(s, func(a, b ovmf.Section) int { return int(a.GPA>>12) - int(b.GPA>>12) })
			}
			return "addresses", o.opt.Mode == measure.SNP && o.opt.VMM == vmsa.QEMU
		}},
		{"svsm", func(_ *rand.Rand, o *other, w *workshop) (string, bool) {
			if o.opt.VMM != vmsa.QEMU || o.sections != nil {
				return "", false
			}
			o.opt.Mode, o.opt.VarsSize = measure.SVSM, w.vars
			o.opt.SVSM = guest.NewInput("svsm", bytes.NewReader(w.svsm), int64(len(w.svsm)))
			return fmt.Sprintf("0x%x", w.vars), true
		}},
		{"encoding", func(_ *rand.Rand, o *other, _ *workshop) (string, bool) {
			o.encode = func(d snp.LaunchDigest) (cut snp.LaunchDigest) {
				raw, err := base64.StdEncoding.DecodeString(hex.EncodeToString(d[:]))
				if err != nil {
					t.Fatal(err)
				}
				copy(cut[:], raw)
				return cut
			}
			return "base64", true
		}},
	}
}

var metadatas = map[string]*measure.Metadata{}

// metadata is what measuring needs of a firmware, read once.
func metadata(t testing.TB, path string) *measure.Metadata {
	t.Helper()
	if m := metadatas[path]; m != nil {
		return m
	}
	g := guest.Default()
	g.Firmware = path
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := measure.MeasureWith(&g, in, measure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := measure.MetadataOf(r)
	if err != nil {
		t.Fatal(err)
	}
	metadatas[path] = m
	return m
}

// digest measures an other. ok is false where there is no such launch.
func (o *other) digest(t testing.TB) (d snp.LaunchDigest, ok bool) {
	t.Helper()
	g := o.g
	// What is large is hashed once for all.
	if g.Kernel != "" {
		g.KernelSHA256, g.Kernel = sum(t, g.Kernel), ""
	}
	if g.Initrd != "" {
		g.InitrdSHA256, g.Initrd = sum(t, g.Initrd), ""
	}
	opt := o.opt
	if opt.Mode == measure.SNP {
		opt.Metadata, g.Firmware = metadata(t, g.Firmware), ""
	}
	open := g.Open
	if opt.Metadata != nil {
		open = g.OpenBoot
	}
	in, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := measure.MeasureWith(&g, in, opt)
	if err != nil {
		return d, false
	}
	if o.sections != nil {
		sections := slices.Clone(r.Image.Sections)
		o.sections(sections)
		table, _ := r.Image.HashTable()
		img, err := ovmf.FromTables(r.Image.Size, sections, r.ResetEIP, &table)
		if err != nil {
			t.Fatal(err)
		}
		opt.Metadata, opt.FirmwareDigest = nil, &r.FirmwareDigest
		if r, err = measure.FromImage(&g, img, r.HashTable, opt); err != nil {
			return d, false
		}
	}
	d = r.LaunchDigest
	if o.encode != nil {
		d = o.encode(d)
	}
	return d, true
}

// expected is a change that an answer has to name.
type expected struct{ dimension, found string }

func (e expected) is(c solve.Change) bool {
	return c.Dimension == e.dimension && strings.Contains(c.Found, e.found)
}

// names says whether changes are those expected.
func names(changes []solve.Change, want []expected) bool {
	if len(changes) != len(want) {
		return false
	}
	for _, e := range want {
		if !slices.ContainsFunc(changes, e.is) {
			return false
		}
	}
	return true
}

// suite asks for n deviations, half of them double, and holds the answers to
// what was done.
func suite(t *testing.T, n int, bases []guest.Guest, w *workshop) {
	r := rand.New(rand.NewPCG(20261125, uint64(n)))
	all := deviations(t)
	right, among, unexplained := 0, 0, 0
	var longest, whole time.Duration
	var tried uint64
	byDimension := map[string]int{}
	for n := range n {
		base := bases[n%len(bases)]
		var o other
		var want []expected
		var digest snp.LaunchDigest
		for {
			o, want = other{g: base}, nil
			for range 1 + n/2%2 {
				d, seed := all[r.IntN(len(all))], r.Uint64()
				again := func(o *other) (string, bool) { return d.change(rand.New(rand.NewPCG(seed, 0)), o, w) }
				next := o
				found, ok := again(&next)
				if !ok || slices.ContainsFunc(want, func(e expected) bool {
					return e.dimension == d.dimension || d.dimension == swapped || e.dimension == swapped
				}) {
					break
				}
				before, measured := o.digest(t)
				after, ok := next.digest(t)
				alone := other{g: base}
				again(&alone)
				byItself, possible := alone.digest(t)
				if !ok || !measured || before == after || len(want) > 0 && possible && byItself == after {
					break // no such launch, or one of the changes has no say
				}
				o, digest = next, after
				want = append(want, expected{d.dimension, found})
			}
			if len(want) == 1+n/2%2 {
				break
			}
		}
		in, err := base.Open()
		if err != nil {
			t.Fatal(err)
		}
		a, err := solve.Solve(context.Background(), solve.Question{
			Digest: digest, Guest: &base, Inputs: in, HostSignature: &w.hostSig,
			Folders: solve.Folders{Firmware: []string{w.folder("firmware"), w.folder("svsm")}, Kernels: []string{w.folder("kernels")}, Initrds: []string{w.folder("initrds")}},
		}, solve.Options{})
		in.Close()
		if err != nil {
			t.Fatal(err)
		}
		longest, whole, tried = max(longest, a.Elapsed), whole+a.Elapsed, tried+a.Tried
		switch {
		case !a.Explained:
			unexplained++
			t.Logf("unexplained: %v of %+v", want, base)
		case names(a.Explanations[0].Changes, want):
			right++
		case slices.ContainsFunc(a.Explanations[0].Also, func(c []solve.Change) bool { return names(c, want) }):
			among++
		default:
			t.Errorf("%v was explained as %s, %+v; also %+v", want, a.Explanations[0].Sentence, a.Explanations[0].Changes, a.Explanations[0].Also)
		}
		for _, e := range want {
			byDimension[e.dimension]++
		}
	}
	t.Logf("%d deviations (%v): first answer right %d, named among those that fit as well %d, unexplained %d; %d descriptions tried in %s, the longest search took %s",
		n, byDimension, right, among, unexplained, tried, whole.Round(time.Millisecond), longest.Round(time.Millisecond))
	if right*100 < n*95 {
		t.Errorf("the first answer was right in %d of %d, want 95 %%", right, n)
	}
}

// svsm is a synthetic SVSM image.
func svsm() []byte {
	return ovmftest.Spec{
		Sections: []ovmf.Section{{GPA: 0x800000, Size: 0x1000, Type: ovmf.SNPSecrets}, {GPA: 0x801000, Size: 0x1000, Type: ovmf.CPUID}},
		Extra:    []ovmftest.Entry{{GUID: ovmf.GUIDSVSMInfo, Data: binary.LittleEndian.AppendUint32(nil, 0x10)}},
	}.Build()
}

// newWorkshop puts files beside a guest's that may have been used instead: two
// other builds of its firmware, kernels and initrds.
func newWorkshop(t *testing.T, firmware []byte) *workshop {
	w := &workshop{dir: t.TempDir(), svsm: svsm(), vars: 0x84000, hostSig: vmsa.Signature(26, 2, 1)}
	put := func(kind, name string, contents []byte) {
		if err := os.MkdirAll(w.folder(kind), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.folder(kind), name), contents, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 {
		build := slices.Clone(firmware)
		build[0x2000] ^= byte(n + 1)
		put("firmware", fmt.Sprintf("build-%d.fd", n), build)
		kernel := make([]byte, 0x300)
		copy(kernel[0x202:], "HdrS")
		kernel[0] = byte(n + 1)
		put("kernels", fmt.Sprintf("vmlinuz-%d", n), kernel)
		put("initrds", fmt.Sprintf("initrd-%d", n), []byte{byte(n)})
	}
	put("svsm", "svsm.bin", w.svsm)
	return w
}

// varied gives descriptions of several kinds on the files of one.
func varied(g guest.Guest) []guest.Guest {
	one, many, off, plain, old := g, g, g, g, g
	one.VCPUs = 1
	many.VCPUs, many.CPU = 6, "EPYC-Genoa"
	off.KernelHashes, off.CPU = false, "EPYC-Milan-v2"
	plain.Initrd, plain.Append, plain.VCPUs = "", "console=hvc0 ro", 2
	old.GuestFeatures = vmsa.SNPActive | vmsa.DebugSwap
	return []guest.Guest{g, one, many, off, plain, old}
}

// TestSyntheticDeviations needs no parts.
func TestSyntheticDeviations(t *testing.T) {
	g := synthetic(t)
	firmware, err := os.ReadFile(g.Firmware)
	if err != nil {
		t.Fatal(err)
	}
	suite(t, 40, varied(*g), newWorkshop(t, firmware))
}

// TestRealDeviations is over the firmware and the kernel that guests are launched
// with.
func TestRealDeviations(t *testing.T) {
	if testing.Short() {
		t.Skip("300 searches; TestSyntheticDeviations has 40")
	}
	set, err := images.Find(context.Background(), images.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if set.Firmware.Path == "" || set.Kernel.Path == "" {
		lacks.End(t, "firmware or kernel is missing, run ./scripts/setup")
	}
	firmware, err := os.ReadFile(set.Firmware.Path)
	if err != nil {
		t.Fatal(err)
	}
	g := guest.Default()
	g.Firmware, g.Kernel = set.Firmware.Path, set.Kernel.Path
	g.Initrd = file(t, "initrd", bytes.Repeat([]byte("initrd"), 1000))
	g.Append, g.VCPUs = "console=ttyS0 panic=-1 root=/dev/vda ro", 4
	suite(t, 300, varied(g), newWorkshop(t, firmware))
}
