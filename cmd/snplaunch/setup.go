package main

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/sim/psp"
)

func setupVerb(e *env, args []string) error {
	fs := e.flags("setup", "[flags]\n\nFinds QEMU, firmware and a kernel, fetches what is missing through this machine's package configuration, and builds the guest's initramfs.")
	var o images.Options
	fs.StringVar(&o.QEMU, "qemu", "", "`FILE`: qemu-system-x86_64")
	fs.StringVar(&o.Firmware, "ovmf", "", "`FILE`: firmware, an AmdSev build of OVMF")
	fs.StringVar(&o.Kernel, "kernel", "", "`FILE`: kernel")
	fs.StringVar(&o.Initrd, "initrd", "", "`FILE`: initrd")
	fs.StringVar(&o.CacheDir, "cache", "", "`FOLDER`: where what was fetched is kept")
	fs.BoolVar(&o.InstallQEMU, "install", false, "install QEMU where it is missing (needs root)")
	asJSON := fs.Bool("json", false, "print what was found as an object")
	asEnv := fs.Bool("env", false, "print shell assignments of SNPLAUNCH_OVMF and SNPLAUNCH_KERNEL, which tests read")
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	o.Progress = func(s string) { fmt.Fprintln(e.stderr, "snplaunch: "+s) }
	set, err := images.Setup(e.ctx, o)
	if err != nil {
		return err
	}
	dir, err := dataDir()
	if err != nil {
		return err
	}
	if _, err := psp.LoadOrCreateCA(dir, func() { o.Progress("making a root key for the software SNP host (once per user)") }); err != nil {
		return err
	}
	if *asJSON {
		return e.json(set)
	}
	if *asEnv {
		fmt.Fprintf(e.stdout, "SNPLAUNCH_OVMF=%s\nSNPLAUNCH_KERNEL=%s\n", shellQuote([]string{set.Firmware.Path}), shellQuote([]string{set.Kernel.Path}))
		return nil
	}
	for _, line := range describe(set) {
		fmt.Fprintln(e.stdout, line)
	}
	for _, note := range set.Notes {
		fmt.Fprintln(e.stderr, "snplaunch: note: "+note)
	}
	if missing := set.Missing(); len(missing) > 0 {
		return fmt.Errorf("%s", strings.Join(missing, "\n"))
	}
	return nil
}

// describe says what there is, a line for each part.
func describe(set *images.Set) []string {
	var out []string
	line := func(name, path, from string) {
		switch {
		case path == "":
			out = append(out, fmt.Sprintf("%-17s missing", name))
		case from == "":
			out = append(out, fmt.Sprintf("%-17s %s", name, path))
		default:
			out = append(out, fmt.Sprintf("%-17s %s (%s)", name, path, from))
		}
	}
	line("QEMU", set.QEMU.Path, set.QEMU.Version)
	for _, p := range []struct {
		name string
		a    images.Artifact
	}{{"firmware", set.Firmware}, {"generic firmware", set.GenericFirmware}, {"kernel", set.Kernel}, {"initramfs", set.Initrd}} {
		line(p.name, p.a.Path, strings.TrimSpace(p.a.Package+" "+p.a.Version))
	}
	return out
}
