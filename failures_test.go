package snplaunch_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
)

// docs/failures.md says which check sees a failure coming, how it is diagnosed, and which test
// shows it: all of them exist, and no diagnosis is left out.
func TestFailuresNamesRealChecks(t *testing.T) {
	data, err := os.ReadFile("docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, checks, left := testsOfRepository(t), checkIDs(t), map[string]bool{}
	diagnoses := map[string]bool{}
	for _, id := range diagnose.IDs() {
		diagnoses[id], left[id] = true, true
	}
	quoted, named := regexp.MustCompile("`([a-z0-9-]+)`"), regexp.MustCompile(`\b(Test|Fuzz)[A-Z][A-Za-z0-9_]*`)
	var columns []string
	rows := 0
	for i, line := range strings.Split(string(data), "\n") {
		for _, name := range named.FindAllString(line, -1) {
			if !tests[name] {
				t.Errorf("line %d names %s, which is no test of this repository", i+1, name)
			}
		}
		cells := cellsOf(line)
		if len(cells) == 0 {
			columns = nil
			continue
		}
		if columns == nil {
			columns = cells
			continue
		}
		if strings.HasPrefix(cells[0], "---") {
			continue
		}
		rows++
		if len(cells) != len(columns) {
			t.Errorf("line %d has %d cells, not %d", i+1, len(cells), len(columns))
			continue
		}
		for j, cell := range cells {
			column := strings.Fields(columns[j])[0]
			words := quoted.FindAllStringSubmatch(cell, -1)
			if column != "failure" && cell == "" || column == "test" && !named.MatchString(cell) || (column == "check" || column == "diagnosis") && len(words) == 0 {
				t.Errorf("line %d: no %s of %q", i+1, column, cells[0])
			}
			for _, w := range words {
				switch column {
				case "check":
					if !checks[w[1]] && w[1] != "run" {
						t.Errorf("line %d: %s is no check", i+1, w[1])
					}
				case "diagnosis":
					if !diagnoses[w[1]] {
						t.Errorf("line %d: %s is no entry of the catalogue", i+1, w[1])
					}
					delete(left, w[1])
				}
			}
		}
	}
	for id := range left {
		t.Errorf("no row has %s", id)
	}
	if rows < 60 {
		t.Errorf("%d rows were found; the file has more", rows)
	}
}

// checkIDs are the ids of the host's checks and of a launch's.
func checkIDs(t *testing.T) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	all := host.Probe(t.Context(), host.Root{Dir: t.TempDir()}).Checks
	all = append(all, host.CheckArguments(nil, host.Conditions{QEMU: &host.QEMU{Err: errors.New("not asked")}})...)
	all = append(all, host.CheckKernel(guest.KernelBzImage, 0))
	for _, c := range all {
		ids[c.ID] = true
	}
	// Those that the launcher makes of errors stand in its source only.
	for _, path := range []string{"launcher/preflight.go", "launcher/preflightcommand.go", "launcher/reachable.go", "launcher/bootmemory.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(s, "launch-") {
					ids[s] = true
				}
			}
			return true
		})
	}
	return ids
}
