package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const twelveCells = `name: twelve
groups:
  - name: launches
    depth: launch
    twins: false
    axes:
      vcpus: [1, 2, 3, 4, 5, 6, 7, 8]
  - name: boots
    axes:
      vcpus: [1, 2, 4, 8]
`

func TestPlanFormats(t *testing.T) {
	matrix := filepath.Join(t.TempDir(), "twelve.yaml")
	if err := os.WriteFile(matrix, []byte(twelveCells), 0o644); err != nil {
		t.Fatal(err)
	}
	plan := func(flags ...string) string {
		t.Helper()
		out, stderr, code := program(append([]string{"e2e", "plan", matrix, "--backend", "sim"}, flags...)...)
		if code != exitOK || stderr != "" {
			t.Fatalf("%q: exit code %d, %s", flags, code, stderr)
		}
		return out
	}

	// All cells are handed out, as each shard finds them by itself.
	var jobs struct {
		Include []struct {
			Shard string
			Cells int
		}
	}
	if err := json.Unmarshal([]byte(plan("--shards", "3", "--format", "github-matrix")), &jobs); err != nil || len(jobs.Include) != 3 {
		t.Fatalf("%d jobs of 3 shards (%v)", len(jobs.Include), err)
	}
	total := 0
	for _, j := range jobs.Include {
		var own struct{ Cells []any }
		if err := json.Unmarshal([]byte(plan("--shard", j.Shard, "--json")), &own); err != nil || len(own.Cells) != j.Cells {
			t.Errorf("the job of shard %s says %d cells, the shard %d (%v)", j.Shard, j.Cells, len(own.Cells), err)
		}
		total += j.Cells
	}
	if total != 12 {
		t.Errorf("%d cells of 12", total)
	}

	// What says which cells are meant is said to each shard, too.
	var pipeline struct {
		Shard struct {
			Image    string
			Tags     []string
			Parallel int
			Script   []string
		}
	}
	text := plan("--shards", "2", "--format", "gitlab", "--filter", "^boots/.*$", "--image", "i:1", "--tags", "epyc,snp")
	if err := yaml.Unmarshal([]byte(text), &pipeline); err != nil {
		t.Fatal(err)
	}
	s := pipeline.Shard
	if s.Image != "i:1" || strings.Join(s.Tags, " ") != "epyc snp" || s.Parallel != 2 || !strings.Contains(s.Script[1], ` --backend sim --filter '^boots/.*$' `) {
		t.Errorf("the pipeline is\n%s", text)
	}
	if !strings.Contains(text, ": 4 cells in 2 shards") {
		t.Errorf("four cells match, but\n%s", text)
	}

	// A plan for machines with SNP is made on one without.
	out, stderr, code := program("e2e", "plan", matrix, "--backend", "snp", "--format", "k8s-job", "--shards", "4", "--image", "i", "--claim", "c",
		"--devices", "amd.com/sev", "--node-selector", "pool=epyc", "--node-selector", "zone=a")
	if code != exitOK {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	for _, has := range []string{"completions: 4\n", "amd.com/sev: \"1\"\n", "pool: epyc\n", "zone: a\n", "claimName: c\n", "--backend snp"} {
		if !strings.Contains(out, has) {
			t.Errorf("the Job has no %q:\n%s", has, out)
		}
	}
	if out, _, _ = program("e2e", "plan", matrix, "--backend", "snp", "--format", "k8s-job", "--image", "i", "--claim", "c", "--host-devices"); !strings.Contains(out, "privileged: true") {
		t.Errorf("--host-devices gives\n%s", out)
	}
}

func TestPlanFormatMistakes(t *testing.T) {
	matrix := filepath.Join(t.TempDir(), "twelve.yaml")
	if err := os.WriteFile(matrix, []byte(twelveCells), 0o644); err != nil {
		t.Fatal(err)
	}
	for flags, says := range map[string]string{
		"--format gitlap":                                "did you mean gitlab?",
		"--shards 3":                                     "--shards is for --format github-matrix, gitlab, k8s-job",
		"--shards 0 --format gitlab":                     "--shards 0: at least one",
		"--shards 13 --format gitlab":                    "--shards 13: there are 12 cells",
		"--shard 1/3 --format gitlab":                    "--shards 3 instead of --shard 1/3",
		"--json --format gitlab":                         "choose one",
		"--format github-matrix --image i":               "--image is for --format gitlab, k8s-job",
		"--format gitlab --tags a,,b":                    "empty name",
		"--format k8s-job --image i --claim c --tags a":  "--tags is for --format gitlab",
		"--format k8s-job --node-selector epyc":          "no LABEL=VALUE",
		"--format k8s-job --devices a/b --host-devices":  "choose one",
		"--format k8s-job --claim c":                     "--image",
		"--format k8s-job --image i --node-selector a=b": "--claim",
	} {
		if out, stderr, code := program(append([]string{"e2e", "plan", matrix}, strings.Fields(flags)...)...); code != exitUsage || out != "" || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit code %d, %s%s; want %q said", flags, code, out, stderr, says)
		}
	}
}
