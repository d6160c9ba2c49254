package launcher

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/snp"
)

func TestSave(t *testing.T) {
	g := guest.Default()
	g.Firmware = "/some/OVMF.fd"
	res := &Result{
		Verdict: VerdictMismatch, Outcome: OutcomePassed, Console: "boot\n", Stderr: "oops\n", Report: []byte{1, 2}, guest: &g,
		QEMU:     []Invocation{{"QEMU", []string{"qemu", "-append", "a b"}}},
		computed: []snp.Update{{Type: snp.PageZero, GPA: 0x800000, Length: snp.PageSize}},
	}
	parent := filepath.Join(t.TempDir(), "a", "b")
	dir, err := res.Save(parent, "one", "snplaunch run x")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v; want it private", st, err)
	}
	for name, want := range map[string]string{
		"command": "snplaunch run x\n", "console.log": "boot\n", "qemu-stderr.log": "oops\n", "report.bin": "\x01\x02",
		"qemu.txt": "QEMU:\n  \"qemu\"\n  \"-append\"\n  \"a b\"\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	if again, err := guestyaml.Load(filepath.Join(dir, "guest.yaml")); err != nil || again.Firmware != g.Firmware {
		t.Errorf("guest.yaml: %+v, %v", again, err)
	}
	var record launchRecord
	if b, err := os.ReadFile(filepath.Join(dir, "launch.json")); err != nil || json.Unmarshal(b, &record) != nil || len(record.Computed) != 1 || record.Computed[0] != res.computed[0] {
		t.Errorf("launch.json: %s, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "certificates.bin")); err == nil {
		t.Error("there is a file for certificates that never came")
	}
	// What is there is not overwritten, and no half-written folder stays.
	if _, err := res.Save(parent, "one", ""); err == nil {
		t.Error("a folder was overwritten")
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 1 {
		t.Errorf("%d entries are left, want the one folder", len(entries))
	}
	if _, err := res.Save(filepath.Join(dir, "command"), "x", ""); err == nil || !strings.Contains(err.Error(), "command") {
		t.Errorf("a parent that is a file: %v", err)
	}
}

func TestKeepNewest(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"20261103", "20261101", "20261102", ".run-old", ".run-new"} {
		if err := os.Mkdir(filepath.Join(parent, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(parent, "00-not-ours.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(parent, ".run-old"), time.Time{}, time.Now().Add(-2*abandoned)); err != nil {
		t.Fatal(err)
	}
	if err := KeepNewest(parent, 2); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != ".run-new 00-not-ours.txt 20261102 20261103" {
		t.Errorf("left are %s", got)
	}
}
