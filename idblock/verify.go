package idblock

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// Error is why the firmware would refuse an ID block. Status is what
// SNP_LAUNCH_FINISH would return.
type Error struct {
	Status snp.Status
	Reason string
}

// Error names the status and the reason.
func (e *Error) Error() string {
	return fmt.Sprintf("SNP_LAUNCH_FINISH would fail with %s (0x%02x): %s", e.Status, int32(e.Status), e.Reason)
}

// StatusOf gives the firmware status that err carries; ok is false when it
// carries none.
func StatusOf(err error) (s snp.Status, ok bool) {
	var e *Error
	if errors.As(err, &e) {
		return e.Status, true
	}
	return 0, false
}

// Verify checks an ID block against its ID auth as the firmware does, in its
// order: algorithms, ID key, block signature, then author key and ID key
// signature when authorKeyEnabled (AUTH_KEY_EN, QEMU's author-key-enabled).
// The error is an *Error. Like firmware 1.55.25 it looks neither at the
// block's version nor at reserved bytes; Show points them out.
func Verify(block *snp.IDBlock, auth *snp.IDAuth, authorKeyEnabled bool) error {
	if auth.IDKeyAlgo != snp.KeyAlgoECDSAP384 {
		return fail(snp.StatusInvalidParam, "ID_KEY_ALGO is %d, want %d (ECDSA P-384)", auth.IDKeyAlgo, snp.KeyAlgoECDSAP384)
	}
	if authorKeyEnabled && auth.AuthorKeyAlgo != snp.KeyAlgoECDSAP384 {
		return fail(snp.StatusInvalidParam, "author-key-enabled is on, but AUTH_KEY_ALGO is %d, want %d (ECDSA P-384); switch it off or sign with an author key", auth.AuthorKeyAlgo, snp.KeyAlgoECDSAP384)
	}
	raw := block.Bytes()
	if err := check(auth.IDKey, auth.IDBlockSig, raw[:], "ID key", "ID block"); err != nil {
		return err
	}
	if authorKeyEnabled {
		return check(auth.AuthorKey, auth.IDKeySig, auth.IDKey[:], "author key", "ID key")
	}
	return nil
}

// VerifyLaunch is all that SNP_LAUNCH_FINISH checks: the block against the
// launch digest and the policy of the launch, then Verify.
func VerifyLaunch(block *snp.IDBlock, auth *snp.IDAuth, authorKeyEnabled bool, ld snp.LaunchDigest, policy snp.GuestPolicy) error {
	if block.LD != ld {
		return fail(snp.StatusBadMeasurement, "the ID block is for launch digest %s, the launch has %s", block.LD, ld)
	}
	if block.Policy != policy {
		return fail(snp.StatusPolicyFailure, "the ID block is for policy %s, the launch has %s", block.Policy, policy)
	}
	return Verify(block, auth, authorKeyEnabled)
}

// check verifies one signature by an encoded key over msg.
func check(key snp.PublicKeyBytes, sig snp.SignatureBytes, msg []byte, signer, signed string) error {
	pub, err := DecodePublicKey(key)
	if err != nil {
		return fail(snp.StatusBadSignature, "%s: %v", signer, err)
	}
	r, s, err := DecodeSignature(sig)
	if err != nil {
		return fail(snp.StatusBadSignature, "%s over %s: %v", signer, signed, err)
	}
	digest := sha512.Sum384(msg)
	if !ecdsa.Verify(pub, digest[:], r, s) {
		return fail(snp.StatusBadSignature, "the signature is not by the %s over this %s", signer, signed)
	}
	return nil
}

func fail(s snp.Status, format string, args ...any) error {
	return &Error{Status: s, Reason: fmt.Sprintf(format, args...)}
}
