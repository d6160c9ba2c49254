package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/e2e/results/resultstest"
)

// resultsFile writes a run, less some bytes at its end.
func resultsFile(t *testing.T, dir, name string, run *results.Run, cut int) string {
	t.Helper()
	var b bytes.Buffer
	if err := results.Write(&b, run); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes()[:b.Len()-cut], 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestE2EMerge(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "all.jsonl")
	args := []string{"e2e", "merge", out}
	whole := resultstest.Run(resultstest.Options{Seed: 1})
	shards := resultstest.Divide(whole, 3)
	for i, s := range shards {
		args = append(args, resultsFile(t, dir, "shard-"+string(rune('1'+i))+"/results.jsonl", s, 0))
	}
	if _, stderr, code := program(args...); code != exitOK || !strings.Contains(stderr, whole.Totals().String()) {
		t.Fatalf("merge: exit code %d, %s", code, stderr)
	}
	merged, err := results.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range merged.Cells {
		if c.Artefacts != "" && !strings.HasPrefix(c.Artefacts, "shard-") || c.ID != whole.Cells[i].ID {
			t.Errorf("cell %d is %s with artefacts in %s, want %s in its shard's folder", i, c.ID, c.Artefacts, whole.Cells[i].ID)
		}
	}
	if _, stderr, code := program("e2e", "diff", args[3], args[4]); code != exitNo {
		t.Errorf("two shards have the same cells: %s", stderr)
	}

	// The second shard was killed.
	killed := resultsFile(t, dir, "shard-2/results.jsonl", shards[1], 10)
	last := shards[1].Cells[len(shards[1].Cells)-1].ID
	os.Remove(out)
	_, stderr, code := program(args...)
	if code != exitNo || !strings.Contains(stderr, killed+": the last line") || !strings.Contains(stderr, "1: "+last+" (shard 2)") {
		t.Errorf("a shard that was killed: exit code %d, %s", code, stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("what cannot be merged is written")
	}
	if _, _, code := program(append(args, "--partial")...); code != exitNo {
		t.Errorf("--partial: exit code %d, want 1", code)
	}

	// Who forgets OUT loses no shard.
	before, err := os.ReadFile(killed)
	if err != nil {
		t.Fatal(err)
	}
	_, stderr, code = program("e2e", "merge", "--partial", killed, out)
	if after, err := os.ReadFile(killed); code != exitUsage || err != nil || !bytes.Equal(before, after) || !strings.Contains(stderr, "name the file to write first") {
		t.Errorf("exit code %d, %v, %s", code, err, stderr)
	}
	if merged, err = results.ReadFile(out); err != nil || len(merged.NotRun()) != 1 {
		t.Errorf("--partial leaves %v, %v", merged.NotRun(), err)
	}
	if _, stderr, code := program("e2e", "merge", out); code != exitUsage {
		t.Errorf("nothing to merge: exit code %d, %s", code, stderr)
	}
}

func TestE2EDiff(t *testing.T) {
	dir := t.TempDir()
	old := resultstest.Run(resultstest.Options{Seed: 2, Green: true})
	a := resultsFile(t, dir, "a", old, 0)
	if out, stderr, code := program("e2e", "diff", a, a); code != exitOK || !strings.Contains(out, "Nothing drifted.") {
		t.Errorf("a run and itself: exit code %d, %s%s", code, out, stderr)
	}
	old.Cells[5].Status, old.Cells[5].Inputs[0].SHA256 = results.Failed, strings.Repeat("12", 32)
	b := resultsFile(t, dir, "b", old, 0)
	if out, _, code := program("e2e", "diff", a, b); code != exitNo || !strings.Contains(out, "1 fail now\n  "+old.Cells[5].ID+": failed, was passed (changed: firmware)") {
		t.Errorf("a cell fails: exit code %d, %s", code, out)
	}
	out, _, code := program("e2e", "diff", "--json", a, b)
	var drift results.Drift
	if err := json.Unmarshal([]byte(out), &drift); err != nil || code != exitNo || len(drift.Cells) != 1 {
		t.Errorf("--json: exit code %d, %v, %s", code, err, out)
	}
	if _, _, code := program("e2e", "diff", a); code != exitUsage {
		t.Errorf("one file: exit code %d, want 2", code)
	}
}

func TestE2EReport(t *testing.T) {
	dir := t.TempDir()
	run := resultstest.Run(resultstest.Options{Seed: 3})
	path := resultsFile(t, dir, "run/results.jsonl", run, 0)
	junit, tap := filepath.Join(dir, "junit.xml"), filepath.Join(dir, "run", "cells.tap")
	summary, page := filepath.Join(dir, "summary.md"), filepath.Join(dir, "report.html")
	for _, c := range run.Cells { // the first that has artefacts has a file among them
		if c.Artefacts != "" {
			folder := filepath.Join(dir, "run", c.Artefacts)
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "console 1%.log"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	out, stderr, code := program("e2e", "report", path, "--junit", junit, "--tap", tap, "--html", page, "--github")
	if code != exitNo || !strings.HasPrefix(out, "::error file=examples/matrix-smoke.yaml,line=12,title=") {
		t.Errorf("exit code %d, %s%s", code, out, stderr)
	}
	for file, has := range map[string]string{junit: "artefacts: run/artefacts/", tap: "artefacts: artefacts/", summary: "### ❌ smoke: ", page: "/console%201%25.log\">console 1%.log</a>"} {
		if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), has) {
			t.Errorf("%s has no %q (%v)", file, has, err)
		}
	}
	// The summary is a file of the whole job: one adds to it.
	if _, _, code := program("e2e", "report", path, "--github"); code != exitNo {
		t.Errorf("exit code %d", code)
	}
	if b, _ := os.ReadFile(summary); strings.Count(string(b), "### ❌ smoke") != 2 {
		t.Errorf("the job's summary was written over:\n%s", b)
	}
	green := resultsFile(t, dir, "green", resultstest.Run(resultstest.Options{Seed: 3, Green: true}), 0)
	if out, stderr, code := program("e2e", "report", green); code != exitOK || !strings.HasPrefix(out, "smoke: 172 passed in ") {
		t.Errorf("a green run: exit code %d, %s%s", code, out, stderr)
	}
	if _, stderr, code := program("e2e", "report", green, "--junit", filepath.Join(dir, "no", "where")); code != exitNo || !strings.Contains(stderr, "where") {
		t.Errorf("a folder that is not there: exit code %d, %s", code, stderr)
	}
	for args, says := range map[string]string{"e2e": "merge, diff, report", "e2e mrge": "did you mean merge?", "e2e report": "name a file of results"} {
		if _, stderr, code := program(strings.Fields(args)...); code != exitUsage || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit code %d, %s", args, code, stderr)
		}
	}
}
