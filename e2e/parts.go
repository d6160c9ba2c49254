package e2e

import (
	"context"
	"errors"
	"fmt"
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

// defaultAppend is the command line of the cached kernel.
const defaultAppend = "console=ttyS0 panic=-1"

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
	return word, nil
}

// fill gives a guest the files that it does not name.
func (p *parts) fill(g *guest.Guest, firmware string, want Parts) error {
	noKernel := !g.HasKernel() && g.Initrd == ""
	if want == PartsNone || firmware == "" && g.Firmware != "" && (!noKernel || want == PartsFirmware) {
		return nil
	}
	set, err := p.find()
	if err != nil {
		return err
	}
	take := func(into *string, a images.Artifact, what string) error {
		if a.Path == "" {
			return fmt.Errorf("there is no %s in the cache (run `snplaunch setup`, or name one)", what)
		}
		*into = a.Path
		return nil
	}
	switch {
	case firmware == firmwarePlain:
		if set.PlainFirmware == nil {
			return errors.New("there is no OVMF without SNP metadata in the cache (run `snplaunch setup --plain-firmware`)")
		}
		g.Firmware = set.PlainFirmware.Path
	case firmware == firmwareGeneric, firmware == "" && g.Firmware == "" && !g.KernelHashes: // the AmdSev build boots no kernel without its table
		err = take(&g.Firmware, set.GenericFirmware, "generic firmware")
	case firmware == firmwareAmdSev, g.Firmware == "":
		err = take(&g.Firmware, set.Firmware, "AmdSev firmware")
	}
	if err != nil || !noKernel || want == PartsFirmware {
		return err
	}
	if err := take(&g.Kernel, set.Kernel, "kernel"); err != nil {
		return err
	}
	if err := take(&g.Initrd, set.Initrd, "initramfs"); err != nil {
		return err
	}
	if g.Append == "" {
		g.Append = defaultAppend
	}
	return nil
}
