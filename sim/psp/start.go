package psp

import (
	"crypto/rand"

	"github.com/snplaunch/snplaunch/snp"
)

// StartParams are the parameters of SNP_LAUNCH_START.
type StartParams struct {
	Policy        snp.GuestPolicy
	GOSVW         [16]byte
	DesiredTSCKHz uint32
	// IMIEnabled: the guest is to have an initial migration image, which only
	// SNP_GUEST_REQUEST's ABSORB of a migration finishes: LaunchFinish refuses it.
	IMIEnabled bool
	// Agent is the guest's migration agent; nil: none (MA_EN clear).
	Agent *Guest
}

// LaunchStart is SNP_LAUNCH_START as KVM calls it: without a migration agent.
func (g *Guest) LaunchStart(policy snp.GuestPolicy, gosvw [16]byte) snp.Status {
	return g.Start(StartParams{Policy: policy, GOSVW: gosvw})
}

// Start is SNP_LAUNCH_START. The order of its checks is that observed in SEV
// firmware 1.55.25.
func (g *Guest) Start(s StartParams) snp.Status {
	if st := g.usable(); st != snp.StatusSuccess {
		return st
	}
	if g.state != stateInit {
		return snp.StatusInvalidGuestState
	}
	if s.Agent != nil {
		if st := s.Agent.usable(); st != snp.StatusSuccess {
			return st
		}
		if s.Agent.state != stateRunning {
			return snp.StatusInvalidGuestState
		}
	}
	if g.startRefused(s) {
		return snp.StatusPolicyFailure
	}
	next := g.context
	next.policy, next.gosvw, next.imiEnabled, next.desiredTSCKHz = s.Policy, s.GOSVW, s.IMIEnabled, s.DesiredTSCKHz
	next.launchMit = g.platform.cfg.MitVector
	for i := range next.vmpck {
		fill(next.vmpck[i][:])
	}
	fill(next.vmrk[:])
	fill(next.reportID[:])
	if s.Agent != nil {
		next.hasAgent, next.reportIDMA = true, s.Agent.reportID
	} else {
		for i := range next.reportIDMA {
			next.reportIDMA[i] = 0xFF
		}
	}
	next.state = stateLaunch
	g.context = next
	return snp.StatusSuccess
}

// startRefused says whether the policy rules one another or the platform out.
func (g *Guest) startRefused(s StartParams) bool {
	fw, p := g.platform.cfg.FirmwareVersion, s.Policy
	if s.Agent != nil && (p&snp.PolicyMigrateMA == 0 || s.Agent.hasAgent ||
		p&snp.PolicySingleSocket != 0 && s.Agent.policy&snp.PolicySingleSocket == 0) {
		return true
	}
	return p.ABIMajor() > fw.Major || p.ABIMajor() == fw.Major && p.ABIMinor() > fw.Minor || g.platform.cfg.policyRefused(p)
}

// fill makes random bytes. crypto/rand.Read never fails: it ends the program.
func fill(b []byte) { _, _ = rand.Read(b) }
