package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/images"
)

// Words for parts that `snplaunch setup` brings.
const (
	firmwareAmdSev  = "amdsev"  // the AmdSev build of OVMF, which checks kernel hashes
	firmwareGeneric = "generic" // the generic one with SNP metadata
	firmwarePlain   = "plain"   // an OVMF without SNP metadata: no launch from it goes well

	qemuInstalled = "installed" // the machine's
	qemuNext      = "next"      // the distribution's newest, unpacked
)

// parts finds what is in the cache, once.
type parts struct {
	ctx  context.Context
	once sync.Once
	set  *images.Set
	err  error
}

func (p *parts) find() (*images.Set, error) {
	p.once.Do(func() {
		p.set, p.err = images.Find(p.ctx, images.Options{QEMUNext: true, PlainFirmware: true})
	})
	return p.set, p.err
}

// qemu gives the path that a word of the axis stands for, or the path itself.
func (p *parts) qemu(word string) (string, error) {
	switch word {
	case "", qemuInstalled:
		set, err := p.find()
		if err != nil {
			return "", err
		}
		if set.QEMU.Path == "" {
			return "", errors.New("there is no QEMU 10 or later here (run `snplaunch setup`, or name one with qemu)")
		}
		return set.QEMU.Path, nil
	case qemuNext:
		set, err := p.find()
		if err != nil {
			return "", err
		}
		if set.QEMUNext == nil {
			return "", errors.New("the distribution's next QEMU is missing (run `snplaunch setup --qemu-next`)")
		}
		return set.QEMUNext.Path, nil
	}
	return absolute(word)
}

// absolute is what a QEMU's path or name stands for, so that the file whose hash is in
// the results is the one that is started: a path without a slash would be looked for
// in PATH only then.
func absolute(qemu string) (string, error) {
	path, err := exec.LookPath(qemu)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("there is no program %s (give the path of a qemu-system-x86_64)", qemu)
	case err != nil:
		return "", fmt.Errorf("qemu: %w", err)
	}
	return filepath.Abs(path)
}

// fill gives a guest the files that it does not name.
func (p *parts) fill(g *guest.Guest, firmware string, want Parts) error {
	noKernel := !g.HasKernel()
	if want == PartsNone || firmware == "" && g.Firmware != "" && (!noKernel || want == PartsFirmware) {
		return nil
	}
	set, err := p.find()
	if err != nil {
		return err
	}
	switch firmware {
	case firmwarePlain:
		if set.PlainFirmware == nil {
			return errors.New("there is no OVMF without SNP metadata in the cache (run `snplaunch setup --plain-firmware`)")
		}
		g.Firmware = set.PlainFirmware.Path
	case firmwareGeneric, firmwareAmdSev: // whatever the guest's kernel hashes ask for
		as := guest.Guest{KernelHashes: firmware == firmwareAmdSev}
		if err := set.FillFirmware(&as); err != nil {
			return err
		}
		g.Firmware = as.Firmware
	default:
		if err := set.FillFirmware(g); err != nil {
			return err
		}
	}
	if !noKernel || want == PartsFirmware {
		return nil
	}
	return set.FillKernel(g)
}
