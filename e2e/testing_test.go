package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// One guest, as a test of somebody else's would have it.
func TestRunAGuest(t *testing.T) {
	parts(t)
	g := guest.Default()
	g.VCPUs = 2
	vm := e2e.Run(t, &g, withOptions(t))
	if out := vm.Command("cat", "/proc/cpuinfo"); strings.Count(out.Stdout, "processor\t") != 2 {
		t.Errorf("/proc/cpuinfo: %+v", out)
	}
	vm.Put("/tmp/words", 0o600, strings.NewReader("three little words"))
	if got := string(vm.Get("/tmp/words")); got != "three little words" {
		t.Errorf("back came %q", got)
	}
	if out := vm.Command("cat", "/tmp/words"); out.Stdout != "three little words" || out.Exit != 0 {
		t.Errorf("cat: %+v", out)
	}
	if out := vm.Command("false"); out.Exit != 1 {
		t.Errorf("false: %+v", out)
	}
	vm.Attest()
	if !strings.Contains(vm.Console(), "Linux version") {
		t.Errorf("the console has no kernel in it: %q", vm.Console())
	}
	res := vm.Stop()
	if res.Verdict != launcher.VerdictMatch || !res.ReportVerified || *res.Reported != res.Computed {
		t.Errorf("%s, verified %v", res.Verdict, res.ReportVerified)
	}
}

// withOptions launches as this package's tests do.
func withOptions(t testing.TB) e2e.Option {
	return e2e.WithOptions(func(o *launcher.Options) { o.DataDir, o.Backend = dataFolder, launcher.BackendSim })
}

// A test that fails, in a process of its own: it says how to launch the guest again, and
// leaves the description and the console. Where parts are missing it is skipped with the
// remedy, and where nothing may be missing it fails; -short skips it.
func TestRunAGuestThatFails(t *testing.T) {
	if os.Getenv("SNPLAUNCH_TEST_INNER") != "" {
		g := guest.Default()
		if os.Getenv("SNPLAUNCH_TEST_INNER") == "refused" {
			g.Policy = 0x10000 // bit 17 is clear
		}
		e2e.Run(t, &g, withOptions(t))
		t.Fatal("it runs")
	}
	parts(t)
	inner := func(env []string, args ...string) (string, bool) {
		cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestRunAGuestThatFails$", "-test.v"}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err == nil
	}
	tmp := t.TempDir()
	out, ok := inner([]string{"SNPLAUNCH_TEST_INNER=refused", "TMPDIR=" + tmp})
	again := regexp.MustCompile(`to launch this guest again: snplaunch run (\S+guest\.yaml)`).FindStringSubmatch(out)
	if ok || again == nil || !strings.Contains(out, "policy") {
		t.Fatalf("ok %v:\n%s", ok, out)
	}
	for _, name := range []string{"guest.yaml", "console.log"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(again[1]), name)); err != nil {
			t.Error(err)
		}
	}
	out, ok = inner([]string{"SNPLAUNCH_TEST_INNER=runs"}, "-test.short")
	if !ok || !strings.Contains(out, "SKIP") || !strings.Contains(out, "-short") {
		t.Errorf("-short: ok %v:\n%s", ok, out)
	}
	nothing := []string{"SNPLAUNCH_TEST_INNER=runs", "XDG_CACHE_HOME=" + tmp, "SNPLAUNCH_OVMF=", "SNPLAUNCH_KERNEL=", "SNPLAUNCH_INITRD=", "SNPLAUNCH_REQUIRE_ALL="}
	out, ok = inner(nothing)
	if !ok || !strings.Contains(out, "SKIP") || !strings.Contains(out, "run `snplaunch setup`") {
		t.Errorf("without parts: ok %v:\n%s", ok, out)
	}
	out, ok = inner(append(nothing, "SNPLAUNCH_REQUIRE_ALL=1"))
	if ok || !strings.Contains(out, "nothing may be missing") {
		t.Errorf("where nothing may be missing: ok %v:\n%s", ok, out)
	}
}

// A test of one's own boots the default guest, asks it for what it wants to know, and
// is sure that it talks to what was measured.
func ExampleRun() {
	_ = func(t *testing.T) {
		vm := e2e.Run(t, nil)
		vm.Put("/tmp/check", 0o755, strings.NewReader("#!/bin/sh\nuname -r\n"))
		if out := vm.Command("sh", "/tmp/check"); out.Exit != 0 {
			t.Errorf("the check failed: %s", out.Stderr)
		}
	}
}

// A matrix is read, and its cells are listed without running any.
func ExampleParse() {
	m, err := e2e.Parse([]byte(`
groups:
  - name: direct
    depth: launch
    axes: {vcpus: [1, 2]}
`), "matrix.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	cells, err := m.Cells("sim")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range cells {
		fmt.Printf("%s: %s\n", c.ID, c.Expect)
	}
	// Output:
	// direct/vcpus=1: launches
	// direct/vcpus=1/tamper=flipped: fails: SNP_LAUNCH_FINISH BAD_MEASUREMENT
	// direct/vcpus=2: launches
	// direct/vcpus=2/tamper=flipped: fails: SNP_LAUNCH_FINISH BAD_MEASUREMENT
}
