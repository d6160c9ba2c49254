package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/internal/shell"
)

// A script in QEMU's place that waits for a child which says nothing is bounded by
// --timeout, whatever it answers before, and its child ends with it.
func TestScriptThatHangsInQEMUsPlace(t *testing.T) {
	p := parts(t)
	for answers, want := range map[string]string{
		"":                  "did not answer",
		"--version":         "timeout",
		"--version|-object": "timeout",
	} {
		script := filepath.Join(t.TempDir(), "qemu")
		text := "#!/bin/sh\n"
		if answers != "" {
			text += fmt.Sprintf("[ $# -gt 2 ] || case $1 in %s) exec %s \"$@\";; esac\n", answers, shell.Quote(p.QEMU.Path))
		}
		if err := os.WriteFile(script, []byte(text+"sleep 1000\necho late\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd, _ := command(t, "script", "run", "--backend", "sim", "--keep", "never", "--timeout", "2s", "--qemu", script,
			"--ovmf", p.Firmware.Path, "--kernel", p.Kernel.Path, "--initrd", p.Initrd.Path)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !endsWithin(waiting(cmd), cmd, 40*time.Second) {
			t.Fatalf("%q: it does not end", answers)
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(out.String(), want) {
			t.Errorf("%q: exit code %d\n%s", answers, code, out.String())
		}
		if l := gone(t, "script"); l != nil {
			t.Errorf("%q: processes are left: %q", answers, l)
		}
	}
}
