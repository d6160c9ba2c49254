package images

import (
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
)

// DefaultAppend is the command line of the cached kernel.
const DefaultAppend = "console=ttyS0 panic=-1"

// FillFirmware gives a guest that names no firmware the cache's that boots it: the
// AmdSev build, which boots a kernel only with its hashes, or else the generic one.
func (s *Set) FillFirmware(g *guest.Guest) error {
	switch {
	case g.Firmware != "":
		return nil
	case g.KernelHashes:
		return fill(&g.Firmware, s.Firmware, "firmware", "ovmf")
	}
	return fill(&g.Firmware, s.GenericFirmware, "firmware", "ovmf")
}

// FillKernel gives a guest that names no kernel the cache's, with its initramfs and
// command line where it names none of these either.
func (s *Set) FillKernel(g *guest.Guest) error {
	if g.HasKernel() {
		return nil
	}
	if err := fill(&g.Kernel, s.Kernel, "kernel", "kernel"); err != nil {
		return err
	}
	if g.Initrd == "" {
		if err := fill(&g.Initrd, s.Initrd, "initramfs", "initrd"); err != nil {
			return err
		}
	}
	if g.Append == "" {
		g.Append = DefaultAppend
	}
	return nil
}

func fill(into *string, a Artifact, what, flag string) error {
	if a.Path == "" {
		return fmt.Errorf("there is no %s in the cache; run `snplaunch setup`, or name one with --%s or in the description", what, flag)
	}
	*into = a.Path
	return nil
}
