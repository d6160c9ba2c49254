package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/images"
)

// The program alone, without Go or without a checkout, makes an initramfs of
// itself, says what that lacks, and boots a guest with it.
func TestProgramAloneMakesASmallInitramfs(t *testing.T) {
	p := parts(t)
	alone := t.TempDir()
	program := filepath.Join(alone, "snplaunch")
	bin := filepath.Join(alone, "bin")
	cache := filepath.Join(alone, "cache")
	for _, dir := range []string{bin, cache} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(snplaunch(t), program); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{filepath.Join(bin, "qemu-system-x86_64"): p.QEMU.Path}
	// What is fetched is the same for all; what is built goes into a cache of its own.
	shared, err := images.DefaultCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"kernel", "firmware-amdsev", "firmware-generic"} {
		if _, err := os.Stat(filepath.Join(shared, part)); err == nil {
			links[filepath.Join(cache, part)] = filepath.Join(shared, part)
		}
	}
	for link, to := range links {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	run := func(dir string, args ...string) (stdout, stderr string) {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + bin, "HOME=" + alone, "SNPLAUNCH_CACHE=" + cache, "XDG_DATA_HOME=" + filepath.Dir(dataFolder)}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("snplaunch %q: %v\n%s%s", args, err, &out, &errs)
		}
		return out.String(), errs.String()
	}

	var first string
	for dir, lacks := range map[string]string{alone: "no sources of snplaunch", "..": "no Go in PATH"} {
		out, said := run(dir, "setup", "--json")
		var set images.Set
		if err := json.Unmarshal([]byte(out), &set); err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(set.Initrd.Path) != filepath.Join(cache, "initrd") || !strings.HasPrefix(filepath.Base(set.Initrd.Path), "small-") {
			t.Errorf("in %s the initramfs is %s", dir, set.Initrd.Path)
		}
		if first == "" {
			first = set.Initrd.SHA256
		}
		if set.Initrd.SHA256 != first {
			t.Errorf("the initramfs depends on the folder: %s and %s", first, set.Initrd.SHA256)
		}
		for _, what := range []string{"no shell", lacks} {
			if !contains(said, what) {
				t.Errorf("in %s setup does not say %q:\n%s", dir, what, said)
			}
		}
	}
	out, _ := run(alone, "run", "--backend", "sim", "--json")
	var result struct {
		Verdict            string
		Computed, Reported string
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	if result.Verdict != "match" || result.Computed != result.Reported {
		t.Errorf("result %s", out)
	}
}
