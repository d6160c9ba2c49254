package idblock

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// Outcome is how a check went.
type Outcome string

// Outcomes of a check.
const (
	Holds      Outcome = "holds"
	Fails      Outcome = "fails"
	NotChecked Outcome = "not checked" // Text says why
)

// Check is one thing that SNP_LAUNCH_FINISH looks at.
type Check struct {
	Field   string     `json:"field"` // as the firmware's specification names it
	Outcome Outcome    `json:"outcome"`
	Status  snp.Status `json:"-"` // what the firmware would return, where it fails
	// Text is what was found, or why it fails or was not checked.
	Text string `json:"text"`
}

// Launch is what is known of the launch that an ID block is for; nil is not known.
type Launch struct {
	LD     *snp.LaunchDigest
	Policy *snp.GuestPolicy
}

// Checks holds an ID block and its ID auth against each other and against a
// launch. It gives every check of SNP_LAUNCH_FINISH in the order in which
// firmware 1.55.25 makes them, and goes on where the firmware would stop at
// the first that fails.
func Checks(block *snp.IDBlock, auth *snp.IDAuth, authorKeyEnabled bool, launch Launch) []Check {
	raw := block.Bytes()
	out := []Check{
		checkLaunchDigest(block, launch.LD),
		checkPolicy(block, launch.Policy),
		checkAlgorithm("ID_KEY_ALGO", auth.IDKeyAlgo, ""),
	}
	author := []string{"AUTHOR_KEY", "ID_KEY_SIG"}
	if authorKeyEnabled {
		out = append(out, checkAlgorithm("AUTH_KEY_ALGO", auth.AuthorKeyAlgo, "author-key-enabled is on, but "))
	} else {
		author = append([]string{"AUTH_KEY_ALGO"}, author...)
	}
	out = append(out, checkSigned("ID_KEY", "ID_BLOCK_SIG", auth.IDKey, auth.IDBlockSig, raw[:], "ID key", "ID block")...)
	if authorKeyEnabled {
		return append(out, checkSigned("AUTHOR_KEY", "ID_KEY_SIG", auth.AuthorKey, auth.IDKeySig, auth.IDKey[:], "author key", "ID key")...)
	}
	for _, field := range author {
		out = append(out, Check{Field: field, Outcome: NotChecked, Text: "author-key-enabled is off"})
	}
	return out
}

func checkLaunchDigest(block *snp.IDBlock, ld *snp.LaunchDigest) Check {
	c := Check{Field: "LD", Outcome: NotChecked, Text: "no launch digest to compare with " + block.LD.String()}
	if ld != nil {
		c.Outcome, c.Text = Holds, block.LD.String()
		if block.LD != *ld {
			c.fail(snp.StatusBadMeasurement, "the ID block is for launch digest %s, the launch has %s", block.LD, ld)
		}
	}
	return c
}

func checkPolicy(block *snp.IDBlock, policy *snp.GuestPolicy) Check {
	c := Check{Field: "POLICY", Outcome: NotChecked, Text: "no policy to compare with " + block.Policy.String()}
	if policy != nil {
		c.Outcome, c.Text = Holds, block.Policy.Describe()
		if block.Policy != *policy {
			c.fail(snp.StatusPolicyFailure, "the ID block is for policy %s, the launch has %s", block.Policy, *policy)
		}
	}
	return c
}

func checkAlgorithm(field string, algorithm uint32, although string) Check {
	c := Check{Field: field, Outcome: Holds, Text: fmt.Sprintf("%d, ECDSA P-384 with SHA-384", algorithm)}
	if algorithm != snp.KeyAlgoECDSAP384 {
		remedy := ""
		if although != "" {
			remedy = "; switch it off or sign with an author key"
		}
		c.fail(snp.StatusInvalidParam, "%s%s is %d, want %d (ECDSA P-384)%s", although, field, algorithm, snp.KeyAlgoECDSAP384, remedy)
	}
	return c
}

// checkSigned makes the two checks of a key and its signature over msg.
func checkSigned(keyField, sigField string, key snp.PublicKeyBytes, sig snp.SignatureBytes, msg []byte, signer, signed string) []Check {
	k := Check{Field: keyField, Outcome: Holds, Text: "digest " + DigestPublicKey(key).String()}
	s := Check{Field: sigField, Outcome: Holds, Text: fmt.Sprintf("by the %s over the %s", signer, signed)}
	pub, err := DecodePublicKey(key)
	if err != nil {
		k.fail(snp.StatusBadSignature, "%s: %v", signer, err)
		s.Outcome, s.Text = NotChecked, fmt.Sprintf("there is no %s to check it with", signer)
		return []Check{k, s}
	}
	r, v, err := DecodeSignature(sig)
	digest := sha512.Sum384(msg)
	switch {
	case err != nil:
		s.fail(snp.StatusBadSignature, "%s over %s: %v", signer, signed, err)
	case !ecdsa.Verify(pub, digest[:], r, v):
		s.fail(snp.StatusBadSignature, "the signature is not by the %s over this %s", signer, signed)
	}
	return []Check{k, s}
}

func (c *Check) fail(status snp.Status, format string, args ...any) {
	c.Outcome, c.Status, c.Text = Fails, status, fmt.Sprintf(format, args...)
}

// Remarks names what the specification does not allow and firmware 1.55.25
// lets pass: another version, reserved bytes that are not zero. rawAuth is the
// snp.IDAuthSize bytes of the ID auth.
func Remarks(block *snp.IDBlock, rawAuth []byte) ([]string, error) {
	lines, err := Show(block, rawAuth)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range lines {
		if l.Unusual {
			out = append(out, l.String())
		}
	}
	return out, nil
}
