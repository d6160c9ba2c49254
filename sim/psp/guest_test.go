package psp

import (
	"bytes"
	"encoding/binary"
	"maps"
	"reflect"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

func page() []byte { return make([]byte, snp.PageSize) }

func TestLaunchStart(t *testing.T) {
	const ok = snp.PolicyDefault
	newer := func(c *Config) { c.FirmwareVersion = snp.FirmwareVersion{Major: 2, Minor: 1} }
	for _, c := range []struct {
		name   string
		change func(*Config)
		policy snp.GuestPolicy
		want   snp.Status
	}{
		{"default", nil, ok, snp.StatusSuccess},
		{"QEMU's default as a number", nil, 0x30000, snp.StatusSuccess},
		{"everything allowed", nil, ok | snp.PolicyMigrateMA | snp.PolicyDebug | snp.PolicySingleSocket, snp.StatusSuccess},
		{"bit 17 clear", nil, snp.PolicySMT, snp.StatusPolicyFailure},
		{"SMT forbidden but on", nil, snp.PolicyReservedOne, snp.StatusPolicyFailure},
		{"SMT forbidden and off", func(c *Config) { c.SMTEnabled = false }, snp.PolicyReservedOne, snp.StatusSuccess},
		{"firmware's own ABI", nil, ok | 1<<8 | 55, snp.StatusSuccess},
		{"newer minor", nil, ok | 1<<8 | 56, snp.StatusPolicyFailure},
		{"newer major", nil, ok | 2<<8, snp.StatusPolicyFailure},
		{"older major with a higher minor", newer, ok | 1<<8 | 200, snp.StatusSuccess},
		{"newer minor of that major", newer, ok | 2<<8 | 2, snp.StatusPolicyFailure},
		{"CXL_ALLOW", nil, ok | snp.PolicyCXLAllow, snp.StatusPolicyFailure},
		{"MEM_AES_256_XTS", nil, ok | snp.PolicyMemAES256XTS, snp.StatusPolicyFailure},
		{"RAPL_DIS", nil, ok | snp.PolicyRAPLDis, snp.StatusPolicyFailure},
		{"CIPHERTEXT_HIDING_DRAM", nil, ok | snp.PolicyCiphertextHidingDRAM, snp.StatusPolicyFailure},
		{"PAGE_SWAP_DISABLE", nil, ok | snp.PolicyPageSwapDisable, snp.StatusPolicyFailure},
		{"bit 26", nil, ok | 1<<26, snp.StatusPolicyFailure},
		{"bit 63", nil, ok | 1<<63, snp.StatusPolicyFailure},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := platform(t, c.change).CreateContext()
			if st := g.LaunchStart(c.policy, [16]byte{}); st != c.want {
				t.Fatalf("%s: got %s, want %s", c.policy.Describe(), st, c.want)
			}
			if c.want == snp.StatusSuccess {
				if g.Policy() != c.policy {
					t.Errorf("Policy is %s, want %s", g.Policy(), c.policy)
				}
				return
			}
			if st := g.Activate(1); st != snp.StatusInvalidGuestState {
				t.Errorf("after a refused start, ACTIVATE gives %s", st)
			}
			must(t, g.LaunchStart(snp.PolicyDefault|snp.PolicyReservedOne, [16]byte{}))
		})
	}
}

// Every command in every state in which it is refused.
func TestStates(t *testing.T) {
	p := platform(t, nil)
	states := map[string]func() *Guest{
		"INIT": p.CreateContext,
		"LAUNCH, no ASID": func() *Guest {
			g := p.CreateContext()
			must(t, g.LaunchStart(snp.PolicyDefault, [16]byte{}))
			return g
		},
		"LAUNCH":         func() *Guest { return launching(t, p) },
		"RUNNING":        func() *Guest { return running(t, p) },
		"decommissioned": func() *Guest { g := running(t, p); g.Decommission(); return g },
	}
	commands := map[string]func(*Guest) snp.Status{
		"START":    func(g *Guest) snp.Status { return g.LaunchStart(snp.PolicyDefault, [16]byte{}) },
		"ACTIVATE": func(g *Guest) snp.Status { return g.Activate(999) },
		"UPDATE":   func(g *Guest) snp.Status { return g.LaunchUpdate(snp.PageNormal, 0, page()) },
		"FINISH":   func(g *Guest) snp.Status { return g.LaunchFinish(FinishParams{}) },
		"REQUEST": func(g *Guest) snp.Status {
			_, _, st := g.GuestRequest(MsgReportRequest, 1, make([]byte, 96))
			return st
		},
	}
	const good, state, gone = snp.StatusSuccess, snp.StatusInvalidGuestState, snp.StatusInvalidGuest
	want := map[string]map[string]snp.Status{
		"INIT":            {"START": good, "ACTIVATE": state, "UPDATE": state, "FINISH": state, "REQUEST": state},
		"LAUNCH, no ASID": {"START": state, "ACTIVATE": good, "UPDATE": snp.StatusInactive, "FINISH": snp.StatusInactive, "REQUEST": state},
		"LAUNCH":          {"START": state, "ACTIVATE": snp.StatusActive, "UPDATE": good, "FINISH": good, "REQUEST": state},
		"RUNNING":         {"START": state, "ACTIVATE": snp.StatusActive, "UPDATE": state, "FINISH": state, "REQUEST": good},
		"decommissioned":  {"START": gone, "ACTIVATE": gone, "UPDATE": gone, "FINISH": gone, "REQUEST": gone},
	}
	for s, build := range states {
		for c, do := range commands {
			g := build()
			if got := do(g); got != want[s][c] {
				t.Errorf("%s in %s: got %s, want %s", c, s, got, want[s][c])
			}
			g.Decommission()
			p.DFFlush()
		}
	}
	if n := p.Status().GuestCount; n != 0 {
		t.Errorf("%d guests are left", n)
	}
}

func TestActivate(t *testing.T) {
	p := platform(t, func(c *Config) { c.MaxASID, c.Sockets = 5, 2 })
	start := func(policy snp.GuestPolicy) *Guest {
		g := p.CreateContext()
		must(t, g.LaunchStart(policy, [16]byte{}))
		return g
	}
	a, b := start(snp.PolicyDefault), start(snp.PolicyDefault)
	single := start(snp.PolicyDefault | snp.PolicySingleSocket)
	for _, c := range []struct {
		name string
		g    *Guest
		asid uint32
		want snp.Status
	}{
		{"zero", a, 0, snp.StatusInvalidASID},
		{"too high", a, 6, snp.StatusInvalidASID},
		{"highest", a, 5, snp.StatusSuccess},
		{"again", a, 5, snp.StatusActive},
		{"a second one", a, 4, snp.StatusActive},
		{"owned", b, 5, snp.StatusASIDOwned},
		{"free", b, 4, snp.StatusSuccess},
		{"SINGLE_SOCKET on two sockets comes before the ASID", single, 0, snp.StatusPolicyFailure},
	} {
		if st := c.g.Activate(c.asid); st != c.want {
			t.Errorf("%s: got %s, want %s", c.name, st, c.want)
		}
	}
	// What a guest leaves can be had after a flush.
	must(t, a.Decommission())
	next := start(snp.PolicyDefault)
	if st := next.Activate(5); st != snp.StatusDFFlushRequired {
		t.Errorf("an ASID that was left, before DF_FLUSH: %s", st)
	}
	p.DFFlush()
	must(t, next.Activate(5))

	one := platform(t, nil)
	g := one.CreateContext()
	must(t, g.LaunchStart(snp.PolicyDefault|snp.PolicySingleSocket, [16]byte{}))
	must(t, g.Activate(1<<31))
}

func TestLaunchUpdateRefusals(t *testing.T) {
	p := platform(t, nil)
	for _, c := range []struct {
		name string
		typ  snp.PageType
		page []byte
		want snp.Status
	}{
		{"type 0", 0, page(), snp.StatusInvalidParam},
		{"type 7", 7, page(), snp.StatusInvalidParam},
		{"short page", snp.PageNormal, make([]byte, 4095), snp.StatusInvalidPageSize},
		{"2 MiB page", snp.PageNormal, make([]byte, 2<<20), snp.StatusInvalidPageSize},
		{"no page", snp.PageZero, nil, snp.StatusInvalidPageSize},
	} {
		g := launching(t, p)
		if st := g.LaunchUpdate(c.typ, 0, c.page); st != c.want {
			t.Errorf("%s: got %s, want %s", c.name, st, c.want)
		}
		if g.LaunchDigest() != (snp.LaunchDigest{}) || len(g.Updates()) != 0 {
			t.Errorf("%s: it was measured", c.name)
		}
	}
	// A bad type is told before a bad state.
	if st := p.CreateContext().LaunchUpdate(7, 0, page()); st != snp.StatusInvalidParam {
		t.Errorf("bad type in INIT: %s", st)
	}
}

// Checkpoint and restore leave nothing of a command, whichever it was.
func TestCheckpoint(t *testing.T) {
	p := platform(t, nil)
	type shot struct {
		c       context
		updates []snp.Update
		guests  int
		asids   map[uint32]*Guest
		dirty   map[uint32]bool
	}
	look := func(g *Guest) shot {
		s := shot{c: g.context, updates: append([]snp.Update{}, g.Updates()...), guests: p.Status().GuestCount, asids: map[uint32]*Guest{}, dirty: maps.Clone(p.dirty)}
		for k, v := range p.asids {
			s.asids[k] = v
		}
		return s
	}
	started := func() *Guest {
		g := p.CreateContext()
		must(t, g.LaunchStart(snp.PolicyDefault, [16]byte{}))
		return g
	}
	for _, c := range []struct {
		name  string
		build func() *Guest
		do    func(*Guest)
	}{
		{"START", p.CreateContext, func(g *Guest) { must(t, g.LaunchStart(snp.PolicyDefault, [16]byte{1})) }},
		{"ACTIVATE", started, func(g *Guest) { must(t, g.Activate(77)) }},
		{"UPDATE", func() *Guest { return launching(t, p) }, func(g *Guest) { must(t, g.LaunchUpdate(snp.PageNormal, 0x1000, page())) }},
		{"three UPDATEs", func() *Guest { return launching(t, p) }, func(g *Guest) {
			must(t, g.LaunchUpdate(snp.PageSecrets, 0x1000, page()))
			must(t, g.LaunchUpdate(snp.PageCPUID, 0x2000, page()))
			must(t, g.LaunchUpdate(snp.PageVMSA, snp.VMSAGPA, page()))
		}},
		{"FINISH", func() *Guest { return launching(t, p) }, func(g *Guest) {
			must(t, g.LaunchFinish(FinishParams{HostData: snp.HostData{1}, VCEKDisabled: true, AuthorKeyEnabled: true}))
		}},
		{"DECOMMISSION", func() *Guest { return running(t, p) }, func(g *Guest) { must(t, g.Decommission()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := c.build()
			before := look(g)
			restore := g.Checkpoint()
			c.do(g)
			if reflect.DeepEqual(look(g), before) {
				t.Fatal("the command changed nothing; this test shows nothing")
			}
			restore()
			if after := look(g); !reflect.DeepEqual(after, before) {
				t.Errorf("not as before:\n%+v\n%+v", after, before)
			}
			c.do(g) // and it can be done again
			g.Decommission()
			p.DFFlush()
		})
	}
}

// What Updates gave out stays as it was when the launch is rolled back and goes
// another way.
func TestUpdatesAreNotOverwritten(t *testing.T) {
	g := launching(t, platform(t, nil))
	for i := range uint64(20) { // so that the list has room to spare
		must(t, g.LaunchUpdate(snp.PageNormal, i*snp.PageSize, page()))
	}
	restore := g.Checkpoint()
	must(t, g.LaunchUpdate(snp.PageZero, 0xAAAA000, page()))
	seen := g.Updates()
	want := seen[20]
	restore()
	must(t, g.LaunchUpdate(snp.PageNormal, 0xBBBB000, page()))
	if seen[20] != want {
		t.Errorf("an update that was given out turned from %+v into %+v", want, seen[20])
	}
	if got := g.Updates()[20].GPA; got != 0xBBBB000 {
		t.Errorf("the new update is at %#x", got)
	}
}

// The secrets page, field by field as Linux's struct snp_secrets_page has it
// (arch/x86/include/asm/sev.h).
func TestSecretsPage(t *testing.T) {
	p := platform(t, nil)
	g := launching(t, p) // GOSVW 01 00 … 02
	got := bytes.Repeat([]byte{0xEE}, snp.PageSize)
	must(t, g.LaunchUpdate(snp.PageSecrets, 0x80D000, got))
	le := binary.LittleEndian
	if v := le.Uint32(got); v != 3 {
		t.Errorf("version %d, want 3", v)
	}
	if v := le.Uint32(got[4:]); v != 0 {
		t.Errorf("IMI_EN %#x, want 0", v)
	}
	if v := le.Uint32(got[8:]); v != 0xA10F11 {
		t.Errorf("FMS %#x, want 0xA10F11", v)
	}
	if want := append([]byte{1}, append(make([]byte, 14), 2)...); !bytes.Equal(got[0x10:0x20], want) {
		t.Errorf("GOSVW % x, want % x", got[0x10:0x20], want)
	}
	keys := map[string]bool{}
	for _, at := range []int{0x20, 0x40, 0x60, 0x80} {
		key := string(got[at : at+32])
		if key == string(make([]byte, 32)) || keys[key] {
			t.Errorf("VMPCK at %#x is zero or not its own", at)
		}
		keys[key] = true
	}
	if v := le.Uint32(got[0x160:]); v != 200 {
		t.Errorf("TSC_FACTOR %d, want 200", v)
	}
	for i, c := range got {
		known := i < 0x0C || i >= 0x10 && i < 0xA0 || i >= 0x160 && i < 0x164
		if !known && c != 0 {
			t.Fatalf("byte %#x is %#x, want 0", i, c)
		}
	}
	// Another guest has other keys; the digest is the same.
	h := launching(t, p)
	other := page()
	must(t, h.LaunchUpdate(snp.PageSecrets, 0x80D000, other))
	if bytes.Equal(got[0x20:0xA0], other[0x20:0xA0]) {
		t.Error("two guests share their VMPCKs")
	}
	if g.LaunchDigest() != h.LaunchDigest() {
		t.Error("the secrets were measured")
	}
}

func TestSignature(t *testing.T) {
	for want, c := range map[uint32]Config{ // CPUID function 1 EAX of these parts
		0x00A00F11: {Family: 0x19, Model: 0x01, SteppingID: 1}, // Milan B1
		0x00A10F11: {Family: 0x19, Model: 0x11, SteppingID: 1}, // Genoa B1
		0x00B00F21: {Family: 0x1A, Model: 0x02, SteppingID: 1}, // Turin
		0x00800F12: {Family: 0x17, Model: 0x01, SteppingID: 2}, // Naples
	} {
		if got := c.signature(); got != want {
			t.Errorf("family %#x model %#x stepping %d: %#x, want %#x", c.Family, c.Model, c.SteppingID, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	p := platform(t, nil)
	g := p.CreateContext()
	p.CreateContext()
	s := p.Status()
	if s.APIMajor != 1 || s.APIMinor != 55 || s.Build != 25 || s.GuestCount != 2 {
		t.Errorf("%+v, want 1.55.25 and two guests", s)
	}
	g.Decommission()
	g.Decommission()
	if n := p.Status().GuestCount; n != 1 {
		t.Errorf("%d guests, want 1: DECOMMISSION counts once", n)
	}
}
