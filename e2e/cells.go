package e2e

import (
	"fmt"
	"slices"
	"time"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
)

// Cell is one cell of a matrix: a launch, or the steps of a group that has some.
type Cell struct {
	ID     string // stable between runs: "direct/vcpus=2/cpu=EPYC-v4"
	Group  *Group
	Axes   []results.Axis
	Tamper *Tamper // nil: nothing is made wrong
	Expect *Expect

	index   int // in the matrix
	setting setting
}

// Depth is how far the cell goes.
func (c *Cell) Depth() results.Depth { return c.Group.Depth }

// budget is what one attempt may take; 0: the guest's own time limit.
func (c *Cell) budget(m *Matrix) time.Duration {
	if c.Group.Budget > 0 {
		return c.Group.Budget
	}
	return m.Budget
}

// Cells lists all cells, in the order of the file: the points of each group, each
// followed by its twin and its negative cells. backend is what cells have whose
// group names none.
func (m *Matrix) Cells(backend string) ([]*Cell, error) {
	var out []*Cell
	at := map[string]int{} // id to line
	for _, g := range m.Groups {
		cells, err := g.cells(backend)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: group %s: %w", m.Path, g.Line, g.Name, err)
		}
		for _, c := range cells {
			if line, twice := at[c.ID]; twice {
				return nil, fmt.Errorf("%s:%d: there are two cells %s (the other in line %d; exclude one, or name a value otherwise)", m.Path, g.Line, c.ID, line)
			}
			at[c.ID] = g.Line
			c.index = len(out)
			out = append(out, c)
		}
	}
	return out, nil
}

func (g *Group) cells(backend string) ([]*Cell, error) {
	var out []*Cell
	fitted := map[*Tamper]bool{}
	why := map[*Tamper]string{}
	add := func(values map[string]Value, expect *Expect) {
		c := g.cell(values, backend)
		// A launch that is to be refused or to fail has nothing that a tampering
		// could be told from.
		good := expect.kind == expectLaunches || expect.kind == expectMatches
		if g.Untampered {
			plain := *c
			plain.Expect = expect
			out = append(out, &plain)
		}
		tampers, named := g.Tampers, true
		if len(tampers) == 1 && tampers[0].Name == tamperAll {
			tampers, named = Tampers, false
		}
		if g.Twins && g.Depth == results.LaunchOnly && !slices.ContainsFunc(tampers, func(t *Tamper) bool { return t.Name == tamperFlipped }) {
			tampers = append([]*Tamper{tamperNamed(tamperFlipped)}, tampers...)
		}
		for _, t := range tampers {
			if t.depth == results.Full && g.Depth != results.Full || !good {
				continue
			}
			if w := t.unfit(c.withKeys(), c.setting.backend); w != "" {
				if named {
					why[t] = w
				}
				continue
			}
			fitted[t] = true
			bad := *c
			bad.ID, bad.Tamper, bad.Expect = c.ID+"/tamper="+t.Name, t, t.expect
			out = append(out, &bad)
		}
	}
	points := []map[string]Value{{}}
	for _, a := range g.Axes {
		var next []map[string]Value
		for _, p := range points {
			for _, v := range a.Values {
				q := map[string]Value{a.Name: v}
				for k, old := range p {
					q[k] = old
				}
				next = append(next, q)
			}
		}
		points = next
	}
	for _, p := range points {
		if !slices.ContainsFunc(g.Exclude, func(e Point) bool { return e.matches(p) }) {
			add(p, g.Expect)
		}
	}
	for _, p := range g.Include {
		expect := p.expect
		if expect == nil {
			expect = g.Expect
		}
		if expect.kind == "" {
			expect.kind = defaultExpect(g.Depth).kind
		}
		if g.Depth == results.LaunchOnly && expect.needsBoot() {
			return nil, fmt.Errorf("include in line %d: %q can only be seen of a guest that boots", p.line, expect)
		}
		add(p.values, expect)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it has no cells: all are excluded")
	}
	for _, t := range g.Tampers {
		if w := why[t]; w != "" && !fitted[t] && t.Name != tamperFlipped {
			return nil, fmt.Errorf("tamper %s fits none of its cells: %s", t.Name, w)
		}
	}
	return out, nil
}

// matches says whether a point has one of the labels on each axis that e names.
func (e Point) matches(values map[string]Value) bool {
	for axis, labels := range e.Labels {
		if !slices.Contains(labels, values[axis].Label) {
			return false
		}
	}
	return true
}

// cell applies values to the group's guest, in the order of axisForms.
func (g *Group) cell(values map[string]Value, backend string) *Cell {
	c := &Cell{ID: g.Name, Group: g, setting: setting{guest: g.Guest, backend: backend}}
	for _, a := range (&form{m: &Matrix{}}).axisForms() {
		v, there := values[a.name]
		if !there {
			continue
		}
		v.set(&c.setting)
		c.Axes = append(c.Axes, results.Axis{Name: a.name, Value: v.Label})
		c.ID += "/" + a.name + "=" + v.Label
	}
	if c.setting.backend == host.Auto {
		c.setting.backend = backend
	}
	return c
}

// withKeys is the guest with names for what a run will bring: keys, and the files
// of the cache.
func (c *Cell) withKeys() *guest.Guest {
	g := c.setting.guest
	if c.setting.authorKey && g.IDBlock.AuthorKey == "" {
		g.IDBlock.AuthorKey = "made for the run"
	}
	if c.Group.Parts == PartsAll && !g.HasKernel() && g.Initrd == "" {
		g.Kernel, g.Initrd = "of the cache", "of the cache"
	}
	return &g
}

// Backend is where the cell is launched.
func (c *Cell) Backend() string { return c.setting.backend }

// GivesEvidence says whether the cell boots a guest that attests and in which
// nothing is made wrong.
func (c *Cell) GivesEvidence() bool {
	return c.Depth() == results.Full && c.Tamper == nil && (c.Expect.kind == "" || c.Expect.kind == expectMatches)
}
