package psp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// cpuidPage makes a CPUID page with a count and entries {eax_in, eax}.
func cpuidPage(count uint32, entries ...[2]uint32) []byte {
	b := page()
	binary.LittleEndian.PutUint32(b, count)
	for i, e := range entries {
		binary.LittleEndian.PutUint32(b[16+48*i:], e[0])
		binary.LittleEndian.PutUint32(b[16+48*i+24:], e[1])
	}
	return b
}

func TestCPUIDPage(t *testing.T) {
	p := platform(t, nil) // a Genoa, A10F11
	set := func(b []byte, at int) []byte { b[at] = 1; return b }
	for _, c := range []struct {
		name string
		page []byte
		want snp.Status
	}{
		{"empty", cpuidPage(0), snp.StatusSuccess},
		{"64 entries", cpuidPage(64), snp.StatusSuccess},
		{"65 entries", cpuidPage(65), snp.StatusInvalidParam},
		{"2^32-1 entries", cpuidPage(1<<32 - 1), snp.StatusInvalidParam},
		{"reserved at 04", set(cpuidPage(0), 0x04), snp.StatusInvalidParam},
		{"reserved at 0F", set(cpuidPage(0), 0x0F), snp.StatusInvalidParam},
		{"reserved in the last entry", set(cpuidPage(64), 16+48*63+47), snp.StatusInvalidParam},
		{"reserved beyond the last entry", set(cpuidPage(63), 16+48*63+47), snp.StatusSuccess},
		{"EPYC", cpuidPage(1, [2]uint32{1, 0x800F12}), snp.StatusSuccess},
		{"EPYC-Milan", cpuidPage(1, [2]uint32{1, 0xA00F11}), snp.StatusSuccess},
		{"the processor itself", cpuidPage(1, [2]uint32{1, 0xA10F11}), snp.StatusSuccess},
		{"an entry beyond the count", cpuidPage(1, [2]uint32{1, 0x800F12}, [2]uint32{1, 0xB00F00}), snp.StatusSuccess},
	} {
		g := launching(t, p)
		given := bytes.Clone(c.page)
		if st := g.LaunchUpdate(snp.PageCPUID, 0x80E000, c.page); st != c.want {
			t.Errorf("%s: got %s, want %s", c.name, st, c.want)
		}
		if !bytes.Equal(given, c.page) {
			t.Errorf("%s: the page was changed", c.name)
		}
		if measured := len(g.Updates()) == 1; measured != (c.want == snp.StatusSuccess) {
			t.Errorf("%s: %s, measured: %v", c.name, c.want, measured)
		}
	}
}

// A page that promises a newer processor is refused and comes back with what
// there is; then it is taken, and nothing of the refusal is measured.
func TestCPUIDPageIsCorrected(t *testing.T) {
	p := platform(t, nil)
	for name, signature := range map[string]uint32{"EPYC-Turin": 0xB00F00, "next stepping": 0xA10F12, "next model": 0xA10F21} {
		g := launching(t, p)
		b := cpuidPage(2, [2]uint32{0, 0x10}, [2]uint32{1, signature})
		want := cpuidPage(2, [2]uint32{0, 0x10}, [2]uint32{1, 0xA10F11})
		if st := g.LaunchUpdate(snp.PageCPUID, 0x80E000, b); st != snp.StatusInvalidParam {
			t.Fatalf("%s: got %s, want INVALID_PARAM", name, st)
		}
		if !bytes.Equal(b, want) {
			t.Errorf("%s: comes back as %#x, want 0xa10f11", name, binary.LittleEndian.Uint32(b[16+48+24:]))
		}
		if len(g.Updates()) != 0 || g.LaunchDigest() != (snp.LaunchDigest{}) {
			t.Errorf("%s: the refused page was measured", name)
		}
		must(t, g.LaunchUpdate(snp.PageCPUID, 0x80E000, b))
	}
}

// topology is a CPUID page with the cache topology of an L3 as QEMU's EPYC models
// have it; edx is what their versions differ in.
func topology(edx uint32) []byte {
	b := cpuidPage(2, [2]uint32{0, 0x10}, [2]uint32{0x8000001D, 0x000BC163})
	e := b[16+48:]
	binary.LittleEndian.PutUint32(e[4:], 3) // index
	binary.LittleEndian.PutUint32(e[28:], 0x03C0003F)
	binary.LittleEndian.PutUint32(e[32:], 0x00007FFF)
	binary.LittleEndian.PutUint32(e[36:], edx)
	return b
}

// EPYC v1-v3, EPYC-Rome v1-v2 and EPYC-Milan v1 promise an L3 with complex indexing;
// it comes back as NVIDIA/nvtrust issue 91 shows a Milan to give it back: EDX 6
// became 2, and nothing else changed.
func TestCacheTopologyIsCorrected(t *testing.T) {
	for _, name := range Platforms() {
		cfg, err := ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		p := fresh(t, func(c *Config) { *c = cfg })
		for given, want := range map[uint32]uint32{6: 2, 5: 1, 7: 3, 4: 0, 1 << 31: 0} {
			g := launching(t, p)
			b := topology(given)
			if st := g.LaunchUpdate(snp.PageCPUID, 0x80E000, b); st != snp.StatusInvalidParam || !bytes.Equal(b, topology(want)) {
				t.Errorf("%s: EDX %#x: %s, comes back as %#x, want %#x", name, given, st, binary.LittleEndian.Uint32(b[16+48+36:]), want)
			}
			must(t, g.LaunchUpdate(snp.PageCPUID, 0x80E000, b))
		}
		for _, edx := range []uint32{0, 1, 2, 3} {
			must(t, launching(t, p).LaunchUpdate(snp.PageCPUID, 0x80E000, topology(edx)))
		}
	}
}

// Without CPUIDCheck a page is held against its form only.
func TestCPUIDCheckOff(t *testing.T) {
	p := fresh(t, func(c *Config) { c.CPUIDCheck = false })
	for name, b := range map[string][]byte{"a newer processor": cpuidPage(1, [2]uint32{1, 0xB00F21}), "complex indexing": topology(6)} {
		given := bytes.Clone(b)
		must(t, launching(t, p).LaunchUpdate(snp.PageCPUID, 0x80E000, b))
		if !bytes.Equal(b, given) {
			t.Errorf("%s: the page was changed", name)
		}
	}
	reserved := topology(2)
	reserved[16+48+40] = 1
	for name, b := range map[string][]byte{"65 entries": cpuidPage(65), "a reserved field": reserved} {
		if st := launching(t, p).LaunchUpdate(snp.PageCPUID, 0x80E000, b); st != snp.StatusInvalidParam {
			t.Errorf("%s: %s", name, st)
		}
	}
}

// FuzzCPUIDPage never panics; a page that is taken is not changed, and one that
// was corrected is taken the next time unless something else is wrong with it.
func FuzzCPUIDPage(f *testing.F) {
	p := platform(f, nil)
	for _, b := range [][]byte{cpuidPage(0), cpuidPage(64), cpuidPage(65), cpuidPage(2, [2]uint32{1, 0xB00F00}, [2]uint32{1, 0xC00F00}), topology(6)} {
		f.Add(b[:256])
	}
	f.Fuzz(func(t *testing.T, start []byte) {
		b := page()
		copy(b, start)
		given := bytes.Clone(b)
		st := p.checkCPUID(b)
		switch {
		case st == snp.StatusSuccess && !bytes.Equal(b, given):
			t.Fatal("a page that was taken was changed")
		case st != snp.StatusSuccess && st != snp.StatusInvalidParam:
			t.Fatalf("%s", st)
		case binary.LittleEndian.Uint32(given) > 64 && (st == snp.StatusSuccess || !bytes.Equal(b, given)):
			t.Fatal("more than 64 entries were looked at")
		}
		if again := bytes.Clone(b); st != snp.StatusSuccess {
			if p.checkCPUID(again); !bytes.Equal(again, b) {
				t.Fatal("a corrected page is corrected once more")
			}
		}
	})
}

// Family counts before model, model before stepping, each combined with its
// extension (AMD64 APM volume 3, CPUID function 1 EAX): comparing the numbers
// themselves would be wrong, as the extensions stand above the base.
func TestNewer(t *testing.T) {
	inOrder := []uint32{
		0x00600F20, // family 15h, model 02h
		0x00800F12, // 17h, 01h: EPYC
		0x00830F10, // 17h, 31h: EPYC-Rome
		0x008F0FFF, // 17h, FFh, stepping Fh
		0x00A00F11, // 19h, 01h: EPYC-Milan
		0x00A10F10, // 19h, 11h: EPYC-Genoa
		0x00A10F11,
		0x00A10F20, // 19h, 12h
		0x00A60F12, // 19h, 61h
		0x00AF0FFF, // 19h, FFh, stepping Fh
		0x00B00F00, // 1Ah, 00h
		0x00B00F21, // 1Ah, 02h: EPYC-Turin
	}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got, want := newer(a, b), i > j; got != want {
				t.Errorf("newer(%#x, %#x) is %v", a, b, got)
			}
		}
	}
}
