package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest/guestyaml"
)

// init writes what loads, once; lock pins it; another file in a pinned one's place is
// named by lock --check and refused by measure.
func TestInitAndLock(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // no parts: what is written names none
	path := filepath.Join(dir, "guest.yaml")
	if _, stderr, code := program("init", path, "--with-schema"); code != exitOK {
		t.Fatalf("init: %d, %s", code, stderr)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "# yaml-language-server: $schema=./guest.schema.json\n") {
		t.Fatalf("%v\n%s", err, text)
	}
	if _, err := guestyaml.Load(path); err != nil {
		t.Error(err)
	}
	schema, err := os.ReadFile(filepath.Join(dir, "guest.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if out, _, code := program("schema"); code != exitOK || out != string(schema) || !json.Valid(schema) {
		t.Errorf("schema: %d, %s", code, out)
	}
	if _, stderr, code := program("init", path); code != exitNo || !strings.Contains(stderr, "--force") {
		t.Errorf("a second init: %d, %s", code, stderr)
	}
	if _, stderr, code := program("init", path, "--force"); code != exitOK {
		t.Errorf("init --force: %d, %s", code, stderr)
	}
	if again, err := os.ReadFile(path); err != nil || strings.Contains(string(again), "$schema") {
		t.Errorf("a schema is named that was not written: %v", err)
	}
	// Everything that is commented out is right, too.
	var all []string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "# "); ok && (strings.Contains(rest, ": ") || strings.HasSuffix(strings.TrimSpace(rest), ":")) && !strings.HasPrefix(rest, "yaml-") {
			line = rest
		}
		all = append(all, line)
	}
	if _, err := guestyaml.Parse([]byte(strings.Join(all, "")), path); err != nil {
		t.Errorf("uncommented: %v\n%s", err, strings.Join(all, ""))
	}

	firmware := filepath.Join(dir, "f.fd")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write(firmware, "firmware")
	write(path, "# mine\nfirmware: f.fd\n\nvcpus: 2 # two\n")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := program("lock", "--check", path); code != exitNo || !strings.Contains(stderr, "no firmware_sha256") {
		t.Errorf("lock --check of what has no pin: %d, %s", code, stderr)
	}
	if err := os.Symlink("guest.yaml", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := program("lock", filepath.Join(dir, "link.yaml")); code != exitOK || !strings.Contains(stderr, "1 pins written") {
		t.Errorf("lock: %d, %s", code, stderr)
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != 0o640 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	sum := sha256.Sum256([]byte("firmware"))
	want := fmt.Sprintf("# mine\nfirmware: f.fd\nfirmware_sha256: \"%x\"\n\nvcpus: 2 # two\n", sum)
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	if _, stderr, code := program("lock", "--check", path); code != exitOK {
		t.Errorf("lock --check: %d, %s", code, stderr)
	}
	write(firmware, "another")
	if _, stderr, code := program("lock", "--check", path); code != exitNo || !strings.Contains(stderr, firmware+" has the SHA-256 ") || !strings.Contains(stderr, "but firmware_sha256 is") {
		t.Errorf("lock --check of another file: %d, %s", code, stderr)
	}
	if _, _, code := program("lock", path); code != exitOK {
		t.Errorf("lock of another file: %d", code)
	}
	if _, stderr, code := program("lock", "--check", path); code != exitOK {
		t.Errorf("lock --check after it: %d, %s", code, stderr)
	}
	for _, args := range [][]string{{"lock"}, {"schema", "gest"}} {
		if _, _, code := program(args...); code != exitUsage {
			t.Errorf("%q: %d", args, code)
		}
	}
}
