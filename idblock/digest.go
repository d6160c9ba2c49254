package idblock

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// ParseLaunchDigest reads a launch digest of 48 bytes as other tools print it:
// 96 hexadecimal digits, with 0x before them (snpguest) or without
// (sev-snp-measure), or 64 base64 characters. The length alone tells which. What
// has a length that comes from a known mistake is refused with its name:
// guessing there would sign another digest, and the launch would fail with
// BAD_MEASUREMENT.
func ParseLaunchDigest(s string) (snp.LaunchDigest, error) {
	const (
		digits   = 2 * snp.DigestSize
		prefixed = digits + len("0x")
	)
	switch len(s) {
	case digits:
		return snp.ParseLaunchDigest(s)
	case prefixed:
		if s[:2] == "0x" || s[:2] == "0X" {
			return snp.ParseLaunchDigest(s[2:])
		}
	case base64.StdEncoding.EncodedLen(snp.DigestSize):
		if isHex(s) {
			return snp.LaunchDigest{}, fmt.Errorf("launch digest %q is a SHA-256 in hexadecimal, as SEV and SEV-ES have it; SNP's has %d hexadecimal digits or %d base64 characters", s, digits, len(s))
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(raw) != snp.DigestSize {
			return snp.LaunchDigest{}, fmt.Errorf("launch digest %q has the length of base64 but is none (give %d hexadecimal digits or %d base64 characters)", s, digits, len(s))
		}
		return snp.LaunchDigest(raw), nil
	case base64.StdEncoding.EncodedLen(digits), base64.StdEncoding.EncodedLen(prefixed):
		if raw, err := base64.StdEncoding.DecodeString(s); err == nil {
			if text := strings.TrimPrefix(string(raw), "0x"); len(text) == digits && isHex(text) {
				return snp.LaunchDigest{}, fmt.Errorf("launch digest %q is base64 of hexadecimal digits instead of the digest's %d bytes, as snpguest's `--output-format base64` gives it (give the digits themselves: %s)", s, snp.DigestSize, text)
			}
		}
	}
	return snp.LaunchDigest{}, fmt.Errorf("launch digest: got %d characters, want %d hexadecimal digits, with or without 0x, or %d base64 characters (%d bytes)",
		len(s), digits, base64.StdEncoding.EncodedLen(snp.DigestSize), snp.DigestSize)
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}
