//go:build !snplaunch_broken

package vmsa

// sabotage does nothing; see sabotage_on.go.
func sabotage(*[PageSize]byte, bool) {}
