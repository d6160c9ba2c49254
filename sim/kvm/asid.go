package kvm

// asids gives each initialised SNP VM an address space identifier of its own
// (Linux arch/x86/kvm/svm/sev.c, sev_asid_new). One that a VM has left is not
// given again while there are fresh ones.
type asids struct {
	highest uint32 // 0: there is no end
	fresh   uint32 // the lowest that was not given since the count began anew
	inUse   map[uint32]bool
}

func newASIDs(highest uint32) asids {
	return asids{highest: highest, fresh: 1, inUse: map[uint32]bool{}}
}

// take gives an ASID, 0 where all are in use.
func (a *asids) take() uint32 {
	for range 2 {
		for a.highest == 0 || a.fresh <= a.highest {
			asid := a.fresh
			a.fresh++
			if !a.inUse[asid] {
				a.inUse[asid] = true
				return asid
			}
		}
		a.fresh = 1
	}
	return 0
}

// give takes an ASID back.
func (a *asids) give(asid uint32) { delete(a.inUse, asid) }
