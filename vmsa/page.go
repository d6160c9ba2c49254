package vmsa

import (
	"encoding/binary"
	"fmt"
)

// PageSize is the size of a save area, in bytes.
const PageSize = 4096

// ResetVector is where the bootstrap processor starts.
const ResetVector uint32 = 0xFFFFFFF0

// VMM is the virtual machine monitor whose reset state is meant.
type VMM int

// Known VMMs. QEMU is the one that this project launches; EC2 and GCE are
// for checking reports of guests in those clouds, by what
// virtee/sev-snp-measure and google/gce-tcb-verifier observed there.
const (
	QEMU VMM = iota
	EC2
	GCE
)

// String gives the name that sev-snp-measure's --vmm-type takes.
func (v VMM) String() string {
	switch v {
	case QEMU:
		return "QEMU"
	case EC2:
		return "ec2"
	case GCE:
		return "gce"
	}
	return fmt.Sprintf("VMM %d", int(v))
}

// ParseVMM reads the name of a VMM: QEMU, ec2 or gce.
func ParseVMM(s string) (VMM, error) {
	for _, v := range []VMM{QEMU, EC2, GCE} {
		if s == v.String() {
			return v, nil
		}
	}
	return 0, fmt.Errorf("VMM %q is unknown (use QEMU, ec2 or gce)", s)
}

// CloudSignature is what EC2 and GCE leave in RDX, whatever the processor: KVM's
// own default at vCPU reset (Linux arch/x86/kvm/x86.c, kvm_vcpu_reset).
const CloudSignature = 0x600

// Config is what save areas of one guest have in common.
type Config struct {
	Signature uint32 // RDX at reset: EAX of CPUID function 1 under QEMU, CloudSignature under EC2 and GCE
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
}

const patDefault = 0x0007040600070406

func (v VMM) profile() profile {
	switch v {
	case EC2:
		return profile{csBSP: 0x9A, csAP: 0x9B, ss: 0x92, tr: 0x83, pat: patDefault}
	case GCE:
		return profile{csBSP: 0x9B, csAP: 0x9B, ss: 0x93, tr: 0x8B, pat: 0x00070106}
	}
	return profile{csBSP: 0x9B, csAP: 0x9B, ss: 0x93, tr: 0x8B, pat: patDefault, mxcsr: 0x1F80, fcw: 0x037F}
}

// Page gives the save area with which a vCPU is measured. The bootstrap
// processor (vCPU 0) starts at ResetVector and resetAddr is not used; the
// others start at resetAddr, which the firmware names.
//
// GUEST_TSC_SCALE and GUEST_TSC_OFFSET (0x2F0, 0x2F8) are zero: the firmware
// leaves them out of the digest.
func Page(cfg Config, bsp bool, resetAddr uint32) [PageSize]byte {
	p := cfg.VMM.profile()
	start, cs := ResetVector, p.csBSP
	if !bsp {
		start, cs = resetAddr, p.csAP
	}
	if cfg.NoFPU {
		p.mxcsr, p.fcw = 0, 0
	}
	data := segment{Attr: 0x93, Limit: 0xFFFF}

	var page [PageSize]byte
	le := binary.LittleEndian
	for _, s := range []struct {
		off int
		segment
	}{
		{0x000, data}, // ES
		{0x010, segment{0xF000, cs, 0xFFFF, uint64(start & 0xFFFF0000)}}, // CS
		{0x020, segment{Attr: p.ss, Limit: 0xFFFF}},                      // SS
		{0x030, data},                   // DS
		{0x040, data},                   // FS
		{0x050, data},                   // GS
		{0x060, segment{Limit: 0xFFFF}}, // GDTR
		{0x070, segment{Attr: 0x82, Limit: 0xFFFF}}, // LDTR
		{0x080, segment{Limit: 0xFFFF}},             // IDTR
		{0x090, segment{Attr: p.tr, Limit: 0xFFFF}}, // TR
	} {
		le.PutUint16(page[s.off:], s.Selector)
		le.PutUint16(page[s.off+2:], s.Attr)
		le.PutUint32(page[s.off+4:], s.Limit)
		le.PutUint64(page[s.off+8:], s.Base)
	}
	for _, f := range []struct {
		off   int
		value uint64
	}{
		{0x0D0, 0x1000},                 // EFER: SVME, which KVM forces
		{0x148, 0x40},                   // CR4: MCE, which KVM adds because the host has it
		{0x158, 0x10},                   // CR0: ET; QEMU also sets CD and NW, which KVM clears
		{0x160, 0x400},                  // DR7
		{0x168, 0xFFFF0FF0},             // DR6
		{0x170, 0x2},                    // RFLAGS
		{0x178, uint64(start & 0xFFFF)}, // RIP
		{0x268, p.pat},                  // G_PAT
		{0x310, uint64(cfg.Signature)},  // RDX
		{0x3B0, cfg.Features},           // SEV_FEATURES
		{0x3E8, 0x1},                    // XCR0
	} {
		le.PutUint64(page[f.off:], f.value)
	}
	le.PutUint32(page[0x408:], p.mxcsr) // MXCSR
	le.PutUint16(page[0x410:], p.fcw)   // X87_FCW
	return page
}
