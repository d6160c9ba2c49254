package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
)

// A cell that passed leaves a file by which others can verify what it found.
func TestMatrixEvidence(t *testing.T) {
	parts(t)
	m := matrixOf(t, `
groups:
  - {name: boot, axes: {id_block: [author]}, guest: {vcpus: 2, command: ["true"]}}
  - {name: launch, depth: launch}
`)
	dir := filepath.Join(t.TempDir(), "evidence")
	if code, said := m.run(t, "--evidence", dir, "-j", "1"); code != 0 {
		t.Fatalf("exit code %d\n%s", code, said)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != "boot__id_block=author.json" {
		t.Fatalf("evidence: %v, %v", files, err)
	}
	bundle := filepath.Join(dir, files[0].Name())
	root, _ := command(t, "matrix", "sim", "root")
	fingerprint, err := root.Output()
	if err != nil {
		t.Fatal(err)
	}
	verify, _ := command(t, "matrix", "report", "verify", "--bundle", bundle, "--trust-simulated", strings.TrimSpace(string(fingerprint)))
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("report verify --bundle: %v\n%s", err, out)
	}
	verify, _ = command(t, "matrix", "report", "verify", "--bundle", bundle)
	if out, err := verify.CombinedOutput(); err == nil {
		t.Errorf("a simulated bundle is taken without --trust-simulated\n%s", out)
	}
}

// A part of the smoke matrix, with cells of most of its groups, a boot among them.
func TestMatrixSmokeRun(t *testing.T) {
	parts(t)
	const some = "vcpus=1/cpu=EPYC-Genoa|^refused/|^boot-tampered"
	m := aMatrix{path: "../examples/matrix-smoke.yaml", results: filepath.Join(t.TempDir(), "smoke.results.jsonl")}
	code, said := m.run(t, "--filter", some)
	run, by := m.cells(t)
	if code != 0 || len(by) != run.Header.Planned || len(by) < 30 {
		t.Errorf("exit code %d, %d of %d cells\n%s", code, len(by), run.Header.Planned, said)
	}
	full, negative := 0, 0
	for _, c := range by {
		if c.Depth == results.Full {
			full++
		}
		if c.Tamper != "" && c.Tamper != "flipped" {
			negative++
		}
	}
	if full < 14 || negative < 23 {
		t.Errorf("%d full cells and %d negative ones", full, negative)
	}
}
