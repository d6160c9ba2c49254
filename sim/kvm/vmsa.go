package kvm

import "github.com/snplaunch/snplaunch/snp"

// Offsets in struct kvm_sregs2.
const (
	sregsSize  = 320
	sregsCS    = 0x00
	sregsDS    = 0x18
	sregsES    = 0x30
	sregsFS    = 0x48
	sregsGS    = 0x60
	sregsSS    = 0x78
	sregsTR    = 0x90
	sregsLDT   = 0xA8
	sregsGDT   = 0xC0
	sregsIDT   = 0xD0
	sregsCR0   = 0xE0
	sregsCR2   = 0xE8
	sregsCR3   = 0xF0
	sregsCR4   = 0xF8
	sregsEFER  = 0x108
	sregsFlags = 0x118 // here struct kvm_sregs has its interrupt bitmap
	sregsV1    = 0x138 // size of struct kvm_sregs
	regsSize   = 144
	regsRIP    = 0x80
	regsRFLAGS = 0x88
)

// Bits that KVM changes on the way from what user space sets to the save area.
const (
	cr0CD    = 1 << 30
	cr0NW    = 1 << 29
	cr4MCE   = 1 << 6
	eferSVME = 1 << 12
	dr7Fixed = 0x400
	dr6Fixed = 0xFFFF0FF0
)

// MSRs that live in the save area.
const (
	msrSysenterCS   = 0x174
	msrSysenterESP  = 0x175
	msrSysenterEIP  = 0x176
	msrPAT          = 0x277
	msrXSS          = 0xDA0
	msrSTAR         = 0xC0000081
	msrLSTAR        = 0xC0000082
	msrCSTAR        = 0xC0000083
	msrSFMASK       = 0xC0000084
	msrKernelGSBase = 0xC0000102
	defaultPAT      = 0x0007040600070406
)

// vmsaPage builds the save area of a vCPU from what user space has set, as
// sev_es_sync_vmsa does from the VMCB and the vCPU's registers (Linux
// arch/x86/kvm/svm/sev.c; layout: arch/x86/include/asm/svm.h, struct
// sev_es_save_area, and AMD64 APM volume 2, table B-4).
func (v *VCPU) vmsaPage(features uint64) []byte {
	p := make([]byte, snp.PageSize)
	s, r := v.sregs[:], v.regs[:]
	for _, m := range []struct{ to, from int }{
		{0x00, sregsES}, {0x10, sregsCS}, {0x20, sregsSS}, {0x30, sregsDS},
		{0x40, sregsFS}, {0x50, sregsGS}, {0x70, sregsLDT}, {0x90, sregsTR},
	} {
		putSegment(p[m.to:], s[m.from:])
	}
	for _, m := range []struct{ to, from int }{{0x60, sregsGDT}, {0x80, sregsIDT}} {
		putU32(p[m.to+4:], uint32(readU16(s[m.from+8:])))
		putU64(p[m.to+8:], readU64(s[m.from:]))
	}
	p[0xCB] = s[sregsSS+16] & 3 // CPL is SS.DPL
	putU64(p[0xD0:], readU64(s[sregsEFER:])|eferSVME)
	putU64(p[0x140:], v.msrs[msrXSS])
	putU64(p[0x148:], readU64(s[sregsCR4:])|cr4MCE)
	putU64(p[0x150:], readU64(s[sregsCR3:]))
	putU64(p[0x158:], readU64(s[sregsCR0:])&^(cr0CD|cr0NW))
	putU64(p[0x160:], v.dr7()|dr7Fixed)
	putU64(p[0x168:], readU64(v.debugregs[0x20:])|dr6Fixed)
	putU64(p[0x170:], readU64(r[regsRFLAGS:]))
	putU64(p[0x178:], readU64(r[regsRIP:]))
	putU64(p[0x1D8:], readU64(r[0x30:])) // RSP
	putU64(p[0x1F8:], readU64(r[0x00:])) // RAX
	for _, m := range []struct {
		to  int
		msr uint32
	}{
		{0x200, msrSTAR}, {0x208, msrLSTAR}, {0x210, msrCSTAR}, {0x218, msrSFMASK},
		{0x220, msrKernelGSBase}, {0x228, msrSysenterCS}, {0x230, msrSysenterESP}, {0x238, msrSysenterEIP},
		{0x268, msrPAT},
	} {
		putU64(p[m.to:], v.msrs[m.msr])
	}
	putU64(p[0x240:], readU64(s[sregsCR2:]))
	// kvm_regs is rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8…r15.
	putU64(p[0x308:], readU64(r[0x10:])) // RCX
	putU64(p[0x310:], readU64(r[0x18:])) // RDX
	putU64(p[0x318:], readU64(r[0x08:])) // RBX
	putU64(p[0x328:], readU64(r[0x38:])) // RBP
	putU64(p[0x330:], readU64(r[0x20:])) // RSI
	putU64(p[0x338:], readU64(r[0x28:])) // RDI
	copy(p[0x340:0x380], r[0x40:0x80])   // R8…R15
	putU64(p[0x3B0:], features)
	putU64(p[0x3E8:], v.xcr0())
	if v.vm.host.opts.Profile.fpuUnsynced {
		return p
	}
	f := v.fpu.area[:]
	copy(p[0x400:0x408], f[xsaveRDP:])
	copy(p[0x408:0x40C], f[xsaveMXCSR:])
	p[0x40C] = f[xsaveFTW] // abridged tag word
	copy(p[0x40E:0x410], f[xsaveFSW:])
	copy(p[0x410:0x412], f[xsaveFCW:])
	copy(p[0x412:0x414], f[xsaveFOP:])
	copy(p[0x418:0x420], f[xsaveRIP:])
	for i := 0; i < 8; i++ { // ten bytes of each 16-byte register
		copy(p[0x420+10*i:0x420+10*i+10], f[xsaveST+16*i:])
	}
	copy(p[0x470:0x570], f[xsaveXMM:xsaveXMMEnd])
	copy(p[0x570:0x670], f[xsaveYMM:xsaveYMM+0x100])
	return p
}

// putSegment turns a struct kvm_segment into the 16 bytes of a VMCB segment.
func putSegment(to, from []byte) {
	base, limit, selector := readU64(from), readU32(from[8:]), readU16(from[12:])
	typ, present, dpl, db, s, l, g, avl, unusable := from[14], from[15], from[16], from[17], from[18], from[19], from[20], from[21], from[22]
	attr := uint16(typ&0xF) | uint16(s&1)<<4 | uint16(dpl&3)<<5 | uint16(avl&1)<<8 | uint16(l&1)<<9 | uint16(db&1)<<10 | uint16(g&1)<<11
	if present&1 != 0 && unusable == 0 {
		attr |= 1 << 7
	}
	putU16(to, selector)
	putU16(to[2:], attr)
	putU32(to[4:], limit)
	putU64(to[8:], base)
}
