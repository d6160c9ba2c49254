package measure

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/snp"
)

// Axes are the values that Matrix combines, none of them empty.
type Axes struct {
	VCPUs    []int // ascending, from 1
	CPUs     []MatrixCPU
	Features []uint64 // SEV_FEATURES
}

// MatrixCPU is a kind of vCPU.
type MatrixCPU struct {
	Name      string // for the caller; nothing is looked up by it
	Signature uint32 // RDX at reset, as in vmsa.Config
	GPA       uint64 // guest-physical address of its save areas; 0 means that of the result
}

// MatrixCPUOf gives the kind of vCPU that a guest has, named after its CPU model.
func MatrixCPUOf(g *guest.Guest, opt Options) (MatrixCPU, error) {
	rdx, gpa, err := cpuState(g, opt)
	return MatrixCPU{g.CPU, rdx, gpa}, err
}

// Cells is how many cells the matrix has.
func (a *Axes) Cells() int { return len(a.VCPUs) * len(a.CPUs) * len(a.Features) }

func (a *Axes) check() error {
	if a.Cells() == 0 {
		return errors.New("a matrix needs at least one number of vCPUs, one kind of vCPU and one word of features")
	}
	for i, n := range a.VCPUs {
		switch {
		case n < 1:
			return fmt.Errorf("a matrix with %d vCPUs is asked for, and a guest has at least one", n)
		case i > 0 && n <= a.VCPUs[i-1]:
			return fmt.Errorf("the numbers of vCPUs must ascend, but %d comes after %d", n, a.VCPUs[i-1])
		}
	}
	return nil
}

// Cell is one launch of a matrix.
type Cell struct {
	VCPUs        int
	CPU          MatrixCPU
	Features     uint64
	LaunchDigest snp.LaunchDigest
}

// Digests travel from the workers in chunks: large enough that handing them
// over costs nothing, few enough that memory stays small.
const (
	chunkCells      = 512
	chunksPerWorker = 3
)

// Matrix gives the launch digests of all combinations, in the order of CPUs,
// then Features, then VCPUs. All of them share what r measured before its save
// areas; r's own vCPUs do not matter. With one kind of vCPU, each number's digest
// extends that of the number before, so that a digest costs one SHA-384 of 112
// bytes. All processors take part, and memory does not depend on the axes.
func Matrix(r *Result, a Axes) (iter.Seq[Cell], error) {
	if r.areas == nil {
		return nil, ErrNoSaveAreas
	}
	if !r.Mode.secureNestedPaging() {
		return nil, fmt.Errorf("a matrix is one of SNP launch digests, not of mode %s", r.Mode)
	}
	if r.fromOne {
		return nil, errors.New("a matrix begins before the first save area, which the digest for one vCPU already covers (give the images)")
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	if r.oneVCPU && a.VCPUs[len(a.VCPUs)-1] > 1 {
		return nil, ErrNoResetEIP
	}
	return func(yield func(Cell) bool) { r.matrix(&a, yield) }, nil
}

// matrix lets workers make the chains, one for each pair of CPU and features.
// Chain n is worker n's, modulo their number, so that cells can be yielded in order.
func (r *Result) matrix(a *Axes, yield func(Cell) bool) {
	chains := len(a.CPUs) * len(a.Features)
	workers := make([]matrixWorker, min(chains, runtime.GOMAXPROCS(0)))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for n := range workers {
		w := &workers[n]
		w.stop, w.free, w.full = stop, make(chan []snp.LaunchDigest, chunksPerWorker), make(chan []snp.LaunchDigest, chunksPerWorker)
		for range chunksPerWorker {
			w.free <- make([]snp.LaunchDigest, min(len(a.VCPUs), chunkCells))
		}
		wg.Go(func() {
			for chain := n; chain < chains; chain += len(workers) {
				if !w.chain(r, a.VCPUs, a.CPUs[chain/len(a.Features)], a.Features[chain%len(a.Features)]) {
					return
				}
			}
		})
	}
	for chain := range chains {
		w := &workers[chain%len(workers)]
		cell := Cell{CPU: a.CPUs[chain/len(a.Features)], Features: a.Features[chain%len(a.Features)]}
		for done := 0; done < len(a.VCPUs); {
			chunk := <-w.full
			for i := range chunk {
				cell.VCPUs, cell.LaunchDigest = a.VCPUs[done+i], chunk[i]
				if !yield(cell) {
					return
				}
			}
			done += len(chunk)
			w.free <- chunk[:cap(chunk)]
		}
	}
}

// matrixWorker makes chains one after the other.
type matrixWorker struct {
	free, full chan []snp.LaunchDigest
	stop       chan struct{}
}

// chain hands over the launch digests for some numbers of vCPUs, in chunks. It
// says whether there is still someone who wants them.
func (w *matrixWorker) chain(r *Result, vcpus []int, cpu MatrixCPU, features uint64) bool {
	bsp, ap := r.areas(cpu.Signature, features)
	gpa := cpu.GPA
	if gpa == 0 {
		gpa = r.vmsaGPA
	}
	first := snp.PageInfo{DigestCur: r.prefix.LD, Contents: sha512.Sum384(bsp[:]), Type: snp.PageVMSA, GPA: gpa}
	info := first.Bytes()
	ld := snp.LaunchDigest(sha512.Sum384(info[:]))
	if vcpus[len(vcpus)-1] > 1 {
		others := snp.PageInfo{Contents: sha512.Sum384(ap[:]), Type: snp.PageVMSA, GPA: gpa}
		info = others.Bytes()
	}
	for have := 1; len(vcpus) > 0; {
		var chunk []snp.LaunchDigest
		select {
		case chunk = <-w.free:
		case <-w.stop:
			return false
		}
		chunk = chunk[:min(len(vcpus), len(chunk))]
		for i := range chunk {
			for ; have < vcpus[i]; have++ {
				copy(info[:], ld[:])
				ld = sha512.Sum384(info[:])
			}
			chunk[i] = ld
		}
		vcpus = vcpus[len(chunk):]
		w.full <- chunk // never blocks: it has room for all chunks
	}
	return true
}
