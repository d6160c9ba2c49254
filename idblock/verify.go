package idblock

import (
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
// The error is an *Error, for the first check that fails; Checks gives all.
// Like firmware 1.55.25 it looks neither at the block's version nor at reserved
// bytes; Remarks points them out.
func Verify(block *snp.IDBlock, auth *snp.IDAuth, authorKeyEnabled bool) error {
	return FirstFailure(Checks(block, auth, authorKeyEnabled, Launch{}))
}

// VerifyLaunch is all that SNP_LAUNCH_FINISH checks: the block against the
// launch digest and the policy of the launch, then Verify.
func VerifyLaunch(block *snp.IDBlock, auth *snp.IDAuth, authorKeyEnabled bool, ld snp.LaunchDigest, policy snp.GuestPolicy) error {
	return FirstFailure(Checks(block, auth, authorKeyEnabled, Launch{LD: &ld, Policy: &policy}))
}

// FirstFailure gives the *Error for the check at which the firmware would
// stop, nil when none fails.
func FirstFailure(checks []Check) error {
	for _, c := range checks {
		if c.Outcome == Fails {
			return &Error{Status: c.Status, Reason: c.Text}
		}
	}
	return nil
}
