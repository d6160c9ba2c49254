package psp

import "github.com/snplaunch/snplaunch/snp"

// Activate is SNP_ACTIVATE: it binds the guest to an ASID that no page of memory
// is assigned to.
func (g *Guest) Activate(asid uint32) snp.Status { return g.activate(asid, false) }

// activate is SNP_ACTIVATE; assigned says that the RMP has pages of that ASID.
func (g *Guest) activate(asid uint32, assigned bool) snp.Status {
	p := g.platform
	p.mu.Lock()
	defer p.mu.Unlock()
	if st := g.exists(); st != snp.StatusSuccess {
		return st
	}
	owner := p.asids[asid]
	switch {
	case g.state != stateLaunch && g.state != stateRunning:
		return snp.StatusInvalidGuestState
	case assigned:
		return snp.StatusInvalidConfig
	case g.policy&snp.PolicySingleSocket != 0 && p.cfg.Sockets > 1:
		return snp.StatusPolicyFailure
	case asid == 0, p.cfg.MaxASID != 0 && asid > p.cfg.MaxASID:
		return snp.StatusInvalidASID
	case owner != nil && owner != g:
		return snp.StatusASIDOwned
	case p.dirty[asid]:
		return snp.StatusDFFlushRequired
	case g.asid != 0:
		return snp.StatusActive
	}
	next := g.context
	next.asid = asid
	g.become(next)
	return snp.StatusSuccess
}

// DFFlush is DF_FLUSH: ASIDs that guests have left can be used again.
func (p *Platform) DFFlush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.dirty)
}
