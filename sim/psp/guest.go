package psp

import (
	"encoding/binary"

	"github.com/snplaunch/snplaunch/snp"
)

var le = binary.LittleEndian

// state of a guest context.
type state int

const (
	stateInit    state = iota // after SNP_GCTX_CREATE
	stateLaunch               // after SNP_LAUNCH_START
	stateRunning              // after SNP_LAUNCH_FINISH
	stateGone                 // after SNP_DECOMMISSION
)

// Guest is a guest context.
type Guest struct {
	platform *Platform
	context
	updates []snp.Update
	hashed  lastPage
}

// context is what Checkpoint saves: everything that a command changes but the
// list of updates, which only grows.
type context struct {
	state                          state
	launchTCB                      snp.TCBParts // the platform's committed TCB at SNP_GCTX_CREATE
	launchMit                      uint64       // LAUNCH_MIT_VECTOR, at SNP_LAUNCH_START
	policy                         snp.GuestPolicy
	gosvw                          [16]byte
	imiEnabled                     bool
	desiredTSCKHz                  uint32
	asid                           uint32
	ld                             snp.LaunchDigest
	imd                            snp.LaunchDigest // of the initial migration image
	vmpck                          [4][32]byte
	counters                       [4]uint64 // of messages, by VMPCK
	vmrk                           [32]byte
	reportID                       [32]byte
	reportIDMA                     [32]byte // all ones without a migration agent
	hasAgent                       bool
	hostData                       snp.HostData
	idBlock                        snp.IDBlock // zero without one
	idKey                          snp.KeyDigest
	authorKey                      snp.KeyDigest
	authorKeyEnabled, vcekDisabled bool
}

// CreateContext is SNP_GCTX_CREATE.
func (p *Platform) CreateContext() *Guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guests++
	return &Guest{platform: p, context: context{launchTCB: p.settings.committed}}
}

// Decommission is SNP_DECOMMISSION; it is allowed in every state and frees the
// ASID, which no other guest gets before the next DF_FLUSH. Updates are kept,
// for whoever wants to know what the guest was made of.
func (g *Guest) Decommission() snp.Status {
	p := g.platform
	p.mu.Lock()
	defer p.mu.Unlock()
	if st := g.exists(); st != snp.StatusSuccess {
		return st
	}
	if g.asid != 0 {
		p.dirty[g.asid] = true
	}
	g.become(context{state: stateGone})
	return snp.StatusSuccess
}

// exists are the checks that every command on a guest begins with: the platform
// is in state SNP-INIT, and the context is one. The platform's lock is held.
func (g *Guest) exists() snp.Status {
	switch {
	case g.platform.down:
		return snp.StatusInvalidPlatformState
	case g.state == stateGone:
		return snp.StatusInvalidGuest
	}
	return snp.StatusSuccess
}

// usable is exists for a caller without the lock.
func (g *Guest) usable() snp.Status {
	g.platform.mu.Lock()
	defer g.platform.mu.Unlock()
	return g.exists()
}

// Checkpoint remembers the context, so that commands whose answers were never
// taken can be undone exactly: the context, its ASID and the list of updates are
// then as they were. It copies some hundred bytes and no page.
func (g *Guest) Checkpoint() (restore func()) {
	saved, n := g.context, len(g.updates)
	return func() {
		g.platform.mu.Lock()
		defer g.platform.mu.Unlock()
		// An ASID that was taken or left since was clean before.
		delete(g.platform.dirty, g.asid)
		delete(g.platform.dirty, saved.asid)
		g.become(saved)
		// The capacity goes too: what Updates gave out before must not be
		// overwritten by what follows.
		g.updates = g.updates[:n:n]
	}
}

// become changes the context and what the platform knows of it; the platform's
// lock is held.
func (g *Guest) become(next context) {
	p := g.platform
	if g.asid != next.asid {
		if g.asid != 0 {
			delete(p.asids, g.asid)
		}
		if next.asid != 0 {
			p.asids[next.asid] = g
		}
	}
	if was, will := g.state != stateGone, next.state != stateGone; was && !will {
		p.guests--
	} else if !was && will {
		p.guests++
	}
	g.context = next
}

// LaunchDigest is LD: of all pages so far.
func (g *Guest) LaunchDigest() snp.LaunchDigest { return g.ld }

// Policy is the policy that the guest was started with.
func (g *Guest) Policy() snp.GuestPolicy { return g.policy }

// Updates gives every page as it entered the digest, in order. The caller must
// not change it.
func (g *Guest) Updates() []snp.Update { return g.updates[:len(g.updates):len(g.updates)] }
