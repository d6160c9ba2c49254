package shell_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/internal/shell"
)

// A shell reads back what was written.
func TestQuote(t *testing.T) {
	words := []string{"plain", "", "two words", "it's", "$HOME", "`id`", "a;b", "*", "\\", "\"", "line\nbreak", "~", "#no", "-x", "ä"}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+shell.Quote(words...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSuffix(string(out), "\x00"); got != strings.Join(words, "\x00") {
		t.Errorf("got %q", got)
	}
	if got := shell.Quote("qemu-system-x86_64", "-m", "512M"); got != "qemu-system-x86_64 -m 512M" {
		t.Errorf("got %s, want it legible", got)
	}
}
