package psp

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// epycBSP is the save area of the first vCPU of an EPYC guest under QEMU with
// SEV_FEATURES 1: its non-zero quadwords, in the order of their bytes.
// sev-snp-measure 0.0.13 (sevsnpmeasure/vmsa.py) makes the same page.
var epycBSP = map[int]string{
	0x000: "00009300ffff0000", 0x010: "00f09b00ffff0000", 0x018: "0000ffff00000000", 0x020: "00009300ffff0000",
	0x030: "00009300ffff0000", 0x040: "00009300ffff0000", 0x050: "00009300ffff0000", 0x060: "00000000ffff0000",
	0x070: "00008200ffff0000", 0x080: "00000000ffff0000", 0x090: "00008b00ffff0000", 0x0d0: "0010000000000000",
	0x148: "4000000000000000", 0x158: "1000000000000000", 0x160: "0004000000000000", 0x168: "f00fffff00000000",
	0x170: "0200000000000000", 0x178: "f0ff000000000000", 0x268: "0604070006040700", 0x310: "120f800000000000",
	0x3b0: "0100000000000000", 0x3e8: "0100000000000000", 0x408: "801f000000000000", 0x410: "7f03000000000000",
}

func vmsaPage(t testing.TB) []byte {
	t.Helper()
	page := make([]byte, snp.PageSize)
	for at, q := range epycBSP {
		b, err := hex.DecodeString(q)
		if err != nil {
			t.Fatal(err)
		}
		copy(page[at:], b)
	}
	return page
}

// The launch digest after each page of a small launch. Expected values come
// from a script of its own that folds PAGE_INFO by the layout alone; the
// last was also reproduced with sev-snp-measure's classes.
func TestLaunchDigest(t *testing.T) {
	g := launching(t, platform(t, nil))
	vmsa := vmsaPage(t)
	// GUEST_TSC_SCALE and GUEST_TSC_OFFSET are not measured.
	binary.LittleEndian.PutUint64(vmsa[0x2F0:], 0x0100000000000000)
	binary.LittleEndian.PutUint64(vmsa[0x2F8:], 0xFFFFFFFF00000000)
	before := [snp.PageSize]byte(vmsa)
	garbage := make([]byte, snp.PageSize)
	for i := range garbage {
		garbage[i] = byte(i)
	}
	for _, step := range []struct {
		name string
		typ  snp.PageType
		gpa  uint64
		page []byte
		want string // empty: not looked at
	}{
		{"ZERO, whatever was in the page", snp.PageZero, 0x800000, garbage, "4472405c6dbc65e5629805f2be1b3df74eb119841eff12466c24f43e67083c23df5e645b2742b6d9aa0f943e095cebaa"},
		{"NORMAL of zeros", snp.PageNormal, 0xFFC00000, make([]byte, snp.PageSize), "bc9bc5b3f16081d96e1a3780d25085616972cd8342caa89d1d35854ef1295068f23b67f20792a1edc8df01d6ddf0cd1f"},
		{"SECRETS", snp.PageSecrets, 0x80D000, make([]byte, snp.PageSize), ""},
		{"CPUID", snp.PageCPUID, 0x80E000, make([]byte, snp.PageSize), "c7e98bac96dc476651dbf6b8ee7bc3a9b1821a90f208ba95714c585f9979a6ebb47a37bfb45511cea968f7c0b293ae34"},
		{"VMSA", snp.PageVMSA, snp.VMSAGPA, vmsa, "0c6fc05ba350350faed3b4c3816d1fd22a87bcf9eb748947c2c3525693ef912e0a9b999079379fdbeb80ed186beccbe8"},
	} {
		must(t, g.LaunchUpdate(step.typ, step.gpa, step.page))
		if got := g.LaunchDigest().String(); step.want != "" && got != step.want {
			t.Errorf("after %s: LD\n got %s\nwant %s", step.name, got, step.want)
		}
	}
	if [snp.PageSize]byte(vmsa) != before {
		t.Error("the save area was changed")
	}
	for i, c := range garbage {
		if c != 0 {
			t.Fatalf("the ZERO page was not zeroed: byte %#x is %#x", i, c)
		}
	}

	zeros := sha512.Sum384(make([]byte, snp.PageSize))
	want := []snp.Update{
		{Type: snp.PageZero, GPA: 0x800000, Length: 4096},
		{Type: snp.PageNormal, GPA: 0xFFC00000, Length: 4096, Contents: zeros},
		{Type: snp.PageSecrets, GPA: 0x80D000, Length: 4096},
		{Type: snp.PageCPUID, GPA: 0x80E000, Length: 4096},
		{Type: snp.PageVMSA, GPA: 0xFFFFFFFFF000, Length: 4096},
	}
	// SHA-384 of that save area by sev-snp-measure 0.0.13.
	if err := want[4].Contents.UnmarshalText([]byte("77920c4c629ff47e90c0e174fc1ad0eb6fa664f88cd4739488058a8c6cb1a77b3856f55378e9518d0da99452d51c553a")); err != nil {
		t.Fatal(err)
	}
	got := g.Updates()
	if len(got) != len(want) {
		t.Fatalf("%d updates, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("update %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

// UNMEASURED leaves the contents out and the address in.
func TestUnmeasured(t *testing.T) {
	p := platform(t, nil)
	digest := func(gpa uint64, fill byte) snp.LaunchDigest {
		g := launching(t, p)
		page := make([]byte, snp.PageSize)
		page[9] = fill
		must(t, g.LaunchUpdate(snp.PageUnmeasured, gpa, page))
		if page[9] != fill {
			t.Error("the page was changed")
		}
		return g.LaunchDigest()
	}
	if digest(0x1000, 1) != digest(0x1000, 2) {
		t.Error("the contents were measured")
	}
	if digest(0x1000, 1) == digest(0x2000, 1) {
		t.Error("the address was not measured")
	}
}

// A page of each type enters the digest as its own type.
func TestTypeIsMeasured(t *testing.T) {
	p := platform(t, nil)
	seen := map[snp.LaunchDigest]snp.PageType{}
	for typ := snp.PageNormal; typ <= snp.PageCPUID; typ++ {
		g := launching(t, p)
		must(t, g.LaunchUpdate(typ, 0x1000, make([]byte, snp.PageSize)))
		if other, have := seen[g.LaunchDigest()]; have {
			t.Errorf("%s and %s give one digest", typ, other)
		}
		seen[g.LaunchDigest()] = typ
	}
}

func BenchmarkLaunchUpdate(b *testing.B) {
	g := launching(b, platform(b, nil))
	page := make([]byte, snp.PageSize)
	for b.Loop() {
		g.LaunchUpdate(snp.PageNormal, 0x1000, page)
	}
}
