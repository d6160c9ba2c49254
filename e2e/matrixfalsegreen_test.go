package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a matrix says is what is tried: none of these may pass for another reason, or
// take something else down.
func TestMatrixPassesForNoOtherReason(t *testing.T) {
	p := parts(t)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("qemu-system-x86_64", "#!/bin/sh\necho a broken build >&2\nexit 1\n", 0o755)
	for _, c := range []struct {
		name, groups string
		flags        []string
		code         int
		says         string
	}{
		{"a QEMU beside the matrix", "groups: [{name: a, depth: launch, twins: false, axes: {qemu: [./qemu-system-x86_64]}}]", nil, 1, "a broken build"},
		{"a QEMU of that name in PATH", "groups: [{name: a, depth: launch, twins: false}]", []string{"--qemu", "qemu-system-x86_64-missing"}, 1, "there is no program qemu-system-x86_64-missing"},
		{"fails without a refusal", "groups: [{name: a, depth: launch, twins: false, expect: fails, axes: {qemu: [./qemu-system-x86_64]}}]", nil, 1, "neither KVM nor the firmware refused"},
		{"refused for a missing file", "groups: [{name: a, depth: launch, twins: false, expect: refused, guest: {disks: [{file: nope.img}]}}]", nil, 1, "could not be tried"},
		{"an initrd of the guest's own", "groups: [{name: a, depth: launch, twins: false, guest: {initrd: own.cpio}}]", nil, 0, "1 passed"},
		{"a step without a guest", "groups: [{name: a, steps: [{launch: {policy: 0x10000}, info: true}, {guest: [\"true\"]}]}]", nil, 1, "no guest runs"},
		{"a script beside the matrix", "groups: [{name: a, steps: [{host: [sh, -c, 'test -f \"$SNPLAUNCH_MATRIX_DIR/m.yaml\"']}]}]", nil, 0, "1 passed"},
		{"a launch step expected to fail", "groups: [{name: a, steps: [{launch: {}, expect: {fails: BAD_MEASUREMENT}}]}]", nil, 1, "expected fails"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write("m.yaml", c.groups+"\n", 0o644)
			write("own.cpio", "an initrd", 0o644)
			r := runProgram(t, dir, append([]string{"e2e", "run", "m.yaml", "--backend", "sim", "--overwrite"}, c.flags...)...)
			if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.says) {
				t.Errorf("exit code %d, want %d and %q said:\n%s%s", r.code, c.code, c.says, r.stdout, r.stderr)
			}
		})
	}

	// What repeats a cell has the flags that it depends on.
	write("m.yaml", "groups: [{name: a, depth: launch, twins: false}]\n", 0o644)
	broken := filepath.Join(dir, "qemu-system-x86_64")
	r := runProgram(t, dir, "e2e", "run", "m.yaml", "--backend", "sim", "--overwrite", "--qemu", broken, "--budget", "20s", "--offline")
	command, err := os.ReadFile(filepath.Join(dir, "m.results.cells", "a", "command"))
	if err != nil || r.code != 1 {
		t.Fatalf("exit code %d, %v\n%s", r.code, err, r.stderr)
	}
	for _, want := range []string{"--qemu " + broken, "--budget 20s", "--offline", "--cell a"} {
		if !strings.Contains(string(command), want) {
			t.Errorf("%s lacks %q", command, want)
		}
	}

	// What a guest's command said is kept.
	write("m.yaml", "groups: [{name: a, guest: {command: [sh, -c, 'echo said; echo boom >&2; exit 3']}}]\n", 0o644)
	r = runProgram(t, dir, "e2e", "run", "m.yaml", "--backend", "sim", "--overwrite")
	if r.code != 1 || !strings.Contains(r.stdout+r.stderr, "ended with exit code 3 (boom)") {
		t.Errorf("exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	for stream, want := range map[string]string{"command.stdout": "said\n", "command.stderr": "boom\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, "m.results.cells", "a", stream)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", stream, got, err)
		}
	}

	// A folder in the place of results stays where it is.
	for _, name := range []string{"mine", "mine.old"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r = runProgram(t, dir, "e2e", "run", "m.yaml", "--backend", "sim", "--results", "mine", "--overwrite", "--qemu", p.QEMU.Path)
	for _, name := range []string{"mine", "mine.old"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || !st.IsDir() || r.code == 0 {
			t.Errorf("%s: %v, exit code %d, %s", name, err, r.code, r.stderr)
		}
	}
}
