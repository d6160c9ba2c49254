package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
)

// The digest of another guest is explained by what differs, wherever it comes
// from.
func TestDiagnoseDigest(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SNPLAUNCH_CACHE", filepath.Join(dir, "cache"))
	put := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	firmware := put("OVMF.fd", ovmftest.AmdSev().Build())
	yaml := put("guest.yaml", []byte("firmware: "+firmware+"\nvcpus: 4\n"))
	code, stdout, stderr := said(t, "", "measure", yaml, "--vcpus", "2", "--vcpu-type", "EPYC-Milan")
	if code != exitOK {
		t.Fatal(stderr)
	}
	digest := strings.TrimSpace(stdout)
	ld, err := snp.ParseLaunchDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	block := (&snp.IDBlock{LD: ld, Version: 1}).Bytes()
	report := make([]byte, snp.ReportSize)
	report[0] = 2
	copy(report[0x90:], ld[:])
	for lead, args := range map[string][]string{
		"The digest is that of":      {"--expected", digest},
		"Your ID block was made for": {"--id-block", put("block", block[:])},
		"The report is of":           {"--report", put("report", report)},
	} {
		code, stdout, stderr := said(t, "", append([]string{"diagnose", yaml}, args...)...)
		if want := lead + " 2 vCPUs of EPYC-Milan; "; code != exitOK || !strings.HasPrefix(stdout, want) {
			t.Errorf("%q: exit code %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
	// A flag that says what was different leaves the rest.
	if code, stdout, stderr := said(t, "", "diagnose", yaml, "--vcpus", "2", "--expected", digest); code != exitOK || strings.Contains(stdout, "vcpus:") || !strings.Contains(stdout, "cpu: EPYC-Milan") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = said(t, "", "diagnose", yaml, "--expected", digest, "--json")
	var got solve.Answer
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || len(got.Explanations) != 1 || len(got.Explanations[0].Changes) != 2 {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}

	for want, args := range map[string][]string{
		"each name a digest":    {"diagnose", yaml, "--expected", digest, "--id-block", "block"},
		"one argument too many": {"diagnose", yaml, yaml, "--expected", digest},
		"--expected":            {"diagnose", yaml, "--expected", "abc"},
		"no launch digest that": {"diagnose", yaml, "--mode", "seves", "--expected", digest},
	} {
		if code, stdout, stderr := said(t, "", args...); code == exitOK || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
}

// Two launches side by side, of any kind of file that has one.
func TestDiagnosePages(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	firmware := put("OVMF.fd", string(ovmftest.AmdSev().Build()))
	a := put("a.yaml", "firmware: "+firmware+"\n")
	b := put("b.yaml", "firmware: "+firmware+"\ncpu: EPYC-Genoa\n")
	zero := strings.Repeat("0", 96)
	c := put("launch.json", `{"computed": [{"type": "NORMAL", "gpa": 4096, "length": 4096, "contents": "`+zero+`"}]}`)
	if code, stdout, stderr := said(t, "", "diagnose", "--pages", a, a); code != exitOK || !strings.Contains(stdout, "the same launch") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr := said(t, "", "diagnose", "--pages", a, b); code != exitNo || !strings.Contains(stdout, "RDX, offset 0x310") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr := said(t, "", "diagnose", "--pages", c, a); code != exitNo || !strings.Contains(stdout, "Page 0 of") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	for want, args := range map[string][]string{
		"name both":      {"diagnose", "--pages", a},
		"lists no pages": {"diagnose", "--pages", a, put("empty.json", "{}")},
	} {
		if code, _, stderr := said(t, "", args...); code == exitOK || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %q; want %q", args, code, stderr, want)
		}
	}
}
