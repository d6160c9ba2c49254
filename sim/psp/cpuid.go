package psp

import "github.com/snplaunch/snplaunch/snp"

// Layout of the CPUID page: count u32, reserved u32, reserved u64, then
// entries of 48 bytes {eax_in, ecx_in u32, xcr0_in, xss_in u64, eax, ebx, ecx,
// edx u32, reserved u64}.
const (
	cpuidHeader     = 16
	cpuidEntry      = 48
	maxCPUIDEntries = 64
)

// checkCPUID checks a CPUID page as far as it is known what the firmware
// checks: the count, the reserved fields, and that the guest is not promised
// a newer processor than it has. An entry that is wrong is put right in the
// page, which the host gets back.
func (p *Platform) checkCPUID(page []byte) snp.Status {
	n := le.Uint32(page)
	if n > maxCPUIDEntries || le.Uint32(page[4:]) != 0 || le.Uint64(page[8:]) != 0 {
		return snp.StatusInvalidParam
	}
	st := snp.StatusSuccess
	for i := uint32(0); i < n; i++ {
		e := page[cpuidHeader+cpuidEntry*i:][:cpuidEntry]
		if le.Uint64(e[40:]) != 0 {
			return snp.StatusInvalidParam
		}
		if p.cfg.CPUIDCheck && le.Uint32(e) == 1 && newer(le.Uint32(e[24:]), p.cfg.signature()) {
			le.PutUint32(e[24:], p.cfg.signature())
			st = snp.StatusInvalidParam
		}
	}
	return st
}

// newer says whether family, model and stepping of a are above those of b.
func newer(a, b uint32) bool {
	order := func(s uint32) uint32 {
		family := s>>8&0xF + s>>20&0xFF
		return family<<12 | s>>16&0xF<<8 | s>>4&0xF<<4 | s&0xF
	}
	return order(a) > order(b)
}
