package e2e_test

import (
	"os"
	"testing"

	"github.com/snplaunch/snplaunch/e2e"
)

// No file makes the reader of a matrix panic, and one that it takes has cells or says
// why it has none.
func FuzzParse(f *testing.F) {
	b, err := os.ReadFile("../examples/certify.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, s := range []string{
		"groups: [{name: g, depth: full, steps: [{launch: {}}, {put: {host: a, guest: /b, mode: 0755}}]}]",
		"groups: [{name: g, depth: full, steps: [{host: *a, expect: &a {exit: 1}}]}]",
		"groups: [{name: g, depth: full, steps: [{host: [a], expect: {output: '(', not: b}, hints: [{when: c, say: d}]}]}]",
		"groups: [{name: g, axes: {vcpus: [1, 2]}, include: [{vcpus: 3, expect: refused}], exclude: [{vcpus: 1}]}]",
		"groups: [{name: g, guest: {vcpus: 2}, axes: {guest: [{name: a, vcpus: 1}], id_block: [none, {name: b, guest_svn: 1}]}, tamper: all}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := e2e.Parse(data, "m.yaml")
		if err != nil {
			return
		}
		if cells, err := m.Cells("sim"); err == nil && len(cells) == 0 {
			t.Error("neither cells nor an error")
		}
	})
}
