package launcher

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/sim/psp"
)

// preflight refuses a launch that cannot work, before QEMU is started: the error is a
// *host.ObstacleError. What has no launch digest, or would not boot, was refused by
// measuring.
func (r *run) preflight(ctx context.Context) error {
	if r.o.Force {
		return nil
	}
	checks, err := r.launchChecks(ctx)
	if err != nil {
		return err
	}
	if !r.o.LaunchOnly || r.o.Backend == BackendSNP { // otherwise the devices have nothing behind them
		checks = append(checks, reachChecks(ctx, r.g)...)
	}
	obstacles := &host.ObstacleError{}
	for _, c := range checks {
		switch c.Verdict {
		case host.Obstacle:
			obstacles.Checks = append(obstacles.Checks, c)
		case host.Warning:
			if r.o.Progress != nil {
				r.o.Progress(fmt.Sprintf("warning: %s: %s (%s)", c.Name, c.Reason, c.Remedy))
			}
		}
	}
	if len(obstacles.Checks) > 0 {
		return obstacles
	}
	return nil
}

// launchChecks are those of a guest that was measured and whose ID block is there.
func (r *run) launchChecks(ctx context.Context) ([]host.Check, error) {
	c := r.conditions()
	if r.o.QEMU != "" {
		c.QEMU = host.AskQEMU(ctx, r.o.QEMU)
	}
	checks := host.CheckArguments(snpArguments(r.g, r.id, r.o.CBitPos, plumbing{}), c)
	kernel, err := r.kernelChecks()
	return append(checks, kernel...), err
}

// kernelChecks look at what the kernel's file is, and whether it fits into memory.
func (r *run) kernelChecks() ([]host.Check, error) {
	k := r.inputs.Kernel
	if !k.HasContents() {
		return nil, nil
	}
	kind, err := guest.KernelKindOf(k, k.Size)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k.Path, err)
	}
	memory, err := r.checkBootMemory()
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k.Path, err)
	}
	return []host.Check{host.CheckKernel(kind, k.Size), memory}, nil
}

// fileChecks open and measure the guest's files. Where ok, both have come about, and the
// inputs are the caller's to close.
func (r *run) fileChecks() (checks []host.Check, ok bool) {
	add := func(id, name string, err error) { checks = append(checks, checkOf(id, name, "is in order", err)) }
	inputs, err := r.g.Open()
	add("launch-files", "files", err)
	if err != nil {
		return checks, false
	}
	r.inputs = inputs
	if r.measured, err = measure.MeasureWith(r.g, inputs, measure.Options{}); err != nil {
		add(idOf(err), nameOf(idOf(err)), err)
		inputs.Close()
		return checks, false
	}
	found := map[string]error{}
	for _, err := range r.measured.Obstacles {
		found[idOf(err)] = errors.Join(found[idOf(err)], err)
	}
	for _, id := range measuredChecks {
		add(id.id, id.name, found[id.id])
	}
	return checks, true
}

// conditions are those of the machine that the guest will meet.
func (r *run) conditions() host.Conditions {
	if r.o.Backend == BackendSNP {
		return r.o.Conditions
	}
	p := psp.DefaultConfig()
	if r.o.Simulation.Platform != nil {
		p = *r.o.Simulation.Platform
	}
	c := host.Conditions{FirmwareAPI: uint16(p.FirmwareVersion.Major)<<8 | uint16(p.FirmwareVersion.Minor), SMT: p.SMTEnabled, Sockets: p.Sockets,
		PolicyBits: r.o.Simulation.Kernel.PolicyBits(p)}
	// A profile that is no version of Linux judges as it likes.
	if n, err := fmt.Sscanf(r.o.Simulation.Kernel.String(), "%d.%d", &c.KernelMajor, &c.KernelMinor); n != 2 || err != nil {
		c.KernelMajor, c.KernelMinor = 0, 0
	}
	return c
}

// Preflight looks at everything that a launch of this guest meets, and starts nothing but
// a QEMU that lists its properties. It goes on after the first obstacle where it can.
func Preflight(ctx context.Context, g *guest.Guest, o Options) []host.Check {
	r := &run{g: g, o: o, res: &Result{DurationMS: map[string]int64{}}}
	var checks []host.Check
	add := func(id, name string, err error) { checks = append(checks, checkOf(id, name, "is in order", err)) }
	err := g.Validate()
	add("launch-description", "description", err)
	if err != nil {
		return checks
	}
	add("launch-host-kernel", "save areas and host kernel", r.checkHost())
	if len(g.Files.In)+len(g.Files.Out) > 0 {
		add("launch-guest-files", "files for and from the guest", r.checkFiles())
	}
	if len(g.Disks) > 0 {
		add("launch-disks", "disks", checkDisks(g.Disks))
	}
	checks = append(checks, reachChecks(ctx, g)...)
	more, ok := r.fileChecks()
	checks = append(checks, more...)
	if !ok {
		return checks
	}
	defer r.inputs.Close()
	r.id, err = makeIDBlock(g, r.measured.LaunchDigest, o)
	if err != nil {
		add("launch-id-block-files", "ID block's files", err)
		return checks
	}
	more, err = r.launchChecks(ctx)
	if err != nil {
		add("launch-files", "files", err)
	}
	return append(checks, more...)
}

// measuredChecks are those that measuring makes, by its errors.
var measuredChecks = []struct {
	id, name string
	errs     []error
}{
	{"launch-firmware-size", "firmware's size", []error{ovmf.ErrBIOSSize, ovmf.ErrSize}},
	{"launch-firmware-image", "firmware is an OVMF image", []error{ovmf.ErrNoTable, ovmf.ErrTableTruncated, ovmf.ErrTableEntry, measure.ErrNoResetEIP}},
	{"launch-firmware-metadata", "firmware's SEV metadata", []error{measure.ErrNoMetadata, ovmf.ErrMetadataTruncated, ovmf.ErrMetadataSignature, ovmf.ErrMetadataVersion, ovmf.ErrMetadataCount,
		ovmf.ErrSectionAlignment, ovmf.ErrSectionOverlap, ovmf.ErrSectionsTooLarge}},
	{"launch-firmware-hashes", "firmware and kernel hashes", []error{measure.ErrHashesOff, ovmf.ErrNoHashArea, ovmf.ErrHashSectionMissing, ovmf.ErrHashEntryMissing,
		ovmf.ErrHashBaseZero, ovmf.ErrHashTooSmall, ovmf.ErrHashOutsideSection, ovmf.ErrHashSections}},
	{"launch-firmware-memory", "firmware's pages in memory", []error{measure.ErrMemory}},
	{"launch-kernel-file", "kernel file", []error{measure.ErrNotHashable, measure.ErrEmptyKernel, measure.ErrUKIInitrd}},
	{"launch-measure", "launch digest", nil},
}

func idOf(err error) string {
	for _, c := range measuredChecks {
		for _, e := range c.errs {
			if errors.Is(err, e) {
				return c.id
			}
		}
	}
	return "launch-measure"
}

func nameOf(id string) string {
	for _, c := range measuredChecks {
		if c.id == id {
			return c.name
		}
	}
	return id
}

// splitRemedy takes "what is wrong (what to do)" apart.
func splitRemedy(message string) (reason, remedy string) {
	if at := strings.LastIndex(message, " ("); at > 0 && strings.HasSuffix(message, ")") {
		return message[:at], message[at+2 : len(message)-1]
	}
	return message, "change the description"
}
