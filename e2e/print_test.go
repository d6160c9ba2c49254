package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What run --print qemu-config prints, QEMU reads: with the command beside it, it
// launches what is measured. --print command is --dry-run.
func TestPrintQEMUConfig(t *testing.T) {
	at := aPlace(t)
	want := at.digest(t, "config", 2)
	args := []string{"run", "--backend", "sim", "--ovmf", at.firmware, "--kernel", at.kernel, "--append", "tag=config", "--vcpus", "2",
		"--forward", "auto:22", "--firmware-log", filepath.Join(at.dir, "ovmf.log"), "--memory-backend", "memfd"}
	cmd, _ := command(t, "config", append(args, "--print", "qemu-config")...)
	config, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(config), "\n#  ")
	line, rest, ok := strings.Cut(line, "\n\n[machine]\n")
	line = strings.ReplaceAll(line, "\n#  ", "\n")
	if !ok || !strings.Contains(rest, "[smp-opts]\n  cpus = \"2\"\n") || !strings.Contains(rest, `append = "tag=config"`) || !strings.Contains(rest, "[netdev \"net0\"]") {
		t.Fatalf("%s", config)
	}
	if err := os.WriteFile(filepath.Join(at.dir, "snp.conf"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	paste := strings.Replace(line, "snplaunch sim exec --hold", "exec "+snplaunch(t)+" sim exec", 1)
	pasted, _ := command(t, "config")
	pasted.Path, pasted.Args, pasted.Dir = "/bin/sh", []string{"sh", "-c", paste}, at.dir
	out, err := pasted.CombinedOutput()
	if err != nil || !contains(string(out), "launch digest "+want) {
		t.Errorf("%s\n%v\n%s", paste, err, out)
	}
	cmd, _ = command(t, "config", append(args, "--print", "command")...)
	printed, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(printed), "snplaunch sim exec --hold -- ") || !strings.Contains(string(printed), "-smp 2 ") {
		t.Errorf("%s, %v", printed, err)
	}
}
