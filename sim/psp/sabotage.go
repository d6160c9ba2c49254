//go:build !snplaunch_broken

package psp

import "github.com/snplaunch/snplaunch/snp"

// The firmware forgets nothing; see sabotage_on.go.
const forgetsPolicy, forgetsSignature = false, false

// sabotage does nothing; see sabotage_on.go.
func sabotage(*snp.PageInfo) {}
