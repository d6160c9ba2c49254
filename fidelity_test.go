package snplaunch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/fidelity.md says of every rule which test shows it: those tests exist, each row
// says whether its rule is emulated, and what is emulated names a test.
func TestFidelityNamesRealTests(t *testing.T) {
	data, err := os.ReadFile("docs/fidelity.md")
	if err != nil {
		t.Fatal(err)
	}
	have := testsOfRepository(t)
	named := regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*`)
	rows, inTable := 0, false
	for i, line := range strings.Split(string(data), "\n") {
		for _, name := range named.FindAllString(line, -1) {
			if !have[name] {
				t.Errorf("line %d names %s, which is no test of this repository", i+1, name)
			}
		}
		cells := cellsOf(line)
		if len(cells) == 0 {
			inTable = false
			continue
		}
		if strings.HasPrefix(cells[0], "---") {
			continue
		}
		if !inTable {
			if inTable = len(cells) == 4 && cells[1] == "emulated"; inTable && (cells[0] != "rule" || cells[2] != "source" || cells[3] != "test") {
				t.Errorf("line %d: the columns are %q, not rule, emulated, source, test", i+1, cells)
			}
			continue
		}
		rows++
		if len(cells) != 4 {
			t.Errorf("line %d has %d cells, not 4", i+1, len(cells))
			continue
		}
		word, _, _ := strings.Cut(cells[1], " ")
		switch strings.Trim(word, "*,:;") {
		case "yes", "partly":
			if cells[3] == "" || cells[3] == "–" || cells[3] == "-" {
				t.Errorf("line %d: %q is emulated and no test shows it", i+1, cells[0])
			}
		case "missing":
		default:
			t.Errorf("line %d: %q is neither yes, partly nor missing", i+1, cells[1])
		}
	}
	if rows < 50 {
		t.Errorf("%d rows were found; the file has more", rows)
	}
}

// cellsOf gives the cells of a row of a table in Markdown, nil for another line.
func cellsOf(line string) (cells []string) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || !strings.HasSuffix(line, "|") || len(line) < 2 {
		return nil
	}
	line = strings.ReplaceAll(line[1:len(line)-1], `\|`, "\x00") // a bar inside a cell
	for _, c := range strings.Split(line, "|") {
		cells = append(cells, strings.TrimSpace(strings.ReplaceAll(c, "\x00", "|")))
	}
	return cells
}

// testsOfRepository are the names of all test, fuzz and benchmark functions.
func testsOfRepository(t *testing.T) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, is := decl.(*ast.FuncDecl); is && fn.Recv == nil {
				have[fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}
