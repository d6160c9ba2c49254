package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The QEMU that setup unpacks is one process, whose libraries are all its own
// and whose data lies beside it.
func TestUnpackedQEMUStandsAlone(t *testing.T) {
	parts(t)
	path, err := filepath.EvalSymlinks(nextQEMU(t))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(path) + "/"
	// These devices have option ROMs, which are looked for among the data.
	cmd := exec.Command(path, append(bareArguments(), "-accel", "tcg", "-machine", "q35", "-S", "-monitor", "stdio",
		"-device", "virtio-vga", "-device", "e1000e", "-device", "virtio-net-pci")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	for range 200 {
		if contains(out.String(), "(qemu)") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	files := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) == 6 && strings.HasPrefix(f[5], "/") && strings.Contains(line, " r-xp ") {
			files[f[5]] = true
		}
	}
	if !files[folder+"bin/qemu-system-x86_64"] || len(files) < 10 {
		t.Errorf("process %d, which the wrapper's path was started as, runs %v\n%s", cmd.Process.Pid, files, out.String())
	}
	for f := range files {
		if !strings.HasPrefix(f, folder) {
			t.Errorf("it has taken %s", f)
		}
	}
	if _, err := in.Write([]byte("quit\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if contains(out.String(), "failed to find romfile") {
		t.Errorf("it does not find its data:\n%s", out.String())
	}
}
