package measure

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// TIKSize is the size in bytes of a transport integrity key, which guest owner
// and firmware of SEV and SEV-ES share.
const TIKSize = 16

// MNonceSize is the size in bytes of the nonce that the firmware chooses at
// LAUNCH_MEASURE.
const MNonceSize = 16

// LaunchBlobSize is the size in bytes of what LAUNCH_MEASURE gives: the
// measurement and its nonce, as QEMU's query-sev-launch-measure passes them on.
const LaunchBlobSize = sha256.Size + MNonceSize

// launchMeasureContext separates this HMAC from others under the same key.
const launchMeasureContext = 0x04

// LaunchMeasure is what LAUNCH_MEASURE authenticates of a guest of SEV or
// SEV-ES, in the order of AMD 55766, "LAUNCH_MEASURE". Unlike an SNP launch
// digest it depends on the firmware of the host and on a nonce, so that it can
// be checked but not known beforehand.
type LaunchMeasure struct {
	APIMajor, APIMinor uint8 // of the firmware, e.g. 1 and 55
	Build              uint8
	Policy             uint32            // that of LAUNCH_START; SEV's, not an SNP policy
	Digest             [sha256.Size]byte // launch digest: the SHA-256 of all that was measured
	MNonce             [MNonceSize]byte
}

// Message gives the 56 bytes that the HMAC covers.
func (m *LaunchMeasure) Message() []byte {
	b := []byte{launchMeasureContext, m.APIMajor, m.APIMinor, m.Build}
	b = binary.LittleEndian.AppendUint32(b, m.Policy)
	b = append(b, m.Digest[:]...)
	return append(b, m.MNonce[:]...)
}

// Sum gives the launch measurement: the HMAC-SHA-256 of the message under the
// TIK.
func (m *LaunchMeasure) Sum(tik [TIKSize]byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, tik[:])
	h.Write(m.Message())
	return [sha256.Size]byte(h.Sum(nil))
}

// Check says whether blob, the measurement and the nonce that LAUNCH_MEASURE
// gave, is of the guest that m describes. It takes the nonce from the blob, and
// compares in constant time.
func (m LaunchMeasure) Check(tik [TIKSize]byte, blob [LaunchBlobSize]byte) bool {
	copy(m.MNonce[:], blob[sha256.Size:])
	want := m.Sum(tik)
	return hmac.Equal(want[:], blob[:sha256.Size])
}
