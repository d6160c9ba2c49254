package psp

import "github.com/snplaunch/snplaunch/snp"

// Types of guest messages (56860, SNP_GUEST_REQUEST; Linux enum msg_type). The
// messages of a migration (EXPORT, IMPORT, ABSORB, VMRK, ABSORB_NOMA) are
// those of a migration agent and are refused as unknown.
const (
	MsgCPUIDRequest    = 0x01
	MsgCPUIDResponse   = 0x02
	MsgKeyRequest      = 0x03
	MsgKeyResponse     = 0x04
	MsgReportRequest   = 0x05
	MsgReportResponse  = 0x06
	MsgTSCInfoRequest  = 0x11
	MsgTSCInfoResponse = 0x12
)

const maxVMPL = 3

// GuestRequest is SNP_GUEST_REQUEST with the message already decrypted, as if it
// came with VMPCK0: it takes a request's type, version and payload and gives
// the response's. A refusal that is part of a response goes with
// StatusSuccess. Request takes encrypted messages.
func (g *Guest) GuestRequest(msgType, version uint8, payload []byte) (uint8, []byte, snp.Status) {
	if st := g.usable(); st != snp.StatusSuccess {
		return 0, nil, st
	}
	if g.state != stateRunning {
		return 0, nil, snp.StatusInvalidGuestState
	}
	return g.answer(0, msgType, version, payload)
}

// answer is what the firmware does with a message once it is known to come from
// the guest, encrypted with the VMPCK of that number.
func (g *Guest) answer(vmpck uint32, msgType, version uint8, payload []byte) (uint8, []byte, snp.Status) {
	type kind struct{ msgType, version uint8 }
	var rsp []byte
	switch k := (kind{msgType, version}); {
	case k == kind{MsgReportRequest, 1} && len(payload) == reportRequestSize:
		rsp = g.reportResponse(vmpck, payload)
	case k == kind{MsgKeyRequest, 1} && len(payload) == keyRequestSize,
		k == kind{MsgKeyRequest, 2} && (len(payload) == keyRequestSize2 || len(payload) == keyRequestPadded2):
		rsp = g.keyResponse(vmpck, version, payload)
	case k == kind{MsgCPUIDRequest, 1} && len(payload) >= cpuidHeader && (len(payload)-cpuidHeader)%cpuidEntry == 0:
		rsp = g.cpuidResponse(payload)
	case k == kind{MsgTSCInfoRequest, 1} && len(payload) == tscInfoSize:
		rsp = g.tscInfoResponse(payload)
	default:
		return 0, nil, snp.StatusInvalidParam
	}
	return msgType + 1, rsp, snp.StatusSuccess
}

// vmplRefused says whether a guest may not ask for something on behalf of a
// level: there is no such level, or it is above the one that the VMPCK is for.
func vmplRefused(vmpl, vmpck uint32) bool { return vmpl > maxVMPL || vmpl < vmpck }

// signer chooses the key for KEY_SEL 0 (the VLEK if one is loaded, else the
// VCEK), 1 (VCEK) or 2 (VLEK); the status says why there is none.
func (g *Guest) signer(keySel uint32, s settings) (vlek bool, st snp.Status) {
	switch {
	case keySel == 0 && s.vlekLoaded, keySel == 2 && s.vlekLoaded:
		return true, snp.StatusSuccess
	case keySel >= 2, g.vcekDisabled:
		return false, snp.StatusInvalidKey
	}
	return false, snp.StatusSuccess
}

// current gives the platform's settings and keys as they are now.
func (p *Platform) current() (s settings, vcek, vlek certified) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings, p.vcek, p.vlek
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
