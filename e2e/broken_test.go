package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
)

// A matrix sees whatever is wrong in the computation or in the firmware, and says in
// which cells: the program is built with a tag that lets the environment break one
// thing in it.
func TestBrokenOnPurpose(t *testing.T) {
	parts(t)
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	build := exec.Command("go", "build", "-trimpath", "-tags", "snplaunch_broken", "-o", broken, "../cmd/snplaunch")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	matrix := filepath.Join(dir, "matrix.yaml")
	if err := os.WriteFile(matrix, []byte(`
groups:
  - {name: hashed, depth: launch, axes: {vcpus: [1, 2]}}
  - {name: bare, depth: launch, parts: firmware, twins: false, axes: {vcpus: [1], id_block: [none, signed]}}
  - {name: bad, depth: launch, untampered: false, twins: false, tamper: [policy, id-block-signature]}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	hashed, bare := []string{"hashed/vcpus=1", "hashed/vcpus=2"}, []string{"bare/vcpus=1/id_block=none", "bare/vcpus=1/id_block=signed"}
	policy, signature := "bad/tamper=policy", "bad/tamper=id-block-signature"
	// Whoever computes another digest gets BAD_MEASUREMENT, before anything else
	// is looked at.
	all := slices.Concat(hashed, bare, []string{policy, signature})
	for what, want := range map[string][]string{
		"":              nil,
		"vmsa-field":    {"hashed/vcpus=2"},
		"page-order":    all,
		"cmdline-nul":   append([]string{policy, signature}, hashed...),
		"psp-fold":      all,
		"psp-policy":    {policy},
		"psp-signature": {signature},
	} {
		name := what
		if name == "" {
			name = "nothing"
		}
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "broken.results.jsonl")
			cmd, _ := command(t, "broken-"+name, "e2e", "run", matrix, "--backend", "sim", "--results", file)
			cmd.Path = broken
			cmd.Env = append(cmd.Env, "SNPLAUNCH_BROKEN="+what)
			out, err := cmd.CombinedOutput()
			run, readErr := results.ReadFile(file)
			if readErr != nil {
				t.Fatalf("%v (%v)\n%s", readErr, err, out)
			}
			var red []string
			for _, c := range run.Cells {
				if c.Status != results.Passed {
					red = append(red, c.ID)
					if !strings.Contains(string(out), c.ID) {
						t.Errorf("it does not say that %s failed:\n%s", c.ID, out)
					}
				}
			}
			slices.Sort(red)
			want = slices.Sorted(slices.Values(want))
			if !slices.Equal(red, want) {
				t.Errorf("red are %q, want %q\n%s", red, want, out)
			}
			code := 0
			if len(want) > 0 {
				code = 1
			}
			if got := cmd.ProcessState.ExitCode(); got != code || len(run.Cells) != 8 {
				t.Errorf("exit code %d and %d cells, want %d and 8\n%s", got, len(run.Cells), code, out)
			}
		})
	}
	// What is built without the tag has nothing of it.
	cmd, _ := command(t, "broken-not", "e2e", "run", matrix, "--backend", "sim", "--cell", "hashed/vcpus=2", "--results", filepath.Join(dir, "whole.results.jsonl"))
	cmd.Env = append(cmd.Env, "SNPLAUNCH_BROKEN=page-order")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the program itself heeds SNPLAUNCH_BROKEN: %v\n%s", err, out)
	}
}
