package results

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// ErrIncomplete is in the error of Merge where cells are missing, and nothing
// else is wrong.
var ErrIncomplete = errors.New("cells are missing")

// Merge puts the shards of a run together. All must come from one matrix, from
// one version of snplaunch and from one plan. A cell that is there twice is an
// error. Where cells are missing, the run that there is comes with an error
// that lists them and is ErrIncomplete. Cells are in the matrix's order, as
// they are nowhere else: a run has them in the order in which they ended.
func Merge(shards ...*Run) (*Run, error) {
	if len(shards) == 0 {
		return nil, errors.New("there is nothing to merge")
	}
	first := shards[0].Header
	out := &Run{Header: first}
	h := &out.Header
	h.Shard, h.Shards, h.Plan = "", nil, nil
	seen := map[string]string{} // id to shard
	cells := map[string]Cell{}
	var twice []string
	for _, s := range shards {
		if err := sameRun(first, s.Header); err != nil {
			return nil, err
		}
		if s.Header.Started.Before(h.Started) {
			h.Started = s.Header.Started
		}
		if s.Header.Host != h.Host {
			h.Host = Host{} // no single one: see Shards
		}
		if len(s.Header.Shards) > 0 {
			h.Shards = append(h.Shards, s.Header.Shards...)
		} else {
			h.Shards = append(h.Shards, Part{s.Header.Shard, s.Header.Started, s.Header.Host, len(s.Cells)})
		}
		for _, c := range s.Cells {
			if other, is := seen[c.ID]; is {
				twice = append(twice, fmt.Sprintf("%s (in shards %s and %s)", c.ID, name(other), name(s.Header.Shard)))
			}
			seen[c.ID], cells[c.ID] = s.Header.Shard, c
		}
	}
	if len(twice) > 0 {
		return nil, fmt.Errorf("%s there twice: %s", are(len(twice), "cell"), strings.Join(twice, ", "))
	}
	var missing []string
	for _, p := range first.Plan {
		h.Plan = append(h.Plan, Planned{ID: p.ID})
		if c, is := cells[p.ID]; is {
			out.Cells = append(out.Cells, c)
			continue
		}
		where := ""
		if p.Shard > 0 {
			where = fmt.Sprintf(" (shard %d)", p.Shard)
		}
		missing = append(missing, p.ID+where)
	}
	h.Planned = len(h.Plan)
	if len(missing) > 0 {
		return out, fmt.Errorf("%w: of %d that were planned, %d: %s", ErrIncomplete, h.Planned, len(missing), strings.Join(missing, ", "))
	}
	return out, nil
}

// sameRun says why two files do not belong together.
func sameRun(a, b Header) error {
	_, of, _ := a.shard()
	_, ofB, _ := b.shard()
	switch {
	case a.MatrixSum != b.MatrixSum:
		return fmt.Errorf("shard %s is of matrix %s (SHA-256 %s), shard %s of %s (%s): only shards of one matrix are merged", name(a.Shard), a.Matrix, a.MatrixSum, name(b.Shard), b.Matrix, b.MatrixSum)
	case a.Tool != b.Tool:
		return fmt.Errorf("shard %s was run by snplaunch %s, shard %s by %s: compare them with `snplaunch e2e diff`", name(a.Shard), a.Tool, name(b.Shard), b.Tool)
	case of != ofB:
		return fmt.Errorf("shards %s and %s are of two divisions", name(a.Shard), name(b.Shard))
	case !slices.Equal(a.Plan, b.Plan):
		return fmt.Errorf("shards %s and %s have two plans: give every shard the same recorded durations", name(a.Shard), name(b.Shard))
	}
	return nil
}

func name(shard string) string {
	if shard == "" {
		return "1/1"
	}
	return shard
}

func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

// Moved gives a run as it is where it was read in folder from and is written to
// folder to: with other ways to its artefacts.
func (r *Run) Moved(from, to string) (*Run, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return nil, err
	}
	if to, err = filepath.Abs(to); err != nil {
		return nil, err
	}
	move := func(path *string) {
		if *path == "" || err != nil {
			return
		}
		*path, err = filepath.Rel(to, filepath.Join(from, *path))
	}
	out := *r
	out.Cells = slices.Clone(r.Cells)
	for i := range out.Cells {
		c := &out.Cells[i]
		move(&c.Artefacts)
		c.Attempts = slices.Clone(c.Attempts)
		for j := range c.Attempts {
			move(&c.Attempts[j].Artefacts)
		}
	}
	return &out, err
}
