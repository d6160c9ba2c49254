package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/ovmf"
)

func doctorVerb(e *env, args []string) error {
	fs := e.flags("doctor", "[flags]\n\nSays what this machine can do, and what to do about what it cannot.")
	asJSON := fs.Bool("json", false, "print an object")
	var o images.Options
	fs.StringVar(&o.QEMU, "qemu", "", "`FILE`: qemu-system-x86_64")
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	machine := host.Probe(e.ctx, host.Root{})
	checks := append([]host.Check(nil), machine.Checks...)
	// What stands in the way of the backend is among the checks.
	backend, reason, err := host.Choose(host.Auto, machine)
	var obstacles *host.ObstacleError
	if err != nil && !errors.As(err, &obstacles) {
		return err
	}
	set, err := images.Find(e.ctx, o)
	if err != nil {
		return err
	}
	checks = append(checks, partChecks(set)...)
	bad := 0
	for _, c := range checks {
		if c.Verdict == host.Fail {
			bad++
		}
	}
	if *asJSON {
		if err := e.json(map[string]any{"backend": backend, "reason": reason, "checks": checks}); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "backend\t%s\t%s\n", backend, reason)
		for _, c := range checks {
			fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Verdict, c.Found)
			if c.Remedy != "" && c.Verdict != host.OK {
				fmt.Fprintf(w, "\t\t  %s\n", c.Remedy)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if bad > 0 {
		return &exitError{exitNo, fmt.Errorf("%d of %d checks failed", bad, len(checks))}
	}
	return nil
}

// partChecks looks at QEMU, firmware and kernel.
func partChecks(set *images.Set) []host.Check {
	part := func(id, name, path, found string) host.Check {
		if path == "" {
			return host.Check{ID: id, Name: name, Verdict: host.Fail, Found: "missing", Remedy: "run `snplaunch setup`, or name your own with a flag"}
		}
		return host.Check{ID: id, Name: name, Verdict: host.OK, Found: path + found}
	}
	paren := func(s string) string {
		if s == "" {
			return ""
		}
		return " (" + s + ")"
	}
	return []host.Check{
		part("qemu", "QEMU", set.QEMU.Path, paren(set.QEMU.Version)),
		part("firmware", "firmware", set.Firmware.Path, paren(flavour(set.Firmware.Path))),
		part("generic-firmware", "generic firmware", set.GenericFirmware.Path, paren(flavour(set.GenericFirmware.Path))),
		part("kernel", "kernel", set.Kernel.Path, paren(set.Kernel.Version)),
		part("initrd", "initramfs", set.Initrd.Path, ""),
	}
}

// flavour says what kind of OVMF an image is.
func flavour(path string) string {
	if path == "" {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	img, err := ovmf.Parse(f, st.Size())
	if err != nil {
		return err.Error()
	}
	words := img.Flavour()
	if verifies, err := ovmf.VerifiesBlobs(f, st.Size()); err == nil && verifies {
		words += ", verifies the kernel against them"
	}
	return words
}
