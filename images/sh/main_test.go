package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestShell(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("echo \"$1,$2,$#\"\nexit 5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		stdin  string
		stdout string
		stderr string // a part of it
		code   int
	}{
		{"the command's exit code", []string{"-c", "exit 3"}, "", "", "", 3},
		{"a failing command's", []string{"-c", "false"}, "", "", "", 1},
		{"a signal's", []string{"-c", `/bin/sh -c 'kill -9 $$'`}, "", "", "", 137},
		{"a missing command's", []string{"-c", "no-such-command"}, "", "", "no-such-command", 127},
		{"success", []string{"-c", "echo a; echo b >&2"}, "", "a\n", "b\n", 0},
		{"name and arguments", []string{"-c", `echo "$0 $1 $#"`, "name", "x", "y"}, "", "name x 2\n", "", 0},
		{"options before -c", []string{"-e", "-c", "false; echo on"}, "", "", "", 1},
		{"options with -c", []string{"-ec", "false; echo on"}, "", "", "", 1},
		{"an option that is switched off", []string{"-e", "+e", "-c", "false; echo on"}, "", "on\n", "", 0},
		{"a long option", []string{"-o", "pipefail", "-c", "false | true"}, "", "", "", 1},
		{"-- before the script", []string{"--", script, "x"}, "", "x,,1\n", "", 5},
		{"a script and its arguments", []string{script, "x", "-y"}, "", "x,-y,2\n", "", 5},
		{"standard input", nil, "echo in; exit 4", "in\n", "", 4},
		{"what the script reads", []string{"-c", "read x; echo got $x"}, "line\n", "got line\n", "", 0},
		{"-c alone", []string{"-c"}, "", "", "needs a command", 2},
		{"bad syntax", []string{"-c", "if"}, "", "", "sh:", 2},
		{"a bad option", []string{"-Z", "-c", "true"}, "", "", "Z", 2},
		{"no such script", []string{script + ".no"}, "", "", "no such file", 127},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(c.args, strings.NewReader(c.stdin), &stdout, &stderr)
			if code != c.code || stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("exit %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
			}
		})
	}
}
