package measure_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
)

// explained gives the launch of TestSynthetic's third guest.
func explained(t *testing.T) *measure.Result {
	g := withKernel(t)
	g.VCPUs, g.CPU, g.GuestFeatures = 3, "EPYC-Milan", 0x21
	r, err := run(t, g)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestExplain folds the steps by hand; the last running digest is
// testdata/recipe.py's.
func TestExplain(t *testing.T) {
	r := explained(t)
	var ld snp.LaunchDigest
	n := 0
	for s := range r.Explain() {
		info := snp.PageInfo{DigestCur: ld, Contents: s.Contents, Type: s.Type, GPA: s.GPA}
		raw := info.Bytes()
		ld = sha512.Sum384(raw[:])
		if s.Running != ld {
			t.Fatalf("step %d: running digest %s, want %s", n, s.Running, ld)
		}
		if s.Page != r.Pages[n] {
			t.Fatalf("step %d is %+v, page %+v", n, s.Page, r.Pages[n])
		}
		n++
	}
	equal(t, "number of steps", n, len(r.Pages))
	equal(t, "last running digest", ld.String(), "7d4b29c75166d880a8be070b38056b4e652ca5ddbbbdbef8dafb08c8bb1504192de07133e9ad4cb30e42c9bfd3e26d3b")
	n = 0
	for range r.Explain() {
		if n++; n == 20 {
			break
		}
	}
	equal(t, "steps before a break", n, 20)
}

func TestStretches(t *testing.T) {
	r := explained(t)
	want := strings.Split(strings.TrimSpace(`
0xffff0000 16 pages differ NORMAL: firmware page
0x800000 9 pages equal ZERO: metadata section 0, SNP_SEC_MEM: the firmware's memory before it can accept pages, zeroed by the firmware
0x80a000 3 pages equal ZERO: metadata section 1, SNP_SEC_MEM: the firmware's memory before it can accept pages, zeroed by the firmware
0x80d000 1 pages equal SECRETS: metadata section 2, SNP_SECRETS: secrets page, filled by the firmware; its contents are not measured
0x80e000 1 pages equal CPUID: metadata section 3, CPUID: CPUID page, checked by the firmware; its contents are not measured
0x80f000 1 pages equal ZERO: metadata section 4, SVSM_CAA: calling area of an SVSM, zeroed by the firmware
0x811000 31 pages equal ZERO: metadata section 5, SNP_SEC_MEM: the firmware's memory before it can accept pages, zeroed by the firmware
0x810000 1 pages equal NORMAL: hashes page, table at offset 0xc00
0xfffffffff000 1 pages equal VMSA: VMSA of vCPU 0 (BSP), start 0xfffffff0, RDX 0xa00f11, SEV_FEATURES 0x21 (SNPActive, DebugSwap)
0xfffffffff000 2 pages equal VMSA: VMSA of vCPUs 1 to 2 (AP), start 0x80b004, RDX 0xa00f11, SEV_FEATURES 0x21 (SNPActive, DebugSwap)`), "\n")
	var got []string
	var last measure.Stretch
	pages := 0
	for s := range r.Stretches() {
		equality := "equal"
		if !s.Equal {
			equality = "differ"
		}
		got = append(got, fmt.Sprintf("0x%x %d pages %s %s: %s", s.GPA, s.Pages, equality, s.Type, s.What))
		pages += s.Pages
		equal(t, "bytes", s.Bytes, int64(s.Pages)*snp.PageSize)
		equal(t, "running digest", s.Running, measure.Fold(r.Updates()[:pages]))
		if s.Source == "kernel hashes" {
			equal(t, "details", strings.Join(s.Details, "|"), fmt.Sprintf("kernel sha256 %x|initrd sha256 %x|cmdline sha256 %x",
				sha256.Sum256([]byte("kernel")), sha256.Sum256([]byte("initrd")), sha256.Sum256([]byte(" quiet\n\x00"))))
		}
		last = s
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("stretches\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			break
		}
	}
	equal(t, "number of pages", pages, len(r.Pages))
	equal(t, "last running digest", last.Running, r.LaunchDigest)
	n := 0
	for range r.Stretches() {
		if n++; n == 3 {
			break
		}
	}
	equal(t, "stretches before a break", n, 3)
}

// Sections that are neighbours, that are not known, and one for hashes that is
// empty or larger than a page.
func TestStretchesOfSections(t *testing.T) {
	spec := ovmftest.AmdSev()
	spec.Sections = []ovmf.Section{
		{GPA: 0x800000, Size: 0x2000, Type: ovmf.SNPSecMem},
		{GPA: 0x802000, Size: 0x1000, Type: ovmf.SNPSecMem},
		{GPA: 0x803000, Size: 0x1000, Type: 0x7F},
		{GPA: 0x810000, Size: 0x3000, Type: ovmf.SNPKernelHashes},
	}
	whats := func(change func(*guest.Guest)) string {
		g := on(t, spec)
		change(&g)
		r, err := run(t, &g)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for s := range r.Stretches() {
			if s.Source != "firmware" && s.Type != snp.PageVMSA {
				out = append(out, fmt.Sprintf("%d × %s", s.Pages, s.What))
			}
		}
		return strings.Join(out, "\n")
	}
	const secMem = "SNP_SEC_MEM: the firmware's memory before it can accept pages, zeroed by the firmware\n"
	const first = "2 × metadata section 0, " + secMem + "1 × metadata section 1, " + secMem +
		"1 × metadata section 2, type 0x7f: its use is not known here, zeroed by the firmware\n"
	equal(t, "without a kernel", whats(func(*guest.Guest) {}),
		first+"3 × metadata section 3, SNP_KERNEL_HASHES: place for a hashes table, left empty, zeroed by the firmware")
	equal(t, "with a kernel", whats(func(g *guest.Guest) { g.Kernel = file(t, "kernel", []byte("kernel")) }),
		first+"1 × hashes page, table at offset 0xc00\n2 × rest of the hashes section, zeros")
}

// After a firmware digest the first step extends it.
func TestExplainFirmwareDigest(t *testing.T) {
	g := withKernel(t)
	r, err := run(t, g)
	if err != nil {
		t.Fatal(err)
	}
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	short, err := measure.MeasureWith(g, in, measure.Options{FirmwareDigest: &r.FirmwareDigest})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "pages left out", len(r.Pages)-len(short.Pages), 16)
	var last snp.LaunchDigest
	for s := range short.Explain() {
		last = s.Running
	}
	equal(t, "last running digest", last, r.LaunchDigest)
}

// SaveArea gives the pages that were measured.
func TestSaveArea(t *testing.T) {
	r := explained(t)
	for cpu := range 3 {
		page, err := r.SaveArea(cpu)
		if err != nil {
			t.Fatal(err)
		}
		p := r.Pages[len(r.Pages)-3+cpu]
		equal(t, p.Source, snp.ContentDigest(sha512.Sum384(page[:])), p.Contents)
	}
	for _, cpu := range []int{-1, 3} {
		if _, err := r.SaveArea(cpu); err == nil {
			t.Errorf("vCPU %d of 3 has a save area", cpu)
		}
	}
	if _, err := new(measure.Result).SaveArea(0); !errors.Is(err, measure.ErrNoSaveAreas) {
		t.Errorf("a result without save areas: %v", err)
	}
}
