package launcher

import (
	"github.com/snplaunch/snplaunch/guest"
)

// given is what a QEMU is given: what was measured, but for a hook's tampering.
type given struct {
	guest *guest.Guest
	files *guest.Inputs
}

// give is what was measured, changed where there is a hook for it. A hook that
// changes the path of a file has that file given.
func (r *run) give(change func(*guest.Guest)) (given, error) {
	if change == nil {
		return given{r.g, r.inputs}, nil
	}
	g := *r.g
	change(&g)
	// A digest that was given for a file is not what another one must have.
	g.KernelSHA256, g.InitrdSHA256 = nil, nil
	files, err := r.o.Shared.open(&g, true)
	if err != nil {
		return given{}, err
	}
	r.instead = append(r.instead, files)
	return given{&g, files}, nil
}
