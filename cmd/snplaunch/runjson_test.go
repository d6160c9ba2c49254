package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// Who asks for an object gets one, however early a run ends.
func TestRunJSONOfWhatIsNotLaunched(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	code, stdout, stderr := said(t, "", "run", "--json", "--backend", "sim", missing)
	var got struct {
		Verdict, Outcome string
		Error            struct{ Message string }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in %q", err, stdout)
	}
	if code == exitOK || got.Verdict != "not-launched" || got.Outcome != "not-launched" || got.Error.Message == "" || !strings.Contains(stderr, got.Error.Message) {
		t.Errorf("exit code %d, %+v, %s", code, got, stderr)
	}
}
