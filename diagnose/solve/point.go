package solve

import (
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// point is one description, as far as its digest depends on it. Points are
// compared, and what is large stands behind a pointer that is made once.
type point struct {
	firmware *firmware
	svsm     *svsmImage // nil: none
	vmm      vmsa.VMM
	order    *order
	extent   extent
	hashes   bool
	kernel   *blob // nil: none, and then no kernel hashes either
	initrd   *blob // nil: none
	line     *line
	cpu      cpu
	features uint64
	noFPU    bool
	vcpus    int
}

// firmware is an image that was read: its tables and the digest after its pages.
type firmware struct {
	path   string
	size   int64
	image  *ovmf.Image // its tables; only the size counts below an SVSM
	digest snp.LaunchDigest
}

// svsmImage is a COCONUT-SVSM image.
type svsmImage struct {
	path  string
	vars  int64 // bytes of the variable store between it and the firmware
	image *ovmf.Image
	pages []snp.Update
}

// blob is a kernel or an initrd.
type blob struct {
	path string // for messages
	sum  [32]byte
}

// line is a command line as it was hashed.
type line struct {
	text string
	sum  [32]byte
}

// order is an order of the metadata sections, or a choice of them.
type order struct {
	arrange func([]ovmf.Section) []ovmf.Section // nil: as they stand in the image
}

// cpu is a kind of vCPU.
type cpu struct {
	signature uint32 // of the processor, from which VMMs make RDX
	rdx       uint32 // instead, where exact is set
	exact     bool
}

// extent is how much of a launch a digest covers.
type extent int

const (
	whole        extent = iota
	noSaveAreas         // all but the save areas
	firmwareOnly        // the firmware's pages alone
)

// rdx is RDX of every vCPU at reset.
func (p *point) rdx() uint32 {
	if p.cpu.exact {
		return p.cpu.rdx
	}
	return p.vmm.Signature(p.cpu.signature)
}

// normal gives the description without what has no say in the digest: a kernel, an initrd and
// a command line that no table vouches for.
func (p point) normal() point {
	if !p.hashed() {
		p.hashes, p.kernel, p.initrd, p.line = false, nil, nil, nil
	}
	return p
}

// hashed says whether there is a hashes table.
func (p *point) hashed() bool { return p.hashes && p.kernel != nil && p.svsm == nil }
