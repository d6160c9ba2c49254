//go:build snplaunch_broken

package hashes

import "os"

// terminator lacks its NUL byte where the environment asks for it. A test of the
// matrix builds the program so, to see that it is caught.
func terminator() []byte {
	if os.Getenv("SNPLAUNCH_BROKEN") == "cmdline-nul" {
		return nil
	}
	return []byte{0}
}
