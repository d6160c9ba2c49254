package measure_test

import (
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// models are all known kinds of vCPU.
func models() []measure.MatrixCPU {
	var out []measure.MatrixCPU
	for _, m := range vmsa.Models() {
		out = append(out, measure.MatrixCPU{Name: m.Name, Signature: m.Signature()})
	}
	return out
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i + 1
	}
	return out
}

// withKernel gives the guest of TestSynthetic's third launch, but for its vCPUs.
func withKernel(t testing.TB) *guest.Guest {
	g := on(t, ovmftest.AmdSev())
	g.Kernel = file(t, "kernel", []byte("kernel"))
	g.Initrd = file(t, "initrd", []byte("initrd"))
	g.Append = " quiet\n"
	return &g
}

// TestMatrix measures every cell on its own, too, and looks at their order.
func TestMatrix(t *testing.T) {
	g := withKernel(t)
	r, err := run(t, g)
	if err != nil {
		t.Fatal(err)
	}
	for _, vcpus := range [][]int{{1}, {2}, upTo(5), {1, 2, 4, 9}, {3, 700}} {
		a := measure.Axes{VCPUs: vcpus, CPUs: models(), Features: []uint64{0x1, 0x21, 0x201}}
		cells, err := measure.Matrix(r, a)
		if err != nil {
			t.Fatal(err)
		}
		next, stop := iter.Pull(cells)
		defer stop()
		count := 0
		for _, cpu := range a.CPUs {
			for _, features := range a.Features {
				for _, n := range vcpus {
					c, ok := next()
					if !ok {
						t.Fatalf("the matrix ends after %d cells", count)
					}
					count++
					one := *g
					one.VCPUs, one.CPU, one.GuestFeatures = n, cpu.Name, features
					single, err := run(t, &one)
					if err != nil {
						t.Fatal(err)
					}
					equal(t, "cell", c, measure.Cell{VCPUs: n, CPU: cpu, Features: features, LaunchDigest: single.LaunchDigest})
				}
			}
		}
		if _, ok := next(); ok {
			t.Errorf("there are more than %d cells", count)
		}
		equal(t, "number of cells", a.Cells(), count)
	}
}

// TestMatrixRecipe finds a digest that testdata/recipe.py computes.
func TestMatrixRecipe(t *testing.T) {
	r, err := run(t, withKernel(t))
	if err != nil {
		t.Fatal(err)
	}
	cells, err := measure.Matrix(r, measure.Axes{VCPUs: upTo(8), CPUs: models(), Features: []uint64{0x1, 0x21}})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for c := range cells {
		if c.LaunchDigest.String() == "7d4b29c75166d880a8be070b38056b4e652ca5ddbbbdbef8dafb08c8bb1504192de07133e9ad4cb30e42c9bfd3e26d3b" {
			found++
			equal(t, "its place", fmt.Sprintf("%d %s 0x%x", c.VCPUs, c.CPU.Name, c.Features), "3 EPYC-Milan 0x21")
		}
	}
	equal(t, "times found", found, 1)
}

// TestMatrixLong goes over the borders of chunks, more of them than a worker has.
func TestMatrixLong(t *testing.T) {
	g := withKernel(t)
	g.VCPUs = 4096
	r, err := run(t, g)
	if err != nil {
		t.Fatal(err)
	}
	// The save areas are the last pages, so folding up to each is measuring it.
	var c measure.Context
	var want []snp.LaunchDigest
	for _, p := range r.Pages {
		c.Extend(p.Update)
		if p.Type == snp.PageVMSA {
			want = append(want, c.LD)
		}
	}
	v4 := measure.MatrixCPU{Name: g.CPU, Signature: r.CPUSig}
	cells, err := measure.Matrix(r, measure.Axes{VCPUs: upTo(4096), CPUs: []measure.MatrixCPU{v4, v4, v4}, Features: []uint64{g.GuestFeatures}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the sequence can be had again
		n := 0
		for cell := range cells {
			if cell.VCPUs != n%4096+1 || cell.LaunchDigest != want[n%4096] {
				t.Fatalf("cell %d is %+v, want %s", n, cell, want[n%4096])
			}
			n++
		}
		equal(t, "number of cells", n, 3*4096)
	}
}

// TestMatrixBreak leaves the loop at every place where a worker may be.
func TestMatrixBreak(t *testing.T) {
	r, err := run(t, withKernel(t))
	if err != nil {
		t.Fatal(err)
	}
	a := measure.Axes{VCPUs: upTo(1100), CPUs: models(), Features: []uint64{1, 2, 3}}
	cells, err := measure.Matrix(r, a)
	if err != nil {
		t.Fatal(err)
	}
	for limit := 1; limit < a.Cells(); limit = limit*3/2 + 1 {
		n := 0
		for range cells {
			if n++; n == limit {
				break
			}
		}
		equal(t, "cells before the break", n, limit)
	}
}

func TestMatrixErrors(t *testing.T) {
	r, err := run(t, withKernel(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []measure.Axes{
		{},
		{VCPUs: []int{1}, CPUs: models()},
		{VCPUs: []int{1}, Features: []uint64{1}},
		{CPUs: models(), Features: []uint64{1}},
		{VCPUs: []int{0, 1}, CPUs: models(), Features: []uint64{1}},
		{VCPUs: []int{2, 2}, CPUs: models(), Features: []uint64{1}},
		{VCPUs: []int{3, 2}, CPUs: models(), Features: []uint64{1}},
	} {
		if _, err := measure.Matrix(r, a); err == nil {
			t.Errorf("%+v: no error", a)
		}
	}
	if _, err := measure.Matrix(&measure.Result{}, measure.Axes{}); !errors.Is(err, measure.ErrNoSaveAreas) {
		t.Errorf("a result without save areas: %v", err)
	}
}

// TestMatrixMemory: however many cells, what is allocated depends on the chains
// and processors alone.
func TestMatrixMemory(t *testing.T) {
	r, err := run(t, withKernel(t))
	if err != nil {
		t.Fatal(err)
	}
	allocs := func(a measure.Axes) float64 {
		return testing.AllocsPerRun(3, func() {
			cells, err := measure.Matrix(r, a)
			if err != nil {
				t.Fatal(err)
			}
			for range cells {
			}
		})
	}
	few := allocs(measure.Axes{VCPUs: upTo(512), CPUs: models()[:1], Features: []uint64{1, 2, 3, 4}})
	many := allocs(measure.Axes{VCPUs: upTo(4096), CPUs: models()[:1], Features: []uint64{1, 2, 3, 4}})
	longer := allocs(measure.Axes{VCPUs: upTo(512), CPUs: models()[:1], Features: make([]uint64, 80)})
	// The runtime allocates for a parked goroutine now and then.
	if many > few+5 || longer > few+5 {
		t.Errorf("%v allocations for a small matrix, %v with more vCPUs, %v with more chains", few, many, longer)
	}
}

// BenchmarkMatrix reports digests per second, and steps of the chain without
// anything around them for comparison.
func BenchmarkMatrix(b *testing.B) {
	r, err := run(b, withKernel(b))
	if err != nil {
		b.Fatal(err)
	}
	a := measure.Axes{VCPUs: upTo(512), CPUs: models(), Features: make([]uint64, 16)}
	for i := range a.Features {
		a.Features[i] = uint64(i)<<1 | vmsa.SNPActive
	}
	b.ReportAllocs()
	for b.Loop() {
		cells, err := measure.Matrix(r, a)
		if err != nil {
			b.Fatal(err)
		}
		for range cells {
		}
	}
	b.ReportMetric(float64(a.Cells())*float64(b.N)/b.Elapsed().Seconds(), "digests/s")
}
