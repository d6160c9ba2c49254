package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	print := func(digit string) []string {
		return []string{"sh", "-c", "echo " + strings.Repeat(digit, 96) + "; yes | head -c 100000"}
	}
	var out bytes.Buffer
	if err := compare(&out, []command{{"ours", print("a")}, {"same", print("a")}, {"other", print("b")}, {"bare hasher", print("c")}}, 3); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if !strings.HasSuffix(strings.TrimRight(lines[0], " "), "wall ratio  cpu ratio") {
		t.Errorf("heading %q", lines[0])
	}
	for i, name := range []string{"ours", "same", "other", "bare hasher"} {
		if !strings.HasPrefix(strings.TrimSpace(lines[i+1]), name) || len(strings.Fields(strings.TrimSpace(lines[i+1])[len(name):])) != 5 {
			t.Errorf("line %d is %q", i+1, lines[i+1])
		}
	}
	if want := "other has another digest: " + strings.Repeat("b", 96) + ", snplaunch " + strings.Repeat("a", 96); lines[5] != want {
		t.Errorf("got %q, want %q", lines[5], want)
	}
	if err := compare(&out, []command{{"fails", []string{"sh", "-c", "echo why >&2; exit 3"}}}, 1); err == nil || !strings.Contains(err.Error(), "exit status 3\nwhy") {
		t.Errorf("a command that fails: %v", err)
	}
}

func TestPeers(t *testing.T) {
	dir := t.TempDir()
	tool := filepath.Join(dir, "snpguest")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	args := []string{"--ovmf", "FILE"}
	for _, c := range []struct {
		name, set string
		want      []string
	}{
		{"snpguest", "", []string{tool, "generate", "measurement", "--ovmf", "FILE"}},
		{"snpguest", "sudo snpguest", []string{"sudo", "snpguest", "generate", "measurement", "--ovmf", "FILE"}},
		{"sev-snp-measure", "python3 tool.py", []string{"python3", "tool.py", "--mode", "snp", "--ovmf", "FILE"}},
	} {
		p := peer{name: c.name}
		if err := p.Set(c.set); err != nil {
			t.Fatal(err)
		}
		p.find()
		if got := p.call(args); !slices.Equal(got, c.want) {
			t.Errorf("%s %q: %q, want %q", c.name, c.set, got, c.want)
		}
	}
	missing := peer{name: "sev-snp-measure"}
	missing.find()
	if len(missing.command) > 0 {
		t.Errorf("a peer that is not there: %q", missing.command)
	}
}
