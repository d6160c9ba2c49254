package measure

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Result is a predicted launch.
type Result struct {
	LaunchDigest   snp.LaunchDigest
	FirmwareDigest snp.LaunchDigest // after the firmware pages alone: sev-snp-measure's "OVMF hash"

	// Pages are all updates in order. After Options.FirmwareDigest the
	// firmware's are missing.
	Pages []Page

	Image       *ovmf.Image
	HashTable   *hashes.Table       // nil without kernel hashes
	HashPage    *[snp.PageSize]byte // the page that carries the table; nil without
	HashPageGPA uint64

	// What the save areas hold, see SaveArea.
	VCPUs         int
	CPUSig        uint32 // RDX of every vCPU at reset
	GuestFeatures uint64 // SEV_FEATURES

	// Warnings are sentences about what is unusual but not wrong.
	Warnings []string

	prefix  Context   // after all pages but the save areas
	areas   saveAreas // nil where none are measured
	vmsaGPA uint64
}

// Updates gives the updates without their sources, as Fold takes them.
func (r *Result) Updates() []snp.Update {
	out := make([]snp.Update, len(r.Pages))
	for i, p := range r.Pages {
		out[i] = p.Update
	}
	return out
}

// Options are what a guest description does not say. The zero value is a
// launch by QEMU on KVM.
type Options struct {
	VMM vmsa.VMM

	// FirmwareDigest, where not nil, stands for the contents of the firmware
	// image: folding starts from it and the image is read for its tables only.
	FirmwareDigest *snp.LaunchDigest

	// VMSAGPA is the guest-physical address of all save areas; 0 means
	// snp.VMSAGPA, which KVM always uses. GCE uses 0xFFFFFFFFFF000 on Genoa.
	VMSAGPA uint64

	// NoFPU is vmsa.Config's, for host kernels before Linux 6.9.
	NoFPU bool
}

// Why a guest cannot be measured although its description is sound. ErrNoResetEIP
// and the errors of package ovmf are further reasons.
var (
	// ErrNoMetadata: QEMU says "Failed to locate SEV metadata header".
	ErrNoMetadata = errors.New("firmware has no SEV metadata, so it cannot start an SNP guest (use OVMF.amdsev.fd, or an OVMF.fd of EDK2 2023.02 or later)")
	// ErrHashesOff: the AmdSev build's blob verifier denies a kernel without a table.
	ErrHashesOff = errors.New("kernel_hashes is off, but this firmware is an AmdSev build, whose blob verifier denies every kernel that no measured table vouches for, so the guest would not boot it (switch kernel_hashes on, or use the generic OVMF.fd)")
	// ErrMemory: the firmware's sections lie beyond the guest's memory.
	ErrMemory = errors.New("guest memory is too small for the firmware's launch pages")
	// ErrNotHashable: QEMU hashes only what it loads as a Linux kernel.
	ErrNotHashable = errors.New("QEMU makes no hashes table for this kind of kernel and aborts (give a bzImage or a UKI)")
)

// q35LowMiB is the least low memory that q35 leaves below 4 GiB however much
// the guest has, in MiB (QEMU hw/i386/pc_q35.c).
const q35LowMiB = 2048

// Measure predicts the launch of a guest by QEMU. in are the guest's opened
// files (g.Open); they are streamed, kernel and initrd at the same time as the
// firmware.
func Measure(g *guest.Guest, in *guest.Inputs) (*Result, error) {
	return MeasureWith(g, in, Options{})
}

// MeasureWith is Measure with Options.
func MeasureWith(g *guest.Guest, in *guest.Inputs, opt Options) (*Result, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if in.Firmware == nil || (in.Kernel == nil) != (g.Kernel == "") || (in.Initrd == nil) != (g.Initrd == "") {
		return nil, errors.New("the opened files are not those of this guest (use the Inputs that its Open returned)")
	}
	img, err := ovmf.Parse(in.Firmware.File, in.Firmware.Size)
	if err != nil {
		return nil, fmt.Errorf("firmware %s: %w", in.Firmware.Path, err)
	}
	r := &Result{Image: img}
	if err := checkFirmware(g, in.Firmware, img, opt.VMM); err != nil {
		return nil, fmt.Errorf("firmware %s: %w", in.Firmware.Path, err)
	}
	if g.UsesKernelHashes() {
		if err := checkKernel(in.Kernel); err != nil {
			return nil, fmt.Errorf("kernel %s: %w", in.Kernel.Path, err)
		}
	}

	// Firmware, kernel and initrd are hashed side by side: the longest of
	// them decides how long measuring takes.
	var wg sync.WaitGroup
	var hashErr error
	if g.UsesKernelHashes() {
		wg.Go(func() { r.HashTable, hashErr = hashTable(in, g.Append) })
	}
	firmware, firmwareErr := firmwarePages(in.Firmware, img, opt)
	wg.Wait()
	if err := errors.Join(firmwareErr, hashErr); err != nil {
		return nil, err
	}
	if err := r.assemble(g, opt, firmware); err != nil {
		return nil, err
	}
	return r, nil
}

// FromImage predicts a launch from an image's tables and a firmware digest
// alone (opt.FirmwareDigest, required), without any file; table nil means no
// kernel hashes. Of g only what the save areas hold is used: VCPUs, CPU,
// CPUSig, GuestFeatures.
func FromImage(g *guest.Guest, img *ovmf.Image, table *hashes.Table, opt Options) (*Result, error) {
	if opt.FirmwareDigest == nil {
		return nil, errors.New("measuring from an image's tables needs the digest of its contents")
	}
	if g.VCPUs < 1 {
		return nil, fmt.Errorf("vcpus is %d, and a guest has at least one", g.VCPUs)
	}
	r := &Result{Image: img, HashTable: table}
	if err := r.assemble(g, opt, nil); err != nil {
		return nil, err
	}
	return r, nil
}

// assemble lists all pages and folds them.
func (r *Result) assemble(g *guest.Guest, opt Options, firmware []Page) error {
	var hash *HashPage
	if r.HashTable != nil {
		gpa, offset, err := r.Image.HashPage()
		if err != nil {
			return err
		}
		page, err := r.HashTable.Page(offset)
		if err != nil {
			return err
		}
		hash = &HashPage{gpa, page}
		r.HashPage, r.HashPageGPA = &page, gpa
	}
	for n, s := range r.Image.Sections {
		if !s.Type.Known() {
			r.Warnings = append(r.Warnings, fmt.Sprintf("metadata section %d (%s) has a type that is not known here; it is measured as zero pages, as QEMU launches every type that it does not know", n, s))
		}
	}
	var err error
	if r.CPUSig, err = signature(g, opt.VMM); err != nil {
		return err
	}
	reset, ok := r.Image.ResetEIP()
	// QEMU wants the address even for one vCPU, other VMMs where it is used.
	if !ok && (opt.VMM == vmsa.QEMU || g.VCPUs > 1) {
		return ErrNoResetEIP
	}
	gpa := opt.VMSAGPA
	if gpa == 0 {
		gpa = snp.VMSAGPA
	}
	cfg := vmsa.Config{Signature: r.CPUSig, Features: g.GuestFeatures, VMM: opt.VMM, NoFPU: opt.NoFPU}
	r.VCPUs, r.GuestFeatures, r.vmsaGPA = g.VCPUs, g.GuestFeatures, gpa
	r.areas = func(signature uint32, features uint64) (bsp, ap [snp.PageSize]byte) {
		c := cfg
		c.Signature, c.Features = signature, features
		return vmsa.Page(c, true, reset), vmsa.Page(c, false, reset)
	}

	var c Context
	if opt.FirmwareDigest != nil {
		c.LD = *opt.FirmwareDigest
	}
	for _, p := range firmware {
		c.Extend(p.Update)
	}
	r.FirmwareDigest = c.LD
	sections := SectionPages(r.Image, hash, opt.VMM)
	for _, p := range sections {
		c.Extend(p.Update)
	}
	r.prefix = c
	areas := VMSAPages(cfg, g.VCPUs, reset, gpa)
	for _, p := range areas {
		c.Extend(p.Update)
	}
	r.Pages = slices.Concat(firmware, sections, areas)
	r.LaunchDigest = c.LD
	return nil
}

// signature gives RDX at reset. EC2 and GCE set the same value on every
// processor unless the description says otherwise.
func signature(g *guest.Guest, vmm vmsa.VMM) (uint32, error) {
	if vmm != vmsa.QEMU && g.CPUSig == nil {
		return vmsa.CloudSignature, nil
	}
	return g.Signature()
}

// checkFirmware refuses what could be measured but would not launch or boot.
func checkFirmware(g *guest.Guest, file *guest.Input, img *ovmf.Image, vmm vmsa.VMM) error {
	if len(img.Sections) == 0 {
		return ErrNoMetadata
	}
	low := uint64(min(g.MemoryMiB, q35LowMiB)) << 20
	for n, s := range img.Sections {
		if vmm == vmsa.QEMU && s.End() > low {
			return fmt.Errorf("%w: section %d (%s) ends at 0x%x, low memory at 0x%x (set memory_mib to %d or more)", ErrMemory, n, s, s.End(), low, (s.End()+1<<20-1)>>20)
		}
	}
	switch {
	case g.Kernel == "":
		return nil
	case g.KernelHashes:
		_, _, err := img.HashPage()
		return err
	}
	// Only where the tables have a place for hashes can there be code that
	// insists on them.
	if _, ok := img.HashSection(); ok {
		verifies, err := ovmf.VerifiesBlobs(file.File, file.Size)
		if err != nil {
			return err
		}
		if verifies {
			return ErrHashesOff
		}
	}
	return nil
}

// checkKernel refuses the kinds of kernel for which QEMU aborts with
// kernel-hashes=on, because it does not load them as Linux kernels
// (hw/i386/x86-common.c): ELF files (PVH) and Multiboot images.
func checkKernel(k *guest.Input) error {
	kind, err := guest.KernelKindOf(k.File, k.Size)
	if err != nil {
		return err
	}
	if !kind.Hashable() {
		return fmt.Errorf("it is %s: %w", kind, ErrNotHashable)
	}
	return nil
}

// firmwarePages hashes the firmware by page, where its digest is not given.
func firmwarePages(in *guest.Input, img *ovmf.Image, opt Options) ([]Page, error) {
	if opt.FirmwareDigest != nil {
		return nil, in.Unchanged()
	}
	pages, err := FirmwarePages(in.File, img)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Path, err)
	}
	return pages, in.Unchanged()
}

// HashTable hashes a guest's kernel, initrd and command line. The firmware is not
// needed.
func HashTable(g *guest.Guest) (*hashes.Table, error) {
	if g.Kernel == "" {
		return nil, errors.New("a kernel-hashes table is made for a kernel, and this guest has none (name one)")
	}
	in := &guest.Inputs{}
	defer in.Close()
	for _, f := range []struct {
		path string
		dst  **guest.Input
	}{{g.Kernel, &in.Kernel}, {g.Initrd, &in.Initrd}} {
		if f.path == "" {
			continue
		}
		opened, err := guest.OpenInput(f.path)
		if err != nil {
			return nil, err
		}
		*f.dst = opened
	}
	return hashTable(in, g.Append)
}

// hashTable hashes kernel and initrd at the same time, the initrd first because
// it is mostly the largest file of all.
func hashTable(in *guest.Inputs, cmdline string) (*hashes.Table, error) {
	t := &hashes.Table{Initrd: sha256.Sum256(nil)}
	var wg sync.WaitGroup
	var initrdErr error
	if in.Initrd != nil {
		wg.Go(func() { t.Initrd, initrdErr = in.Initrd.SHA256() })
	}
	var kernelErr, cmdlineErr error
	t.Kernel, kernelErr = in.Kernel.SHA256()
	t.Cmdline, cmdlineErr = hashes.Cmdline(cmdline)
	wg.Wait()
	if err := errors.Join(kernelErr, initrdErr, cmdlineErr); err != nil {
		return nil, err
	}
	return t, nil
}
