package strictyaml_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/internal/strictyaml"
)

// A file that is not there is answered with those that are.
func TestFileThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(name, want string) {
		t.Helper()
		_, err := strictyaml.File(filepath.Join(dir, name), "guest description")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
		if missing := name != "."; errors.Is(err, fs.ErrNotExist) != missing {
			t.Errorf("%s: %v is ErrNotExist: %v", name, err, !missing)
		}
	}
	ask("gest.yaml", "no YAML file in that folder")
	write("guest.yaml")
	write("notes.txt")
	ask("gest.yaml", "did you mean guest.yaml?")
	ask("other", "use one of guest.yaml)")
	ask(".", "is a folder (use one of guest.yaml)")
	for i := range 8 {
		write(fmt.Sprintf("%d.yml", i))
	}
	ask("something else", "use one of the 9 YAML files in that folder")
}
