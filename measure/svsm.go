package measure

import (
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
)

// ErrVarsSize: the variable store lies between two images that are measured by page.
var ErrVarsSize = errors.New("the size of the variable store is not possible (give the size in bytes of the OVMF_VARS file, a multiple of 4096)")

// readSVSM reads the tables of a COCONUT-SVSM image. It lies below the
// firmware with room for the variable store between them, and its metadata takes the place of the
// firmware's, which is measured for its contents only.
func (l *launch) readSVSM() error {
	file := l.in.Firmware
	var err error
	if l.ovmf, err = ovmf.Pages(file.Size); err != nil {
		return fmt.Errorf("firmware %s: %w", file.Path, err)
	}
	if l.opt.VarsSize < 0 || l.opt.VarsSize > ovmf.MaxSize || l.opt.VarsSize%snp.PageSize != 0 {
		return fmt.Errorf("%w: %d bytes", ErrVarsSize, l.opt.VarsSize)
	}
	svsm := l.opt.SVSM
	if l.Image, err = ovmf.ParseAt(svsm, svsm.Size, l.ovmf.BaseGPA-uint64(l.opt.VarsSize)); err != nil {
		return fmt.Errorf("SVSM image %s: %w", svsm.Path, err)
	}
	if _, ok := l.Image.SVSMEntry(); !ok {
		return fmt.Errorf("SVSM image %s: it does not say where it starts (give the image that COCONUT-SVSM's build makes for QEMU without IGVM, svsm.bin)", svsm.Path)
	}
	if l.g.HasKernel() {
		l.Warnings = append(l.Warnings, "a launch with an SVSM measures no kernel, initrd and command line, so they are left out")
	}
	return nil
}

// svsmPages hashes the SVSM image by page.
func svsmPages(in *guest.Input, img *ovmf.Image) ([]Page, error) {
	pages, err := FirmwarePages(in, img)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Path, err)
	}
	for i := range pages {
		pages[i].Source = sourceSVSM
	}
	return pages, in.Unchanged()
}
