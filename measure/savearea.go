package measure

import (
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// saveAreas are the save areas of a launch as they depend on the vCPUs'
// signature and features: that of the first vCPU and that of all others.
type saveAreas func(signature uint32, features uint64) (bsp, ap [snp.PageSize]byte)

// ErrNoSaveAreas: a launch without measured save areas, as of plain SEV.
var ErrNoSaveAreas = errors.New("this kind of launch measures no save areas")

// SaveArea gives the save area of a vCPU (VMSA page), counted from 0, as it was
// measured.
func (r *Result) SaveArea(cpu int) (*[snp.PageSize]byte, error) {
	if r.areas == nil {
		return nil, ErrNoSaveAreas
	}
	if cpu < 0 || cpu >= r.VCPUs {
		return nil, fmt.Errorf("there is no vCPU %d among %d", cpu, r.VCPUs)
	}
	bsp, ap := r.areas(r.CPUSig, r.GuestFeatures)
	if cpu == 0 {
		return &bsp, nil
	}
	return &ap, nil
}

// setSaveAreas settles what the save areas hold.
func (r *Result) setSaveAreas(g *guest.Guest, opt Options) error {
	rdx, gpa, err := cpuState(g, opt)
	if err != nil {
		return err
	}
	r.VCPUs, r.CPUSig, r.GuestFeatures, r.vmsaGPA = g.VCPUs, rdx, g.GuestFeatures, gpa
	if opt.Mode == SEVES {
		// SNPActive is KVM's, for SNP guests; the rest of the word is the
		// kernel's to set, whatever a description says about SNP.
		r.GuestFeatures = r.Host.Features &^ vmsa.SNPActive
	}
	cfg := vmsa.Config{VMM: opt.VMM, NoFPU: opt.NoFPU || r.Host.NoFPU}
	if opt.Mode == SVSM {
		entry, _ := r.Image.SVSMEntry()
		r.areas = func(signature uint32, features uint64) (bsp, ap [snp.PageSize]byte) {
			c := cfg
			c.Signature, c.Features = signature, features
			bsp = vmsa.SVSMPage(c, entry)
			return bsp, bsp
		}
		return nil
	}
	reset, ok := r.Image.ResetEIP()
	if ok {
		r.ResetEIP = &reset
	}
	if r.oneVCPU = !ok && opt.VMM.UsesResetAddr(); r.oneVCPU && g.VCPUs > 1 {
		return ErrNoResetEIP
	}
	r.areas = func(signature uint32, features uint64) (bsp, ap [snp.PageSize]byte) {
		c := cfg
		c.Signature, c.Features = signature, features
		return vmsa.Page(c, true, reset), vmsa.Page(c, false, reset)
	}
	return nil
}

// cpuState gives what of the save areas depends on the kind of vCPU: RDX, and
// where they lie.
func cpuState(g *guest.Guest, opt Options) (rdx uint32, gpa uint64, err error) {
	// GCE takes the processor for the save areas' address, QEMU for RDX.
	cpu, err := g.Signature()
	if err != nil && (opt.VMM == vmsa.QEMU && opt.RDX == nil || g.CPU != "") {
		return 0, 0, err
	}
	rdx, gpa = opt.VMM.Signature(cpu), opt.VMSAGPA
	if opt.RDX != nil {
		rdx = *opt.RDX
	}
	if gpa == 0 {
		gpa = opt.VMM.SaveAreaGPA(cpu)
	}
	return rdx, gpa, nil
}

// vmsaPages lists one update for each vCPU.
func (r *Result) vmsaPages() []Page {
	bsp, ap := r.areas(r.CPUSig, r.GuestFeatures)
	pages := make([]Page, 0, r.VCPUs)
	u := snp.Update{Type: snp.PageVMSA, GPA: r.vmsaGPA, Length: snp.PageSize, Contents: sha512.Sum384(bsp[:])}
	for cpu := range r.VCPUs {
		if cpu == 1 {
			u.Contents = sha512.Sum384(ap[:])
		}
		pages = append(pages, Page{u, fmt.Sprintf("vCPU %d VMSA", cpu)})
	}
	return pages
}

// FromOneVCPU predicts a launch from the launch digest of the same guest with
// one vCPU: save areas are measured last, and those of all application
// processors are alike. So whoever has that digest (signed, say) and the
// address where the firmware starts the others needs no image. Of g only what
// the save areas hold is used. The result lists the added pages only.
func FromOneVCPU(g *guest.Guest, one snp.LaunchDigest, resetEIP uint32, opt Options) (*Result, error) {
	if opt.Mode != SNP {
		return nil, fmt.Errorf("mode %s cannot be measured from the digest for one vCPU (use mode %s, or give the images)", opt.Mode, SNP)
	}
	if g.VCPUs < 1 {
		return nil, fmt.Errorf("vcpus is %d, and a guest has at least one", g.VCPUs)
	}
	img, err := ovmf.FromTables(0, nil, &resetEIP, nil)
	if err != nil {
		return nil, err
	}
	r := &Result{Image: img, fromOne: true}
	if r.Host, err = g.HostProfile(); err != nil {
		return nil, err
	}
	if err := r.setSaveAreas(g, opt); err != nil {
		return nil, err
	}
	r.Pages = r.vmsaPages()[1:]
	r.start.LD = one
	c := r.start
	for _, p := range r.Pages {
		c.Extend(p.Update)
	}
	r.LaunchDigest = c.LD
	r.Digest = c.LD[:]
	return r, nil
}
