//go:build snplaunch_broken

package psp

import (
	"os"

	"github.com/snplaunch/snplaunch/snp"
)

// What the firmware gets wrong where the environment asks for it. A test of the matrix
// builds the program so, to see that it is caught.
var (
	forgetsPolicy    = os.Getenv("SNPLAUNCH_BROKEN") == "psp-policy"
	forgetsSignature = os.Getenv("SNPLAUNCH_BROKEN") == "psp-signature"
)

// sabotage folds a page's contents before the digest so far.
func sabotage(info *snp.PageInfo) {
	if os.Getenv("SNPLAUNCH_BROKEN") == "psp-fold" {
		current := info.DigestCur
		info.DigestCur, info.Contents = snp.LaunchDigest(info.Contents), snp.ContentDigest(current)
	}
}
