package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// said runs a command line with something on its standard input.
func said(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = dispatch(&env{ctx: t.Context(), stdin: strings.NewReader(stdin), stdout: &out, stderr: &err}, args)
	return code, out.String(), err.String()
}

func TestDiagnoseLog(t *testing.T) {
	const log = "noise\r\nqemu-system-x86_64: SNP_LAUNCH_FINISH ret=-5 fw_error=7 'Policy is not allowed'\r\n"
	code, stdout, stderr := said(t, log, "diagnose", "--log", "-")
	for _, want := range []string{"finish-policy (line 2)", "cause:", "already right:", "what to do:", "source:"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q lacks %q", stdout, want)
		}
	}
	if code != exitOK || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}

	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = said(t, "", "diagnose", "--log", path, "--json")
	var got struct{ Findings []foundFailure }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || len(got.Findings) != 1 {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	if f := got.Findings[0]; f.ID != "finish-policy" || f.FWStatus != "POLICY_FAILURE" || f.Ret == nil || *f.Ret != -5 || f.Line != 2 {
		t.Errorf("got %+v", f)
	}
}

func TestDiagnoseNothing(t *testing.T) {
	code, stdout, stderr := said(t, "all is well\n", "diagnose", "--log", "-")
	if code != exitNo || stdout != "" || !strings.Contains(stderr, "nothing recognised") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = said(t, "", "diagnose", "--log", "-", "--json")
	if code != exitNo || !strings.Contains(stdout, `"findings": []`) {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	for _, args := range [][]string{{"diagnose"}, {"diagnose", "--log", "-", "file"}} {
		if code, _, stderr := said(t, "", args...); code != exitUsage || !strings.Contains(stderr, "--log") {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
	if code, _, stderr := said(t, "", "diagnose", "--log", "/nonexistent"); code != exitNo || !strings.Contains(stderr, "/nonexistent") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
