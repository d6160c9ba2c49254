package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/e2e/results"
)

// The tests that AMD's sev-certify makes, as cells of several steps.
func TestCertifyExample(t *testing.T) {
	parts(t)
	file := filepath.Join(t.TempDir(), "certify.results.jsonl")
	cmd, _ := command(t, "certify", "e2e", "run", "../examples/certify.yaml", "--backend", "sim", "-j", "2", "--results", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run, err := results.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Cells) != 4 {
		t.Fatalf("%d cells", len(run.Cells))
	}
	for _, c := range run.Cells {
		for _, s := range c.Steps {
			if s.Status != results.Passed && s.Name != "the guest knows that it is confidential" { // under TCG it is no SNP guest
				t.Errorf("%s: step %s: %s: %s", c.ID, s.Name, s.Status, s.Message)
			}
		}
		if len(c.Steps) < 3 {
			t.Errorf("%s has %d steps", c.ID, len(c.Steps))
		}
	}
}

// A step that fails fails its cell, with the hint that its output calls for; what comes
// after it is skipped; what it wrote is kept; and the guest is ended.
func TestAStepFails(t *testing.T) {
	parts(t)
	dir := t.TempDir()
	matrix, file := filepath.Join(dir, "m.yaml"), filepath.Join(dir, "m.results.jsonl")
	if err := os.WriteFile(matrix, []byte(`
groups:
  - name: talk
    steps:
      - {name: asked to fail, host: [sh, -c, "echo one; echo two >&2; exit 3"], expect: {exit: 3, output: "^one$"}}
      - {name: only told, host: ["false"], info: true}
      - {name: by a signal, host: [sh, -c, "sleep 987 & kill -9 $$"], expect: {exit: 137}}
      - {name: waits, host: [sleep, "60"], limit: 100ms, info: true}
      - launch: {}
      - name: fails
        guest: [sh, -c, "echo no such luck >&2; exit 4"]
        hints: [{when: never, say: wrong}, {when: such l, say: try another day}]
      - {guest: ["true"]}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	const mark = "stepfails"
	cmd, tmp := command(t, mark, "e2e", "run", matrix, "--backend", "sim", "--results", file)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	if still := gone(t, mark); still != nil {
		t.Errorf("left: %q", still)
	}
	if entries, err := os.ReadDir(tmp); err != nil || len(entries) > 0 {
		t.Errorf("temporary files: %v, %v", entries, err)
	}
	run, err := results.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := run.Cells[0]
	if c.Status != results.Failed || !strings.Contains(c.Message, "step 6, fails: exit code 4, expected 0 (no such luck)") {
		t.Errorf("%s: %s", c.Status, c.Message)
	}
	var got []string
	for _, s := range c.Steps {
		got = append(got, string(s.Status))
	}
	if want := "passed skipped passed skipped passed failed skipped"; strings.Join(got, " ") != want {
		t.Errorf("steps %v, want %s", got, want)
	}
	if m := c.Steps[3].Message; !strings.Contains(m, "longer than 100ms") {
		t.Errorf("a step over its limit: %q", m)
	}
	if h := c.Steps[5].Hint; h != "try another day" {
		t.Errorf("hint %q", h)
	}
	for name, want := range map[string]string{"01-host.stdout": "one\n", "01-host.stderr": "two\n", "06-guest.stderr": "no such luck\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, c.Artefacts, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// Steps that cannot be are refused with their place, before anything is launched.
func TestStepsThatCannotBe(t *testing.T) {
	for steps, want := range map[string]string{
		`[{name: x}]`:                                  "steps[0]: it does nothing (give one of launch,",
		`[{stop: true, attest: true}]`:                 "a step does one thing, and this one has stop already",
		`[{guest: [id]}]`:                              "steps[0]: guest needs a guest that runs (launch it first)",
		`[{launch: {}}, {launch: {}}]`:                 "steps[1]: the guest runs already (stop it first)",
		`[{stop: true}]`:                               "steps[0]: there is no guest to stop",
		`[{stop: false}]`:                              "false says nothing (leave the step out)",
		`[{launch: {vcpu: 2}}]`:                        "m.yaml:4: unknown key vcpu (did you mean vcpus or cpu?)",
		`[{launch: []}]`:                               "keys of a guest that are other than the group's are wanted",
		`[{host: []}]`:                                 "there is no command",
		`[{check: a/b}]`:                               `"a/b" is no name of a collected file`,
		`[{check: a}]`:                                 "check needs expect",
		`[{equal: [a]}]`:                               "two names of collected files are wanted",
		`[{host: [id], expect: launches}]`:             `"launches" is expected of a launch, not of host`,
		`[{launch: {}, expect: {exit: 1}}]`:            "launch has no exit code to expect",
		`[{host: [id], expect: {output: "("}}]`:        "missing closing )",
		`[{host: [id], hints: [{when: "[", say: x}]}]`: "missing closing ]",
		`[{put: {host: x}}]`:                           "it needs both files",
		`[{put: {host: x, guest: y, mode: rwx}}]`:      `"rwx" is no mode`,
		`[{hots: [id]}]`:                               "unknown key groups[0].steps[0].hots (did you mean host or hints?)",
	} {
		_, err := e2e.Parse([]byte("groups:\n  - name: g\n    steps:\n      "+steps+"\n"), "m.yaml")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", steps, err, want)
		}
	}
}
