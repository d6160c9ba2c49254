package solve_test

import (
	"context"
	"crypto/sha512"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/snp"
)

// BenchmarkSearch goes through everything for a digest that nothing explains.
// descriptions/s counts descriptions that differ from each other and whose launch
// digest was compared.
func BenchmarkSearch(b *testing.B) {
	g := synthetic(b)
	in, err := g.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	var tried uint64
	began := processorTime(b)
	for b.Loop() {
		a, err := solve.Solve(context.Background(), solve.Question{Digest: snp.LaunchDigest{1}, Guest: g, Inputs: in}, solve.Options{})
		if err != nil || !a.Complete {
			b.Fatal(a, err)
		}
		tried += a.Tried
	}
	b.ReportMetric(float64(tried)/b.Elapsed().Seconds(), "descriptions/s")
	b.ReportMetric(float64(tried)/(processorTime(b)-began).Seconds(), "descriptions/cpu-s")
}

// processorTime is what this process has used: a busy machine makes the time on the
// clock mean little.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBareStep is one PAGE_INFO after the other on all processors at once, as a
// search uses them: what a description costs at the least.
func BenchmarkBareStep(b *testing.B) {
	began := processorTime(b)
	b.RunParallel(func(pb *testing.PB) {
		var info [snp.PageInfoSize]byte
		for pb.Next() {
			sum := sha512.Sum384(info[:])
			copy(info[:], sum[:])
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "descriptions/s")
	b.ReportMetric(float64(b.N)/(processorTime(b)-began).Seconds(), "descriptions/cpu-s")
}
