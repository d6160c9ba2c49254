package main

import (
	"strings"
	"testing"
)

func TestExplainVerb(t *testing.T) {
	code, stdout, stderr := said(t, "", "explain", "fw_error=11", "-22", "-EIO", "finish-policy")
	if code != exitOK || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, want := range []string{"fw_error=11 (firmware status)", "BAD_MEASUREMENT", "EINVAL", "EIO is errno 5", "source: "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q lacks %q", stdout, want)
		}
	}
	if code, stdout, stderr := said(t, "", "explain", "nonsense", "EIO"); code != exitNo || !strings.Contains(stdout, "errno 5") || !strings.Contains(stderr, `"nonsense"`) {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, _ := said(t, "", "explain", "--json", "EIO"); code != exitOK || !strings.Contains(stdout, `"kind": "return value"`) {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	if code, _, stderr := said(t, "", "explain"); code != exitUsage || !strings.Contains(stderr, "fw_error=11") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if code, _, _ := said(t, "", "explain", "--help"); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
