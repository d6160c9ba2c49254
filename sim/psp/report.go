package psp

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"math/big"

	"github.com/snplaunch/snplaunch/snp"
)

const (
	reportRequestSize  = 96
	reportResponseHead = 0x20
)

// reportResponse answers MSG_REPORT_REQ: REPORT_DATA[64], VMPL u32, KEY_SEL in
// bits 1:0 of a u32, reserved[24]. The answer is STATUS u32, REPORT_SIZE u32,
// reserved[24], report.
func (g *Guest) reportResponse(vmpck uint32, req []byte) []byte {
	vmpl, keySel := le.Uint32(req[64:]), le.Uint32(req[68:])
	refuse := func(st snp.Status) []byte {
		rsp := make([]byte, reportResponseHead)
		le.PutUint32(rsp, uint32(st))
		return rsp
	}
	if keySel&^3 != 0 || !zero(req[72:]) || vmplRefused(vmpl, vmpck) {
		return refuse(snp.StatusInvalidParam)
	}
	s, vcek, vlek := g.platform.current()
	withVLEK, st := g.signer(keySel, s)
	if st != snp.StatusSuccess {
		return refuse(st)
	}
	key := vcek.key
	if withVLEK {
		key = vlek.key
	}
	rsp := make([]byte, reportResponseHead, reportResponseHead+snp.ReportSize)
	le.PutUint32(rsp[4:], snp.ReportSize)
	return append(rsp, g.report(snp.ReportData(req[:64]), vmpl, s, withVLEK, key)...)
}

// report makes an attestation report. Where the chip's key is masked it is not
// signed.
func (g *Guest) report(data snp.ReportData, vmpl uint32, s settings, vlek bool, key *ecdsa.PrivateKey) []byte {
	cfg := g.platform.cfg
	pack := cfg.TCBLayout.Pack
	r := &snp.Report{
		Version: cfg.ReportVersion, GuestSVN: g.idBlock.GuestSVN, Policy: g.policy,
		FamilyID: g.idBlock.FamilyID, ImageID: g.idBlock.ImageID, VMPL: vmpl,
		SignatureAlgo: snp.KeyAlgoECDSAP384, CurrentTCB: pack(cfg.TCB), PlatformInfo: cfg.platformInfo(),
		AuthorKeyEnabled: g.authorKeyEnabled, MaskChipKey: s.maskChipKey, SigningKey: snp.SigningKeyVCEK,
		ReportData: data, Measurement: g.ld, HostData: g.hostData,
		IDKeyDigest: g.idKey, AuthorKeyDigest: g.authorKey, ReportID: g.reportID, ReportIDMA: g.reportIDMA,
		ReportedTCB: pack(s.reported), CommittedTCB: pack(s.committed), LaunchTCB: pack(g.launchTCB),
		CurrentFirmware: cfg.FirmwareVersion, CommittedFW: s.committedFW,
	}
	if vlek {
		r.SigningKey = snp.SigningKeyVLEK
	}
	if s.maskChipKey {
		r.SigningKey = snp.SigningKeyNone
	}
	if !s.maskChipID {
		r.ChipID = g.platform.chipID
	}
	if cfg.ReportVersion >= 3 {
		r.CPUFamily, r.CPUModel, r.CPUStepping = cfg.Family, cfg.Model, cfg.SteppingID
	}
	if cfg.ReportVersion >= 5 {
		r.LaunchMitVector, r.CurrentMitVector = g.launchMit, cfg.MitVector
	}
	raw := r.Bytes()
	if s.maskChipKey {
		return raw
	}
	digest := sha512.Sum384(raw[:snp.ReportSignedSize])
	rr, ss, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		panic("signing with a key that was just made: " + err.Error()) // cannot happen
	}
	putNumber(raw[snp.ReportSignedSize:][:snp.ECDSACoordSize], rr)
	putNumber(raw[snp.ReportSignedSize+snp.ECDSACoordSize:][:snp.ECDSACoordSize], ss)
	return raw
}

// putNumber writes a little-endian number, zero-extended.
func putNumber(b []byte, n *big.Int) {
	n.FillBytes(b)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}
