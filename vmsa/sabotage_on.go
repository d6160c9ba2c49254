//go:build snplaunch_broken

package vmsa

import (
	"encoding/binary"
	"os"
)

// sabotage makes one field wrong where the environment asks for it: DR6 of the
// application processors, so that guests of one vCPU are still right. A test of the
// matrix builds the program so, to see that it is caught.
func sabotage(page *[PageSize]byte, bsp bool) {
	if os.Getenv("SNPLAUNCH_BROKEN") == "vmsa-field" && !bsp {
		binary.LittleEndian.PutUint64(page[0x168:], 0xFFFF0FF1)
	}
}
