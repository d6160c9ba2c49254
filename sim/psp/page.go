package psp

import (
	"crypto/sha512"

	"github.com/snplaunch/snplaunch/snp"
)

// Offsets in the save area that are not measured: GUEST_TSC_SCALE, GUEST_TSC_OFFSET.
const (
	vmsaTSCScale = 0x2F0
	vmsaTSCEnd   = 0x300
)

func vmsaDigest(page []byte) snp.ContentDigest {
	p := [snp.PageSize]byte(page)
	clear(p[vmsaTSCScale:vmsaTSCEnd])
	return sha512.Sum384(p[:])
}

// fillSecrets writes the secrets page, version 3 (Linux struct
// snp_secrets_page): version at 0x00, IMI_EN at 0x04, CPUID function 1 EAX at
// 0x08, GOSVW at 0x10, the four VMPCKs from 0x20, TSC_FACTOR at 0x160. What
// belongs to the guest's own software (0xA0 to 0xFF, 0x140 to 0x15F) stays zero,
// and so does the VMSA tweak bitmap at 0x100, as no register of a save area is
// protected here.
func (g *Guest) fillSecrets(page []byte) {
	clear(page)
	le.PutUint32(page[0x00:], 3)
	if g.imiEnabled {
		page[0x04] = 1
	}
	le.PutUint32(page[0x08:], g.platform.cfg.signature())
	copy(page[0x10:], g.gosvw[:])
	for i, k := range g.vmpck {
		copy(page[0x20+32*i:], k[:])
	}
	le.PutUint32(page[0x160:], tscFactor)
}

// tscFactor is TSC_FACTOR as observed in SEV firmware 1.55.25.
const tscFactor = 200
