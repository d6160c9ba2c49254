package solve

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// Solve searches until it has an explanation, everything was tried or ctx
// ends; what was found until then is in the answer. The error is for a description that
// has no digest.
//
// Single changes come before pairs, usual values before rare ones, and pairs of usual
// values before a rare one by itself. Whatever has the digest is the same launch, so
// that of several explanations the simplest is found however the search was ordered.
func Solve(ctx context.Context, q Question, o Options) (*Answer, error) {
	started := time.Now()
	s, described, err := newSpace(&q)
	if err != nil {
		return nil, err
	}
	a := &Answer{Digest: q.Digest, Described: described, source: q.Source, Explanations: []Explanation{}}
	h := &search{space: s, shared: &shared{opt: q.Options}, forms: formsOf(q.Digest), all: o.All}
	stop := h.report(o.Progress)
	a.Complete = h.run(ctx)
	stop()
	a.Explanations = h.explanations()
	a.Explained = len(a.Explanations) > 0
	a.Tried, a.Unread = h.tried.Load(), s.unread
	a.Dimensions = h.dimensions()
	a.Elapsed = time.Since(started)
	return a, nil
}

// dimensions says what was varied.
func (h *search) dimensions() []Tried {
	var out []Tried
	for d, alts := range h.alts {
		t := Tried{Dimension: dimension(d).String(), Values: len(alts)}
		for _, x := range alts {
			if x.rare {
				t.Rare++
			}
		}
		if dimension(d) == dimVCPUs {
			t.Values = h.most() - 1
		}
		if t.Values > 0 {
			out = append(out, t)
		}
	}
	return out
}

// search is one search under way.
type search struct {
	*space
	*shared
	forms []form
	all   bool

	tried, total atomic.Uint64
	stage        atomic.Value // string
	found        atomic.Bool

	mu   sync.Mutex
	hits []hit
}

// hit is a description that has the digest.
type hit struct {
	alts  []*alternative // without that of the vCPUs
	point point
	form  *form
}

// most is how many vCPUs are tried.
func (h *search) most() int { return max(maxVCPUs, h.base.vcpus) }

// worker tries descriptions, in one goroutine.
type worker struct {
	*search
	*digester
	ctx   context.Context
	count uint64 // not yet added to the search's
	since int    // descriptions since the last look at ctx
	over  bool
	// Where save areas were hashed for one description, that is tried with so many
	// vCPUs at least.
	alongside int
}

// done says whether to stop. It looks only now and then.
func (w *worker) done() bool {
	const look = 64
	if w.since++; w.since >= look && !w.over {
		w.look()
	}
	return w.over
}

func (w *worker) look() {
	w.since = 0
	w.tried.Add(w.count)
	w.count = 0
	w.over = w.ctx.Err() != nil || !w.all && w.found.Load()
}

// try compares p's digests with from to upto vCPUs with the one in question.
func (w *worker) try(p point, from, upto int, alts ...*prepared) {
	switch {
	case from > upto:
		return
	case p.extent == firmwareOnly:
		w.compare(&p, &p.firmware.digest, alts)
		return
	}
	ld, ok := w.prefix(&p)
	switch {
	case !ok:
		return
	case p.extent == noSaveAreas:
		w.compare(&p, &ld, alts)
		return
	}
	gpa := w.areaGPA(&p)
	a, one, own := w.saveAreas(&p, alts...)
	if own {
		upto = max(upto, w.alongside)
	}
	if one {
		upto = min(upto, 1)
	}
	for from <= upto {
		n, f := chain(w.forms, ld, a, gpa, from, upto)
		if f == nil {
			w.count += uint64(upto - from + 1)
			return
		}
		w.count += uint64(n - from + 1)
		p.vcpus = n
		w.hit(&p, f, alts)
		from = n + 1
	}
}

// compare compares one digest.
func (w *worker) compare(p *point, ld *snp.LaunchDigest, alts []*prepared) {
	w.count++
	if f := match(w.forms, ld); f != nil {
		w.hit(p, f, alts)
	}
}

func (w *worker) hit(p *point, f *form, alts []*prepared) {
	x := hit{point: *p, form: f}
	for _, a := range alts {
		x.alts = append(x.alts, a.alternative)
	}
	w.mu.Lock()
	w.hits = append(w.hits, x)
	w.mu.Unlock()
	w.found.Store(true)
}

// work does n jobs on all processors, those with low numbers first. It says
// whether all were done.
func (h *search) work(ctx context.Context, stage string, n int, job func(*worker, int)) bool {
	h.stage.Store(stage)
	var next atomic.Int64
	var wg sync.WaitGroup
	var undone atomic.Bool
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			w := &worker{search: h, digester: newDigester(h.shared), ctx: ctx}
			for {
				if w.look(); w.over {
					undone.Store(true)
					return
				}
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				job(w, i)
			}
		})
	}
	wg.Wait()
	return !undone.Load() && ctx.Err() == nil
}

// run goes through all stages. It says whether it came to the end of them.
func (h *search) run(ctx context.Context) bool {
	n, most := h.base.vcpus, h.most()
	h.plausible()
	h.estimate()
	if !h.work(ctx, "numbers of vCPUs", 1, func(w *worker, _ int) { w.try(h.base, 1, most) }) {
		return false
	}
	alts, _ := h.split()
	if !h.singles(ctx, "single changes", h.prepare(alts), 1, n) {
		return false
	}
	h.stage.Store("reading files")
	h.files(ctx)
	h.estimate()
	alts, rareAlts := h.split()
	common, rare := h.prepare(alts), h.prepare(rareAlts)
	files := slices.DeleteFunc(slices.Clone(common), func(a *prepared) bool { return !a.file })
	return h.singles(ctx, "other files", files, 1, n) &&
		h.singles(ctx, "single changes with a number of vCPUs", common, n+1, most) &&
		h.pairs(ctx, "pairs", common, common, 1, n, 0) &&
		h.singles(ctx, "rare changes", rare, 1, n) &&
		h.twice(ctx) &&
		h.singles(ctx, "rare changes with a number of vCPUs", rare, n+1, most) &&
		h.pairs(ctx, "pairs with a rare change", common, rare, 1, n, fewVCPUs) &&
		h.pairs(ctx, "pairs with a number of vCPUs", common, common, n+1, most, 0)
}

// split gives the usual alternatives and the rare ones, both in order.
func (s *space) split() (common, rare []*alternative) {
	var all []*alternative
	for _, alts := range s.alts {
		all = append(all, alts...)
	}
	return only(all, func(a *alternative) bool { return !a.rare }), only(all, func(a *alternative) bool { return a.rare })
}

func only(all []*alternative, is func(*alternative) bool) []*alternative {
	var out []*alternative
	for _, a := range all {
		if is(a) {
			out = append(out, a)
		}
	}
	return out
}

// fewVCPUs is how many vCPUs pairs with a rare change are tried with that have save
// areas of their own.
const fewVCPUs = 32

// batch is how many alternatives are one job, so that handing jobs out costs
// nothing and no processor waits long for another's last.
const batch = 32

// singles tries each alternative by itself with from to upto vCPUs.
func (h *search) singles(ctx context.Context, stage string, alts []*prepared, from, upto int) bool {
	own := h.base.normal()
	return h.work(ctx, stage, (len(alts)+batch-1)/batch, func(w *worker, i int) {
		for _, a := range alts[i*batch : min(len(alts), (i+1)*batch)] {
			p := apply(h.base, a.alternative)
			if a.alone == own || p.extent != whole && from > 1 {
				continue
			}
			w.try(p, from, upto, a)
			if w.done() {
				return
			}
		}
	})
}

// pairs tries the alternatives of one list with those of another, or of the
// same one, that are about something else, with from to upto vCPUs.
//
// To hash the save areas of a pair takes as long as to fold those of 33 vCPUs onto a
// digest: where that has to be done, the pair is tried with alongside vCPUs at least.
func (h *search) pairs(ctx context.Context, stage string, first, second []*prepared, from, upto, alongside int) bool {
	same := len(first) == len(second) && (len(first) == 0 || first[0] == second[0])
	return h.work(ctx, stage, len(first), func(w *worker, i int) {
		w.alongside = alongside
		a := first[i]
		rest := second
		if same {
			rest = second[i+1:]
		}
		for _, b := range rest {
			if a.dim == b.dim {
				continue
			}
			one, two := a, b
			if two.dim < one.dim {
				one, two = two, one
			}
			p := h.base
			one.set(&p)
			two.set(&p)
			if q := p.normal(); q == a.alone || q == b.alone || p.extent != whole && (from > 1 || h.moot(&p, a, b)) {
				continue // one of them adds nothing
			}
			w.try(p, from, upto, one, two)
			if w.done() {
				return
			}
		}
	})
}

// moot says whether what a digest covers leaves out what another change is about.
func (h *search) moot(p *point, a, b *prepared) bool {
	other := a
	if a.dim == dimExtent {
		other = b
	}
	return p.extent == firmwareOnly && other.dim != dimFirmware || other.dim <= dimFeatures && other.dim != dimHashes
}

// twice tries command lines that were changed in two ways.
func (h *search) twice(ctx context.Context) bool {
	if !h.base.hashed() || !h.textKnown() {
		return true
	}
	first := h.prepare(only(h.alts[dimLine], func(a *alternative) bool { return !a.rare }))
	return h.work(ctx, "command lines changed twice", len(first), func(w *worker, i int) {
		once := apply(h.base, first[i].alternative)
		for _, e := range edits(once.line.text) {
			if e.rare || e.moved {
				continue
			}
			p := once
			p.line = &line{e.text, sumOf(e.text, e.raw)}
			if p.line.sum == h.base.line.sum {
				continue
			}
			w.try(p, 1, p.vcpus, first[i], &prepared{alternative: h.lineAlternative(e, p.line), key: first[i].key})
			if w.done() {
				return
			}
		}
	})
}

// estimate counts what there is to try, as far as it is known.
func (h *search) estimate() {
	common, rare := h.split()
	n, most := uint64(h.base.vcpus), uint64(h.most())
	c, r, l := uint64(len(common)), uint64(len(rare)), uint64(len(h.alts[dimLine]))
	h.total.Store(most + (c+r)*most + c*c/2*most + l*l*n + c*r*n)
}

// report tells f how far the search is until stop is called.
func (h *search) report(f func(Progress)) (stop func()) {
	if f == nil {
		return func() {}
	}
	const every = 100 * time.Millisecond
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-ended:
				return
			case <-t.C:
				stage, _ := h.stage.Load().(string)
				f(Progress{stage, h.tried.Load(), h.total.Load()})
			}
		}
	})
	return func() { close(ended); wg.Wait() }
}
