package snplaunch_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// layers lists the folders from the bottom up: a package imports only from
// folders before its own. See docs/design.md.
var layers = []string{
	"internal/suggest", "internal/shell", "internal/childgroup", "internal/lacks", "internal/schematest", "snp", "internal/strictyaml", "qmp", "ovmf", "hashes", "vmsa", "idblock", "guest", "measure", "report",
	"sim/psp", "sim/kvm", "sim/supervise", "sim/guestdev",
	"agent", "images", "diagnose", "host", "launcher", "e2e/results", "e2e/ci", "e2e", "cmd",
}

// simAllowed is what the software host may import of this module: it makes
// save areas, checks ID blocks and folds digests on its own, so that its
// agreement with measure means something.
var simAllowed = []string{"snp", "sim"}

const module = "github.com/snplaunch/snplaunch/"

func TestPackagesImportOnlyFromLowerLayers(t *testing.T) {
	seen := map[int]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); d.IsDir() && path != "." && err == nil {
			return filepath.SkipDir // a module of its own
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || filepath.Dir(path) == "." {
			return nil
		}
		own := layerOf(filepath.ToSlash(filepath.Dir(path)))
		if own < 0 {
			t.Errorf("%s lies in no layer; add its folder to the list and to docs/design.md", path)
			return nil
		}
		seen[own] = true
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			rest, ours := strings.CutPrefix(target, module)
			if !ours {
				continue
			}
			switch other := layerOf(rest); {
			case other < 0:
				t.Errorf("%s imports %s, which lies in no layer", path, target)
			case other > own:
				t.Errorf("%s (layer %s) imports %s from the higher layer %s", path, layers[own], target, layers[other])
			}
			if strings.HasPrefix(layers[own], "sim/") && !under(rest, simAllowed) {
				t.Errorf("%s imports %s; the software host shares nothing but snp with what it judges", path, target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		if !seen[i] {
			t.Errorf("layer %s has no Go file", l)
		}
	}
}

// layerOf gives the index of the layer that a folder belongs to, -1 for none.
func layerOf(dir string) int {
	for i, l := range layers {
		if dir == l || strings.HasPrefix(dir, l+"/") {
			return i
		}
	}
	return -1
}

func under(dir string, folders []string) bool {
	for _, f := range folders {
		if dir == f || strings.HasPrefix(dir, f+"/") {
			return true
		}
	}
	return false
}
