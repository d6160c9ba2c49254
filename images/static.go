package images

import (
	"debug/elf"
	"fmt"
)

// checkStatic refuses a program that could not run as the only file of an
// initrd.
func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("small initrd: %w", err)
	}
	defer f.Close()
	bad := f.Machine != elf.EM_X86_64
	for _, p := range f.Progs {
		bad = bad || p.Type == elf.PT_INTERP
	}
	if bad {
		return fmt.Errorf("small initrd: %s is not a static program for linux/amd64; build it with CGO_ENABLED=0", path)
	}
	return nil
}
