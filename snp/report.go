package snp

import (
	"encoding/binary"
	"fmt"
)

// Sizes in bytes of the attestation report (56860, "Attestation Report").
const (
	ReportSize       = 0x4A0
	ReportSignedSize = 0x2A0 // the first bytes, which the signature covers
)

// Values of SIGNING_KEY in Report.
const (
	SigningKeyVCEK = 0
	SigningKeyVLEK = 1
	SigningKeyNone = 7
)

// Bits of Report.PlatformInfo.
const (
	PlatformSMTEnabled  uint64 = 1 << 0
	PlatformTSMEEnabled uint64 = 1 << 1
	PlatformECCEnabled  uint64 = 1 << 2
	// The next are those of later firmware.
	PlatformRAPLDisabled         uint64 = 1 << 3
	PlatformCiphertextHidingDRAM uint64 = 1 << 4
	PlatformAliasCheckComplete   uint64 = 1 << 5
)

// FirmwareVersion is a firmware version as the report gives it.
type FirmwareVersion struct{ Major, Minor, Build uint8 }

// String gives major.minor.build.
func (v FirmwareVersion) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Build) }

// Report is the attestation report, ATTESTATION_REPORT, of versions 2 to 5;
// fields that a version lacks are zero.
type Report struct {
	Version          uint32
	GuestSVN         uint32
	Policy           GuestPolicy
	FamilyID         FamilyID
	ImageID          ImageID
	VMPL             uint32
	SignatureAlgo    uint32
	CurrentTCB       TCBVersion
	PlatformInfo     uint64
	AuthorKeyEnabled bool
	MaskChipKey      bool
	SigningKey       uint8
	ReportData       ReportData
	Measurement      LaunchDigest
	HostData         HostData
	IDKeyDigest      KeyDigest
	AuthorKeyDigest  KeyDigest
	ReportID         [32]byte
	ReportIDMA       [32]byte
	ReportedTCB      TCBVersion
	CPUFamily        uint8 // combined with the extended family; version 3 and later
	CPUModel         uint8 // combined with the extended model; version 3 and later
	CPUStepping      uint8 // version 3 and later
	ChipID           [64]byte
	CommittedTCB     TCBVersion
	CurrentFirmware  FirmwareVersion
	CommittedFW      FirmwareVersion
	LaunchTCB        TCBVersion
	LaunchMitVector  uint64 // version 5
	CurrentMitVector uint64 // version 5
	Signature        SignatureBytes
}

// Bytes gives the 0x4A0 bytes of the report, Signature included.
func (r *Report) Bytes() []byte {
	b := make([]byte, ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b[0x000:], r.Version)
	le.PutUint32(b[0x004:], r.GuestSVN)
	le.PutUint64(b[0x008:], uint64(r.Policy))
	copy(b[0x010:], r.FamilyID[:])
	copy(b[0x020:], r.ImageID[:])
	le.PutUint32(b[0x030:], r.VMPL)
	le.PutUint32(b[0x034:], r.SignatureAlgo)
	le.PutUint64(b[0x038:], uint64(r.CurrentTCB))
	le.PutUint64(b[0x040:], r.PlatformInfo)
	flags := uint32(r.SigningKey&7) << 2
	if r.AuthorKeyEnabled {
		flags |= 1
	}
	if r.MaskChipKey {
		flags |= 2
	}
	le.PutUint32(b[0x048:], flags)
	copy(b[0x050:], r.ReportData[:])
	copy(b[0x090:], r.Measurement[:])
	copy(b[0x0C0:], r.HostData[:])
	copy(b[0x0E0:], r.IDKeyDigest[:])
	copy(b[0x110:], r.AuthorKeyDigest[:])
	copy(b[0x140:], r.ReportID[:])
	copy(b[0x160:], r.ReportIDMA[:])
	le.PutUint64(b[0x180:], uint64(r.ReportedTCB))
	b[0x188], b[0x189], b[0x18A] = r.CPUFamily, r.CPUModel, r.CPUStepping
	copy(b[0x1A0:], r.ChipID[:])
	le.PutUint64(b[0x1E0:], uint64(r.CommittedTCB))
	b[0x1E8], b[0x1E9], b[0x1EA] = r.CurrentFirmware.Build, r.CurrentFirmware.Minor, r.CurrentFirmware.Major
	b[0x1EC], b[0x1ED], b[0x1EE] = r.CommittedFW.Build, r.CommittedFW.Minor, r.CommittedFW.Major
	le.PutUint64(b[0x1F0:], uint64(r.LaunchTCB))
	le.PutUint64(b[0x1F8:], r.LaunchMitVector)
	le.PutUint64(b[0x200:], r.CurrentMitVector)
	copy(b[ReportSignedSize:], r.Signature[:])
	return b
}

// ParseReport reads the fields of a report; it judges nothing and checks no
// signature (package report does).
func ParseReport(b []byte) (*Report, error) {
	if len(b) < ReportSize {
		return nil, fmt.Errorf("attestation report: got %d bytes, want %d", len(b), ReportSize)
	}
	le := binary.LittleEndian
	flags := le.Uint32(b[0x048:])
	r := &Report{
		Version:          le.Uint32(b[0x000:]),
		GuestSVN:         le.Uint32(b[0x004:]),
		Policy:           GuestPolicy(le.Uint64(b[0x008:])),
		VMPL:             le.Uint32(b[0x030:]),
		SignatureAlgo:    le.Uint32(b[0x034:]),
		CurrentTCB:       TCBVersion(le.Uint64(b[0x038:])),
		PlatformInfo:     le.Uint64(b[0x040:]),
		AuthorKeyEnabled: flags&1 != 0,
		MaskChipKey:      flags&2 != 0,
		SigningKey:       uint8(flags >> 2 & 7),
		ReportedTCB:      TCBVersion(le.Uint64(b[0x180:])),
		CPUFamily:        b[0x188],
		CPUModel:         b[0x189],
		CPUStepping:      b[0x18A],
		CommittedTCB:     TCBVersion(le.Uint64(b[0x1E0:])),
		CurrentFirmware:  FirmwareVersion{Build: b[0x1E8], Minor: b[0x1E9], Major: b[0x1EA]},
		CommittedFW:      FirmwareVersion{Build: b[0x1EC], Minor: b[0x1ED], Major: b[0x1EE]},
		LaunchTCB:        TCBVersion(le.Uint64(b[0x1F0:])),
		LaunchMitVector:  le.Uint64(b[0x1F8:]),
		CurrentMitVector: le.Uint64(b[0x200:]),
	}
	copy(r.FamilyID[:], b[0x010:])
	copy(r.ImageID[:], b[0x020:])
	copy(r.ReportData[:], b[0x050:])
	copy(r.Measurement[:], b[0x090:])
	copy(r.HostData[:], b[0x0C0:])
	copy(r.IDKeyDigest[:], b[0x0E0:])
	copy(r.AuthorKeyDigest[:], b[0x110:])
	copy(r.ReportID[:], b[0x140:])
	copy(r.ReportIDMA[:], b[0x160:])
	copy(r.ChipID[:], b[0x1A0:])
	copy(r.Signature[:], b[ReportSignedSize:])
	return r, nil
}
