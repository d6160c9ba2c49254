package psp

import (
	"crypto/rand"
	"crypto/sha512"
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
}

// context is what Checkpoint saves: everything that a command changes but the
// list of updates, which only grows.
type context struct {
	state                          state
	policy                         snp.GuestPolicy
	gosvw                          [16]byte
	asid                           uint32
	ld                             snp.LaunchDigest
	vmpck                          [4][32]byte
	reportID                       [32]byte
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
	return &Guest{platform: p}
}

// Decommission is SNP_DECOMMISSION; it is allowed in every state and frees the
// ASID. Updates are kept, for whoever wants to know what the guest was made of.
func (g *Guest) Decommission() {
	g.platform.mu.Lock()
	defer g.platform.mu.Unlock()
	g.become(context{state: stateGone})
}

// Checkpoint remembers the context, so that commands whose answers were never
// taken can be undone exactly: the context, its ASID and the list of updates are
// then as they were. It copies some hundred bytes and no page.
func (g *Guest) Checkpoint() (restore func()) {
	saved, n := g.context, len(g.updates)
	return func() {
		g.platform.mu.Lock()
		defer g.platform.mu.Unlock()
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

// LaunchStart is SNP_LAUNCH_START without a migration agent.
func (g *Guest) LaunchStart(policy snp.GuestPolicy, gosvw [16]byte) snp.Status {
	if g.state == stateGone {
		return snp.StatusInvalidGuest
	}
	if g.state != stateInit {
		return snp.StatusInvalidGuestState
	}
	fw := g.platform.cfg.FirmwareVersion
	tooNew := policy.ABIMajor() > fw.Major || policy.ABIMajor() == fw.Major && policy.ABIMinor() > fw.Minor
	if tooNew || g.platform.cfg.policyRefused(policy) {
		return snp.StatusPolicyFailure
	}
	g.policy, g.gosvw, g.ld = policy, gosvw, snp.LaunchDigest{}
	for i := range g.vmpck {
		fill(g.vmpck[i][:])
	}
	fill(g.reportID[:])
	g.state = stateLaunch
	return snp.StatusSuccess
}

// fill makes random bytes. crypto/rand.Read never fails: it ends the program.
func fill(b []byte) { _, _ = rand.Read(b) }

// Activate is SNP_ACTIVATE: it binds the guest to an ASID.
func (g *Guest) Activate(asid uint32) snp.Status {
	p := g.platform
	p.mu.Lock()
	defer p.mu.Unlock()
	owner := p.asids[asid]
	switch {
	case g.state == stateGone:
		return snp.StatusInvalidGuest
	case g.state != stateLaunch && g.state != stateRunning:
		return snp.StatusInvalidGuestState
	case g.policy&snp.PolicySingleSocket != 0 && p.cfg.Sockets > 1:
		return snp.StatusPolicyFailure
	case asid == 0, p.cfg.MaxASID != 0 && asid > p.cfg.MaxASID:
		return snp.StatusInvalidASID
	case owner != nil && owner != g:
		return snp.StatusASIDOwned
	case g.asid != 0:
		return snp.StatusActive
	}
	next := g.context
	next.asid = asid
	g.become(next)
	return snp.StatusSuccess
}

// LaunchUpdate is SNP_LAUNCH_UPDATE of one 4 KiB page, with no VMPL permissions
// and no IMI, as KVM calls it. page is changed as the firmware changes it:
// zeroed, filled with secrets, or with the CPUID entries corrected (then the
// status is StatusInvalidParam).
func (g *Guest) LaunchUpdate(t snp.PageType, gpa uint64, page []byte) snp.Status {
	switch {
	case g.state == stateGone:
		return snp.StatusInvalidGuest
	case len(page) != snp.PageSize:
		return snp.StatusInvalidPageSize
	case t < snp.PageNormal || t > snp.PageCPUID:
		return snp.StatusInvalidParam
	case g.state != stateLaunch:
		return snp.StatusInvalidGuestState
	case g.asid == 0:
		return snp.StatusInactive
	}
	var contents snp.ContentDigest
	switch t {
	case snp.PageNormal:
		contents = sha512.Sum384(page)
	case snp.PageVMSA:
		contents = vmsaDigest(page)
	case snp.PageZero:
		clear(page)
	case snp.PageSecrets:
		g.fillSecrets(page)
	case snp.PageCPUID:
		if st := g.platform.checkCPUID(page); st != snp.StatusSuccess {
			return st
		}
	}
	info := snp.PageInfo{DigestCur: g.ld, Contents: contents, Type: t, GPA: gpa}
	b := info.Bytes()
	g.ld = sha512.Sum384(b[:])
	g.updates = append(g.updates, snp.Update{Type: t, GPA: gpa, Length: snp.PageSize, Contents: contents})
	return snp.StatusSuccess
}

// Offsets in the save area that are not measured: GUEST_TSC_SCALE, GUEST_TSC_OFFSET.
const (
	vmsaTSCScale = 0x2F0
	vmsaTSCEnd   = 0x300
)

func vmsaDigest(page []byte) snp.ContentDigest {
	p := [snp.PageSize]byte(page)
	clear(p[vmsaTSCScale:vmsaTSCEnd])
	return sha512.Sum384(p[:])
}

// fillSecrets writes the secrets page, version 3 (Linux struct
// snp_secrets_page): version at 0x00, IMI_EN at 0x04, CPUID function 1 EAX at
// 0x08, GOSVW at 0x10, the four VMPCKs from 0x20, TSC_FACTOR at 0x160. What
// belongs to the guest's own software (0xA0 to 0xFF, 0x140 to 0x15F) stays zero,
// and so does the VMSA tweak bitmap at 0x100, as no register of a save area is
// protected here.
func (g *Guest) fillSecrets(page []byte) {
	clear(page)
	le.PutUint32(page[0x00:], 3)
	le.PutUint32(page[0x08:], g.platform.cfg.signature())
	copy(page[0x10:], g.gosvw[:])
	for i, k := range g.vmpck {
		copy(page[0x20+32*i:], k[:])
	}
	le.PutUint32(page[0x160:], tscFactor)
}

// tscFactor is TSC_FACTOR as observed in SEV firmware 1.55.25.
const tscFactor = 200
