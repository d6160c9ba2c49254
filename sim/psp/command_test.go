package psp

import (
	"maps"
	"slices"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// Addresses of the scene's pages.
const (
	ctxAt, agentAt, pageAt, blockAt, authAt, requestAt, responseAt = 0x1000, 0x2000, 0x200000, 0x4000, 0x5000, 0x6000, 0x7000
	crookedAt                                                      = 0x601000 // of a 2 MiB page, which it must not be
)

// scene is a machine in which one command succeeds until something is broken.
type scene struct {
	p   *Platform
	m   Memory
	g   *Guest // whose context lies at ctxAt
	buf []byte // of the command
}

func (s *scene) page(at uint64, state PageState) *Page {
	s.m[at] = &Page{RMPEntry: RMPEntry{State: state}, Data: page()}
	return s.m[at]
}

func (s *scene) do(c Command, buf []byte) snp.Status { return s.p.Command(s.m, c, buf) }

// context makes a guest context with GCTX_CREATE.
func (s *scene) context(t testing.TB, at uint64) *Guest {
	t.Helper()
	page := s.page(at, PageFirmware)
	must(t, s.do(CommandGCTXCreate, le.AppendUint64(nil, at)))
	return page.guest
}

func startBuffer(at uint64, policy snp.GuestPolicy) []byte {
	b := make([]byte, 48)
	le.PutUint64(b, at)
	le.PutUint64(b[8:], uint64(policy))
	return b
}

func activateBuffer(at uint64, asid uint32) []byte {
	return le.AppendUint32(le.AppendUint64(nil, at), asid)
}

// rule is one thing that a command refuses. Rules of one kind have one place in
// the order: only rules of different kinds are broken together.
type rule struct {
	kind   int
	name   string
	change func(*scene)
	want   snp.Status
}

// flag gives a change that sets bits of a byte of the command buffer.
func flag(at int, bits byte) func(*scene) { return func(s *scene) { s.buf[at] |= bits } }

// ruled tests rules of a command, whose kinds count in the firmware's order: without any the
// command succeeds; each has its status, and leaves the guest as it was; of two
// of different kinds that are broken at once the first counts. Some cannot be
// broken together. Besides SUCCESS and what every command gives, the rules give the
// statuses that are listed, each of them, and no others.
func ruled(t *testing.T, c Command, statuses []snp.Status, build func(t testing.TB) *scene, rules []rule, apart func(a, b rule) bool) {
	t.Helper()
	given := map[snp.Status]bool{}
	s := build(t)
	if st := s.do(c, s.buf); st != snp.StatusSuccess {
		t.Fatalf("nothing broken: %s", st)
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return a.kind - b.kind })
	try := func(name string, want snp.Status, broken ...rule) {
		s := build(t)
		for _, r := range slices.Backward(broken) { // the first has the last word on what both touch
			r.change(s)
		}
		before := s.g.context
		if st := s.do(c, s.buf); st != want {
			t.Errorf("%s: got %s, want %s", name, st, want)
		}
		if s.g.context != before {
			t.Errorf("%s: the guest was changed by a refused command", name)
		}
	}
	for i, r := range rules {
		try(r.name, r.want, r)
		given[r.want] = true
		for _, later := range rules[i+1:] {
			if later.kind == r.kind || apart != nil && apart(r, later) {
				continue
			}
			try(r.name+" and "+later.name, r.want, r, later)
		}
	}
	want := append([]snp.Status{snp.StatusInvalidParam, snp.StatusInvalidPlatformState}, statuses...)
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(given)); !slices.Equal(got, want) {
		t.Errorf("the rules give %v, want %v", got, want)
	}
}

// asks are what every command on a guest asks of its first address and the
// platform; kinds 0 to 2.
func asks() []rule {
	return []rule{
		{0, "GCTX_PADDR is not aligned", flag(0, 1), snp.StatusInvalidParam},
		{0, "GCTX_PADDR has too many bits", flag(7, 0x10), snp.StatusInvalidParam},
		{1, "the platform is not in SNP-INIT", func(s *scene) { s.p.Shutdown() }, snp.StatusInvalidPlatformState},
		{2, "the page belongs to the hypervisor", func(s *scene) { s.m[ctxAt].State = PageHypervisor }, snp.StatusInvalidGuest},
		{2, "the page is a guest's", func(s *scene) { s.m[ctxAt].State = PageGuest }, snp.StatusInvalidGuest},
		{2, "there is no such page", func(s *scene) { delete(s.m, ctxAt) }, snp.StatusInvalidGuest},
	}
}

// defaultPlatform is made once: certifying its key takes longer than most tests.
var defaultPlatform *Platform

// fresh is the default platform as it is before any guest, changed.
func fresh(t testing.TB, change func(*Config)) *Platform {
	t.Helper()
	if defaultPlatform == nil {
		defaultPlatform = platform(t, nil)
	}
	d := defaultPlatform
	p := &Platform{cfg: d.cfg, ca: d.ca, line: d.line, chipID: d.chipID, settings: d.settings, vcek: d.vcek,
		asids: map[uint32]*Guest{}, dirty: map[uint32]bool{}}
	if change != nil {
		change(&p.cfg)
	}
	return p
}

func newScene(t testing.TB, change func(*Config)) *scene {
	s := &scene{p: fresh(t, change), m: Memory{}}
	s.g = s.context(t, ctxAt)
	return s
}

func TestLaunchStartRules(t *testing.T) {
	// A guest with a migration agent, so that its rules can be broken.
	build := func(t testing.TB) *scene {
		s := newScene(t, nil)
		agent := s.context(t, agentAt)
		must(t, s.do(CommandLaunchStart, startBuffer(agentAt, snp.PolicyDefault|snp.PolicySingleSocket)))
		must(t, s.do(CommandActivate, activateBuffer(agentAt, 9)))
		must(t, agent.LaunchFinish(FinishParams{}))
		s.buf = startBuffer(ctxAt, snp.PolicyDefault|snp.PolicyMigrateMA|snp.PolicySingleSocket)
		le.PutUint64(s.buf[0x10:], agentAt)
		s.buf[0x18] = 1 // MA_EN
		return s
	}
	agent := func(s *scene) *Guest { return s.m[agentAt].guest }
	clears := func(bit snp.GuestPolicy) func(*scene) {
		return func(s *scene) { le.PutUint64(s.buf[8:], le.Uint64(s.buf[8:])&^uint64(bit)) }
	}
	ruled(t, CommandLaunchStart, []snp.Status{snp.StatusInvalidGuest, snp.StatusInvalidGuestState, snp.StatusPolicyFailure}, build, append(asks(),
		rule{0, "reserved flag", flag(0x18, 4), snp.StatusInvalidParam},
		rule{0, "last reserved flag", flag(0x1B, 0x80), snp.StatusInvalidParam},
		rule{0, "MA_GCTX_PADDR is not aligned", flag(0x10, 8), snp.StatusInvalidParam},
		rule{3, "LAUNCH", func(s *scene) { s.g.state = stateLaunch }, snp.StatusInvalidGuestState},
		rule{3, "RUNNING", func(s *scene) { s.g.state = stateRunning }, snp.StatusInvalidGuestState},
		rule{4, "the agent's page is no context", func(s *scene) { s.m[agentAt].State = PageGuest }, snp.StatusInvalidGuest},
		rule{4, "there is no such page of an agent", func(s *scene) { delete(s.m, agentAt) }, snp.StatusInvalidGuest},
		rule{5, "the agent is in LAUNCH", func(s *scene) {
			if s.m[agentAt] != nil {
				agent(s).state = stateLaunch
			}
		}, snp.StatusInvalidGuestState},
		rule{6, "an agent without MIGRATE_MA", clears(snp.PolicyMigrateMA), snp.StatusPolicyFailure},
		rule{6, "the agent has an agent", func(s *scene) {
			if s.m[agentAt] != nil {
				agent(s).hasAgent = true
			}
		}, snp.StatusPolicyFailure},
		rule{6, "the agent runs on several sockets", func(s *scene) {
			if s.m[agentAt] != nil {
				agent(s).policy &^= snp.PolicySingleSocket
			}
		}, snp.StatusPolicyFailure},
		rule{6, "bit 17 is clear", clears(snp.PolicyReservedOne), snp.StatusPolicyFailure},
		rule{6, "SMT is on and not allowed", clears(snp.PolicySMT), snp.StatusPolicyFailure},
		rule{6, "ABI_MAJOR is too new", flag(9, 2), snp.StatusPolicyFailure},
		rule{6, "ABI_MINOR is too new", func(s *scene) { s.buf[9], s.buf[8] = 1, 56 }, snp.StatusPolicyFailure},
		rule{6, "bit 21, reserved in 1.55", flag(0x0A, 0x20), snp.StatusPolicyFailure},
		rule{6, "bit 63", flag(0x0F, 0x80), snp.StatusPolicyFailure},
	), nil)
}

// What SNP_LAUNCH_START sets up, with an agent and without.
func TestLaunchStartEffects(t *testing.T) {
	s := newScene(t, nil)
	agent := s.context(t, agentAt)
	must(t, s.do(CommandLaunchStart, startBuffer(agentAt, snp.PolicyDefault)))
	must(t, s.do(CommandActivate, activateBuffer(agentAt, 9)))
	must(t, agent.LaunchFinish(FinishParams{}))
	s.buf = startBuffer(ctxAt, snp.PolicyDefault|snp.PolicyMigrateMA)
	le.PutUint64(s.buf[0x10:], agentAt)
	s.buf[0x18] = 3 // MA_EN, IMI_EN
	le.PutUint32(s.buf[0x1C:], 1_234_567)
	copy(s.buf[0x20:], "workarounds, 16b")
	must(t, s.do(CommandLaunchStart, s.buf))
	g := s.g
	if g.policy != 0x70000 || string(g.gosvw[:]) != "workarounds, 16b" || g.desiredTSCKHz != 1_234_567 || !g.imiEnabled {
		t.Errorf("started with %+v", g.context)
	}
	if g.reportIDMA != agent.reportID || g.reportID == agent.reportID || g.reportID == ([32]byte{}) {
		t.Error("REPORT_ID and REPORT_ID_MA are not the guest's and its agent's")
	}
	for i, b := range agent.reportIDMA {
		if b != 0xFF {
			t.Fatalf("REPORT_ID_MA without an agent: byte %d is %#x", i, b)
		}
	}
	if g.vmrk == agent.vmrk || g.vmrk == ([32]byte{}) {
		t.Error("the VMRK is not the guest's own")
	}
}

// Policy bits 25:21 on firmware that knows them: what asks for a mode of the
// platform is refused where it is off, and the others are taken.
func TestPolicyByFirmware(t *testing.T) {
	at := func(minor uint8, set ...func(*Config)) func(*Config) {
		return func(c *Config) {
			c.FirmwareVersion.Minor = minor
			for _, f := range set {
				f(c)
			}
		}
	}
	xts := func(c *Config) { c.MemAES256XTS = true }
	rapl := func(c *Config) { c.RAPLDisabled = true }
	hiding := func(c *Config) { c.CiphertextHiding = true }
	for _, c := range []struct {
		name   string
		change func(*Config)
		bit    snp.GuestPolicy
		want   snp.Status
	}{
		{"CXL_ALLOW", at(55), snp.PolicyCXLAllow, snp.StatusPolicyFailure},
		{"CXL_ALLOW", at(56), snp.PolicyCXLAllow, snp.StatusSuccess},
		{"MEM_AES_256_XTS where it is on", at(55, xts), snp.PolicyMemAES256XTS, snp.StatusPolicyFailure},
		{"MEM_AES_256_XTS where it is off", at(56), snp.PolicyMemAES256XTS, snp.StatusPolicyFailure},
		{"MEM_AES_256_XTS where it is on", at(56, xts), snp.PolicyMemAES256XTS, snp.StatusSuccess},
		{"RAPL_DIS where RAPL is on", at(56), snp.PolicyRAPLDis, snp.StatusPolicyFailure},
		{"RAPL_DIS where RAPL is off", at(56, rapl), snp.PolicyRAPLDis, snp.StatusSuccess},
		{"CIPHERTEXT_HIDING_DRAM where it is off", at(56), snp.PolicyCiphertextHidingDRAM, snp.StatusPolicyFailure},
		{"CIPHERTEXT_HIDING_DRAM where it is on", at(56, hiding), snp.PolicyCiphertextHidingDRAM, snp.StatusSuccess},
		{"PAGE_SWAP_DISABLE", at(57), snp.PolicyPageSwapDisable, snp.StatusPolicyFailure},
		{"PAGE_SWAP_DISABLE", at(58), snp.PolicyPageSwapDisable, snp.StatusSuccess},
		{"bit 26", at(58), 1 << 26, snp.StatusPolicyFailure},
	} {
		p := fresh(t, c.change)
		if st := p.CreateContext().LaunchStart(snp.PolicyDefault|c.bit, [16]byte{}); st != c.want {
			t.Errorf("%s, firmware 1.%d: %s, want %s", c.name, p.cfg.FirmwareVersion.Minor, st, c.want)
		}
	}
}

func TestActivateRules(t *testing.T) {
	build := func(t testing.TB) *scene {
		s := newScene(t, func(c *Config) { c.MaxASID = 100 })
		must(t, s.do(CommandLaunchStart, startBuffer(ctxAt, snp.PolicyDefault)))
		s.buf = activateBuffer(ctxAt, 5)
		return s
	}
	ruled(t, CommandActivate, []snp.Status{snp.StatusInvalidGuest, snp.StatusInvalidGuestState, snp.StatusInvalidConfig, snp.StatusPolicyFailure,
		snp.StatusInvalidASID, snp.StatusASIDOwned, snp.StatusDFFlushRequired, snp.StatusActive}, build, append(asks(),
		rule{3, "INIT", func(s *scene) { s.g.state = stateInit }, snp.StatusInvalidGuestState},
		rule{4, "a page of memory has the ASID", func(s *scene) {
			p := s.page(pageAt, PagePreGuest)
			p.ASID = le.Uint32(s.buf[8:])
			s.page(pageAt+0x1000, PageGuest).ASID = 5 // whichever of the others is broken
		}, snp.StatusInvalidConfig},
		rule{5, "SINGLE_SOCKET on two sockets", func(s *scene) { s.g.policy |= snp.PolicySingleSocket; s.p.cfg.Sockets = 2 }, snp.StatusPolicyFailure},
		rule{6, "ASID 0", func(s *scene) { s.buf[8] = 0 }, snp.StatusInvalidASID},
		rule{6, "ASID too high", func(s *scene) { s.buf[8] = 101 }, snp.StatusInvalidASID},
		rule{7, "another guest has the ASID", func(s *scene) { s.p.asids[5] = &Guest{} }, snp.StatusASIDOwned},
		rule{8, "the ASID was not flushed", func(s *scene) { s.p.dirty[5] = true }, snp.StatusDFFlushRequired},
		rule{9, "the guest has an ASID", func(s *scene) { s.g.asid = 6 }, snp.StatusActive},
	), func(a, b rule) bool {
		// An ASID that there cannot be has neither pages nor an owner; it is refused
		// all the same, but there is no second rule to break.
		return a.kind == 4 && b.kind == 6 && b.name == "ASID 0"
	})
}

// updateScene has a page of 4 KiB that is about to be launched as NORMAL.
func updateScene(t testing.TB) *scene {
	s := newScene(t, nil)
	must(t, s.do(CommandLaunchStart, startBuffer(ctxAt, snp.PolicyDefault)))
	must(t, s.do(CommandActivate, activateBuffer(ctxAt, 5)))
	p := s.page(pageAt, PagePreGuest)
	p.ASID, p.GPA = 5, 0xFFC00000
	s.buf = updateBuffer(snp.PageNormal, pageAt)
	return s
}

func updateBuffer(typ snp.PageType, at uint64) []byte {
	b := make([]byte, 28)
	le.PutUint64(b, ctxAt)
	b[8] = byte(typ) << 1
	le.PutUint64(b[0x10:], at)
	return b
}

// target is the page that the command names, nil where there is none.
func (s *scene) target() *Page { return s.m[le.Uint64(s.buf[0x10:])] }

// large makes the page one of 2 MiB, at another address.
func (s *scene) large(at uint64) {
	s.m[at] = s.target()
	s.m[at].Data, s.m[at].TwoMiB = make([]byte, LargePageSize), true
	s.buf[8] |= 1
	le.PutUint64(s.buf[0x10:], at)
}

func (s *scene) setType(typ snp.PageType) { s.buf[8] = s.buf[8]&^0xE | byte(typ)<<1 }

func TestLaunchUpdateRules(t *testing.T) {
	asLarge := func(typ snp.PageType) func(*scene) {
		return func(s *scene) { s.large(2 * LargePageSize); s.setType(typ) }
	}
	ruled(t, CommandLaunchUpdate, []snp.Status{snp.StatusInvalidGuest, snp.StatusInvalidPageState, snp.StatusInvalidPageSize, snp.StatusInvalidAddress,
		snp.StatusInvalidGuestState, snp.StatusInactive, snp.StatusInvalidPageOwner}, updateScene, append(asks(),
		rule{0, "reserved flag", flag(8, 0x20), snp.StatusInvalidParam},
		rule{0, "last reserved flag", flag(0x0B, 0x80), snp.StatusInvalidParam},
		rule{0, "reserved word", flag(0x0D, 1), snp.StatusInvalidParam},
		rule{0, "PAGE_PADDR is not aligned", flag(0x10, 1), snp.StatusInvalidParam},
		rule{0, "PAGE_PADDR has too many bits", flag(0x17, 1), snp.StatusInvalidParam},
		rule{0, "reserved byte", flag(0x18, 1), snp.StatusInvalidParam},
		rule{0, "reserved VMPL3 permission", flag(0x1B, 0x10), snp.StatusInvalidParam},
		rule{3, "the page is the hypervisor's", func(s *scene) { s.target().State = PageHypervisor }, snp.StatusInvalidPageState},
		rule{3, "the page was launched before", func(s *scene) { s.target().State = PageGuest }, snp.StatusInvalidPageState},
		rule{3, "there is no such page", func(s *scene) { delete(s.m, le.Uint64(s.buf[0x10:])) }, snp.StatusInvalidPageState},
		rule{4, "the RMP has it as another size", func(s *scene) {
			if s.target() != nil {
				s.target().TwoMiB = s.buf[8]&1 == 0
			}
		}, snp.StatusInvalidPageSize},
		rule{5, "2 MiB not aligned", func(s *scene) { s.large(crookedAt) }, snp.StatusInvalidAddress},
		rule{6, "VMSA of 2 MiB", asLarge(snp.PageVMSA), snp.StatusInvalidPageSize},
		rule{6, "SECRETS of 2 MiB", asLarge(snp.PageSecrets), snp.StatusInvalidPageSize},
		rule{6, "CPUID of 2 MiB", asLarge(snp.PageCPUID), snp.StatusInvalidPageSize},
		rule{7, "PAGE_TYPE 0", func(s *scene) { s.setType(0) }, snp.StatusInvalidParam},
		rule{7, "PAGE_TYPE 7", func(s *scene) { s.setType(7) }, snp.StatusInvalidParam},
		rule{8, "INIT", func(s *scene) { s.g.state = stateInit }, snp.StatusInvalidGuestState},
		rule{8, "RUNNING", func(s *scene) { s.g.state = stateRunning }, snp.StatusInvalidGuestState},
		rule{9, "no ASID", func(s *scene) { s.g.asid = 0 }, snp.StatusInactive},
		rule{10, "a page of another ASID", func(s *scene) { s.target().ASID = 6 }, snp.StatusInvalidPageOwner},
		rule{11, "IMI_EN, and the page is not of the image", func(s *scene) { s.g.imiEnabled = true }, snp.StatusInvalidParam},
		rule{12, "CPUID page with 65 entries", func(s *scene) { s.setType(snp.PageCPUID); s.target().Data[0] = 65 }, snp.StatusInvalidParam},
	), func(a, b rule) bool {
		// One page has one type.
		return a.kind == 6 && (b.kind == 7 || b.kind == 12) || a.kind == 7 && b.kind == 12
	})
}

func TestLaunchFinishRules(t *testing.T) {
	p := platform(t, nil)
	id, author := newKey(t), newKey(t)
	ref := launched(t, p)
	good := signedParams(t, ref, id, author)
	build := func(t testing.TB) *scene {
		s := newScene(t, nil)
		must(t, s.do(CommandLaunchStart, startBuffer(ctxAt, snp.PolicyDefault)))
		must(t, s.do(CommandActivate, activateBuffer(ctxAt, 5)))
		page := s.page(pageAt, PagePreGuest)
		page.ASID, page.GPA = 5, 0x1000 // as launched has it
		must(t, s.do(CommandLaunchUpdate, updateBuffer(snp.PageNormal, pageAt)))
		copy(s.page(blockAt, PageHypervisor).Data, good.IDBlock)
		copy(s.page(authAt, PageHypervisor).Data, good.IDAuth)
		s.buf = make([]byte, 64)
		le.PutUint64(s.buf, ctxAt)
		le.PutUint64(s.buf[0x08:], blockAt)
		le.PutUint64(s.buf[0x10:], authAt)
		s.buf[0x18] = 3
		return s
	}
	rules := append(asks(),
		rule{0, "reserved flag", flag(0x18, 8), snp.StatusInvalidParam},
		rule{0, "last reserved flag", flag(0x1F, 0x80), snp.StatusInvalidParam},
		rule{0, "ID_BLOCK_PADDR has too many bits", flag(0x0F, 1), snp.StatusInvalidParam},
		rule{0, "ID_AUTH_PADDR has too many bits", flag(0x17, 1), snp.StatusInvalidParam},
		rule{3, "INIT", func(s *scene) { s.g.state = stateInit }, snp.StatusInvalidGuestState},
		rule{3, "RUNNING", func(s *scene) { s.g.state = stateRunning }, snp.StatusInvalidGuestState},
		rule{3, "IMI_EN", func(s *scene) { s.g.imiEnabled = true }, snp.StatusInvalidGuestState},
		rule{4, "no ASID", func(s *scene) { s.g.asid = 0 }, snp.StatusInactive},
	)
	for i, f := range faults { // LD, policy, algorithms, keys and signatures
		kind := 10 + i
		rules = append(rules, rule{kind, f.name, func(s *scene) {
			f.do(&FinishParams{IDBlock: s.m[blockAt].Data, IDAuth: s.m[authAt].Data})
		}, f.want})
	}
	ruled(t, CommandLaunchFinish, []snp.Status{snp.StatusInvalidGuest, snp.StatusInvalidGuestState, snp.StatusInactive, snp.StatusBadMeasurement,
		snp.StatusPolicyFailure, snp.StatusBadSignature}, build, rules, nil)

	// What was passed is what counts: HOST_DATA, VCEK_DIS, and no ID block.
	s := build(t)
	copy(s.buf[0x20:], "host data, 32 bytes of it, given")
	s.buf[0x18] = 4 // VCEK_DIS
	s.m[blockAt].Data[0] ^= 1
	must(t, s.do(CommandLaunchFinish, s.buf))
	if string(s.g.hostData[:]) != "host data, 32 bytes of it, given" || !s.g.vcekDisabled || s.g.authorKeyEnabled || s.g.idKey != (snp.KeyDigest{}) {
		t.Errorf("finished as %+v", s.g.context)
	}
}

func TestGCTXCreateRules(t *testing.T) {
	build := func(t testing.TB) *scene {
		s := newScene(t, nil)
		s.page(agentAt, PageFirmware).Data[100] = 1
		s.buf = le.AppendUint64(nil, agentAt)
		return s
	}
	ruled(t, CommandGCTXCreate, []snp.Status{snp.StatusInvalidPageState}, build, []rule{
		{0, "GCTX_PADDR is not aligned", flag(0, 1), snp.StatusInvalidParam},
		{1, "the platform is not in SNP-INIT", func(s *scene) { s.p.Shutdown() }, snp.StatusInvalidPlatformState},
		{2, "the page is the hypervisor's", func(s *scene) { s.m[agentAt].State = PageHypervisor }, snp.StatusInvalidPageState},
		{2, "the page is a context", func(s *scene) { s.m[agentAt].State = PageContext }, snp.StatusInvalidPageState},
		{2, "there is no such page", func(s *scene) { delete(s.m, agentAt) }, snp.StatusInvalidPageState},
	}, nil)
	s := build(t)
	must(t, s.do(CommandGCTXCreate, s.buf))
	if p := s.m[agentAt]; p.State != PageContext || !zero(p.Data) || p.guest.state != stateInit {
		t.Error("the page is no empty context in INIT")
	}
}

// SNP_DECOMMISSION is allowed in every state and gives the page back.
func TestDecommissionRules(t *testing.T) {
	build := func(t testing.TB) *scene {
		s := newScene(t, nil)
		s.buf = le.AppendUint64(nil, ctxAt)
		return s
	}
	ruled(t, CommandDecommission, []snp.Status{snp.StatusInvalidGuest}, build, asks(), nil)
	for _, state := range []state{stateInit, stateLaunch, stateRunning} {
		s := build(t)
		s.g.state = state
		must(t, s.do(CommandDecommission, s.buf))
		if s.m[ctxAt].State != PageFirmware || s.p.Status().GuestCount != 0 {
			t.Errorf("state %d: the page is not the firmware's again, or %d guests are left", state, s.p.Status().GuestCount)
		}
		if st := s.do(CommandDecommission, s.buf); st != snp.StatusInvalidGuest {
			t.Errorf("state %d: twice: %s", state, st)
		}
	}
}

func TestGuestRequestRules(t *testing.T) {
	build := func(t testing.TB) *scene {
		s := newScene(t, nil)
		must(t, s.do(CommandLaunchStart, startBuffer(ctxAt, snp.PolicyDefault)))
		must(t, s.do(CommandActivate, activateBuffer(ctxAt, 5)))
		must(t, s.g.LaunchFinish(FinishParams{}))
		s.page(responseAt, PageFirmware)
		copy(s.page(requestAt, PageHypervisor).Data, seal(s.g, 1, 1, MsgReportRequest, 1, reportRequest(snp.ReportData{}, 3, 0)))
		s.buf = make([]byte, 24)
		le.PutUint64(s.buf, ctxAt)
		le.PutUint64(s.buf[0x08:], requestAt)
		le.PutUint64(s.buf[0x10:], responseAt)
		return s
	}
	header := func(at int, to byte) func(*scene) { return func(s *scene) { s.m[requestAt].Data[at] = to } }
	// again encrypts the request once more, after a change.
	again := func(seqno uint64, typ, version uint8) func(*scene) {
		return func(s *scene) {
			copy(s.m[requestAt].Data, seal(s.g, 1, seqno, typ, version, reportRequest(snp.ReportData{}, 3, 0)))
		}
	}
	ruled(t, CommandGuestRequest, []snp.Status{snp.StatusInvalidGuest, snp.StatusInvalidGuestState, snp.StatusInvalidPageState,
		snp.StatusBadMeasurement, snp.StatusAEADOverflow}, build, append(asks(),
		rule{0, "REQ_PADDR is not aligned", flag(0x08, 1), snp.StatusInvalidParam},
		rule{0, "RES_PADDR is not aligned", flag(0x10, 1), snp.StatusInvalidParam},
		rule{3, "LAUNCH", func(s *scene) { s.g.state = stateLaunch }, snp.StatusInvalidGuestState},
		rule{4, "the response's page is the hypervisor's", func(s *scene) { s.m[responseAt].State = PageHypervisor }, snp.StatusInvalidPageState},
		rule{5, "ALGO 2", header(0x30, 2), snp.StatusInvalidParam},
		rule{5, "HDR_VERSION 2", header(0x31, 2), snp.StatusInvalidParam},
		rule{5, "HDR_SIZE 0x61", header(0x32, 0x61), snp.StatusInvalidParam},
		rule{5, "MSG_SIZE 0", header(0x36, 0), snp.StatusInvalidParam},
		rule{5, "MSG_SIZE is no multiple of 16", header(0x36, 97), snp.StatusInvalidParam},
		rule{5, "MSG_SIZE goes beyond the page", header(0x37, 0x10), snp.StatusInvalidParam},
		rule{5, "VMPCK 4", header(0x3C, 4), snp.StatusInvalidParam},
		rule{6, "another VMPCK", header(0x3C, 2), snp.StatusBadMeasurement},
		rule{6, "a changed payload", func(s *scene) { s.m[requestAt].Data[0x60] ^= 1 }, snp.StatusBadMeasurement},
		rule{6, "a changed tag", func(s *scene) { s.m[requestAt].Data[15] ^= 1 }, snp.StatusBadMeasurement},
		rule{6, "a changed type", func(s *scene) { s.m[requestAt].Data[0x34] ^= 2 }, snp.StatusBadMeasurement},
		rule{6, "a changed sequence number", func(s *scene) { s.m[requestAt].Data[0x20] ^= 4 }, snp.StatusBadMeasurement},
		rule{7, "a sequence number that is due later", again(3, MsgReportRequest, 1), snp.StatusAEADOverflow},
		rule{7, "sequence number 0", again(0, MsgReportRequest, 1), snp.StatusAEADOverflow},
		rule{7, "the last sequence number", func(s *scene) {
			s.g.counters[1] = 1<<64 - 2
			again(1<<64-1, MsgReportRequest, 1)(s)
		}, snp.StatusAEADOverflow},
		rule{8, "message type 7", again(1, 7, 1), snp.StatusInvalidParam},
		rule{8, "message version 9", again(1, MsgReportRequest, 9), snp.StatusInvalidParam},
	), func(a, b rule) bool {
		// Each of these encrypts the request anew, which undoes the other: they are
		// broken together below.
		return a.kind == 7 && b.kind == 8
	})
	for _, typ := range []uint8{7, MsgReportRequest} {
		s := build(t)
		again(3, typ, 9)(s)
		if st := s.do(CommandGuestRequest, s.buf); st != snp.StatusAEADOverflow {
			t.Errorf("wrong number and message type %d version 9: %s, want AEAD_OFLOW", typ, st)
		}
	}
}

// Commands that there are not, and buffers that are too short.
func TestNoSuchCommand(t *testing.T) {
	s := newScene(t, nil)
	for _, c := range []Command{0, 0x92, 0xA3, 0xFFFFFFFF} {
		if st := s.do(c, make([]byte, 64)); st != snp.StatusInvalidCommand {
			t.Errorf("command %#x: %s", uint32(c), st)
		}
	}
	for c, n := range commandSizes {
		if st := s.do(c, make([]byte, n-1)); st != snp.StatusInvalidParam {
			t.Errorf("command %#x with a short buffer: %s", uint32(c), st)
		}
	}
}

// A page of 2 MiB is measured as its 512 pages of 4 KiB.
func TestLargePage(t *testing.T) {
	s := updateScene(t)
	s.large(3 * LargePageSize)
	for i := range s.target().Data {
		s.target().Data[i] = byte(i >> 12)
	}
	data := slices.Clone(s.target().Data)
	must(t, s.do(CommandLaunchUpdate, s.buf))
	if s.target().State != PageGuest {
		t.Error("the page is not the guest's")
	}
	small := launching(t, s.p)
	for at := 0; at < LargePageSize; at += snp.PageSize {
		must(t, small.LaunchUpdate(snp.PageNormal, 0xFFC00000+uint64(at), data[at:at+snp.PageSize]))
	}
	if s.g.LaunchDigest() != small.LaunchDigest() || len(s.g.Updates()) != 512 {
		t.Errorf("%d updates, LD %s, want 512 and %s", len(s.g.Updates()), s.g.LaunchDigest(), small.LaunchDigest())
	}
	// ZERO and UNMEASURED may be large too.
	for _, typ := range []snp.PageType{snp.PageZero, snp.PageUnmeasured} {
		s := updateScene(t)
		s.large(3 * LargePageSize)
		s.setType(typ)
		must(t, s.do(CommandLaunchUpdate, s.buf))
	}
}

// VMPL permissions and IMI_PAGE are measured, and IMI pages in the image's digest
// too: PAGE_INFO by its layout.
func TestPermissionsAreMeasured(t *testing.T) {
	digest := func(change func(*scene)) (ld, imd snp.LaunchDigest) {
		s := updateScene(t)
		change(s)
		must(t, s.do(CommandLaunchUpdate, s.buf))
		return s.g.ld, s.g.imd
	}
	none, imd := digest(func(*scene) {})
	if imd != (snp.LaunchDigest{}) {
		t.Error("without IMI_EN the migration image has a digest")
	}
	seen := map[snp.LaunchDigest]string{none: "nothing"}
	for name, change := range map[string]func(*scene){
		"VMPL1": flag(0x19, 1), "VMPL2": flag(0x1A, 1), "VMPL3": flag(0x1B, 1), "VMPL3 write": flag(0x1B, 2), "IMI_PAGE": flag(8, 0x10),
	} {
		ld, _ := digest(change)
		if other, have := seen[ld]; have {
			t.Errorf("%s and %s give one digest", name, other)
		}
		seen[ld] = name
	}
	if ld, imd := digest(func(s *scene) { s.g.imiEnabled = true; s.buf[8] |= 0x10 }); imd == (snp.LaunchDigest{}) || imd != ld {
		t.Error("the first page of a migration image is not in its digest")
	}
}

// FuzzCommand gives any command any buffer in a machine with a page of each kind:
// it never panics, and what is refused changes no page.
func FuzzCommand(f *testing.F) {
	f.Add(uint32(CommandLaunchUpdate), updateBuffer(snp.PageNormal, pageAt))
	f.Add(uint32(CommandLaunchUpdate), updateBuffer(snp.PageCPUID, pageAt))
	f.Add(uint32(CommandLaunchStart), startBuffer(agentAt, snp.PolicyDefault))
	f.Add(uint32(CommandActivate), activateBuffer(ctxAt, 7))
	f.Add(uint32(CommandDecommission), le.AppendUint64(nil, ctxAt))
	f.Add(uint32(CommandGCTXCreate), le.AppendUint64(nil, responseAt))
	finish := make([]byte, 64)
	le.PutUint64(finish, ctxAt)
	le.PutUint64(finish[8:], blockAt+0xFE0)
	le.PutUint64(finish[16:], authAt+8)
	finish[0x18] = 1
	f.Add(uint32(CommandLaunchFinish), finish)
	request := make([]byte, 24)
	le.PutUint64(request, ctxAt)
	le.PutUint64(request[8:], requestAt)
	le.PutUint64(request[16:], responseAt)
	f.Add(uint32(CommandGuestRequest), request)
	fresh(f, nil) // made before the clock of an input runs
	f.Fuzz(func(t *testing.T, c uint32, buf []byte) {
		s := newScene(t, nil)
		must(t, s.do(CommandLaunchStart, startBuffer(ctxAt, snp.PolicyDefault)))
		must(t, s.do(CommandActivate, activateBuffer(ctxAt, 5)))
		s.context(t, agentAt)
		guest := s.page(pageAt, PagePreGuest)
		guest.ASID = 5
		for _, at := range []uint64{blockAt, authAt, requestAt} {
			s.page(at, PageHypervisor)
		}
		s.page(responseAt, PageFirmware)
		states := func() (out [9]PageState) {
			for i, at := range []uint64{ctxAt, agentAt, pageAt, blockAt, authAt, requestAt, responseAt} {
				out[i] = s.m[at].State
			}
			return out
		}
		before, start := states(), s.g.context
		if st := s.do(Command(c), buf); st != snp.StatusSuccess && (states() != before || s.g.context != start) {
			t.Fatalf("%s changed the machine", st)
		}
	})
}
