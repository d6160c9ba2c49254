package psp

import (
	"bytes"

	"github.com/snplaunch/snplaunch/snp"
)

// Layout of the CPUID page and of MSG_CPUID_REQ: count u32, reserved u32,
// reserved u64, then entries of 48 bytes {eax_in, ecx_in u32, xcr0_in, xss_in
// u64, eax, ebx, ecx, edx u32, reserved u64}. In MSG_CPUID_RSP STATUS comes
// first and the count after it.
const (
	cpuidHeader     = 16
	cpuidEntry      = 48
	maxCPUIDEntries = 64

	cpuidEAX      = 24
	cpuidEDX      = 36
	cpuidReserved = 40
)

// cacheProperties is the leaf of cache topology, one index for each cache.
const cacheProperties = 0x8000001D

// Bits of its EDX that AMD defines: WBINVD and INVD do not act on lower caches,
// and the cache is inclusive. QEMU's first versions of EPYC, EPYC-Rome and
// EPYC-Milan set bit 2 for the last level (complex indexing, which Intel
// defines for leaf 4) with machine types before pc-q35-9.1; the firmware then asks
// for it to be clear (NVIDIA/nvtrust issue 91).
const cachePropertiesEDX = 1<<0 | 1<<1

// checkCPUID checks a CPUID page as far as it is known what the firmware
// checks: the count, the reserved fields, that the guest is not promised a
// newer processor than it has, and reserved bits of the cache topology. Entries
// that are wrong are put right in the page, which the host gets back.
func (p *Platform) checkCPUID(page []byte) snp.Status {
	n := le.Uint32(page)
	if n > maxCPUIDEntries || le.Uint32(page[4:]) != 0 || le.Uint64(page[8:]) != 0 {
		return snp.StatusInvalidParam
	}
	return p.checkCPUIDEntries(page[cpuidHeader:][:cpuidEntry*n])
}

func (p *Platform) checkCPUIDEntries(entries []byte) snp.Status {
	for e := entries; len(e) > 0; e = e[cpuidEntry:] {
		if le.Uint64(e[cpuidReserved:]) != 0 {
			return snp.StatusInvalidParam
		}
	}
	if !p.cfg.CPUIDCheck {
		return snp.StatusSuccess
	}
	st := snp.StatusSuccess
	correct := func(register []byte, to uint32) {
		if le.Uint32(register) != to {
			le.PutUint32(register, to)
			st = snp.StatusInvalidParam
		}
	}
	for e := entries; len(e) > 0; e = e[cpuidEntry:] {
		switch le.Uint32(e) {
		case 1:
			if newer(le.Uint32(e[cpuidEAX:]), p.cfg.signature()) {
				correct(e[cpuidEAX:], p.cfg.signature())
			}
		case cacheProperties:
			correct(e[cpuidEDX:], le.Uint32(e[cpuidEDX:])&cachePropertiesEDX)
		}
	}
	return st
}

// cpuidResponse answers MSG_CPUID_REQ: a guest asks whether what the host told it
// can be so. The answer is STATUS u32, COUNT u32, reserved u64 and the entries
// as they should be.
func (g *Guest) cpuidResponse(req []byte) []byte {
	rsp := bytes.Clone(req)
	n := le.Uint32(req)
	st := snp.StatusInvalidParam
	if n <= maxCPUIDEntries && len(req) == cpuidHeader+cpuidEntry*int(n) && zero(req[4:cpuidHeader]) {
		st = g.platform.checkCPUIDEntries(rsp[cpuidHeader:])
	}
	clear(rsp[:cpuidHeader])
	le.PutUint32(rsp, uint32(st))
	le.PutUint32(rsp[4:], n)
	return rsp
}

// newer says whether family, model and stepping of a are above those of b.
func newer(a, b uint32) bool {
	order := func(s uint32) uint32 {
		family := s>>8&0xF + s>>20&0xFF
		return family<<12 | s>>16&0xF<<8 | s>>4&0xF<<4 | s&0xF
	}
	return order(a) > order(b)
}
