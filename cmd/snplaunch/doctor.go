package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/ovmf"
)

func doctorVerb(e *env, args []string) error {
	fs := e.flags("doctor", "[guest.yaml] [flags] [-- QEMU COMMAND…]\n\nSays what this machine can do, and what to do about what it cannot; of a description, or of a QEMU command, also whether that launch can work.\nExit code 0: nothing stands in the way; 1: something does, or with --strict may.")
	gf := addGuestFlags(fs)
	gf.addLaunchFlags(fs)
	asJSON := fs.Bool("json", false, "print an object; check ids do not change between versions")
	verbose := fs.Bool("verbose", false, "show also what is in order or does not apply, each with its id")
	strict := fs.Bool("strict", false, "exit with 1 for warnings too")
	requested := fs.String("backend", "auto", "`auto|snp|sim`: which one is to be looked at")
	var o images.Options
	fs.StringVar(&o.QEMU, "qemu", "", "`FILE`: qemu-system-x86_64")
	file, command, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(file) > 0 && len(command) > 0 {
		return usageError("doctor: %s and a QEMU command are two launches: give one of them", file[0])
	}
	machine := host.Probe(e.ctx, host.Root{})
	// What stands in the way of the backend is among the checks.
	backend, reason, err := host.Choose(*requested, machine)
	var obstacles *host.ObstacleError
	if err != nil && !errors.As(err, &obstacles) {
		return usageError("doctor: %w", err)
	}
	checks := machine.Checks
	if *requested == host.SNP {
		checks = machine.ChecksFor(host.SNP)
	}
	set, err := images.Find(e.ctx, o)
	if err != nil {
		return err
	}
	switch {
	case len(command) > 0:
		c := machine.Conditions()
		c.CBitPosFitted = backend == host.Sim
		checks = append(checks, launcher.PreflightCommand(e.ctx, command, c)...)
	case len(file) > 0 || len(gf.given) > 0:
		g, err := gf.guest(e.ctx, file, true)
		if err != nil {
			return err
		}
		checks = append(checks, launcher.Preflight(e.ctx, g, launcher.Options{
			Backend: backend, QEMU: set.QEMU.Path, CBitPos: int(host.CBitPos()), Conditions: machine.Conditions(),
		})...)
	default:
		checks = append(checks, partChecks(set)...)
	}
	if *asJSON {
		if err := e.json(map[string]any{"backend": backend, "reason": reason, "verdict": host.Worst(checks), "checks": checks}); err != nil {
			return err
		}
	} else if err := printChecks(e.stdout, backend, reason, checks, *verbose); err != nil {
		return err
	}
	count := map[host.Verdict]int{}
	for _, c := range checks {
		count[c.Verdict]++
	}
	switch {
	case count[host.Obstacle] > 0:
		return &exitError{exitNo, fmt.Errorf("%d of %d checks found an obstacle", count[host.Obstacle], len(checks))}
	case *strict && count[host.Warning] > 0:
		return &exitError{exitNo, fmt.Errorf("%d of %d checks found something that may stand in the way", count[host.Warning], len(checks))}
	}
	return nil
}

// printChecks groups checks by what they are about. Without verbose it leaves out what
// does not apply, and what could not be looked at on a machine that does not need it.
func printChecks(out io.Writer, backend, reason string, checks []host.Check, verbose bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "backend\t%s\t%s\n", backend, reason)
	var category host.Category
	left := 0
	for _, c := range checks {
		if !verbose && c.Verdict == host.NotApplicable {
			left++
			continue
		}
		if c.Category != category {
			category = c.Category
			fmt.Fprintf(w, "\n%s\n", category)
		}
		name := "  " + c.Name
		if verbose {
			name += " [" + c.ID + "]"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, c.Verdict, c.Reason)
		if c.Remedy != "" {
			fmt.Fprintf(w, "\t\t  -> %s\n", c.Remedy)
		}
	}
	if left > 0 {
		fmt.Fprintf(w, "\n%d checks do not apply to this machine (--verbose shows them)\n", left)
	}
	return w.Flush()
}

// partChecks looks at QEMU, firmware and kernel.
func partChecks(set *images.Set) []host.Check {
	part := func(id, name, path, found string) host.Check {
		if path == "" {
			return host.Check{ID: id, Category: host.Parts, Name: name, Verdict: host.Obstacle, Reason: "missing", Remedy: "run `snplaunch setup`, or name your own with a flag"}
		}
		return host.Check{ID: id, Category: host.Parts, Name: name, Verdict: host.OK, Reason: path + found}
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
