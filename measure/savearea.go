package measure

import (
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// saveAreas are the save areas of a launch as they depend on the vCPUs'
// signature and features: that of the first vCPU and that of all others.
type saveAreas func(signature uint32, features uint64) (bsp, ap [snp.PageSize]byte)

// ErrNoSaveAreas: a launch without measured save areas, as of plain SEV.
var ErrNoSaveAreas = errors.New("this kind of launch measures no save areas")

// SaveArea gives the save area of a vCPU (VMSA page), counted from 0, as it was
// measured.
func (r *Result) SaveArea(cpu int) (*[snp.PageSize]byte, error) {
	if r.areas == nil {
		return nil, ErrNoSaveAreas
	}
	if cpu < 0 || cpu >= r.VCPUs {
		return nil, fmt.Errorf("there is no vCPU %d among %d", cpu, r.VCPUs)
	}
	bsp, ap := r.areas(r.CPUSig, r.GuestFeatures)
	if cpu == 0 {
		return &bsp, nil
	}
	return &ap, nil
}
