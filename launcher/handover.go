package launcher

import (
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
)

// handedOver is the guest as a QEMU is told of it: its files are descriptors of
// the given ones, which QEMU inherits.
func handedOver(s *starter, given given) (*guest.Guest, error) {
	g := *given.guest
	for _, f := range []struct {
		in   *guest.Input
		path *string
	}{{given.files.Firmware, &g.Firmware}, {given.files.Kernel, &g.Kernel}, {given.files.Initrd, &g.Initrd}} {
		if f.in == nil {
			continue
		}
		shared, err := duplicate(f.in.File)
		if err != nil {
			return nil, fmt.Errorf("handing %s over to QEMU: %w", f.in.Path, err)
		}
		*f.path = inherited(s.inherit(shared))
		// The later ones first: "…/fd/1" begins "…/fd/12" too.
		s.names = append([]string{*f.path, f.in.Path}, s.names...)
	}
	return &g, nil
}

// inherited is the name that an inherited descriptor has for QEMU.
func inherited(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
