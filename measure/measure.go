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
	Mode Mode
	// Digest is the answer: 48 bytes, or 32 for SEV and SEV-ES.
	Digest []byte

	LaunchDigest   snp.LaunchDigest // Digest of the SNP modes
	FirmwareDigest snp.LaunchDigest // after the firmware pages alone: sev-snp-measure's "OVMF hash"

	// Pages are all updates in order; none for SEV and SEV-ES. After
	// Options.FirmwareDigest the firmware's are missing.
	Pages []Page

	Image       *ovmf.Image
	HashTable   *hashes.Table       // nil without kernel hashes
	HashPage    *[snp.PageSize]byte // the page that carries the table; nil without
	HashPageGPA uint64

	// What the save areas hold, see SaveArea.
	VCPUs         int
	CPUSig        uint32           // RDX of every vCPU at reset
	GuestFeatures uint64           // SEV_FEATURES
	ResetEIP      *uint32          // where vCPUs other than the first start; nil where nothing says so
	Host          vmsa.HostProfile // what was assumed of the host's kernel

	// Obstacles are reasons why a guest that has this digest would not launch
	// or not boot under QEMU. Each is a sentence that says what to do.
	Obstacles []error
	// Warnings are sentences about what is unusual but not wrong.
	Warnings []string

	start   Context   // before the first of Pages
	prefix  Context   // after all pages but the save areas
	areas   saveAreas // nil where none are measured
	vmsaGPA uint64
	fromOne bool // nothing is known of what comes before the first save area
	oneVCPU bool // nothing says where further vCPUs start
}

// Updates gives the updates without their sources, as Fold takes them.
func (r *Result) Updates() []snp.Update {
	out := make([]snp.Update, len(r.Pages))
	for i, p := range r.Pages {
		out[i] = p.Update
	}
	return out
}

// Options are what a guest description does not say. The zero value is an SNP
// launch by QEMU on KVM.
type Options struct {
	Mode Mode
	VMM  vmsa.VMM

	// SVSM is the COCONUT-SVSM image of mode SVSM, and VarsSize the size in bytes of the
	// variable store between it and the firmware.
	SVSM     *guest.Input
	VarsSize int64

	// Metadata, where not nil, stands for the firmware image; Inputs then need
	// none.
	Metadata *Metadata

	// FirmwareDigest, where not nil, stands for the contents of the firmware
	// image: folding starts from it and the image is read for its tables only.
	FirmwareDigest *snp.LaunchDigest

	// VMSAGPA is the guest-physical address of all save areas; 0 means what
	// VMM and processor make of it, see vmsa.VMM.SaveAreaGPA.
	VMSAGPA uint64

	// NoFPU is vmsa.Config's; it is also on where the guest's host profile says so.
	NoFPU bool

	// RDX, where not nil, is RDX of every vCPU, whatever VMM and description
	// say: for digests of other times (EC2 left 0 until 2026).
	RDX *uint32

	// Strict makes an error of every obstacle, before anything is hashed.
	Strict bool
}

// Measure predicts the launch of an SNP guest by QEMU, and refuses what QEMU,
// KVM or the firmware would refuse. in are the guest's opened files (g.Open), or
// Inputs made with guest.NewInput; they are streamed, kernel and initrd at the
// same time as the firmware.
func Measure(g *guest.Guest, in *guest.Inputs) (*Result, error) {
	return MeasureWith(g, in, Options{Strict: true})
}

// MeasureWith is Measure with Options. Without Options.Strict it refuses only
// what has no digest; the rest is in Result.Obstacles.
func MeasureWith(g *guest.Guest, in *guest.Inputs, opt Options) (*Result, error) {
	g = named(g, in, &opt)
	if (in.Firmware == nil) != (opt.Metadata != nil) || (in.Kernel == nil) != !g.HasKernel() || (in.Initrd == nil) != (g.Initrd == "" && g.InitrdSHA256 == nil) {
		return nil, errors.New("the opened files are not those of this guest (use the Inputs that its Open returned)")
	}
	r := &Result{Mode: opt.Mode}
	l := &launch{Result: r, g: g, in: in, opt: opt}
	if err := l.describe(); err != nil {
		return nil, err
	}
	if err := in.CheckPins(); err != nil {
		return nil, err
	}
	if opt.Mode == OVMFHash {
		return l.firmwareAlone()
	}
	if err := l.readImages(); err != nil {
		return nil, err
	}
	if opt.Strict && len(r.Obstacles) > 0 {
		return nil, joined(r.Obstacles)
	}
	if !opt.Mode.secureNestedPaging() {
		return r, l.plainDigest()
	}

	// Firmware, kernel and initrd are hashed side by side: the longest of
	// them decides how long measuring takes.
	var wg sync.WaitGroup
	var svsm []Page
	var svsmErr, hashErr error
	if opt.Mode == SVSM {
		wg.Go(func() { svsm, svsmErr = svsmPages(opt.SVSM, r.Image) })
	}
	if l.usesHashes() {
		wg.Go(func() { r.HashTable, hashErr = hashTable(g, in) })
	}
	var firmware []Page
	var firmwareErr error
	if opt.Metadata != nil {
		opt.FirmwareDigest = &opt.Metadata.FirmwareDigest
	} else {
		firmware, firmwareErr = firmwarePages(in.Firmware, l.firmware(), opt)
	}
	wg.Wait()
	if err := errors.Join(firmwareErr, svsmErr, hashErr); err != nil {
		return nil, err
	}
	if err := r.assemble(g, opt, firmware, svsm); err != nil {
		return nil, err
	}
	return r, nil
}

// named gives a description that names inputs which it did not open itself.
func named(g *guest.Guest, in *guest.Inputs, opt *Options) *guest.Guest {
	c := *g
	for _, f := range []struct {
		in   *guest.Input
		path *string
		sum  **[32]byte
	}{{in.Firmware, &c.Firmware, nil}, {in.Kernel, &c.Kernel, &c.KernelSHA256}, {in.Initrd, &c.Initrd, &c.InitrdSHA256}} {
		switch {
		case f.in == nil || *f.path != "":
		case f.in.HasContents():
			*f.path = f.in.Path
		case f.sum != nil && *f.sum == nil:
			if sum, err := f.in.SHA256(); err == nil {
				*f.sum = &sum
			}
		}
	}
	if opt.Metadata != nil && c.Firmware == "" {
		c.Firmware = "metadata"
	}
	return &c
}

// FromImage predicts a launch from an image's tables and a firmware digest
// alone (opt.FirmwareDigest, required), without any file; table nil means no
// kernel hashes. Of g only what the save areas hold is used: VCPUs, CPU,
// CPUSig, HostKernel, GuestFeatures.
func FromImage(g *guest.Guest, img *ovmf.Image, table *hashes.Table, opt Options) (*Result, error) {
	if opt.FirmwareDigest == nil {
		return nil, errors.New("measuring from an image's tables needs the digest of its contents")
	}
	if opt.Mode != SNP {
		return nil, fmt.Errorf("mode %s cannot be measured from an image's tables and digest (give the images)", opt.Mode)
	}
	if g.VCPUs < 1 {
		return nil, fmt.Errorf("vcpus is %d, and a guest has at least one", g.VCPUs)
	}
	r := &Result{Image: img, HashTable: table}
	var err error
	if r.Host, err = g.HostProfile(); err != nil {
		return nil, err
	}
	if err := r.assemble(g, opt, nil, nil); err != nil {
		return nil, err
	}
	return r, nil
}

// launch is one measurement under way.
type launch struct {
	*Result
	g   *guest.Guest
	in  *guest.Inputs
	opt Options

	ovmf *ovmf.Image // the firmware's, where Image is the SVSM's
}

// firmware is the image of the firmware itself.
func (l *launch) firmware() *ovmf.Image {
	if l.ovmf != nil {
		return l.ovmf
	}
	return l.Image
}

// usesHashes says whether a hashes table is part of the launch.
func (l *launch) usesHashes() bool { return l.g.UsesKernelHashes() && l.opt.Mode != SVSM }

// describe judges the description by itself.
func (l *launch) describe() (err error) {
	if l.Obstacles, err = l.g.ValidateMeasure(); err != nil {
		return err
	}
	if l.Host, err = l.g.HostProfile(); err != nil {
		return err
	}
	if l.opt.Mode.secureNestedPaging() && l.opt.VMM == vmsa.QEMU {
		if err := l.Host.CheckSNP(); err != nil {
			l.obstacle(err)
		}
	}
	if l.opt.VMM == vmsa.Krun && l.opt.Mode == SNP {
		l.Warnings = append(l.Warnings, "libkrun starts a firmware, a kernel and an initrd of its own at addresses of its own, and no OVMF image; only the save areas are measured as it launches them")
	}
	if l.opt.Metadata != nil && l.opt.Mode != SNP {
		return fmt.Errorf("firmware metadata stands for the firmware in mode %s only, not in %s (give the firmware)", SNP, l.opt.Mode)
	}
	if l.opt.FirmwareDigest != nil && l.opt.Mode != SNP {
		return fmt.Errorf("a firmware digest stands for the firmware in mode %s only, not in %s (give the firmware)", SNP, l.opt.Mode)
	}
	if (l.opt.SVSM != nil) != (l.opt.Mode == SVSM) {
		if l.opt.Mode == SVSM {
			return errors.New("mode snp:svsm needs an SVSM image (give one with --svsm)")
		}
		return fmt.Errorf("an SVSM image is measured in mode %s only, not in %s (leave it out, or use that mode)", SVSM, l.opt.Mode)
	}
	if l.opt.Mode == SVSM && l.opt.VMM != vmsa.QEMU {
		return fmt.Errorf("mode %s is known for QEMU only, not for %s (use --vmm-type QEMU)", SVSM, l.opt.VMM)
	}
	return nil
}

func (l *launch) obstacle(err error) { l.Obstacles = append(l.Obstacles, err) }

// firmwareAlone is the digest after the firmware's pages.
func (l *launch) firmwareAlone() (*Result, error) {
	img, err := ovmf.Pages(l.in.Firmware.Size)
	if err != nil {
		return nil, fmt.Errorf("firmware %s: %w", l.in.Firmware.Path, err)
	}
	if l.Pages, err = firmwarePages(l.in.Firmware, img, Options{}); err != nil {
		return nil, err
	}
	l.LaunchDigest = Fold(l.Updates())
	l.FirmwareDigest = l.LaunchDigest
	l.Digest = l.LaunchDigest[:]
	return l.Result, nil
}

// readImages reads the tables of firmware and SVSM and judges them.
func (l *launch) readImages() error {
	if l.opt.Mode == SVSM {
		return l.readSVSM()
	}
	wrap := func(err error) error { return fmt.Errorf("firmware %s: %w", l.g.Firmware, err) }
	var err error
	if l.opt.Metadata != nil {
		l.Image, err = l.opt.Metadata.Image()
	} else {
		l.Image, err = ovmf.Parse(l.in.Firmware, l.in.Firmware.Size)
	}
	if err != nil {
		// A plain SEV guest may have any firmware.
		if l.opt.Mode != SEV || l.usesHashes() || !errors.Is(err, ovmf.ErrNoTable) && !errors.Is(err, ovmf.ErrSize) {
			return wrap(err)
		}
		l.Image = &ovmf.Image{Size: l.in.Firmware.Size}
	}
	if err := l.checkFirmware(); err != nil {
		return wrap(err)
	}
	if l.usesHashes() {
		return l.checkKernel()
	}
	return nil
}

// assemble lists all pages and folds them.
func (r *Result) assemble(g *guest.Guest, opt Options, firmware, svsm []Page) error {
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
	if err := r.setSaveAreas(g, opt); err != nil {
		return err
	}
	if opt.FirmwareDigest != nil {
		r.start.LD = *opt.FirmwareDigest
	}
	c := r.start
	for _, p := range firmware {
		c.Extend(p.Update)
	}
	r.FirmwareDigest = c.LD
	images := slices.Concat(svsm, SectionPages(r.Image, hash, opt.VMM))
	for _, p := range images {
		c.Extend(p.Update)
	}
	r.prefix = c
	areas := r.vmsaPages()
	for _, p := range areas {
		c.Extend(p.Update)
	}
	r.Pages = slices.Concat(firmware, images, areas)
	r.LaunchDigest = c.LD
	r.Digest = c.LD[:]
	return nil
}

// firmwarePages hashes the firmware by page, where its digest is not given.
func firmwarePages(in *guest.Input, img *ovmf.Image, opt Options) ([]Page, error) {
	if opt.FirmwareDigest != nil {
		return nil, in.Unchanged()
	}
	pages, err := FirmwarePages(in, img)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Path, err)
	}
	return pages, in.Unchanged()
}

// HashTable hashes a guest's kernel, initrd and command line. The firmware is not
// needed.
func HashTable(g *guest.Guest) (*hashes.Table, error) {
	if !g.HasKernel() {
		return nil, errors.New("a kernel-hashes table is made for a kernel, and this guest has none (name one)")
	}
	in, err := g.OpenBoot()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return hashTable(g, in)
}

// hashTable hashes kernel and initrd at the same time. The initrd is mostly the
// largest file of all and decides how long measuring takes, so it does not wait
// for a goroutine of its own to be scheduled.
func hashTable(g *guest.Guest, in *guest.Inputs) (*hashes.Table, error) {
	t := &hashes.Table{Initrd: sha256.Sum256(nil)}
	var wg sync.WaitGroup
	var kernelErr, initrdErr, cmdlineErr error
	wg.Go(func() { t.Kernel, kernelErr = in.Kernel.SHA256() })
	if in.Initrd != nil {
		t.Initrd, initrdErr = in.Initrd.SHA256()
	}
	t.Cmdline, cmdlineErr = hashes.Cmdline(g.Append)
	if sum := g.AppendSHA256; sum != nil {
		if g.Append != "" && cmdlineErr == nil && t.Cmdline != *sum {
			cmdlineErr = fmt.Errorf("the command line with its NUL byte has the SHA-256 %x, but %x was given for it (leave one of the two out)", t.Cmdline, *sum)
		}
		t.Cmdline = *sum
	}
	wg.Wait()
	if err := errors.Join(kernelErr, initrdErr, cmdlineErr); err != nil {
		return nil, err
	}
	return t, nil
}
