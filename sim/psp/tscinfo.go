package psp

import "github.com/snplaunch/snplaunch/snp"

// tscInfoSize is that of MSG_TSC_INFO_REQ, all reserved, and of MSG_TSC_INFO_RSP.
const tscInfoSize = 128

// platformTSCKHz is the frequency of this platform's counter.
const platformTSCKHz = 2_000_000

// tscInfoResponse answers MSG_TSC_INFO_REQ (Linux struct snp_tsc_info_resp):
// STATUS u32, reserved u32, TSC_SCALE and TSC_OFFSET u64, TSC_FACTOR u32,
// reserved[100]. TSC_SCALE is a number with 32 binary places: the frequency
// that the guest was started with over the platform's.
func (g *Guest) tscInfoResponse(req []byte) []byte {
	rsp := make([]byte, tscInfoSize)
	if !zero(req) {
		le.PutUint32(rsp, uint32(snp.StatusInvalidParam))
		return rsp
	}
	scale := uint64(1) << 32
	if g.desiredTSCKHz != 0 {
		scale = uint64(g.desiredTSCKHz) << 32 / platformTSCKHz
	}
	le.PutUint64(rsp[0x08:], scale)
	le.PutUint32(rsp[0x18:], tscFactor)
	return rsp
}
