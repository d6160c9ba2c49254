package replay_test

import (
	"crypto/sha512"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/diagnose/replay"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

var roots = sync.OnceValues(func() (*psp.CA, error) {
	dir, err := os.MkdirTemp("", "snplaunch-replay-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return psp.LoadOrCreateCA(dir, nil)
})

func host(t *testing.T, faults ...string) func(func(kvm.Event)) *kvm.Host {
	t.Helper()
	ca, err := roots()
	if err != nil {
		t.Fatal(err)
	}
	p, err := psp.New(psp.DefaultConfig(), ca)
	if err != nil {
		t.Fatal(err)
	}
	var o kvm.Options
	for _, s := range faults {
		f, err := kvm.ParseFault(s)
		if err != nil {
			t.Fatal(err)
		}
		o.Faults = append(o.Faults, f)
	}
	return func(observe func(kvm.Event)) *kvm.Host {
		o.Observe = observe
		return kvm.NewHost(p, o)
	}
}

// launch is a small launch: one page of contents, one of zeros, one vCPU.
func launch() (*record.File, *record.Launch) {
	next := func() *record.Result { return &record.Result{From: record.FromNextCall} }
	contents := snp.ContentDigest(sha512.Sum384([]byte("whatever it was")))
	f := &record.File{Source: record.SourceKernel, Pages: map[snp.ContentDigest][]byte{}, Launches: []record.Launch{{
		VMType: record.VMTypeSNP,
		Calls: []record.Call{
			{With: &record.Init{}, Result: next()},
			{With: &record.Start{Policy: snp.PolicyDefault}, Result: next()},
			{With: &record.CreateMemfd{Size: 1 << 20}},
			{With: &record.CreateVCPU{}},
			{With: &record.SetSlot{Slot: 1, Flags: 4, Size: 1 << 20, Memfd: 1}},
			{With: &record.SetAttributes{Size: 1 << 20, Attributes: 8}},
			{With: &record.Update{Type: snp.PageNormal, GPA: 0x1000, Length: snp.PageSize, Contents: []snp.ContentDigest{contents}}, Result: next()},
			{With: &record.Update{Type: snp.PageZero, GPA: 0x2000, Length: 2 * snp.PageSize}, Result: next()},
			{With: &record.Finish{}, Result: next()},
		},
		VCPUs: []record.VCPU{{Sets: []record.RegisterSet{{Call: "KVM_SET_REGS", Data: make([]byte, 144)}}}},
	}}}
	return f, &f.Launches[0]
}

func TestLaunch(t *testing.T) {
	f, l := launch()
	r, err := replay.Launch(f, l, host(t))
	if err != nil {
		t.Fatal(err)
	}
	if r.Command != "SNP_LAUNCH_FINISH" || r.Errno != 0 || r.LaunchDigest == nil || len(r.Different)+len(r.Unchecked) != 0 || len(r.Launch.VMSAs) != 1 || len(r.Launch.Updates) != 4 {
		t.Errorf("%+v", r)
	}
}

// What comes out otherwise than recorded is said, each in a sentence.
func TestDifferences(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*record.File, *record.Launch)
		faults []string
		want   string
	}{
		{"a fault", nil, []string{"SNP_LAUNCH_FINISH=BAD_SIGNATURE"}, "SNP_LAUNCH_FINISH  (call 9): here it failed with errno 5, fw_error 10 (as the software host says); the record says that it succeeded"},
		{"a failure that does not happen here", func(_ *record.File, l *record.Launch) {
			l.Calls[8].Result = &record.Result{Errno: 5, FWError: 11, From: record.FromStderr}
		}, nil, "here it succeeded"},
		{"another digest", func(_ *record.File, l *record.Launch) { l.Host = &record.Host{LaunchDigest: &snp.LaunchDigest{1}} }, nil, "the launch digest is"},
		{"an ID block over another digest", func(_ *record.File, l *record.Launch) {
			b := snp.IDBlock{LD: snp.LaunchDigest{2}}
			raw := b.Bytes()
			l.Calls[8].With = &record.Finish{IDBlock: raw[:]} // not enabled, so that it is not looked at here
		}, nil, "accepted an ID block over 02"},
		{"a slot that is refused here", func(_ *record.File, l *record.Launch) { l.Calls[4].With.(*record.SetSlot).Flags = 1 << 20 }, nil, "slot 1 0x0: errno 22"},
		{"a page that is not private", func(_ *record.File, l *record.Launch) { l.Calls[5].With.(*record.SetAttributes).Attributes = 0 }, nil, "SNP_LAUNCH_UPDATE NORMAL 0x1000 (call 7): here it failed with errno 5, fw_error 0"},
	} {
		f, l := launch()
		if c.change != nil {
			c.change(f, l)
		}
		r, err := replay.Launch(f, l, host(t, c.faults...))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !strings.Contains(strings.Join(r.Different, "\n"), c.want) {
			t.Errorf("%s: %q, want %q", c.name, r.Different, c.want)
		}
	}
}

// What a record lacks is said, or it is refused.
func TestWhatIsMissing(t *testing.T) {
	f, l := launch()
	l.Calls[7].With = &record.Update{Type: snp.PageCPUID, GPA: 0x2000, Length: snp.PageSize, Contents: []snp.ContentDigest{{3}}}
	r, err := replay.Launch(f, l, host(t))
	if err != nil || len(r.Unchecked) != 1 || !strings.Contains(r.Unchecked[0], "CPUID page") || len(r.Different) != 0 {
		t.Errorf("%v, %+v", err, r)
	}
	f, l = launch()
	l.Calls[6].With.(*record.Update).Contents = nil
	if _, err := replay.Launch(f, l, host(t)); err == nil || !strings.Contains(err.Error(), "not even their digests") {
		t.Errorf("no contents: %v", err)
	}
	f, l = launch()
	f.Source = record.SourceTrace
	if _, err := replay.Launch(f, l, host(t)); !errors.Is(err, replay.ErrNoRegisters) {
		t.Errorf("a trace: %v", err)
	}
	if _, err := replay.Launch(f, &record.Launch{VMType: 4}, host(t)); !errors.Is(err, replay.ErrNoLaunch) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := replay.Launch(f, &record.Launch{}, host(t)); err == nil || !strings.Contains(err.Error(), "no SNP guest") {
		t.Errorf("another VM: %v", err)
	}
}

// Whatever a record holds, replaying it ends, and in no panic.
func FuzzLaunch(f *testing.F) {
	if _, err := roots(); err != nil { // made here: a worker that took seconds for one input would be ended
		f.Fatal(err)
	}
	f.Add(uint64(0x1000), uint64(4096), uint8(1), uint64(1<<20), uint32(1), uint64(8))
	f.Add(uint64(1)<<63, uint64(1)<<40, uint8(6), uint64(0), uint32(0xffff0001), uint64(0))
	f.Fuzz(func(t *testing.T, gpa, length uint64, typ uint8, size uint64, slot uint32, attributes uint64) {
		file, l := launch()
		l.Calls[2].With = &record.CreateMemfd{Size: record.Hex(size)}
		l.Calls[4].With = &record.SetSlot{Slot: slot, Flags: 4, Size: record.Hex(size), Memfd: 1}
		l.Calls[5].With = &record.SetAttributes{Size: record.Hex(size), Attributes: record.Hex(attributes)}
		l.Calls[6].With = &record.Update{Type: snp.PageType(typ), GPA: gpa, Length: length, Contents: make([]snp.ContentDigest, 1)}
		_, _ = replay.Launch(file, l, host(t))
	})
}
