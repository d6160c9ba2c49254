package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/launcher"
)

// Keep says which cells leave a folder with all that is needed to look into them.
type Keep string

// Keeps.
const (
	KeepFailed Keep = "failed"
	KeepAlways Keep = "always"
	KeepNever  Keep = "never"
)

// RunOptions say how a matrix is run.
type RunOptions struct {
	Workers  int           // cells at the same time; 0: 1
	FailFast bool          // begin no further cell once one has failed
	Retries  int           // how often a cell is tried again that failed for want of something
	Budget   time.Duration // for one attempt, over the matrix's own; 0: that
	Keep     Keep          // empty: KeepFailed

	// Results is the path of the file of results. A run that is complete is put
	// aside, to Aside(Results); one that is not is an error, unless Resume goes
	// on with it or Overwrite puts that aside, too.
	Results           string
	Resume, Overwrite bool
	// Evidence, where it is not empty, is a folder into which each full cell that
	// passed puts its evidence bundle.
	Evidence string

	// Launch is what all launches have in common.
	Launch launcher.Options
	Host   results.Host
	Tool   string // version of the program
	// Reproduce gives the command that runs one cell again.
	Reproduce func(id string) string
	Sink      results.Sink // nil: nobody hears
}

// ErrUnfinished is a file of results of a run that did not come to its end.
var ErrUnfinished = errors.New("the run that it holds did not come to its end")

// Aside is where the results of the run before are, as against a file of results.
func Aside(path string) string { return splice(path, ".old") }

// artefactsOf is the folder of the artefacts of a file of results.
func artefactsOf(path string) string {
	ext := filepath.Ext(path)
	return path[:len(path)-len(ext)] + ".cells"
}

// splice puts a word before the extension of a path.
func splice(path, word string) string {
	ext := filepath.Ext(path)
	return path[:len(path)-len(ext)] + word + ext
}

// Run runs the cells of a plan and gives what the file of results holds in the
// end. Cells that did not do what was expected are no error. An error is for what
// stops the run: a file that cannot be written, a ctx that has ended; the file then
// holds all cells that had ended, and Resume goes on with it.
func (m *Matrix) Run(ctx context.Context, p *Plan, o RunOptions) (*results.Run, error) {
	r := &runner{m: m, o: o, sums: &sums{known: map[fileID]string{}}, parts: &parts{ctx: ctx}, made: &made{files: map[string]*os.File{}}, shared: launcher.NewShared()}
	done, err := r.open(p)
	if err != nil {
		return nil, err
	}
	var errs *multierror.Error
	note := func(err error) {
		if err != nil {
			errs = multierror.Append(errs, err)
		}
	}
	note(r.all(ctx, p, done))
	note(r.shared.Close())
	note(r.made.close())
	note(r.w.Close())
	if errs != nil {
		if len(errs.Errors) == 1 {
			return nil, errs.Errors[0]
		}
		return nil, errs
	}
	return results.ReadFile(o.Results)
}

// runner is a run under way.
type runner struct {
	m      *Matrix
	o      RunOptions
	w      *results.Writer
	parts  *parts
	shared *launcher.Shared
	sums   *sums
	made   *made

	mu     sync.Mutex  // over the sink
	failed atomic.Bool // with FailFast: begin nothing more
}

// header is the first line of the file.
func (r *runner) header(p *Plan) results.Header {
	h := results.Header{
		Matrix: r.m.Name, MatrixSum: fmt.Sprintf("%x", r.m.SHA256), MatrixFile: r.m.Path, Started: time.Now().UTC(),
		Shard: p.Shard.String(), Planned: len(p.Cells), Tool: r.o.Tool, Host: r.o.Host,
	}
	for _, c := range p.All {
		h.Plan = append(h.Plan, results.Planned{ID: c.ID, Shard: c.Shard})
	}
	return h
}

// open begins the file of results, or goes on with it, and gives the ids that it has.
func (r *runner) open(p *Plan) (done map[string]bool, err error) {
	path := r.o.Results
	if r.o.Resume {
		w, run, err := results.Resume(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // killed before it began: begin
		case errors.Is(err, results.ErrNoHeader): // killed as it began
			if err := os.Rename(path, Aside(path)); err != nil {
				return nil, fmt.Errorf("putting a file of results without a header aside: %w", err)
			}
		case err != nil:
			return nil, err
		default:
			if err := r.sameAs(run, p); err != nil {
				return nil, errors.Join(fmt.Errorf("resuming %s: %w", path, err), w.Close())
			}
			r.w, done = w, map[string]bool{}
			for _, c := range run.Cells {
				done[c.ID] = true
			}
			return done, nil
		}
	} else if err := r.putAside(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("writing results: %w", err)
	}
	r.w, err = results.Create(path, r.header(p))
	return nil, err
}

// sameAs sees that a file holds a part of the run that is to go on.
func (r *runner) sameAs(run *results.Run, p *Plan) error {
	now := r.header(p)
	switch h := run.Header; {
	case h.MatrixSum != now.MatrixSum:
		return fmt.Errorf("the matrix has changed since (%s was run from SHA-256 %.16s…, %s is %.16s…); run it anew", h.Matrix, h.MatrixSum, r.m.Path, now.MatrixSum)
	case h.Shard != now.Shard || !slices.EqualFunc(h.Plan, now.Plan, func(a, b results.Planned) bool { return a.ID == b.ID && a.Shard == b.Shard }):
		return errors.New("it holds another selection or shard of the matrix; give the flags of that run")
	}
	return nil
}

// putAside makes room for a new file of results.
func (r *runner) putAside() error {
	path := r.o.Results
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no file of results (name another with --results)", path)
	}
	if err := results.Idle(path); err != nil {
		return err
	}
	run, err := results.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case r.o.Overwrite:
	case err != nil:
		return fmt.Errorf("%w; --overwrite puts that file aside", err)
	case len(run.Cells) < run.Header.Planned:
		return fmt.Errorf("%s: %w (%d of %d cells); --resume goes on with it, --overwrite puts it aside", path, ErrUnfinished, len(run.Cells), run.Header.Planned)
	}
	for from, to := range map[string]string{path: Aside(path), artefactsOf(path): artefactsOf(Aside(path))} {
		if err := os.RemoveAll(to); err != nil {
			return fmt.Errorf("putting the results of the run before aside: %w", err)
		}
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("putting the results of the run before aside: %w", err)
		}
	}
	return nil
}

// all runs the cells that are not done, several at a time.
func (r *runner) all(ctx context.Context, p *Plan, done map[string]bool) error {
	var cells []*Cell
	var queued []results.Queued
	costs := map[string]PlannedCell{}
	for _, c := range p.All {
		costs[c.ID] = c
	}
	for _, c := range p.Cells {
		if done[c.ID] {
			continue
		}
		cells = append(cells, c)
		planned := costs[c.ID]
		queued = append(queued, results.Queued{ID: c.ID, Group: c.Group.Name, Depth: c.Depth(), CostMS: planned.Cost.Milliseconds(), Recorded: planned.Recorded})
	}
	r.tell(func(s results.Sink) { s.Begin(r.header(p), queued) })
	defer r.tell(func(s results.Sink) { s.Close() })

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work := make(chan *Cell)
	failed := make(chan error, max(r.o.Workers, 1))
	var workers sync.WaitGroup
	for n := range max(r.o.Workers, 1) {
		workers.Go(func() {
			for c := range work {
				if r.failed.Load() { // since it was handed out
					continue
				}
				if err := r.cell(ctx, c, n); err != nil {
					failed <- err
					stop()
					return
				}
			}
		})
	}
	for _, c := range cells {
		if r.failed.Load() {
			break
		}
		select {
		case work <- c:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	workers.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

func (r *runner) tell(what func(results.Sink)) {
	if r.o.Sink == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	what(r.o.Sink)
}

// cell runs one cell and writes it down. A cell that was interrupted is not
// written, so that it is run when the run is resumed.
func (r *runner) cell(ctx context.Context, c *Cell, worker int) error {
	found := results.Cell{
		ID: c.ID, Group: c.Group.Name, Axes: c.Axes, Line: c.Group.Line, Depth: c.Depth(), Expect: c.Expect.String(),
		Backend: c.setting.backend, Started: time.Now().UTC(), Worker: worker,
	}
	if c.Tamper != nil {
		found.Tamper = c.Tamper.Name
	}
	r.tell(func(s results.Sink) { s.Start(&found) })
	for n := 0; ; n++ {
		if n > 0 {
			r.tell(func(s results.Sink) { s.Step(&found, fmt.Sprintf("attempt %d", n+1)) })
		}
		a := r.attempt(ctx, c, n, func(stage string) { r.tell(func(s results.Sink) { s.Step(&found, stage) }) })
		if a.err != nil {
			return a.err
		}
		a.into(&found)
		if n > 0 && a.status == results.Passed {
			found.Status = results.Flaky
			found.Message = fmt.Sprintf("attempt %d passed; before it: %s", n+1, found.Attempts[0].Message)
		}
		if !a.mayRepeat || n >= r.o.Retries || ctx.Err() != nil {
			break
		}
		found.Attempts = append(found.Attempts, results.Attempt{Message: a.message, Verdict: found.Verdict, DurationMS: found.DurationMS, Artefacts: found.Artefacts})
	}
	if !found.Status.Good() && r.o.Reproduce != nil {
		found.Reproduce = r.o.Reproduce(c.ID)
	}
	if err := r.w.Add(found); err != nil {
		return err
	}
	if r.o.FailFast && !found.Status.Good() {
		r.failed.Store(true)
	}
	r.tell(func(s results.Sink) { s.End(&found) })
	return nil
}
