package launcher

import (
	"fmt"
	"os"
	"path/filepath"
)

// DefaultDataDir is where this user's simulated root key is kept, by the XDG base
// directory specification.
func DefaultDataDir() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "snplaunch"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder for the simulated root key: %w; set HOME or XDG_DATA_HOME", err)
	}
	return filepath.Join(home, ".local", "share", "snplaunch"), nil
}
