package psp

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/snplaunch/snplaunch/snp"
)

const (
	keyRequestSize    = 32
	keyRequestSize2   = 40 // version 2: LAUNCH_MIT_VECTOR u64 at the end
	keyRequestPadded2 = 48 // as a message, whose size is a multiple of 16
	keyResponseSize   = 64
	keyOffset         = 0x20
)

// Bits of the first word of MSG_KEY_REQ: ROOT_KEY_SELECT and KEY_SEL.
const (
	rootVMRK    = 1 << 0
	keySelShift = 1
	keyReserved = ^uint32(7)
)

// Bits of GUEST_FIELD_SELECT: each mixes a field into the key.
const (
	selectPolicy = 1 << iota
	selectImageID
	selectFamilyID
	selectMeasurement
	selectGuestSVN
	selectTCB
	selectLaunchMit // message version 2
)

// keyResponse answers MSG_KEY_REQ: u32 {ROOT_KEY bit 0, KEY_SEL bits 2:1},
// reserved u32, GUEST_FIELD_SELECT u64, VMPL u32, GUEST_SVN u32, TCB u64, in
// version 2 LAUNCH_MIT_VECTOR u64. The answer is STATUS u32, reserved[28], key[32].
//
// The real derivation cannot be checked outside of a chip; this one is a PRF
// over the same fields, so that equal requests of equal guests give equal
// keys and others do not.
func (g *Guest) keyResponse(vmpck uint32, version uint8, req []byte) []byte {
	rsp := make([]byte, keyResponseSize)
	s, _, _ := g.platform.current()
	vlek, st := g.keyRefused(vmpck, version, req, s)
	if st != snp.StatusSuccess {
		le.PutUint32(rsp, uint32(st))
		return rsp
	}
	secret := g.platform.ca.secret()
	mac := hmac.New(sha256.New, secret[:])
	switch id := g.platform.chipID; {
	case le.Uint32(req)&rootVMRK != 0: // belongs to one launch
		mac.Write([]byte("VMRK"))
		mac.Write(g.vmrk[:])
	case vlek: // belongs to the provider
		provider := sha256.Sum256([]byte(g.platform.cfg.cspID()))
		mac.Write([]byte("VLEK"))
		mac.Write(provider[:])
	default:
		mac.Write([]byte("VCEK"))
		mac.Write(id[:])
	}
	sel, block := le.Uint64(req[8:]), g.idBlock
	mac.Write(req[8:20]) // GUEST_FIELD_SELECT, VMPL
	field := func(bit uint64, b []byte) {
		if sel&bit != 0 {
			mac.Write(b)
		}
	}
	field(selectPolicy, le.AppendUint64(nil, uint64(g.policy)))
	field(selectImageID, block.ImageID[:])
	field(selectFamilyID, block.FamilyID[:])
	field(selectMeasurement, g.ld[:])
	field(selectGuestSVN, req[20:24])
	field(selectTCB, req[24:32])
	if version >= 2 {
		field(selectLaunchMit, req[32:40])
	}
	copy(rsp[keyOffset:], mac.Sum(nil))
	return rsp
}

// keyRefused says why a key is not derived, or which root it is derived from.
func (g *Guest) keyRefused(vmpck uint32, version uint8, req []byte, s settings) (vlek bool, _ snp.Status) {
	root, sel := le.Uint32(req), le.Uint64(req[8:])
	vmpl, svn, tcb := le.Uint32(req[16:]), le.Uint32(req[20:]), snp.TCBVersion(le.Uint64(req[24:]))
	known, layout := uint64(selectLaunchMit-1), g.platform.cfg.TCBLayout
	if version >= 2 {
		known |= selectLaunchMit
	}
	parts := layout.Unpack(tcb)
	switch {
	case root&keyReserved != 0, le.Uint32(req[4:]) != 0, sel&^known != 0,
		version >= 2 && !zero(req[keyRequestSize2:]),
		vmplRefused(vmpl, vmpck),
		svn > g.idBlock.GuestSVN,
		layout.Pack(parts) != tcb, !parts.AtMost(s.committed),
		version >= 2 && le.Uint64(req[32:])&^g.launchMit != 0:
		return false, snp.StatusInvalidParam
	}
	keySel := root >> keySelShift
	if root&rootVMRK != 0 {
		// KEY_SEL is about VCEK and VLEK; the VMRK needs neither to be usable.
		if keySel == 3 || keySel == 2 && !s.vlekLoaded {
			return false, snp.StatusInvalidKey
		}
		return false, snp.StatusSuccess
	}
	vlek, st := g.signer(keySel, s)
	if st == snp.StatusSuccess && !vlek && s.maskChipKey {
		// Linux, Documentation/virt/coco/sev-guest.rst, SNP_SET_CONFIG: the masked
		// key is used neither in attestation nor in guest key derivation.
		st = snp.StatusInvalidKey
	}
	return vlek, st
}
