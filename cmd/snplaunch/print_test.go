package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/internal/shell"
)

// What is folded, a shell reads as it was.
func TestFold(t *testing.T) {
	for _, word := range []string{strings.Repeat("x", 5000), strings.Repeat("it's a b ", 700), strings.Repeat(`\'"$`, 900), "line\n" + strings.Repeat("' ", 2000)} {
		folded := fold(shell.Quote("printf", "%s", word))
		for line := range strings.Lines(folded) {
			if len(line) > foldedLine+10 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		out, err := exec.Command("sh", "-c", folded).Output()
		if err != nil || string(out) != word {
			t.Errorf("%.40q…: the shell reads %.40q…, %v", word, out, err)
		}
	}
}

// Where the evidence cannot go is told before anything is launched.
func TestBundleWithoutAFolder(t *testing.T) {
	path := t.TempDir() + "/missing/evidence"
	if _, stderr, code := program("run", "--bundle", path); code != exitUsage || !strings.Contains(stderr, "there is no folder") {
		t.Errorf("%d, %s", code, stderr)
	}
}
