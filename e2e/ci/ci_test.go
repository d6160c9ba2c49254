package ci

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write testdata anew")

func plan(n int) Plan {
	p := Plan{Name: "Smoke test", Matrix: "examples/matrix-smoke.yaml", Backend: "snp"}
	for i := range n {
		p.Shards = append(p.Shards, Shard{Cells: 150 + i, Cost: time.Duration(100+i) * time.Second})
	}
	return p
}

func wrote(t *testing.T, format string, p Plan, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, format, p, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The files in testdata are also what the module testmod judges, with actionlint's
// and Kubernetes' own code.
func TestWrite(t *testing.T) {
	onK8s := Options{Image: "registry.example/snplaunch:1", Claim: "snplaunch-results"}
	hostDevices := onK8s
	hostDevices.HostDevices = true
	own := onK8s
	own.Devices, own.NodeSelector = []string{"amd.com/sev-snp"}, map[string]string{"pool": "epyc"}
	simulated := plan(3)
	simulated.Backend = "sim"
	odd := plan(2)
	odd.Matrix, odd.Name = "it's a $(matrix).yaml", "–"
	for name, text := range map[string]string{
		"github-matrix.json": wrote(t, "github-matrix", plan(3), Options{}),
		"gitlab.yaml":        wrote(t, "gitlab", plan(3), Options{Image: "registry.example/snplaunch:1", Tags: []string{"sev-snp"}}),
		"gitlab-single.yaml": wrote(t, "gitlab", plan(1), Options{}),
		"job.yaml":           wrote(t, "k8s-job", plan(3), onK8s),
		"job-host.yaml":      wrote(t, "k8s-job", plan(3), hostDevices),
		"job-own.yaml":       wrote(t, "k8s-job", odd, own),
		"job-sim.yaml":       wrote(t, "k8s-job", simulated, onK8s),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s is now (go test ./e2e/ci -update, after a look):\n%s", path, text)
		}
	}
}

func TestGitHubMatrixIsOneLineOfAllShards(t *testing.T) {
	text := wrote(t, "github-matrix", plan(256), Options{})
	var m struct {
		Include []struct {
			Shard                  string
			Number, Cells, Minutes int
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || strings.Count(text, "\n") != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	for i, j := range m.Include {
		if j.Number != i+1 || j.Shard != fmt.Sprintf("%d/256", i+1) || j.Cells != 150+i || j.Minutes < 2 {
			t.Errorf("job %d is %+v", i, j)
		}
	}
	if len(m.Include) != 256 {
		t.Errorf("%d jobs of 256 shards", len(m.Include))
	}
}

// A pipeline is held against what GitLab's reference says of each keyword that
// it uses: what is required, what goes with what, and what refers to what.
func TestGitLabPipeline(t *testing.T) {
	for _, n := range []int{1, 3, 200} {
		d := yaml.NewDecoder(strings.NewReader(wrote(t, "gitlab", plan(n), Options{})))
		d.KnownFields(true)
		var p gitlabPipeline
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		jobs := map[string]gitlabJob{"shard": p.Shard, "verdict": p.Verdict}
		stage := map[string]int{}
		for i, s := range p.Stages {
			stage[s] = i
		}
		for name, j := range jobs {
			if _, known := stage[j.Stage]; !known || len(j.Script) == 0 || j.Artifacts.Reports.JUnit == "" {
				t.Errorf("%d shards: job %s is %+v", n, name, j)
			}
			for _, need := range j.Needs {
				if other, is := jobs[need.Job]; !is || stage[other.Stage] >= stage[j.Stage] {
					t.Errorf("job %s needs %s", name, need.Job)
				}
			}
			for _, path := range j.Artifacts.Paths {
				if !filepath.IsLocal(path) {
					t.Errorf("job %s keeps %s, which is not in the project", name, path)
				}
			}
			shellReads(t, j.Script...)
		}
		if uses := strings.Contains(p.Shard.Script[1], "$CI_NODE_INDEX"); uses != (p.Shard.Parallel > 0) || n > 1 && p.Shard.Parallel != n {
			t.Errorf("%d shards run as %d jobs: %s", n, p.Shard.Parallel, p.Shard.Script[1])
		}
	}
}

// shellReads sees that a shell can read commands.
func shellReads(t *testing.T, commands ...string) {
	t.Helper()
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%q: %v: %s", commands, err, out)
	}
}

// The command of a pod gives snplaunch the words that were meant, whatever the
// matrix is called.
func TestPodRunsItsShard(t *testing.T) {
	p := plan(8)
	p.Matrix, p.Select = "it's a $(matrix).yaml", []string{"--filter", "^boot/.*$(x)|a b$"}
	var job k8sJob
	if err := yaml.Unmarshal([]byte(wrote(t, "k8s-job", p, Options{Image: "i", Claim: "c"})), &job); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "snplaunch"), []byte("#!/bin/sh\nprintf '%s|' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	command := job.Spec.Template.Spec.Containers[0].Command
	for i := range command { // as Kubernetes does; it leaves $( of no variable alone
		command[i] = strings.ReplaceAll(command[i], "$$", "$")
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{"JOB_COMPLETION_INDEX=4", "JOB_NAME=snplaunch-smoke-x7k2p", "PATH=" + dir}
	out, err := cmd.CombinedOutput()
	if want := "e2e|run|it's a $(matrix).yaml|--shard|5/8|--results|/results/snplaunch-smoke-x7k2p/shard-5.jsonl|--backend|snp|--filter|^boot/.*$(x)|a b$|--resume|"; err != nil || string(out) != want {
		t.Errorf("runs %q (%v), want %q", out, err, want)
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	for _, c := range []struct {
		format, says string
		shards       int
		o            Options
	}{
		{"k8sjob", "did you mean k8s-job?", 3, Options{}},
		{"jenkins", "use one of github-matrix, gitlab, k8s-job", 3, Options{}},
		{"gitlab", "has no shards", 0, Options{}},
		{"gitlab", "at most 200", 201, Options{}},
		{"github-matrix", "at most 256", 257, Options{}},
		{"k8s-job", "--image", 3, Options{Claim: "c"}},
		{"k8s-job", "--claim", 3, Options{Image: "i"}},
	} {
		if err := Write(new(bytes.Buffer), c.format, plan(c.shards), c.o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s of %d shards: %v; want %q said", c.format, c.shards, err, c.says)
		}
	}
}
