package results

import (
	"cmp"
	"slices"
)

// grid is a group of cells as a table: one axis goes across, the others down.
// Axes that have one value throughout are said once, in Common.
type grid struct {
	Common  []Axis
	Down    []string  // names of the axes of the rows
	Across  string    // name of the columns' axis; empty where no axis suits
	Columns []string  // its values; one, empty, without an axis
	Rows    []gridRow // in the order in which the plan has their values
}

type gridRow struct {
	Heads []gridHead // of the axes that go down; a head that stands for several rows is in the first only
	Spots [][]int    // per column the indices of the cells there, hardly ever more than one
}

type gridHead struct {
	Value string
	Span  int // rows
}

// What suits as columns: not more values, and none longer in runes.
const (
	maxColumns     = 12
	maxColumnWidth = 16
)

// noValue stands where a cell has no value on an axis that others have.
const noValue = "–"

func newGrid(cells []Cell) grid {
	names, values := axesOf(cells)
	var g grid
	var down []string
	for _, n := range names {
		switch {
		case len(values[n]) == 1:
			g.Common = append(g.Common, Axis{n, values[n][0]})
		default:
			down = append(down, n)
		}
	}
	for _, n := range down { // of equally good ones the last, which the matrix varies fastest
		if suits(values[n]) && len(values[n]) >= len(values[g.Across]) {
			g.Across = n
		}
	}
	g.Columns = []string{""}
	if g.Across != "" {
		g.Columns = values[g.Across]
		down = slices.DeleteFunc(down, func(n string) bool { return n == g.Across })
	}
	g.Down = down
	type row struct {
		key   []int // index of the value on each axis that goes down
		spots [][]int
	}
	var rows []*row
	for i := range cells {
		at := coordinates(&cells[i])
		key := make([]int, len(down))
		for k, n := range down {
			key[k] = slices.Index(values[n], at(n))
		}
		j, found := slices.BinarySearchFunc(rows, key, func(r *row, k []int) int { return slices.Compare(r.key, k) })
		if !found {
			rows = slices.Insert(rows, j, &row{key, make([][]int, len(g.Columns))})
		}
		c := 0
		if g.Across != "" {
			c = slices.Index(g.Columns, at(g.Across))
		}
		rows[j].spots[c] = append(rows[j].spots[c], i)
	}
	for j, r := range rows {
		out := gridRow{Spots: r.spots}
		for k, n := range down {
			if j > 0 && slices.Equal(rows[j-1].key[:k+1], r.key[:k+1]) {
				continue
			}
			span := 1
			for j+span < len(rows) && slices.Equal(rows[j+span].key[:k+1], r.key[:k+1]) {
				span++
			}
			out.Heads = append(out.Heads, gridHead{values[n][r.key[k]], span})
		}
		g.Rows = append(g.Rows, out)
	}
	return g
}

// axesOf gives the axes of cells and their values, in order of appearance.
func axesOf(cells []Cell) (names []string, values map[string][]string) {
	values = map[string][]string{}
	for i := range cells {
		for _, a := range cells[i].allAxes() {
			if values[a.Name] == nil {
				names = append(names, a.Name)
			}
			if !slices.Contains(values[a.Name], a.Value) {
				values[a.Name] = append(values[a.Name], a.Value)
			}
		}
	}
	for _, n := range names { // cells that are not on an axis
		if !slices.Contains(values[n], noValue) && slices.ContainsFunc(cells, func(c Cell) bool { return coordinates(&c)(n) == noValue }) {
			values[n] = append(values[n], noValue)
		}
	}
	return names, values
}

// allAxes are the coordinates of a cell, with those that the matrix does not
// call axes although cells differ by them.
func (c *Cell) allAxes() []Axis {
	out := slices.Clone(c.Axes)
	for _, more := range []Axis{{"tamper", c.Tamper}, {"depth", string(c.Depth)}} {
		if more.Value != "" && !slices.ContainsFunc(out, func(a Axis) bool { return a.Name == more.Name }) {
			out = append(out, more)
		}
	}
	return out
}

func coordinates(c *Cell) func(name string) string {
	all := c.allAxes()
	return func(name string) string {
		for _, a := range all {
			if a.Name == name {
				return cmp.Or(a.Value, noValue)
			}
		}
		return noValue
	}
}

func suits(values []string) bool {
	return len(values) <= maxColumns && !slices.ContainsFunc(values, func(v string) bool { return len([]rune(v)) > maxColumnWidth })
}
