package main

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/internal/shell"
	"github.com/snplaunch/snplaunch/launcher"
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
	fs.BoolVar(&o.QEMUNext, "qemu-next", false, "also unpack the distribution's newest QEMU into the cache, beside the machine's own; nothing is installed")
	fs.BoolVar(&o.PlainFirmware, "plain-firmware", false, "also fetch an OVMF without SNP metadata, from which no SNP guest starts (tests want one)")
	fs.BoolVar(&o.Libvirt, "libvirt", false, "also unpack a libvirt that knows SEV-SNP into the cache; nothing is installed (tests want one)")
	asJSON := fs.Bool("json", false, "print what was found as an object")
	asEnv := fs.Bool("env", false, "print shell assignments of SNPLAUNCH_OVMF and SNPLAUNCH_KERNEL, with --qemu-next of SNPLAUNCH_QEMU_NEXT, which tests read")
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	o.Progress = func(s string) { fmt.Fprintln(e.stderr, "snplaunch: "+s) }
	defer hold()()
	set, err := images.Setup(e.ctx, o)
	if err != nil {
		return err
	}
	dir, err := launcher.DefaultDataDir()
	if err != nil {
		return err
	}
	if _, err := psp.LoadOrCreateCA(dir, func() { o.Progress("making a root key for the software SNP host (once per user)") }); err != nil {
		return err
	}
	for _, note := range set.Notes {
		fmt.Fprintln(e.stderr, "snplaunch: note: "+note)
	}
	if *asJSON {
		return e.json(set)
	}
	if *asEnv {
		assign := func(name, value string) { fmt.Fprintf(e.stdout, "%s=%s\n", name, shell.Quote(value)) }
		assign("SNPLAUNCH_OVMF", set.Firmware.Path)
		assign("SNPLAUNCH_KERNEL", set.Kernel.Path)
		if set.QEMUNext != nil {
			assign("SNPLAUNCH_QEMU_NEXT", set.QEMUNext.Path)
		}
		return nil
	}
	for _, line := range describe(set) {
		fmt.Fprintln(e.stdout, line)
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
	if q := set.QEMUNext; q != nil {
		line("next QEMU", q.Path, q.Version+", "+q.Package+" "+q.PackageVersion)
	}
	if a := set.PlainFirmware; a != nil {
		line("plain firmware", a.Path, a.Package+" "+a.Version)
	}
	if a := set.Libvirt; a != nil {
		line("libvirt", a.Path, a.Package+" "+a.Version)
	}
	return out
}
