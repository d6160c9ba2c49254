package pagediff_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/pagediff"
	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
)

// launch measures a guest of made-up parts.
func launch(t *testing.T, change func(g *guest.Guest, firmware []byte)) pagediff.Launch {
	t.Helper()
	firmware := ovmftest.AmdSev().Build()
	g := guest.Default()
	g.Append, g.VCPUs = "console=ttyS0", 2
	change(&g, firmware)
	in := &guest.Inputs{
		Firmware: guest.NewInput("OVMF.fd", bytes.NewReader(firmware), int64(len(firmware))),
		Kernel:   guest.NewInput("kernel", strings.NewReader("kernel"), 6),
	}
	r, err := measure.MeasureWith(&g, in, measure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := pagediff.Of("launch", r, in.Firmware)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCompare(t *testing.T) {
	base := launch(t, func(*guest.Guest, []byte) {})
	for name, c := range map[string]struct {
		change    func(g *guest.Guest, firmware []byte)
		what      string
		field     string
		differing int
	}{
		"command line": {func(g *guest.Guest, _ []byte) { g.Append += " " }, "kernel hashes", "hashes table: command line", 1},
		"CPU model":    {func(g *guest.Guest, _ []byte) { g.CPU = "EPYC-Milan" }, "vCPU 0 VMSA", "RDX", 2},
		"features":     {func(g *guest.Guest, _ []byte) { g.GuestFeatures = 0x21 }, "vCPU 0 VMSA", "SEV_FEATURES", 2},
		"one vCPU":     {func(g *guest.Guest, _ []byte) { g.VCPUs = 1 }, "vCPU 1 VMSA", "", 1},
		"no hashes":    {func(g *guest.Guest, _ []byte) { g.KernelHashes = false }, "kernel hashes", "", 1},
		"firmware":     {func(_ *guest.Guest, f []byte) { f[0x1234] ^= 1 }, "firmware", "firmware at 0x1234, outside every firmware volume", 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := pagediff.Compare(base, launch(t, c.change))
			if d.Equal || d.What != c.what || d.Differing != c.differing {
				t.Fatalf("got %+v", d)
			}
			if c.field == "" {
				if len(d.Fields) > 0 {
					t.Errorf("got %+v", d.Fields)
				}
			} else if len(d.Fields) != 1 || !strings.HasPrefix(d.Fields[0].Name, c.field) {
				t.Errorf("got %+v, want %s", d.Fields, c.field)
			}
		})
	}
	if d := pagediff.Compare(base, base); !d.Equal {
		t.Errorf("got %+v", d)
	}
}

// A record without contents, as a trace makes one, says nothing against a launch of the
// same pages, and all against one of others.
func TestContentsThatNobodyTold(t *testing.T) {
	computed := launch(t, func(*guest.Guest, []byte) {})
	l := record.Launch{}
	for _, p := range computed.Pages {
		if p.Type != snp.PageVMSA {
			l.Calls = append(l.Calls, record.Call{With: &record.Update{Type: p.Type, GPA: p.GPA, Length: snp.PageSize}})
		}
	}
	computed.Pages = computed.Pages[:len(l.Calls)] // without the save areas
	told := pagediff.OfRecord("trace", &record.File{}, &l)
	if d := pagediff.Compare(told, computed); !d.Equal {
		t.Errorf("got %+v", d)
	}
	l.Calls[3].With.(*record.Update).GPA += snp.PageSize
	if d := pagediff.Compare(pagediff.OfRecord("trace", &record.File{}, &l), computed); d.Equal || d.Index != 3 {
		t.Errorf("got %+v", d)
	}
}

// CPUID pages are compared by leaf, absent ones too.
func TestCPUIDLeaves(t *testing.T) {
	page := func(leaves ...[3]uint32) pagediff.Launch {
		b := make([]byte, snp.PageSize)
		binary.LittleEndian.PutUint32(b, uint32(len(leaves)))
		for n, l := range leaves {
			e := b[16+48*n:]
			binary.LittleEndian.PutUint32(e, l[0])
			binary.LittleEndian.PutUint32(e[24:], l[1])
			binary.LittleEndian.PutUint32(e[36:], l[2])
		}
		p := pagediff.Page{Update: snp.Update{Type: snp.PageCPUID, GPA: 0x80e000, Length: snp.PageSize}, Bytes: b}
		p.Contents[0] = byte(len(leaves)) // the firmware leaves it out; here it makes the pages differ
		return pagediff.Launch{Name: "l", Pages: []pagediff.Page{p}}
	}
	d := pagediff.Compare(page([3]uint32{1, 2, 3}, [3]uint32{0x8000001d, 4, 5}), page([3]uint32{1, 2, 6}))
	want := []pagediff.Field{
		{Name: "CPUID leaf 0x1, subleaf 0x0", A: "eax 00000002 ebx 00000000 ecx 00000000 edx 00000003", B: "eax 00000002 ebx 00000000 ecx 00000000 edx 00000006"},
		{Name: "CPUID leaf 0x8000001d, subleaf 0x0", A: "eax 00000004 ebx 00000000 ecx 00000000 edx 00000005", B: "absent"},
	}
	if !slices.Equal(d.Fields, want) {
		t.Errorf("got %+v", d.Fields)
	}
}
