package measure

import (
	"errors"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Why a guest would not launch or not boot although it has a launch digest.
// What package ovmf says about an image's size (CheckBIOS) is a further
// reason. ErrNoResetEIP is one with one vCPU; with more there is no digest.
var (
	// ErrNoMetadata: QEMU says "Failed to locate SEV metadata header".
	ErrNoMetadata = errors.New("firmware has no SEV metadata, so it cannot start an SNP guest (use OVMF.amdsev.fd, or an OVMF.fd of EDK2 2023.02 or later)")
	// ErrHashesOff: the AmdSev build's blob verifier denies a kernel without a table.
	ErrHashesOff = errors.New("kernel_hashes is off, but this firmware is an AmdSev build, whose blob verifier denies every kernel that no measured table vouches for, so the guest would not boot it (switch kernel_hashes on, or use the generic OVMF.fd)")
	// ErrMemory: the firmware's sections lie beyond the guest's memory.
	ErrMemory = errors.New("guest memory is too small for the firmware's launch pages")
	// ErrNotHashable: QEMU hashes only what it loads as a Linux kernel.
	ErrNotHashable = errors.New("QEMU makes no hashes table for this kind of kernel and aborts (give a bzImage or a UKI)")
	// ErrEmptyKernel: QEMU says "could not load kernel".
	ErrEmptyKernel = errors.New("it is empty, and QEMU loads no such kernel (give a bzImage or a UKI)")
	// ErrUKIInitrd: QEMU says "linux kernel too old to load a ram disk".
	ErrUKIInitrd = errors.New("QEMU loads no initrd beside it (put the initrd into the UKI, or give a bzImage)")
	// ErrNoResetEIP: the firmware does not say where application processors start.
	// QEMU says "failed to locate and/or save reset vector".
	ErrNoResetEIP = errors.New("firmware has no SEV-ES reset block, so nothing says where vCPUs start (use an OVMF build with SEV-ES support)")
)

// q35LowMiB is the least low memory that q35 leaves below 4 GiB however much
// the guest has, in MiB (QEMU hw/i386/pc_q35.c).
const q35LowMiB = 2048

// checkFirmware notes what could be measured but would not launch or boot. The
// error is for what has no digest.
func (l *launch) checkFirmware() error {
	img, qemu := l.Image, l.opt.VMM == vmsa.QEMU
	note := func(err error) { l.obstacle(fmt.Errorf("firmware %s: %w", l.g.Firmware, err)) }
	if l.Mode == SNP {
		if err := img.CheckBIOS(); err != nil && qemu {
			note(err)
		}
		if len(img.Sections) == 0 {
			note(ErrNoMetadata)
		}
		low := uint64(min(l.g.MemoryMiB, q35LowMiB)) << 20
		for n, s := range img.Sections {
			if qemu && s.End() > low {
				note(fmt.Errorf("%w: section %d (%s) ends at 0x%x, low memory at 0x%x (set memory_mib to %d or more)", ErrMemory, n, s, s.End(), low, (s.End()+1<<20-1)>>20))
				break
			}
		}
	}
	if _, ok := img.ResetEIP(); !ok && l.Mode != SEV && qemu {
		if l.g.VCPUs > 1 {
			return ErrNoResetEIP
		}
		// QEMU wants the address even for one vCPU, other VMMs where it is used.
		note(ErrNoResetEIP)
	}
	switch {
	case !l.g.HasKernel():
		return nil
	case l.g.KernelHashes && l.Mode == SNP:
		_, _, err := img.HashPage()
		return err
	case l.g.KernelHashes:
		return img.CheckHashTable()
	}
	// Only where the tables have a place for hashes can there be code that
	// insists on them.
	if _, ok := img.HashSection(); ok && l.in.Firmware != nil {
		verifies, err := ovmf.VerifiesBlobs(l.in.Firmware, l.in.Firmware.Size)
		if err != nil {
			return err
		}
		if verifies {
			note(ErrHashesOff)
		}
	}
	return nil
}

// checkKernel notes the kinds of kernel for which QEMU aborts with
// kernel-hashes=on, because it does not load them as Linux kernels
// (hw/i386/x86-common.c): ELF files (PVH) and Multiboot images.
func (l *launch) checkKernel() error {
	k := l.in.Kernel
	if !k.HasContents() {
		return nil
	}
	kind, err := guest.KernelKindOf(k, k.Size)
	if err != nil {
		return fmt.Errorf("kernel %s: %w", k.Path, err)
	}
	switch {
	case k.Size == 0:
		l.obstacle(fmt.Errorf("kernel %s: %w", k.Path, ErrEmptyKernel))
	case !kind.Hashable():
		l.obstacle(fmt.Errorf("kernel %s: it is %s: %w", k.Path, kind, ErrNotHashable))
	case kind == guest.KernelPE && l.g.Initrd != "":
		l.obstacle(fmt.Errorf("kernel %s: it is %s: %w", k.Path, kind, ErrUKIInitrd))
	}
	return nil
}

// obstacles are reasons that come together as one error.
type obstacles []error

// Error gives one reason as it is, more in a list.
func (o obstacles) Error() string {
	if len(o) == 1 {
		return o[0].Error()
	}
	lines := []string{fmt.Sprintf("%d things stand in the way of this launch:", len(o))}
	for _, e := range o {
		lines = append(lines, "  "+e.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is find each reason.
func (o obstacles) Unwrap() []error { return o }

func joined(errs []error) error { return obstacles(errs) }
