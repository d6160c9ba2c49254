package results_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
)

// Nobody puts a file aside that another is writing.
func TestIdle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.jsonl")
	if err := results.Idle(path); err != nil {
		t.Errorf("without a file: %v", err)
	}
	w, err := results.Create(path, results.Header{Matrix: "m.yaml", Planned: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := results.Idle(path); err == nil || !strings.Contains(err.Error(), "another snplaunch is writing") {
		t.Errorf("while it is written: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := results.Idle(path); err != nil {
		t.Errorf("once it is written: %v", err)
	}
}
