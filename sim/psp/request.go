package psp

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"math/big"

	"github.com/snplaunch/snplaunch/snp"
)

// Types of guest messages (56860, SNP_GUEST_REQUEST).
const (
	MsgKeyRequest     = 3
	MsgKeyResponse    = 4
	MsgReportRequest  = 5
	MsgReportResponse = 6
)

const (
	msgVersion         = 1
	reportRequestSize  = 96
	reportResponseHead = 0x20
	keyRequestSize     = 32
	keyResponseSize    = 64
	keyOffset          = 0x20
	maxVMPL            = 3
)

// GuestRequest is SNP_GUEST_REQUEST with the message already decrypted, as if it
// came with VMPCK0: it takes a request's type, version and payload and gives
// the response's. A refusal that is part of a response goes with
// StatusSuccess.
func (g *Guest) GuestRequest(msgType, version uint8, payload []byte) (uint8, []byte, snp.Status) {
	switch {
	case g.state == stateGone:
		return 0, nil, snp.StatusInvalidGuest
	case g.state != stateRunning:
		return 0, nil, snp.StatusInvalidGuestState
	case version != msgVersion:
		return 0, nil, snp.StatusInvalidParam
	}
	switch msgType {
	case MsgReportRequest:
		if len(payload) != reportRequestSize {
			return 0, nil, snp.StatusInvalidParam
		}
		return MsgReportResponse, g.reportResponse(payload), snp.StatusSuccess
	case MsgKeyRequest:
		if len(payload) != keyRequestSize {
			return 0, nil, snp.StatusInvalidParam
		}
		return MsgKeyResponse, g.keyResponse(payload), snp.StatusSuccess
	}
	return 0, nil, snp.StatusInvalidParam
}

// reportResponse answers MSG_REPORT_REQ: REPORT_DATA[64], VMPL u32, KEY_SEL in
// bits 1:0 of a u32, reserved[24]. The answer is STATUS u32, REPORT_SIZE u32,
// reserved[24], report.
func (g *Guest) reportResponse(req []byte) []byte {
	vmpl, keySel := le.Uint32(req[64:]), le.Uint32(req[68:])
	refuse := func(st snp.Status) []byte {
		rsp := make([]byte, reportResponseHead)
		le.PutUint32(rsp, uint32(st))
		return rsp
	}
	if keySel&^3 != 0 || !zero(req[72:]) || vmpl > maxVMPL {
		return refuse(snp.StatusInvalidParam)
	}
	// 0: VLEK if one is loaded, else VCEK; 1: VCEK; 2: VLEK; 3: reserved.
	if keySel >= 2 || g.vcekDisabled {
		return refuse(snp.StatusInvalidKey)
	}
	rsp := make([]byte, reportResponseHead, reportResponseHead+snp.ReportSize)
	le.PutUint32(rsp[4:], snp.ReportSize)
	return append(rsp, g.report(snp.ReportData(req[:64]), vmpl)...)
}

// report makes a signed attestation report.
func (g *Guest) report(data snp.ReportData, vmpl uint32) []byte {
	cfg, tcb := g.platform.cfg, g.platform.cfg.TCB.TCBVersion()
	r := &snp.Report{
		Version: cfg.ReportVersion, GuestSVN: g.idBlock.GuestSVN, Policy: g.policy,
		FamilyID: g.idBlock.FamilyID, ImageID: g.idBlock.ImageID, VMPL: vmpl,
		SignatureAlgo: snp.KeyAlgoECDSAP384, CurrentTCB: tcb, PlatformInfo: cfg.platformInfo(), AuthorKeyEnabled: g.authorKeyEnabled,
		SigningKey: snp.SigningKeyVCEK, ReportData: data, Measurement: g.ld, HostData: g.hostData,
		IDKeyDigest: g.idKey, AuthorKeyDigest: g.authorKey, ReportID: g.reportID,
		ReportedTCB: tcb, CommittedTCB: tcb, LaunchTCB: tcb, ChipID: g.platform.chipID,
		CurrentFirmware: cfg.FirmwareVersion, CommittedFW: cfg.FirmwareVersion,
	}
	if cfg.ReportVersion >= 3 {
		r.CPUFamily, r.CPUModel, r.CPUStepping = cfg.Family, cfg.Model, cfg.SteppingID
	}
	for i := range r.ReportIDMA { // no migration agent
		r.ReportIDMA[i] = 0xFF
	}
	raw := r.Bytes()
	digest := sha512.Sum384(raw[:snp.ReportSignedSize])
	rr, ss, err := ecdsa.Sign(rand.Reader, g.platform.vcek.key, digest[:])
	if err != nil {
		panic("signing with a key that was just made: " + err.Error()) // cannot happen
	}
	putNumber(raw[snp.ReportSignedSize:][:snp.ECDSACoordSize], rr)
	putNumber(raw[snp.ReportSignedSize+snp.ECDSACoordSize:][:snp.ECDSACoordSize], ss)
	return raw
}

// keyResponse answers MSG_KEY_REQ version 1: u32 {ROOT_KEY bit 0, KEY_SEL bits
// 2:1}, reserved u32, GUEST_FIELD_SELECT u64, VMPL u32, GUEST_SVN u32, TCB u64.
// The real derivation cannot be checked outside of a chip; this one is a PRF
// over the same fields, so that equal requests of equal guests give equal
// keys and others do not.
func (g *Guest) keyResponse(req []byte) []byte {
	rsp := make([]byte, keyResponseSize)
	root, sel := le.Uint32(req), le.Uint64(req[8:])
	vmpl, svn, tcb := le.Uint32(req[16:]), le.Uint32(req[20:]), le.Uint64(req[24:])
	parts, committed := snp.TCBVersion(tcb).Parts(), g.platform.cfg.TCB
	switch {
	case root&^7 != 0, le.Uint32(req[4:]) != 0, sel&^0x3F != 0, vmpl > maxVMPL,
		svn > g.idBlock.GuestSVN,
		parts.BootLoader > committed.BootLoader, parts.TEE > committed.TEE,
		parts.SNP > committed.SNP, parts.Microcode > committed.Microcode:
		le.PutUint32(rsp, uint32(snp.StatusInvalidParam))
		return rsp
	case root>>1&3 >= 2, root&1 == 0 && g.vcekDisabled:
		le.PutUint32(rsp, uint32(snp.StatusInvalidKey))
		return rsp
	}
	secret := g.platform.ca.secret()
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(req[:20])
	if root&1 != 0 { // the VMRK belongs to one launch
		mac.Write(g.reportID[:])
	}
	block := g.idBlock
	for bit, field := range [][]byte{
		le.AppendUint64(nil, uint64(g.policy)), block.ImageID[:], block.FamilyID[:], g.ld[:],
		le.AppendUint32(nil, svn), le.AppendUint64(nil, tcb),
	} {
		if sel&(1<<bit) != 0 {
			mac.Write(field)
		}
	}
	copy(rsp[keyOffset:], mac.Sum(nil))
	return rsp
}

// putNumber writes a little-endian number, zero-extended.
func putNumber(b []byte, n *big.Int) {
	n.FillBytes(b)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
