package e2e

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/e2e/results"
)

// What a cell is thought to take of which nothing is recorded: on two cores, with
// a guest of the default size.
const (
	costLaunch = 150 * time.Millisecond
	costBoot   = 10 * time.Second
	costRefuse = 6 * time.Second // until a firmware has stood still for long enough
)

// Durations are what cells took in earlier runs, by their ids.
type Durations map[string]time.Duration

// Learn takes the durations of a run's cells. Later ones replace earlier ones;
// a cell that failed says nothing about what it takes when it does not.
func (d Durations) Learn(run *results.Run) {
	for _, c := range run.Cells {
		if c.Status == results.Passed || c.Status == results.Flaky {
			d[c.ID] = time.Duration(c.DurationMS) * time.Millisecond
		}
	}
}

// cost is what a cell is thought to take, and whether an earlier run says so.
func (d Durations) cost(c *Cell) (time.Duration, bool) {
	if took, ok := d[c.ID]; ok {
		return took, true
	}
	switch {
	case c.Depth() == results.LaunchOnly, c.Expect.kind == expectFails:
		return costLaunch, false
	case c.Expect.kind == expectRefuses:
		return costRefuse, false
	}
	launches := 1
	for _, s := range c.Group.Steps {
		if s.launches() {
			launches++
		}
	}
	if len(c.Group.Steps) > 0 {
		launches = max(launches-1, 1)
	}
	return costBoot * time.Duration(launches), false
}

// Shard is one of several parts of a matrix. The zero value is all of it.
type Shard struct{ Number, Of int }

// ParseShard reads "3/8".
func ParseShard(s string) (Shard, error) {
	a, b, ok := strings.Cut(s, "/")
	number, errA := strconv.Atoi(a)
	of, errB := strconv.Atoi(b)
	if !ok || errA != nil || errB != nil || number < 1 || number > of || fmt.Sprintf("%d/%d", number, of) != s {
		return Shard{}, fmt.Errorf("%q is no shard (write e.g. 3/8: the third of eight)", s)
	}
	return Shard{number, of}, nil
}

// String gives the form that ParseShard reads; empty for all of a matrix.
func (s Shard) String() string {
	if s.Of == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Number, s.Of)
}

// Plan is what a run of a matrix will do.
type Plan struct {
	Cells []*Cell       // of this shard that are selected, the slowest first
	All   []PlannedCell // of the matrix that are selected, in its order
	Shard Shard
}

// PlannedCell is a cell with what it is thought to take and the shard that runs it.
type PlannedCell struct {
	*Cell
	Cost     time.Duration
	Recorded bool // whether an earlier run's duration says so
	Shard    int  // from 1 on; 0 where the matrix is not divided
}

// Selection says which cells of a matrix are meant; the zero value means all.
type Selection struct {
	Filter *regexp.Regexp // that the id must match somewhere
	Cells  []string       // ids
	Shard  Shard
}

// Plan selects cells and says in which order they are run. Shards get cells so that
// all are thought to take equally long; the same matrix, selection and durations give the
// same shards on every machine.
func (m *Matrix) Plan(backend string, s Selection, d Durations) (*Plan, error) {
	cells, err := m.Cells(backend)
	if err != nil {
		return nil, err
	}
	p := &Plan{Shard: s.Shard}
	for _, id := range s.Cells {
		if !slices.ContainsFunc(cells, func(c *Cell) bool { return c.ID == id }) {
			return nil, fmt.Errorf("%s has no cell %s (`snplaunch e2e plan` lists them)", m.Path, id)
		}
	}
	for _, c := range cells {
		if s.Filter != nil && !s.Filter.MatchString(c.ID) || len(s.Cells) > 0 && !slices.Contains(s.Cells, c.ID) {
			continue
		}
		cost, recorded := d.cost(c)
		p.All = append(p.All, PlannedCell{Cell: c, Cost: cost, Recorded: recorded})
	}
	if len(p.All) == 0 {
		return nil, fmt.Errorf("%s has no cell that matches (`snplaunch e2e plan` lists them)", m.Path)
	}
	slowest := make([]int, len(p.All))
	for i := range slowest {
		slowest[i] = i
	}
	slices.SortStableFunc(slowest, func(a, b int) int { return cmp.Compare(p.All[b].Cost, p.All[a].Cost) })
	load := make([]time.Duration, max(s.Shard.Of, 1))
	for _, i := range slowest {
		least := 0
		for j := range load {
			if load[j] < load[least] {
				least = j
			}
		}
		load[least] += p.All[i].Cost
		if s.Shard.Of > 0 {
			p.All[i].Shard = least + 1
		}
		if p.All[i].Shard == s.Shard.Number {
			p.Cells = append(p.Cells, p.All[i].Cell)
		}
	}
	return p, nil
}

// Only leaves those cells that fit, in the order that they have.
func (p *Plan) Only(fits func(*Cell) bool) {
	p.Cells = slices.DeleteFunc(p.Cells, func(c *Cell) bool { return !fits(c) })
	p.All = slices.DeleteFunc(p.All, func(c PlannedCell) bool { return !fits(c.Cell) })
}
