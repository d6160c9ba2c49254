package results

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func cellAt(pairs ...string) Cell {
	var c Cell
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "tamper" {
			c.Tamper = pairs[i+1]
			continue
		}
		c.Axes = append(c.Axes, Axis{pairs[i], pairs[i+1]})
	}
	c.ID = strings.Join(pairs, " ")
	return c
}

// show draws a grid: heads with their spans, indices of the cells.
func (g grid) show() string {
	var b strings.Builder
	for _, a := range g.Common {
		fmt.Fprintf(&b, "%s=%s ", a.Name, a.Value)
	}
	fmt.Fprintf(&b, "| %s × %s %s\n", strings.Join(g.Down, ","), g.Across, strings.Join(g.Columns, ","))
	for _, r := range g.Rows {
		for _, h := range r.Heads {
			fmt.Fprintf(&b, "%s(%d) ", h.Value, h.Span)
		}
		fmt.Fprintf(&b, "%v\n", r.Spots)
	}
	return b.String()
}

func TestGrid(t *testing.T) {
	var box []Cell
	for _, cpu := range []string{"v4", "Milan"} {
		for _, qemu := range []string{"10", "11"} {
			for _, n := range []string{"1", "2", "4"} {
				if cpu == "Milan" && qemu == "11" && n == "2" {
					continue // excluded
				}
				box = append(box, cellAt("backend", "sim", "cpu", cpu, "qemu", qemu, "vcpus", n))
			}
		}
	}
	for _, c := range []struct {
		name  string
		cells []Cell
		want  string
	}{
		{"a box", box, "backend=sim | cpu,qemu × vcpus 1,2,4\nv4(2) 10(1) [[0] [1] [2]]\n11(1) [[3] [4] [5]]\nMilan(2) 10(1) [[6] [7] [8]]\n11(1) [[9] [] [10]]\n"},
		{"cells that ended in another order", []Cell{cellAt("a", "2", "b", "x"), cellAt("a", "1", "b", "x"), cellAt("a", "2", "b", "y")}, "| a × b x,y\n2(1) [[0] [2]]\n1(1) [[1] []]\n"},
		{"one cell", []Cell{cellAt("a", "1")}, "a=1 |  ×  \n[[0]]\n"},
		{"no axis", []Cell{cellAt(), cellAt()}, "|  ×  \n[[0 1]]\n"},
		{"an axis that some lack", []Cell{cellAt("a", "1"), cellAt("a", "1", "b", "x")}, "a=1 |  × b x,–\n[[1] [0]]\n"},
		{"tampering is an axis", []Cell{cellAt("a", "1"), cellAt("a", "1", "tamper", "kernel")}, "a=1 |  × tamper kernel,–\n[[1] [0]]\n"},
		{"values too long for columns", []Cell{cellAt("a", "a value that is long"), cellAt("a", "b")}, "| a ×  \na value that is long(1) [[0]]\nb(1) [[1]]\n"},
	} {
		if got := newGrid(c.cells).show(); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	// Whatever the cells, each stands in the grid once, and every row has its heads.
	many := newGrid(slices.Concat(box, []Cell{cellAt(), cellAt("vcpus", ""), cellAt("x", "y")}))
	seen := map[int]int{}
	for _, r := range many.Rows {
		for _, s := range r.Spots {
			for _, i := range s {
				seen[i]++
			}
		}
	}
	for i := range len(box) + 3 {
		if seen[i] != 1 {
			t.Errorf("cell %d stands in the grid %d times", i, seen[i])
		}
	}
}
