package measure

import (
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
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
	// GCE takes the processor for the save areas' address, QEMU for RDX.
	cpu, err := g.Signature()
	if err != nil && (opt.VMM == vmsa.QEMU && opt.RDX == nil || g.CPU != "") {
		return err
	}
	r.VCPUs, r.CPUSig, r.GuestFeatures = g.VCPUs, opt.VMM.Signature(cpu), g.GuestFeatures
	if opt.RDX != nil {
		r.CPUSig = *opt.RDX
	}
	if opt.Mode == SEVES {
		// SNPActive is KVM's, for SNP guests; the rest of the word is the
		// kernel's to set, whatever a description says about SNP.
		r.GuestFeatures = r.Host.Features &^ vmsa.SNPActive
	}
	if r.vmsaGPA = opt.VMSAGPA; r.vmsaGPA == 0 {
		r.vmsaGPA = opt.VMM.SaveAreaGPA(cpu)
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

// AddVCPUs gives the launch digest of a guest with n vCPUs from that of the
// same guest with one: save areas are measured last, and those of all
// application processors are alike. So whoever has the digest for one vCPU
// (signed, say) and the address where the firmware starts the others needs no
// image. gpa 0 means snp.VMSAGPA, which KVM always uses.
func AddVCPUs(one snp.LaunchDigest, cfg vmsa.Config, n int, resetEIP uint32, gpa uint64) (snp.LaunchDigest, error) {
	if n < 1 {
		return one, fmt.Errorf("vcpus is %d, and a guest has at least one", n)
	}
	if gpa == 0 {
		gpa = snp.VMSAGPA
	}
	page := vmsa.Page(cfg, false, resetEIP)
	u := snp.Update{Type: snp.PageVMSA, GPA: gpa, Length: snp.PageSize, Contents: sha512.Sum384(page[:])}
	c := Context{LD: one}
	for range n - 1 {
		c.Extend(u)
	}
	return c.LD, nil
}
