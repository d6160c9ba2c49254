package vmsa

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// PageSize is the size of a save area, in bytes.
const PageSize = 4096

// ResetVector is where the bootstrap processor starts.
const ResetVector uint32 = 0xFFFFFFF0

// VMM is the virtual machine monitor whose reset state is meant.
type VMM int

// Known VMMs. QEMU is the one that this project launches; EC2 and GCE are
// for checking reports of guests in those clouds, by what
// virtee/sev-snp-measure and google/gce-tcb-verifier observed there; Krun is
// libkrun, by its source (src/vmm/src/linux/vstate.rs, configure_x86_64).
const (
	QEMU VMM = iota
	EC2
	GCE
	Krun
)

var vmmNames = []string{QEMU: "QEMU", EC2: "ec2", GCE: "gce", Krun: "krun"}

// String gives the name that sev-snp-measure's --vmm-type takes.
func (v VMM) String() string {
	if v >= 0 && int(v) < len(vmmNames) {
		return vmmNames[v]
	}
	return fmt.Sprintf("VMM %d", int(v))
}

// ParseVMM reads the name of a VMM, in any case: QEMU, ec2, gce or krun.
func ParseVMM(s string) (VMM, error) {
	for v, name := range vmmNames {
		if strings.EqualFold(s, name) {
			return VMM(v), nil
		}
	}
	return 0, fmt.Errorf("VMM %q is unknown (%s)", s, suggest.Remedy(s, vmmNames))
}

// Signature is RDX of every vCPU at reset, where cpu is EAX of the guest's
// CPUID function 1: QEMU's is cpu; the others leave CloudSignature, whatever
// the processor.
func (v VMM) Signature(cpu uint32) uint32 {
	if v == QEMU {
		return cpu
	}
	return CloudSignature
}

// SaveAreaGPA is the guest-physical address with which save areas are
// measured, where cpu is the signature of the processor. KVM launches all at
// INITIAL_VMSA_GPA. GCE launches them at the highest page that the processor
// can address, as far as Milan has 48 bits and later ones 52
// (google/gce-tcb-verifier, ProductHighAddress).
func (v VMM) SaveAreaGPA(cpu uint32) uint64 {
	const (
		bits48 = 0xFFFFFFFFF000
		bits52 = 0xFFFFFFFFFF000
	)
	if v != GCE {
		return bits48
	}
	family, model, _ := SplitSignature(cpu)
	if family > 25 || family == 25 && model >= 0x10 {
		return bits52
	}
	return bits48
}

// CloudSignature is what EC2, GCE and libkrun leave in RDX, whatever the processor: KVM's
// own default at vCPU reset (Linux arch/x86/kvm/x86.c, kvm_vcpu_reset).
const CloudSignature = 0x600

// Config is what save areas of one guest have in common.
type Config struct {
	Signature uint32 // RDX at reset, see VMM.Signature
	Features  uint64 // SEV_FEATURES
	VMM       VMM

	// NoFPU leaves MXCSR and FCW zero, as host kernels did that do not copy
	// the FPU state (before Linux 6.9).
	NoFPU bool
}

// segment is a segment register as the save area holds it. attr packs type,
// S, DPL, P, AVL, L, D/B and G (bits 0-3, 4, 5-6, 7, 8, 9, 10, 11).
type segment struct {
	Selector uint16
	Attr     uint16
	Limit    uint32
	Base     uint64
}

// profile is what VMMs do differently.
type profile struct {
	csBSP, csAP, ss, tr uint16
	pat                 uint64
	mxcsr               uint32
	fcw                 uint16
	data                uint16 // ES, DS, FS, GS
	alike               bool   // all vCPUs start at ResetVector
}

const (
	patDefault   = 0x0007040600070406
	mxcsrDefault = 0x1F80
	fcwDefault   = 0x037F
)

func (v VMM) profile() profile {
	switch v {
	case EC2:
		return profile{csBSP: 0x9A, csAP: 0x9B, data: 0x93, ss: 0x92, tr: 0x83, pat: patDefault}
	case GCE:
		return profile{csBSP: 0x9B, csAP: 0x9B, data: 0x93, ss: 0x93, tr: 0x8B, pat: 0x00070106}
	case Krun:
		// libkrun leaves the registers of a confidential guest as KVM resets
		// them (init_vmcb). A VMM that reads the segments and writes
		// them back, as QEMU and EC2 do, has the accessed bit set in its data segments.
		return profile{csBSP: 0x9A, csAP: 0x9A, data: 0x92, ss: 0x92, tr: 0x83, pat: patDefault, mxcsr: mxcsrDefault, fcw: fcwDefault, alike: true}
	}
	return profile{csBSP: 0x9B, csAP: 0x9B, data: 0x93, ss: 0x93, tr: 0x8B, pat: patDefault, mxcsr: mxcsrDefault, fcw: fcwDefault}
}

// UsesResetAddr says whether application processors start where the firmware says.
func (v VMM) UsesResetAddr() bool { return !v.profile().alike }

// Page gives the save area with which a vCPU is measured. The bootstrap
// processor (vCPU 0) starts at ResetVector and resetAddr is not used; the
// others start at resetAddr, which the firmware names.
//
// GUEST_TSC_SCALE and GUEST_TSC_OFFSET (0x2F0, 0x2F8) are zero: the firmware
// leaves them out of the digest.
func Page(cfg Config, bsp bool, resetAddr uint32) [PageSize]byte {
	p := cfg.VMM.profile()
	start, cs := ResetVector, p.csBSP
	if !bsp && !p.alike {
		start, cs = resetAddr, p.csAP
	}
	if cfg.NoFPU {
		p.mxcsr, p.fcw = 0, 0
	}
	data := segment{Attr: p.data, Limit: 0xFFFF}

	page := encode([...]placed{
		{0x000, data}, // ES
		{0x010, segment{0xF000, cs, 0xFFFF, uint64(start & 0xFFFF0000)}}, // CS
		{0x020, segment{Attr: p.ss, Limit: 0xFFFF}},                      // SS
		{0x030, data}, // DS
		{0x040, data}, // FS
		{0x050, data}, // GS
	}, p.tr, uint64(start&0xFFFF), cr0ET, p, cfg)
	sabotage(&page, bsp)
	return page
}

// placed is a segment register and its offset in the save area.
type placed struct {
	off int
	segment
}

const (
	cr0ET = 0x10 // QEMU also sets CD and NW, which KVM clears
	cr0PE = 0x01
)

// encode makes a save area of ES to GS, TR's attributes, RIP and CR0; the rest is
// the same in all.
func encode(segments [6]placed, tr uint16, rip, cr0 uint64, p profile, cfg Config) [PageSize]byte {
	var page [PageSize]byte
	le := binary.LittleEndian
	for _, list := range [...][]placed{segments[:], {
		{0x060, segment{Limit: 0xFFFF}},             // GDTR
		{0x070, segment{Attr: 0x82, Limit: 0xFFFF}}, // LDTR
		{0x080, segment{Limit: 0xFFFF}},             // IDTR
		{0x090, segment{Attr: tr, Limit: 0xFFFF}},   // TR
	}} {
		for _, s := range list {
			le.PutUint16(page[s.off:], s.Selector)
			le.PutUint16(page[s.off+2:], s.Attr)
			le.PutUint32(page[s.off+4:], s.Limit)
			le.PutUint64(page[s.off+8:], s.Base)
		}
	}
	for _, f := range []struct {
		off   int
		value uint64
	}{
		{0x0D0, 0x1000},                // EFER: SVME, which KVM forces
		{0x148, 0x40},                  // CR4: MCE, which KVM adds because the host has it
		{0x158, cr0},                   // CR0
		{0x160, 0x400},                 // DR7
		{0x168, 0xFFFF0FF0},            // DR6
		{0x170, 0x2},                   // RFLAGS
		{0x178, rip},                   // RIP
		{0x268, p.pat},                 // G_PAT
		{0x310, uint64(cfg.Signature)}, // RDX
		{0x3B0, cfg.Features},          // SEV_FEATURES
		{0x3E8, 0x1},                   // XCR0
	} {
		le.PutUint64(page[f.off:], f.value)
	}
	le.PutUint32(page[0x408:], p.mxcsr) // MXCSR
	le.PutUint16(page[0x410:], p.fcw)   // X87_FCW
	return page
}
