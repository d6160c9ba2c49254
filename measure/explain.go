package measure

import (
	"fmt"
	"iter"

	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Step is one launch update, what it is in words, and the launch digest after it.
type Step struct {
	Page
	What    string           `json:"what"`
	Details []string         `json:"details,omitempty"` // e.g. the digests in the hashes table
	Running snp.LaunchDigest `json:"running_digest"`
}

// Explain lists all updates in order. After Options.FirmwareDigest the
// firmware's pages are missing, and the first step extends that digest.
func (r *Result) Explain() iter.Seq[Step] {
	return func(yield func(Step) bool) {
		c, cpu := r.start, r.firstListed()
		for _, p := range r.Pages {
			c.Extend(p.Update)
			s := Step{Page: p, Running: c.LD}
			if p.Type == snp.PageVMSA {
				s.What = r.saveAreaWords(cpu, cpu)
				cpu++
			} else {
				s.What, s.Details = r.pageWords(p)
			}
			if !yield(s) {
				return
			}
		}
	}
}

// firstListed is the vCPU whose save area is the first of Pages.
func (r *Result) firstListed() int {
	if r.fromOne {
		return 1
	}
	return 0
}

// Stretch is a run of updates that belong together: the pages of one section,
// or save areas that are alike.
type Stretch struct {
	Step        // the first update, but What of all of them and Running after the last
	Pages int   // how many updates
	Bytes int64 // of all of them
	// Equal says that all pages have the same contents digest.
	Equal bool
}

// Stretches lists the updates as Explain does, those that belong together as one.
func (r *Result) Stretches() iter.Seq[Stretch] {
	return func(yield func(Stretch) bool) {
		var s Stretch
		cpu := r.firstListed() // of s, where it is one of save areas
		emit := func() bool {
			if s.Pages > 1 && s.Type == snp.PageVMSA {
				s.What = r.saveAreaWords(cpu, cpu+s.Pages-1)
			}
			return s.Pages == 0 || yield(s)
		}
		for step := range r.Explain() {
			if s.Pages > 0 && s.goesOnWith(&step) {
				s.Pages++
				s.Bytes += int64(step.Length)
				s.Running = step.Running
				s.Equal = s.Equal && step.Contents == s.Contents
				continue
			}
			if !emit() {
				return
			}
			if s.Type == snp.PageVMSA {
				cpu += s.Pages
			}
			s = Stretch{Step: step, Pages: 1, Bytes: int64(step.Length), Equal: true}
		}
		emit()
	}
}

// goesOnWith says whether a step belongs to the stretch that came before it.
func (s *Stretch) goesOnWith(step *Step) bool {
	if s.Type != step.Type {
		return false
	}
	if s.Type == snp.PageVMSA { // all have one address
		return s.Contents == step.Contents
	}
	return s.Source == step.Source && s.What == step.What && s.GPA+uint64(s.Bytes) == step.GPA
}

// pageWords says what a page other than a save area is.
func (r *Result) pageWords(p Page) (what string, details []string) {
	switch {
	case p.Source == sourceFirmware:
		return "firmware page", nil
	case p.Source == sourceSVSM:
		return "SVSM image page", nil
	case p.Source == sourceHashes && r.HashPage != nil && p.GPA == r.HashPageGPA:
		_, offset, _ := r.Image.HashPage() // there is a page, so there is a place
		return fmt.Sprintf("hashes page, table at offset 0x%x", offset), r.hashWords()
	case p.Source == sourceHashes:
		return "rest of the hashes section, zeros", nil
	}
	for n, s := range r.Image.Sections {
		if p.GPA >= uint64(s.GPA) && p.GPA < s.End() {
			return fmt.Sprintf("metadata section %d, %s: %s", n, s.Type, sectionWords(s.Type, p.Type)), nil
		}
	}
	return p.Source, nil
}

// sectionWords says what a section is for and how it is launched.
func sectionWords(t ovmf.SectionType, as snp.PageType) string {
	use := "its use is not known here"
	switch t {
	case ovmf.SNPSecMem:
		use = "the firmware's memory before it can accept pages"
	case ovmf.SNPSecrets:
		use = "secrets page"
	case ovmf.CPUID:
		use = "CPUID page"
	case ovmf.SVSMCAA:
		use = "calling area of an SVSM"
	case ovmf.SNPKernelHashes:
		use = "place for a hashes table, left empty"
	}
	switch as {
	case snp.PageZero:
		return use + ", zeroed by the firmware"
	case snp.PageSecrets:
		return use + ", filled by the firmware; its contents are not measured"
	case snp.PageCPUID:
		return use + ", checked by the firmware; its contents are not measured"
	case snp.PageUnmeasured:
		return use + "; its contents are not measured"
	}
	return use
}

// saveAreaWords says what the save areas of vCPUs first to last are; they are
// alike.
func (r *Result) saveAreaWords(first, last int) string {
	who := fmt.Sprintf("VMSA of vCPU %d", first)
	if last > first {
		who = fmt.Sprintf("VMSA of vCPUs %d to %d", first, last)
	}
	if first == 0 {
		who += " (BSP)"
	} else {
		who += " (AP)"
	}
	page, err := r.SaveArea(first)
	if err != nil {
		return who
	}
	return fmt.Sprintf("%s, start 0x%x, RDX 0x%x, SEV_FEATURES %s", who, vmsa.Start(page), r.CPUSig, vmsa.DescribeFeatures(r.GuestFeatures))
}

// hashWords lists what the hashes table holds.
func (r *Result) hashWords() []string {
	t := r.HashTable
	return []string{
		fmt.Sprintf("kernel sha256 %x", t.Kernel),
		fmt.Sprintf("initrd sha256 %x", t.Initrd),
		fmt.Sprintf("cmdline sha256 %x", t.Cmdline),
	}
}

// Part is a run of the bytes over which the digest of an SEV or SEV-ES guest goes.
type Part struct {
	Bytes   int64    `json:"length"`
	What    string   `json:"what"`
	Details []string `json:"details,omitempty"`
}

// Parts lists, in order, over what the digest of an SEV or SEV-ES guest goes: one
// SHA-256 over all of it. SNP guests have none; Explain lists their updates.
func (r *Result) Parts() []Part {
	if r.Mode.secureNestedPaging() {
		return nil
	}
	parts := []Part{{Bytes: r.Image.Size, What: "firmware image"}}
	if r.HashTable != nil {
		parts = append(parts, Part{hashes.Size, "hashes table", r.hashWords()})
	}
	if r.areas != nil {
		parts = append(parts, Part{Bytes: snp.PageSize, What: r.saveAreaWords(0, 0)})
		if r.VCPUs > 1 {
			parts = append(parts, Part{Bytes: int64(r.VCPUs-1) * snp.PageSize, What: r.saveAreaWords(1, r.VCPUs-1)})
		}
	}
	return parts
}
