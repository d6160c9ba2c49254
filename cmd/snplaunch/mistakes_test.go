package main

import (
	"strings"
	"testing"
)

// Who mistypes is told what was meant.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"meausre"}, "did you mean measure?"},
		{[]string{"xyzzy"}, "use one of run, measure"},
		{[]string{"sim", "exec", "ls"}, "name the command after --"},
		{[]string{"sim", "exec", "qemu-system-x86_64", "-machine", "q35"}, "name the command after --"},
		{[]string{"sim", "exec"}, "name the command after --"},
		{[]string{"sim", "exec", "--"}, "name the command after --"},
		{[]string{"sim", "exec", "--hodl", "--", "true"}, "did you mean --hold?"},
	} {
		if _, stderr, code := program(c.args...); code != exitUsage || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: exit code %d, %q; want 2, and %q said", c.args, code, stderr, c.says)
		}
	}
	if out, _, code := program("sim", "exec", "--help"); code != exitOK || !strings.Contains(out, "--kernel-profile") {
		t.Errorf("sim exec --help: exit code %d, %q", code, out)
	}
}
