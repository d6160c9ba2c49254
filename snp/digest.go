package snp

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// DigestSize is the size in bytes of a SHA-384 digest, which is what the
// firmware uses for measurements and key digests.
const DigestSize = 48

// LaunchDigest is the measurement of a guest: LD in the guest context, LD in
// the ID block, MEASUREMENT in the attestation report. 48 bytes (SHA-384).
type LaunchDigest [DigestSize]byte

// KeyDigest is the SHA-384 of a public key in the firmware's own encoding
// (0x404 bytes): ID_KEY_DIGEST and AUTHOR_KEY_DIGEST in the report.
type KeyDigest [DigestSize]byte

// ContentDigest is CONTENTS in a PAGE_INFO: the SHA-384 of a page, or 48 zero
// bytes for the page types whose contents are not measured.
type ContentDigest [DigestSize]byte

// HostData is HOST_DATA: 32 bytes that the host passes at launch and the
// report repeats.
type HostData [32]byte

// ReportData is REPORT_DATA: 64 bytes that the guest chooses, usually a nonce.
type ReportData [64]byte

// FamilyID and ImageID are free-form identifiers in the ID block, 16 bytes each.
type (
	FamilyID [16]byte
	ImageID  [16]byte
)

// String gives lower-case hexadecimal, 96 digits.
func (d LaunchDigest) String() string { return hex.EncodeToString(d[:]) }

// String gives lower-case hexadecimal, 96 digits.
func (d KeyDigest) String() string { return hex.EncodeToString(d[:]) }

// String gives lower-case hexadecimal, 96 digits.
func (d ContentDigest) String() string { return hex.EncodeToString(d[:]) }

// String gives lower-case hexadecimal, 64 digits.
func (d HostData) String() string { return hex.EncodeToString(d[:]) }

// String gives lower-case hexadecimal, 128 digits.
func (d ReportData) String() string { return hex.EncodeToString(d[:]) }

// String gives lower-case hexadecimal, 32 digits.
func (d FamilyID) String() string { return hex.EncodeToString(d[:]) }

// String gives lower-case hexadecimal, 32 digits.
func (d ImageID) String() string { return hex.EncodeToString(d[:]) }

// MarshalText makes a digest appear as hexadecimal in JSON and YAML.
func (d LaunchDigest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 96 hexadecimal digits.
func (d *LaunchDigest) UnmarshalText(text []byte) error {
	return decodeHex(d[:], string(text), "launch digest")
}

// MarshalText makes a digest appear as hexadecimal in JSON and YAML.
func (d KeyDigest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText makes host data appear as hexadecimal in JSON and YAML.
func (d HostData) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *HostData) UnmarshalText(text []byte) error {
	return decodeHex(d[:], string(text), "host data")
}

// MarshalText makes report data appear as hexadecimal in JSON and YAML.
func (d ReportData) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 96 hexadecimal digits.
func (d *KeyDigest) UnmarshalText(text []byte) error {
	return decodeHex(d[:], string(text), "key digest")
}

// UnmarshalText reads 128 hexadecimal digits.
func (d *ReportData) UnmarshalText(text []byte) error {
	return decodeHex(d[:], string(text), "report data")
}

// ParseLaunchDigest reads 96 hexadecimal digits of either case. Other forms, as
// other tools print them, are for idblock.ParseLaunchDigest.
func ParseLaunchDigest(s string) (LaunchDigest, error) {
	var d LaunchDigest
	err := decodeHex(d[:], s, "launch digest")
	return d, err
}

// ParseSHA256 reads a SHA-256: 64 hexadecimal digits of either case, or 44
// characters of base64. The length tells which it is: nothing is guessed.
func ParseSHA256(s string) ([32]byte, error) {
	var d [32]byte
	switch len(s) {
	case 2 * len(d):
		err := decodeHex(d[:], s, "SHA-256")
		return d, err
	case base64.StdEncoding.EncodedLen(len(d)):
		raw, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(raw) != len(d) {
			return d, fmt.Errorf("SHA-256: got %d characters, but they are not base64 of %d bytes (in hexadecimal it has %d digits)", len(s), len(d), 2*len(d))
		}
		return [32]byte(raw), nil
	}
	return d, fmt.Errorf("SHA-256: got %d characters, want %d hexadecimal digits or %d characters of base64", len(s), 2*len(d), base64.StdEncoding.EncodedLen(len(d)))
}

// ParseHostData reads 64 hexadecimal digits of either case.
func ParseHostData(s string) (HostData, error) {
	var d HostData
	err := decodeHex(d[:], s, "host data")
	return d, err
}

// ParseFamilyID reads 32 hexadecimal digits of either case.
func ParseFamilyID(s string) (FamilyID, error) {
	var d FamilyID
	err := decodeHex(d[:], s, "family id")
	return d, err
}

// ParseImageID reads 32 hexadecimal digits of either case.
func ParseImageID(s string) (ImageID, error) {
	var d ImageID
	err := decodeHex(d[:], s, "image id")
	return d, err
}

// decodeHex fills dst from s and says what was expected when s does not fit.
func decodeHex(dst []byte, s, what string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%s: got %d characters, want %d hexadecimal digits (%d bytes)", what, len(s), 2*len(dst), len(dst))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
