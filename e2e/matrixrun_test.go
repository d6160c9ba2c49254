package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/e2e/results"
)

// aMatrix is a matrix in a file, with a file for its results.
type aMatrix struct{ path, results string }

func matrixOf(t testing.TB, text string) aMatrix {
	t.Helper()
	dir := t.TempDir()
	m := aMatrix{filepath.Join(dir, "matrix.yaml"), filepath.Join(dir, "run.results.jsonl")}
	m.write(t, text)
	return m
}

func (m aMatrix) write(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(m.path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// args is a command line that runs it on the software host.
func (m aMatrix) args(more ...string) []string {
	return append([]string{"e2e", "run", m.path, "--backend", "sim", "--results", m.results}, more...)
}

// run runs it with the program and gives the exit code and what was said.
func (m aMatrix) run(t testing.TB, more ...string) (code int, said string) {
	t.Helper()
	cmd, _ := command(t, "matrix", m.args(more...)...)
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// cells is what its file of results holds, by id.
func (m aMatrix) cells(t testing.TB) (*results.Run, map[string]results.Cell) {
	t.Helper()
	run, err := results.ReadFile(m.results)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]results.Cell{}
	for _, c := range run.Cells {
		if _, twice := by[c.ID]; twice {
			t.Errorf("%s was run twice", c.ID)
		}
		by[c.ID] = c
	}
	return run, by
}

// planned lists the ids of all its cells.
func (m aMatrix) planned(t testing.TB) []string {
	t.Helper()
	read, err := e2e.Load(m.path)
	if err != nil {
		t.Fatal(err)
	}
	cells, err := read.Cells("sim")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range cells {
		ids = append(ids, c.ID)
	}
	slices.Sort(ids)
	return ids
}

func sortedIDs(by map[string]results.Cell) []string {
	var ids []string
	for id := range by {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Two cells of it fail: one that is to fail and launches, one with another digest.
const twoFail = `
groups:
  - {name: good, depth: launch, axes: {vcpus: [1, 2]}}
  - {name: harmless, depth: launch, twins: false, expect: "fails: BAD_MEASUREMENT"}
  - {name: pinned, depth: launch, twins: false, expect: {digest: "` + zeroDigest + `"}}
`

const zeroDigest = "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

// What a run leaves: each cell in the file of results, a folder for each that
// failed, a command that shows it again; and the results of the run before aside.
func TestMatrixRun(t *testing.T) {
	parts(t)
	m := matrixOf(t, twoFail)
	code, said := m.run(t)
	run, by := m.cells(t)
	if got, want := sortedIDs(by), m.planned(t); !slices.Equal(got, want) || run.Header.Planned != len(want) {
		t.Fatalf("results of %q, planned are %q\n%s", got, want, said)
	}
	if code != 1 {
		t.Errorf("exit code %d, want 1\n%s", code, said)
	}
	for id, c := range by {
		wrong := map[string]string{
			"harmless": "expected fails: BAD_MEASUREMENT, but it ended as match",
			"pinned":   "pinned is " + zeroDigest,
		}[id]
		_, err := os.Stat(filepath.Join(filepath.Dir(m.results), c.Artefacts, "result.json"))
		if wrong == "" {
			if c.Status != results.Passed || c.Artefacts != "" {
				t.Errorf("%s: %s (%s), artefacts in %q", id, c.Status, c.Message, c.Artefacts)
			}
			continue
		}
		if c.Status != results.Failed || !strings.Contains(c.Message, wrong) || c.Artefacts == "" || err != nil || c.Reproduce == "" || !strings.Contains(said, id) {
			t.Errorf("%s: %s (%s), artefacts in %q (%v), %q\n%s", id, c.Status, c.Message, c.Artefacts, err, c.Reproduce, said)
		}
	}
	folders, err := os.ReadDir(strings.TrimSuffix(m.results, ".jsonl") + ".cells")
	if err != nil || len(folders) != 2 {
		t.Errorf("folders of artefacts: %v, %v", folders, err)
	}

	// The command that is given shows it again.
	again, _ := command(t, "matrix")
	again.Path, again.Args, again.Dir = "/bin/sh", []string{"sh", "-c", strings.Replace(by["harmless"].Reproduce, "snplaunch", snplaunch(t), 1)}, t.TempDir()
	if out, _ := again.CombinedOutput(); again.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "but it ended as match") {
		t.Errorf("%s: exit code %d\n%s", by["harmless"].Reproduce, again.ProcessState.ExitCode(), out)
	}

	// Complete results are put aside.
	before, err := os.ReadFile(m.results)
	if err != nil {
		t.Fatal(err)
	}
	m.run(t, "--cell", "good/vcpus=1")
	if old, err := os.ReadFile(e2e.Aside(m.results)); err != nil || string(old) != string(before) {
		t.Errorf("the results of the run before are not aside: %v", err)
	}
}

// Results that are not complete are neither lost nor mixed with those of another run.
func TestMatrixResume(t *testing.T) {
	parts(t)
	m := matrixOf(t, twoFail)
	if code, said := m.run(t, "--fail-fast", "-j", "1", "--filter", "harmless|good/vcpus=1|pinned"); code != 1 {
		t.Fatalf("exit code %d, want 1\n%s", code, said)
	}
	before, err := os.ReadFile(m.results)
	if err != nil {
		t.Fatal(err)
	}
	run, by := m.cells(t)
	// Cells that are thought to take equally long are run in the order of the file.
	if len(by) != 3 || by["harmless"].Status != results.Failed || run.Header.Planned != 4 {
		t.Fatalf("--fail-fast ran %q", sortedIDs(by))
	}
	same := []string{"--filter", "harmless|good/vcpus=1|pinned"}
	for _, c := range []struct {
		name, text string
		args       []string
		says       string
	}{
		{"neither", twoFail, same, "did not come to its end"},
		{"another selection", twoFail, []string{"--resume"}, "another selection"},
		{"a shard of it", twoFail, append([]string{"--resume", "--shard", "1/2"}, same...), "another selection"},
		{"another matrix", twoFail + "# changed\n", append([]string{"--resume"}, same...), "the matrix has changed"},
	} {
		m.write(t, c.text)
		code, said := m.run(t, c.args...)
		after, err := os.ReadFile(m.results)
		if code == 0 || !strings.Contains(said, c.says) || err != nil || string(after) != string(before) {
			t.Errorf("%s: exit code %d, changed %v: %s", c.name, code, string(after) != string(before), said)
		}
	}
	m.write(t, twoFail)
	m.run(t, append([]string{"--resume"}, same...)...)
	after, err := os.ReadFile(m.results)
	if _, by := m.cells(t); err != nil || !strings.HasPrefix(string(after), string(before)) || len(by) != 4 {
		t.Errorf("--resume leaves %q", sortedIDs(by))
	}

	// What was begun is put aside where one says so.
	if err := os.WriteFile(m.results, before, 0o644); err != nil {
		t.Fatal(err)
	}
	m.run(t, "--overwrite", "--cell", "good/vcpus=1")
	if old, err := os.ReadFile(e2e.Aside(m.results)); err != nil || string(old) != string(before) {
		t.Errorf("--overwrite did not put the run before aside: %v", err)
	}
	if code, said := m.run(t, "--require-hardware"); code == 0 || !strings.Contains(said, "would be simulated") {
		t.Errorf("--require-hardware: exit code %d, %s", code, said)
	}
}

// Only what may be otherwise the next time is tried again, and then it is told.
func TestMatrixRetries(t *testing.T) {
	p := parts(t)
	m := matrixOf(t, "groups:\n  - {name: good, depth: launch}\n")
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	qemu := filepath.Join(dir, "qemu")
	// It dies at the first CRASHES launches, and takes MORE arguments.
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in *id=sev0*) ;; *) exec %[1]s "$@" ;; esac
echo launch >>%[2]s
[ "$(wc -l <%[2]s)" -gt "$CRASHES" ] || exit 1
exec %[1]s "$@" $MORE
`, p.QEMU.Path, count)
	if err := os.WriteFile(qemu, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, cell, crashes, more, retries string
		status                             results.Status
		launches                           int
	}{
		{"one crash", "good", "1", "", "2", results.Flaky, 2},
		{"crashes only", "good", "9", "", "1", results.Failed, 2},
		{"no retries", "good", "1", "", "0", results.Failed, 1},
		{"a negative cell", "good/tamper=flipped", "9", "", "2", results.Failed, 1},
		{"another digest", "good", "0", "-append tampered", "2", results.Failed, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(count, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			t.Setenv("CRASHES", c.crashes)
			t.Setenv("MORE", c.more)
			code, said := m.run(t, "--qemu", qemu, "--cell", c.cell, "--retries", c.retries, "--overwrite")
			_, by := m.cells(t)
			launched, err := os.ReadFile(count)
			if err != nil {
				t.Fatal(err)
			}
			got := by[c.cell]
			if n := strings.Count(string(launched), "\n"); got.Status != c.status || n != c.launches || len(got.Attempts) != n-1 || (code == 0) != (c.status == results.Flaky) {
				t.Errorf("%s after %d launches with %d attempts before the last, exit code %d; want %s after %d: %s\n%s", got.Status, n, len(got.Attempts), code, c.status, c.launches, got.Message, said)
			}
			if c.status == results.Flaky && !strings.Contains(said, "flaky") {
				t.Errorf("nobody is told of it:\n%s", said)
			}
		})
	}
}

// many are some thirty quick cells.
const many = `
groups:
  - {name: a, depth: launch, parts: firmware, axes: {vcpus: [1, 2, 3, 4], cpu: [EPYC-v4, EPYC-Genoa]}}
  - {name: b, depth: launch, axes: {vcpus: [1, 2], id_block: [none, author]}}
  - {name: c, depth: launch, untampered: false, twins: false, tamper: all}
`

// However often a run is killed, going on with it ends with each cell run once.
func TestMatrixKilledAndResumed(t *testing.T) {
	parts(t)
	m := matrixOf(t, many)
	// The first kill came as the header was written.
	if err := os.WriteFile(m.results, []byte(`{"format":1,"matr`), 0o644); err != nil {
		t.Fatal(err)
	}
	var before []byte
	for n, cells := range []int{0, 1, 6, 14} {
		mark := fmt.Sprintf("matrix-kill-%d", n)
		cmd, tmp := command(t, mark, m.args("-j", "2", "--resume")...)
		said := tmp + ".said"
		f, err := os.Create(said)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdout, cmd.Stderr = f, f
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 3000 {
			b, err := os.ReadFile(m.results)
			if err == nil && strings.Count(string(b), "\n") > cells {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		after, err := os.ReadFile(m.results)
		if err != nil || !strings.HasPrefix(string(after), string(before)) {
			out, _ := os.ReadFile(said)
			t.Fatalf("cells of before kill %d are lost (%v)\n%s", n+1, err, out)
		}
		// A line that was not written to its end is no cell's.
		before = after[:strings.LastIndexByte(string(after), '\n')+1]
		if l := gone(t, mark); l != nil {
			t.Errorf("kill %d: processes are left: %q", n+1, l)
		}
		if entries, err := os.ReadDir(tmp); err != nil || len(entries) > 0 {
			t.Errorf("kill %d: files are left: %v %v", n+1, entries, err)
		}
	}
	code, said := m.run(t, "--resume")
	_, by := m.cells(t)
	if got, want := sortedIDs(by), m.planned(t); code != 0 || !slices.Equal(got, want) {
		t.Errorf("exit code %d, results of %q, planned are %q\n%s", code, got, want, said)
	}
	if after, err := os.ReadFile(m.results); err != nil || !strings.HasPrefix(string(after), string(before)) {
		t.Errorf("cells from before are lost or run again (%v)", err)
	}
}

// Three shards have each cell once and, put together, are one run.
func TestMatrixShards(t *testing.T) {
	parts(t)
	m := matrixOf(t, many)
	if code, said := m.run(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, said)
	}
	whole, want := m.cells(t)
	files, seen := []string{}, map[string]bool{}
	for n := 1; n <= 3; n++ {
		s := m
		s.results = filepath.Join(t.TempDir(), "shard.results.jsonl")
		if code, said := s.run(t, "--shard", fmt.Sprintf("%d/3", n)); code != 0 {
			t.Fatalf("shard %d: exit code %d\n%s", n, code, said)
		}
		_, by := s.cells(t)
		if len(by) < len(want)/3 {
			t.Errorf("shard %d has %d of %d cells", n, len(by), len(want))
		}
		for id := range by {
			if seen[id] {
				t.Errorf("%s is in two shards", id)
			}
			seen[id] = true
		}
		files = append(files, s.results)
	}
	merged := m
	merged.results = filepath.Join(t.TempDir(), "merged.results.jsonl")
	cmd := exec.Command(snplaunch(t), append([]string{"e2e", "merge", merged.results}, files...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("e2e merge: %v\n%s", err, out)
	}
	run, got := merged.cells(t)
	if len(got) != len(want) || run.Totals() != whole.Totals() {
		t.Errorf("%d cells (%s), a run of all has %d (%s)", len(got), run.Totals(), len(want), whole.Totals())
	}
	for id, w := range want {
		g := got[id]
		if g.Status != w.Status || g.Computed == nil || *g.Computed != *w.Computed || g.Expect != w.Expect || (g.Launched == nil) != (w.Launched == nil) || g.Launched != nil && *g.Launched != *w.Launched {
			t.Errorf("%s: %s with %v, in a run of all %s with %v", id, g.Status, g.Computed, w.Status, w.Computed)
		}
	}
}
