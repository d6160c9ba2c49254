// Package testmod judges what e2e/ci writes, and the examples beside it, with
// the code of those who read it. It is a module of its own because actionlint
// and Kubernetes' API would otherwise be among the dependencies of everybody
// who imports snplaunch. scripts/test runs it.
package testmod

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rhysd/actionlint"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func files(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	out := map[string][]byte{}
	for _, p := range paths {
		if out[p], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestWorkflows(t *testing.T) {
	for path, text := range files(t, "../../../examples/ci/github-*.yml") {
		linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{ConfigFile: "actionlint.yaml"})
		if err != nil {
			t.Fatal(err)
		}
		found, err := linter.Lint(path, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("%s:%d:%d: %s", path, f.Line, f.Column, f.Message)
		}
	}
}

// The linter is one that finds something.
func TestWorkflowThatIsWrong(t *testing.T) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{ConfigFile: "actionlint.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	found, err := linter.Lint("wrong.yml", []byte("on: push\njobs:\n  a:\n    runs-on: [self-hosted, typo]\n    steps:\n      - run: echo ${{ matrix.shard }}\n"), nil)
	if err != nil || len(found) != 2 {
		t.Errorf("%d mistakes found of 2: %v (%v)", len(found), found, err)
	}
}

func TestJobs(t *testing.T) {
	for path, text := range files(t, "../testdata/job*.yaml") {
		var job batchv1.Job
		if err := yaml.UnmarshalStrict(text, &job); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		spec := job.Spec
		if job.APIVersion != "batch/v1" || job.Kind != "Job" || spec.CompletionMode == nil || *spec.CompletionMode != batchv1.IndexedCompletion ||
			spec.Completions == nil || spec.Parallelism == nil || *spec.Parallelism != *spec.Completions || *spec.Completions < 1 {
			t.Errorf("%s is not an indexed Job that runs all shards at once", path)
		}
		// The API server wants these together (validation of batch/v1).
		if spec.BackoffLimitPerIndex == nil || spec.PodFailurePolicy == nil || spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
			t.Errorf("%s: a shard that failed may be run again, or end the others", path)
		}
		volumes := map[string]bool{}
		for _, v := range spec.Template.Spec.Volumes {
			volumes[v.Name] = true
			if h := v.HostPath; h != nil && (h.Type == nil || *h.Type != corev1.HostPathCharDev) {
				t.Errorf("%s: %s of the host may be anything", path, h.Path)
			}
		}
		for _, c := range spec.Template.Spec.Containers {
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					t.Errorf("%s mounts %s, which is no volume", path, m.Name)
				}
			}
			privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
			asks := map[string][3]bool{ // privileged, devices of a plugin, a node of a kind
				"job.yaml": {false, true, true}, "job-host.yaml": {true, false, true}, "job-own.yaml": {false, true, true}, "job-sim.yaml": {},
			}[filepath.Base(path)]
			if is := [3]bool{privileged, len(c.Resources.Limits) > 0, len(spec.Template.Spec.NodeSelector) > 0}; is != asks {
				t.Errorf("%s: privileged, devices, node selector are %v, want %v", path, is, asks)
			}
			for name, n := range c.Resources.Limits {
				if n.Value() != 1 {
					t.Errorf("%s asks for %s of %s", path, n.String(), name)
				}
			}
		}
	}
}

// What the workflow's matrix names is what its jobs use.
func TestMatrix(t *testing.T) {
	for path, text := range files(t, "../testdata/github-matrix.json") {
		var m struct {
			Include []map[string]any `json:"include"`
		}
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, key := range []string{"shard", "number", "cells", "minutes"} {
			if _, has := m.Include[0][key]; !has {
				t.Errorf("%s has no %s", path, key)
			}
		}
	}
}
