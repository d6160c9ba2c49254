package kvm

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

func fault(t testing.TB, s string) Fault {
	t.Helper()
	f, err := ParseFault(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// faulty is a machine on which faults happen.
func faulty(t testing.TB, faults ...string) *machine {
	t.Helper()
	m := newMachine(t, typeSNP)
	var fs []Fault
	for _, s := range faults {
		fs = append(fs, fault(t, s))
	}
	m.host.inject = newInjector(fs)
	return m
}

func TestParseFault(t *testing.T) {
	for s, want := range map[string]Fault{
		"SNP_LAUNCH_UPDATE:3=INVALID_PAGE_STATE": {Target: "SNP_LAUNCH_UPDATE", Call: 3, Status: snp.StatusInvalidPageState},
		"snp_launch_update:3=invalid_page_state": {Target: "SNP_LAUNCH_UPDATE", Call: 3, Status: snp.StatusInvalidPageState},
		"SNP_LAUNCH_START=0x1A":                  {Target: "SNP_LAUNCH_START", Status: 0x1A},
		"SNP_LAUNCH_START:*=26":                  {Target: "SNP_LAUNCH_START", Status: 0x1A},
		"INIT2=NO_FW_CALL":                       {Target: "INIT2", Status: -1},
		"SNP_ACTIVATE=0x3C":                      {Target: "SNP_ACTIVATE", Status: 0x3C},
		"GCTX_CREATE=RESOURCE_LIMIT":             {Target: "SNP_GCTX_CREATE", Status: 0x17},
		"PLATFORM_STATUS:1=HWERROR_PLATFORM":     {Target: "PLATFORM_STATUS", Call: 1, Status: 0x13},
		"SNP_LAUNCH_UPDATE:2=EAGAIN":             {Target: "SNP_LAUNCH_UPDATE", Call: 2, Errno: unix.EAGAIN},
		"SNP_LAUNCH_FINISH = delay 200ms":        {Target: "SNP_LAUNCH_FINISH", Delay: 200 * time.Millisecond},
		"SNP_ACTIVATE:1=dead":                    {Target: "SNP_ACTIVATE", Call: 1, Dead: true},
		"SNP_LAUNCH_UPDATE_VMSA:2=INVALID_PARAM": {Target: "SNP_LAUNCH_UPDATE_VMSA", Call: 2, Status: 0x16},
		"KVM_CREATE_VM=EMFILE":                   {Target: "KVM_CREATE_VM", Errno: unix.EMFILE},
		"KVM_RUN:2=EIO":                          {Target: "KVM_RUN", Call: 2, Errno: unix.EIO},
		"/dev/sev=ENOENT":                        {Target: "/dev/sev", Errno: unix.ENOENT},
		"/dev/kvm:2=EACCES":                      {Target: "/dev/kvm", Call: 2, Errno: unix.EACCES},
		"no-sev":                                 {Target: "no-sev"},
		"no-snp-vm-type":                         {Target: "no-snp-vm-type"},
		"no-guest-memfd":                         {Target: "no-guest-memfd"},
	} {
		got, err := ParseFault(s)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", s, got, err, want)
		}
		if again, err := ParseFault(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which reads as %+v, %v", s, got.String(), again, err)
		}
	}
}

// What cannot be meant is told in one sentence that names it.
func TestParseFaultErrors(t *testing.T) {
	for s, want := range map[string]string{
		"":                               "say what fails",
		"=EIO":                           "say what fails",
		"SNP_LAUNCH_UPDAT=EIO":           "did you mean SNP_LAUNCH_UPDATE?",
		"KVM_CREATE_VN=EIO":              "did you mean KVM_CREATE_VM?",
		"no-sve":                         "did you mean no-sev?",
		"/dev/svm=EIO":                   "did you mean /dev/",
		"Gorilla=EIO":                    `"Gorilla" is no command, ioctl, device or lack`,
		"SNP_LAUNCH_UPDATE":              "say after = what happens",
		"SNP_LAUNCH_UPDATE=":             "say after = what happens",
		"SNP_LAUNCH_UPDATE:0=EIO":        `"0" after the colon`,
		"SNP_LAUNCH_UPDATE:-1=EIO":       `"-1" after the colon`,
		"SNP_LAUNCH_UPDATE:=EIO":         `"" after the colon`,
		"SNP_LAUNCH_UPDATE:x=EIO":        `"x" after the colon`,
		"SNP_LAUNCH_UPDATE=INVALID_PARM": "did you mean INVALID_PARAM?",
		"SNP_LAUNCH_UPDATE=EAGAN":        "did you mean EAGAIN?",
		"SNP_LAUNCH_UPDATE=SUCCESS":      "SUCCESS is no fault",
		"SNP_LAUNCH_UPDATE=0":            "SUCCESS is no fault",
		"SNP_LAUNCH_UPDATE=0x10000":      "is no firmware status",
		"SNP_LAUNCH_UPDATE=-2":           "is no firmware status",
		"SNP_LAUNCH_UPDATE=delay":        "is no time",
		"SNP_LAUNCH_UPDATE=delay 5":      "is no time",
		"SNP_LAUNCH_UPDATE=delay -5s":    "is no time",
		"SNP_LAUNCH_UPDATE=delay 101s":   "use dead",
		"KVM_RUN=delay 1s":               "only commands to the firmware can be slow",
		"KVM_RUN=dead":                   "in a command to it only",
		"KVM_RUN=BAD_SIGNATURE":          "KVM_RUN=EINVAL",
		"/dev/sev=7":                     "/dev/sev=EINVAL",
		"no-sev=EIO":                     "stands by itself",
	} {
		f, err := ParseFault(s)
		if err == nil {
			t.Errorf("%q is read as %+v", s, f)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q; want %q in one line", s, err, want)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"SNP_LAUNCH_UPDATE:3=INVALID_PAGE_STATE", "KVM_RUN:*=EIO", "INIT2=-1", "SNP_ACTIVATE=delay 1h", "no-sev", "/dev/sev:07=0x1a", "a:b=c=d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseFault(s)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fault ") {
				t.Errorf("%q: %q does not name the fault", s, err)
			}
			return
		}
		if again, err := ParseFault(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which reads as %+v, %v", s, got.String(), again, err)
		}
	})
}

// No two ioctls have the same number, and one without a name is told by it.
func TestIoctlNames(t *testing.T) {
	if len(ioctlNames) != len(ioctlNumbers) {
		t.Errorf("%d names, %d numbers", len(ioctlNumbers), len(ioctlNames))
	}
	for n, want := range map[uint32]string{nrRun: "KVM_RUN", nrSEVIssueCommand: "SEV_ISSUE_CMD", 0xAE55: "ioctl 0x0000ae55"} {
		if got := ioctlName(n); got != want {
			t.Errorf("%#x is %q, want %q", n, got, want)
		}
	}
}

// launchWith goes through a launch of two pages and one vCPU and gives where it
// ended, with what the caller was told.
func launchWith(m *machine) (stage string, errno unix.Errno, told uint32) {
	m.Helper()
	for _, s := range []struct {
		name string
		do   func() (Answer, uint32)
	}{
		{"INIT2", func() (Answer, uint32) { return m.op(cmdINIT2, m.put(initParams(0, 0, 0))) }},
		{"START", func() (Answer, uint32) { return m.op(cmdSTART, m.put(startParams(0x30000, 0))) }},
		{"memory", func() (Answer, uint32) { m.memory16M(); m.vcpu(0); return ok(), 0 }},
		{"UPDATE 1", func() (Answer, uint32) {
			a, fw, _ := m.update(0x800, m.put(pattern(pageSize)), pageSize, 1, 0)
			return a, fw
		}},
		{"UPDATE 2", func() (Answer, uint32) { a, fw, _ := m.update(0x801, 0, pageSize, 3, 0); return a, fw }},
		{"FINISH", func() (Answer, uint32) { return m.finish(finish{}) }},
	} {
		if a, fw := s.do(); a.Errno != 0 {
			return s.name, a.Errno, fw
		}
	}
	return "", 0, 0
}

// What the kernel makes of a command that the firmware refuses or does not
// answer, command by command (Linux 6.12 arch/x86/kvm/svm/sev.c).
func TestFaultsInCommands(t *testing.T) {
	for _, c := range []struct {
		fault string
		stage string
		errno unix.Errno
		told  uint32
	}{
		{"INIT2=HWERROR_PLATFORM", "INIT2", unix.EIO, 0x13},
		{"INIT2=NO_FW_CALL", "INIT2", unix.EIO, 0xFFFFFFFF},
		{"INIT2=EBUSY", "INIT2", unix.EBUSY, 0},
		{"GCTX_CREATE=RESOURCE_LIMIT", "START", unix.ENOTTY, 0x17}, // whatever it was
		{"GCTX_CREATE=ENOMEM", "START", unix.ENOMEM, stale},
		{"SNP_LAUNCH_START=POLICY_FAILURE", "START", unix.EIO, 7},
		{"SNP_LAUNCH_START=EAGAIN", "START", unix.EAGAIN, 0}, // SNP_GCTX_CREATE has told its success
		{"SNP_ACTIVATE=DFFLUSH_REQUIRED", "START", unix.EIO, 0xF},
		{"SNP_LAUNCH_UPDATE:1=INVALID_PAGE_STATE", "UPDATE 1", unix.EIO, 0x1A},
		{"SNP_LAUNCH_UPDATE:2=INVALID_PAGE_STATE", "UPDATE 2", unix.EIO, 0x1A},
		{"SNP_LAUNCH_UPDATE:2=0x3C", "UPDATE 2", unix.EIO, 0x3C},
		{"SNP_LAUNCH_UPDATE:2=EAGAIN", "UPDATE 2", unix.EAGAIN, stale},
		{"SNP_LAUNCH_UPDATE_VMSA=INVALID_PARAM", "FINISH", unix.EIO, 0x16},
		{"SNP_LAUNCH_FINISH=BAD_MEASUREMENT", "FINISH", unix.EIO, 0xB},
		{"SNP_LAUNCH_FINISH:1=EINTR", "FINISH", unix.EINTR, 0}, // the save area has been taken
		{"SNP_LAUNCH_UPDATE:3=INVALID_PAGE_STATE", "", 0, 0},   // there are two
		{"SNP_LAUNCH_UPDATE=delay 1ms", "", 0, 0},
		{"INIT2=dead", "INIT2", unix.ETIMEDOUT, 0},
		{"GCTX_CREATE=dead", "START", unix.ENOTTY, 0},
		{"SNP_LAUNCH_START=dead", "START", unix.ETIMEDOUT, 0},
		{"SNP_ACTIVATE=dead", "START", unix.ETIMEDOUT, 0},
		{"SNP_LAUNCH_UPDATE:2=dead", "UPDATE 2", unix.EIO, 0},
		{"SNP_LAUNCH_UPDATE_VMSA=dead", "FINISH", unix.ETIMEDOUT, 0},
		{"SNP_LAUNCH_FINISH=dead", "FINISH", unix.ETIMEDOUT, 0},
		{"no-sev", "INIT2", unix.ENOTTY, stale},
		{"KVM_MEMORY_ENCRYPT_OP:2=EBADF", "START", unix.EBADF, stale},
	} {
		t.Run(c.fault, func(t *testing.T) {
			m := newMachine(t, typeSNP) // made before, as no-sev has no such VM
			m.host.inject = newInjector([]Fault{fault(t, c.fault)})
			stage, errno, told := launchWith(m)
			if stage != c.stage || errno != c.errno || told != c.told {
				t.Errorf("%s gives %s, error %#x; want %s, %s, %#x", stage, errnoName(errno), told, c.stage, errnoName(c.errno), c.told)
			}
			if c.stage != "" && c.fault != "no-sev" && !strings.HasPrefix(c.fault, "KVM_") {
				e := m.events[len(m.events)-1]
				if e.Errno != int(c.errno) {
					t.Errorf("observed %+v", e)
				}
			}
		})
	}
}

// EAGAIN takes nothing in: QEMU makes the call again, and the digest is that of
// an undisturbed launch.
func TestRetriesDoNotMeasureTwice(t *testing.T) {
	plain := newMachine(t, typeSNP)
	if stage, e, _ := launchWith(plain); stage != "" {
		t.Fatalf("%s: %s", stage, errnoName(e))
	}
	m := faulty(t, "SNP_LAUNCH_UPDATE:1=EAGAIN", "SNP_LAUNCH_UPDATE:2=EAGAIN", "SNP_LAUNCH_UPDATE:4=INVALID_PAGE_OWNER", "SNP_LAUNCH_FINISH:1=BAD_SIGNATURE")
	m.start()
	m.memory16M()
	m.vcpu(0)
	normal, zero := updateParams(0x800, m.put(pattern(pageSize)), pageSize, 1, 0), updateParams(0x801, 0, pageSize, 3, 0)
	var got []unix.Errno
	for _, params := range [][]byte{normal, normal, normal, zero, zero} {
		a, _ := m.op(cmdUPDATE, m.put(params))
		got = append(got, a.Errno)
	}
	want := []unix.Errno{unix.EAGAIN, unix.EAGAIN, 0, unix.EIO, 0}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("call %d gives %s, want %s", i+1, errnoName(got[i]), errnoName(want[i]))
		}
	}
	// The save area has been taken when the firmware refuses to finish, so that
	// a second KVM_SEV_SNP_LAUNCH_FINISH cannot succeed on a real host either.
	if a, fw := m.finish(finish{}); a.Errno != unix.EIO || fw != 0xA {
		t.Errorf("FINISH: %s, %#x", errnoName(a.Errno), fw)
	}
	if m.digest() != plain.digest() {
		t.Errorf("digest %s, without faults %s", m.digest(), plain.digest())
	}
}

// A call that was interrupted was never made: made again it meets the same fault.
func TestUndoneCallsAreNotCounted(t *testing.T) {
	m := faulty(t, "SNP_LAUNCH_UPDATE:2=INVALID_PAGE_STATE", "KVM_CREATE_VCPU:2=ENOMEM", "/dev/sev:9=EIO")
	m.start()
	m.memory16M()
	update := func(gfn uint64) Answer { a, _, _ := m.update(gfn, 0, pageSize, 3, 0); return a }
	update(0x800).Undo()
	m.must(update(0x800))
	for range 3 {
		a := update(0x801)
		if a.Errno != unix.EIO {
			t.Fatalf("second call: %s", errnoName(a.Errno))
		}
		a.Undo()
	}
	if a := update(0x801); a.Errno != unix.EIO {
		t.Errorf("second call, made for good: %s", errnoName(a.Errno))
	}
	m.must(update(0x801))

	a := m.must(m.vm.Ioctl(m, nrCreateVCPU, 0))
	a.Undo()
	m.vcpu(0)
	a = m.vm.Ioctl(m, nrCreateVCPU, 1)
	if a.Errno != unix.ENOMEM {
		t.Fatalf("second vCPU: %s", errnoName(a.Errno))
	}
	a.Undo()
	if a := m.vm.Ioctl(m, nrCreateVCPU, 1); a.Errno != unix.ENOMEM {
		t.Errorf("second vCPU, made again: %s", errnoName(a.Errno))
	}
	m.vcpu(1)
}

// A new VM whose answer was not taken leaves no open file.
func TestUndoneObjectsAreClosed(t *testing.T) {
	m := faulty(t, "KVM_CREATE_VM:9=EIO")
	a := m.open("/dev/kvm").Ioctl(m, nrCreateVM, typeSNP)
	a.Undo()
	if _, err := a.New.File().Stat(); err == nil {
		t.Error("the file is still open")
	}
}

// Once the firmware has not answered, no command reaches it (psp_dead): EBUSY,
// and what the kernel makes of that. A VM whose page cannot be had back is given
// up: all of its ioctls are EIO (KVM_BUG in snp_page_reclaim).
func TestDeadFirmware(t *testing.T) {
	m := faulty(t, "SNP_LAUNCH_UPDATE:2=dead")
	launchWith(m)
	for name, o := range map[string]struct {
		Object
		nr uint32
	}{"VM": {m.vm, nrCheckExtension}, "vCPU": {m.vcpus[0], nrRun}} {
		if a := o.Ioctl(m, o.nr, 0); a.Errno != unix.EIO {
			t.Errorf("%s: %s, want EIO", name, errnoName(a.Errno))
		}
	}
	sev := m.open("/dev/sev")
	at := m.put(encode(uint32(1), m.put(make([]byte, 64)), uint32(stale)))
	if a := sev.Ioctl(m, nrSEVIssueCommand, at); a.Errno != unix.EBUSY || le.Uint32(m.get(at+12, 4)) != stale {
		t.Errorf("PLATFORM_STATUS: %s, error %#x", errnoName(a.Errno), le.Uint32(m.get(at+12, 4)))
	}
	m.vm, m.gmem, m.vcpus = m.mustNew(m.open("/dev/kvm").Ioctl(m, nrCreateVM, typeSNP)).(*VM), nil, nil
	if stage, e, told := launchWith(m); stage != "START" || e != unix.ENOTTY || told != stale {
		t.Errorf("the next launch ends at %s with %s, %#x; want START, ENOTTY, nothing told", stage, errnoName(e), told)
	}
}

func TestDeathIsUndone(t *testing.T) {
	m := faulty(t, "SNP_LAUNCH_UPDATE:1=dead")
	m.start()
	m.memory16M()
	a, _, _ := m.update(0x800, 0, pageSize, 3, 0)
	if a.Errno != unix.EIO {
		t.Fatalf("%+v", a)
	}
	a.Undo()
	if m.vm.dead || m.host.inject.dead {
		t.Error("undone, and it is dead")
	}
	if a, _, _ := m.update(0x800, 0, pageSize, 3, 0); a.Errno != unix.EIO || !m.vm.dead {
		t.Errorf("made again: %+v", a)
	}
}

// Firmware that is slow does not outlive its host.
func TestDelayEndsWithTheHost(t *testing.T) {
	m := faulty(t, "SNP_LAUNCH_START=delay 99s")
	m.host.EndAll()
	m.start()
}

func TestFaultsAtDevices(t *testing.T) {
	m := faulty(t, "/dev/sev:2=EACCES", "/dev/kvm=ENOENT")
	m.open("/dev/sev")
	for _, c := range []struct {
		path string
		want error
	}{{"/dev/sev", unix.EACCES}, {"/dev/sev", nil}, {"/dev/kvm", unix.ENOENT}, {"/dev/kvm", unix.ENOENT}, {"/dev/null", nil}} {
		o, err := m.host.Open(c.path)
		if err != c.want || err != nil && o != nil {
			t.Errorf("%s: %v, %v; want %v", c.path, o, err, c.want)
		}
		if o != nil {
			o.Close()
		}
	}
}

func TestLacks(t *testing.T) {
	for what, c := range map[string]struct {
		types, memfd int64
		sev          error
	}{"no-sev": {3, 1, unix.ENOENT}, "no-snp-vm-type": {3, 1, nil}, "no-guest-memfd": {0x13, 0, nil}} {
		m := newMachine(t, 0)
		m.host.inject = newInjector([]Fault{fault(t, what)})
		kvm := m.open("/dev/kvm")
		if got := kvm.Ioctl(m, nrCheckExtension, 235).Value; got != c.types {
			t.Errorf("%s: VM types %#x, want %#x", what, got, c.types)
		}
		if got := kvm.Ioctl(m, nrCheckExtension, 234).Value; got != c.memfd {
			t.Errorf("%s: GUEST_MEMFD %d, want %d", what, got, c.memfd)
		}
		if o, err := m.host.Open("/dev/sev"); err != c.sev {
			t.Errorf("%s: /dev/sev: %v", what, err)
		} else if o != nil {
			o.Close()
		}
		want := unix.Errno(0)
		if c.types>>typeSNP&1 == 0 {
			want = unix.EINVAL
		}
		a := kvm.Ioctl(m, nrCreateVM, typeSNP)
		if a.Errno != want {
			t.Errorf("%s: SNP VM: %s, want %s", what, errnoName(a.Errno), errnoName(want))
		}
		if a.Errno == 0 {
			vm := m.mustNew(a).(*VM)
			if a := vm.Ioctl(m, nrCreateGuestMem, m.put(append(encode(uint64(1<<20), uint64(0)), make([]byte, 48)...))); (a.Errno == unix.ENOTTY) != (c.memfd == 0) {
				t.Errorf("%s: guest_memfd: %+v", what, a)
			} else if a.New != nil {
				a.New.Close()
			}
		}
	}
}

// Without its descriptor of /dev/sev the kernel reaches no firmware.
func TestSEVDescriptor(t *testing.T) {
	for name, c := range map[string]struct {
		at    uint32
		errno unix.Errno
	}{"START": {cmdSTART, unix.ENOTTY}, "UPDATE": {cmdUPDATE, unix.EIO}, "FINISH": {cmdFINISH, unix.EBADF}} {
		m := newMachine(t, typeSNP)
		m.initialise()
		params := m.put(startParams(0x30000, 0))
		if c.at != cmdSTART {
			a, _ := m.op(cmdSTART, params)
			m.must(a)
			m.memory16M()
			m.vcpu(0)
			params = m.put(updateParams(0x800, 0, pageSize, 3, 0))
		}
		if c.at == cmdFINISH {
			params = m.put(finish{}.bytes())
		}
		m.fds[sevFD] = m.vm
		if a, _ := m.op(c.at, params); a.Errno != c.errno {
			t.Errorf("%s: %s, want %s", name, errnoName(a.Errno), errnoName(c.errno))
		}
	}
}
