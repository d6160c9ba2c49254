package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// The files that a QEMU command names are looked at as those of a description are.
func TestPreflightCommand(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("some-qemu", 0o700, []byte("#!/bin/sh\necho 'sev-snp-guest options:'\nfor p in policy kernel-hashes; do echo \"  $p=<x>\"; done\n"))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	amdsev, generic := file("amdsev.fd", 0o600, ovmftest.AmdSev().Build()), file("generic.fd", 0o600, ovmftest.Generic().Build())
	kernel, text := file("vmlinuz", 0o600, bzImage()), file("text", 0o600, []byte(strings.Repeat("no kernel\n", 900)))
	const hashesOn = ",kernel-hashes=on"
	for _, tc := range []struct {
		name           string
		program        string
		hashes         string
		bios, kernel   string
		id             string
		verdict        host.Verdict
		reason, remedy string
	}{
		{"sound", "some-qemu", hashesOn, amdsev, kernel, "launch-program", host.OK, "some-qemu", ""},
		{"sound, asked by its name", "some-qemu", hashesOn, amdsev, kernel, "launch-qemu", host.OK, filepath.Join(dir, "some-qemu"), ""},
		{"sound without hashes", "some-qemu", "", generic, kernel, "launch-firmware-hashes", host.OK, "", ""},
		{"no program", "no-such-qemu", hashesOn, amdsev, kernel, "launch-program", host.Obstacle, "no-such-qemu: executable file not found in $PATH", "whole path"},
		{"no program at a path", filepath.Join(dir, "gone"), hashesOn, amdsev, kernel, "launch-program", host.Obstacle, "no such file", "whole path"},
		{"firmware without the hashes area", "some-qemu", hashesOn, generic, kernel, "launch-firmware-hashes", host.Obstacle, "hashes", "AmdSev"},
		{"no firmware", "some-qemu", hashesOn, filepath.Join(dir, "nope.fd"), kernel, "launch-files", host.Obstacle, "nope.fd", "readable file"},
		{"no kernel", "some-qemu", hashesOn, amdsev, filepath.Join(dir, "nope"), "launch-files", host.Obstacle, "nope", "readable file"},
		{"firmware of QEMU's folders", "some-qemu", hashesOn, "OVMF.somewhere.fd", kernel, "launch-files", host.Warning, "OVMF.somewhere.fd", "whole path"},
		{"text for a kernel", "some-qemu", hashesOn, amdsev, text, "launch-kernel", host.Obstacle, "9000 bytes", "bzImage"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checks := PreflightCommand(t.Context(), []string{tc.program, "-machine", "q35,confidential-guest-support=sev0", "-accel", "kvm", "-cpu", "EPYC-v4", "-m", "512M",
				"-object", "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1" + tc.hashes, "-bios", tc.bios, "-kernel", tc.kernel}, host.Conditions{CBitPos: 51, CBitPosKnown: true})
			at := slices.IndexFunc(checks, func(c host.Check) bool { return c.ID == tc.id })
			if at < 0 {
				t.Fatalf("no check %s in %+v", tc.id, checks)
			}
			if c := checks[at]; c.Verdict != tc.verdict || !strings.Contains(c.Reason, tc.reason) || !strings.Contains(c.Remedy, tc.remedy) {
				t.Errorf("got %+v", c)
			}
			for _, c := range checks {
				if c.Verdict == host.Obstacle && c.ID != tc.id {
					t.Errorf("%+v as well", c)
				}
				if c.Category != host.Launch || c.Name == "" || c.Reason == "" {
					t.Errorf("something is empty in %+v", c)
				}
			}
		})
	}
}
