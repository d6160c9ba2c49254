package measure_test

import (
	"bytes"
	"crypto/sha512"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
)

// The benchmarks named Bare hash the same bytes with nothing around it: they are
// what the others are held against (docs/performance.md).

// benchFirmware gives the real firmware where there is one, else a synthetic
// one of its size, 843 of whose 1024 pages are 0xFF as in the real one.
func benchFirmware(b *testing.B) string {
	if path := os.Getenv("SNPLAUNCH_OVMF"); path != "" {
		return path
	}
	spec := ovmftest.AmdSev()
	spec.Size = 4 << 20
	image := spec.Build()
	for page := range 181 {
		for i := range snp.PageSize {
			image[page*snp.PageSize+i] = byte(i*7 + page)
		}
	}
	copy(image[181*snp.PageSize:2<<20], bytes.Repeat([]byte{0xFF}, 2<<20))
	return file(b, "firmware", image)
}

// benchGuest is a guest on that firmware, without a kernel.
func benchGuest(b *testing.B) *guest.Guest {
	g := guest.Default()
	g.Firmware = benchFirmware(b)
	return &g
}

func BenchmarkFirmware(b *testing.B) {
	g := benchGuest(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := run(b, g); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareFirmware reads the file in pieces, hashes each run of equal pages
// once and chains one PAGE_INFO for each page.
func BenchmarkBareFirmware(b *testing.B) {
	path := benchFirmware(b)
	buf := make([]byte, 128<<10)
	var last [snp.PageSize]byte
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		var info [snp.PageInfoSize]byte
		first := true
		for {
			n, err := io.ReadFull(f, buf)
			for at := 0; at < n; at += snp.PageSize {
				if page := buf[at : at+snp.PageSize]; first || !bytes.Equal(page, last[:]) {
					first = false
					copy(last[:], page)
					digest := sha512.Sum384(page)
					copy(info[0x30:], digest[:])
				}
				next := sha512.Sum384(info[:])
				copy(info[:], next[:])
			}
			if err != nil {
				break
			}
		}
		f.Close()
	}
}

// BenchmarkKernel is the whole measurement of a guest with a kernel of 11 MiB and
// an initrd of 64 MiB.
func BenchmarkKernel(b *testing.B) {
	g := benchGuest(b)
	g.Kernel = file(b, "kernel", bytes.Repeat([]byte("kernel.."), 11<<17))
	g.Initrd = file(b, "initrd", bytes.Repeat([]byte("initrd.."), 8<<20))
	g.VCPUs = 4
	b.SetBytes(75 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := run(b, g); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExplain lists a launch step by step that is measured already.
func BenchmarkExplain(b *testing.B) {
	r, err := run(b, benchGuest(b))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for range r.Stretches() {
		}
	}
}

// BenchmarkBareMatrix chains PAGE_INFOs on all processors: as many digests as
// BenchmarkMatrix makes.
func BenchmarkBareMatrix(b *testing.B) {
	const digests = 512 * 6 * 16
	workers := runtime.GOMAXPROCS(0)
	for b.Loop() {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				var info [snp.PageInfoSize]byte
				for range digests / workers {
					next := sha512.Sum384(info[:])
					copy(info[:], next[:])
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(digests*float64(b.N)/b.Elapsed().Seconds(), "digests/s")
}

// TestAllocations: what a measurement allocates depends on the number of pages,
// sections and vCPUs, not on how large kernel and initrd are.
func TestAllocations(t *testing.T) {
	allocs := func(initrd int) float64 {
		g := withKernel(t)
		g.Initrd = file(t, "initrd", make([]byte, initrd))
		return testing.AllocsPerRun(5, func() {
			in, err := g.Open() // digests are kept, so each run needs files of its own
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if _, err := measure.Measure(g, in); err != nil {
				t.Fatal(err)
			}
		})
	}
	// The runtime allocates for a parked goroutine now and then.
	if small, large := allocs(1<<10), allocs(32<<20); large > small+10 {
		t.Errorf("%v allocations with an initrd of 1 KiB, %v with 32 MiB", small, large)
	}
}
