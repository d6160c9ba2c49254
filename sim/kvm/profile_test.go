package kvm

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/psp"
)

func TestParseProfile(t *testing.T) {
	if !slices.Contains(Profiles(), DefaultProfile) {
		t.Errorf("the default %s is not one of %q", DefaultProfile, Profiles())
	}
	for _, name := range Profiles() {
		p, err := ParseProfile(strings.ToUpper(name))
		if err != nil || p.String() != name {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if got := (Profile{}).String(); got != DefaultProfile {
		t.Errorf("the zero profile is %s", got)
	}
	for name, want := range map[string]string{"6.122": "did you mean 6.12?", "amd6.6": "did you mean amd-6.6?", "": "6.11, 6.12, 7.2, amd-6.6", "windows": "is not one of"} {
		if _, err := ParseProfile(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", name, err, want)
		}
	}
}

// Which policies reach the firmware is a matter of the kernel: before 6.16 one
// without SMT, or for a single socket, is EINVAL; a later one lets bits 21 to 25
// through where the firmware says that it knows them. What the firmware says
// then is EIO with its status.
func TestPoliciesByKernel(t *testing.T) {
	const (
		einval = unix.EINVAL
		eio    = unix.EIO // POLICY_FAILURE
	)
	for _, c := range []struct {
		policy                                      uint64
		genoaOld, genoaNew, turinOld, turinNew, amd unix.Errno
	}{
		{0x30000, 0, 0, 0, 0, 0},
		{0xB0000, 0, 0, 0, 0, 0},                            // DEBUG
		{0x20000, einval, eio, einval, eio, einval},         // SMT must be off, and it is on
		{0x130000, einval, 0, einval, 0, einval},            // SINGLE_SOCKET, of which there is one
		{0x10000, einval, einval, einval, einval, einval},   // bit 17 clear
		{0x70000, einval, einval, einval, einval, einval},   // MIGRATE_MA
		{0x430000, einval, einval, einval, eio, einval},     // MEM_AES_256_XTS
		{0x830000, einval, einval, einval, eio, einval},     // RAPL_DIS
		{0x1030000, einval, einval, einval, eio, einval},    // CIPHERTEXT_HIDING_DRAM
		{0x4030000, einval, einval, einval, einval, einval}, // reserved
		{0x30138, eio, eio, 0, 0, eio},                      // ABI 1.56
	} {
		for _, k := range []struct {
			platform, kernel string
			want             unix.Errno
		}{
			{"genoa", "6.11", c.genoaOld}, {"genoa", "6.12", c.genoaOld}, {"genoa", "7.2", c.genoaNew},
			{"turin", "6.12", c.turinOld}, {"turin", "7.2", c.turinNew}, {"genoa", "amd-6.6", c.amd},
		} {
			m := newMachineOf(t, k.platform, k.kernel, Options{})
			m.initialise()
			a, fw := m.op(cmdSTART, m.put(startParams(c.policy, 0)))
			wantFW := map[unix.Errno]uint32{0: 0, einval: stale, eio: 7}[k.want]
			if a.Errno != k.want || fw != wantFW {
				t.Errorf("policy %#x on %s under %s: %s, error %#x; want %s, %#x", c.policy, k.platform, k.kernel, errnoName(a.Errno), fw, errnoName(k.want), wantFW)
			}
		}
	}
}

// Device attributes of /dev/kvm by kernel; one that a kernel does not know is ENXIO.
func TestAttributesByKernel(t *testing.T) {
	const none = 1<<64 - 1
	for _, c := range []struct {
		platform, kernel             string
		features, policies, reqCerts uint64
	}{
		{"genoa", "6.11", 1 << 5, none, none},
		{"genoa", "6.12", 1 << 5, none, none},
		{"genoa", "amd-6.6", 1 << 5, none, none},
		{"genoa", "7.2", 1<<5 | 1<<9, 0x1BFFFF, 1},
		{"turin", "7.2", 1<<5 | 1<<9, 0x3FBFFFF, 1},
	} {
		m := newMachineOf(t, c.platform, c.kernel, Options{})
		kvm := m.open("/dev/kvm")
		for attr, want := range []uint64{c.features, c.policies, c.reqCerts} {
			out := m.put(make([]byte, 8))
			a := kvm.Ioctl(m, 0x4018AEE2, m.put(encode(uint32(0), uint32(1), uint64(attr), out)))
			got := le.Uint64(m.get(out, 8))
			if want == none && a.Errno != unix.ENXIO || want != none && (a.Errno != 0 || got != want) {
				t.Errorf("%s under %s: attribute %d: %s, %#x; want %#x", c.platform, c.kernel, attr, errnoName(a.Errno), got, want)
			}
		}
	}
	lacking := faulty(t, "no-sev")
	if a := lacking.open("/dev/kvm").Ioctl(lacking, 0x4018AEE3, lacking.put(encode(uint32(0), uint32(1), uint64(0), uint64(0)))); a.Errno != unix.ENXIO {
		t.Errorf("without SEV: %s", errnoName(a.Errno))
	}
}

// What KVM_SEV_INIT2 takes and what ends up in the save area.
func TestSEVFeaturesByKernel(t *testing.T) {
	for _, c := range []struct {
		kernel string
		asked  uint64
		errno  unix.Errno
		got    uint64
	}{
		{"6.11", 0, 0, 1}, {"6.12", 0, 0, 1}, {"7.2", 0, 0, 1}, {"amd-6.6", 0, 0, 0x21},
		{"6.12", 1 << 5, 0, 0x21}, {"7.2", 1 << 5, 0, 0x21},
		{"6.12", 1 << 9, unix.EINVAL, 0}, {"7.2", 1 << 9, 0, 0x201},
		{"7.2", 1 << 1, unix.EINVAL, 0}, {"7.2", 1, unix.EINVAL, 0},
	} {
		m := newMachineOf(t, "genoa", c.kernel, Options{KeepPages: true})
		a, _ := m.op(cmdINIT2, m.put(initParams(c.asked, 0, 0)))
		if a.Errno != c.errno {
			t.Errorf("%s: INIT2 with %#x: %s, want %s", c.kernel, c.asked, errnoName(a.Errno), errnoName(c.errno))
		}
		if a.Errno != 0 {
			continue
		}
		a, _ = m.op(cmdSTART, m.put(startParams(0x30000, 0)))
		m.must(a)
		m.setQEMURegisters(m.vcpu(0), qemuVCPU{})
		a, _ = m.finish(finish{})
		m.must(a)
		page := m.vm.Pages()[0].Bytes
		if got := le.Uint64(page[0x3B0:]); got != c.got {
			t.Errorf("%s: SEV_FEATURES %#x, want %#x", c.kernel, got, c.got)
		}
		want := expectedVMSA(0)
		le.PutUint64(want[0x3B0:], c.got)
		if c.kernel == "amd-6.6" { // no floating point state
			le.PutUint32(want[0x408:], 0)
			le.PutUint16(want[0x410:], 0)
		}
		if !bytes.Equal(page, want) {
			t.Errorf("%s: the save area is another one", c.kernel)
		}
	}
}

// KVM_SEV_SNP_ENABLE_REQ_CERTS comes after INIT2 and before vCPUs.
func TestEnableReqCerts(t *testing.T) {
	const cmdReqCerts = 103
	for _, kernel := range Profiles() {
		m := newMachineOf(t, "genoa", kernel, Options{})
		before, _ := m.op(cmdReqCerts, 0)
		m.initialise()
		after, told := m.op(cmdReqCerts, 0)
		m.vcpu(0)
		late, _ := m.op(cmdReqCerts, 0)
		want := unix.Errno(unix.EINVAL)
		if kernel == "7.2" {
			want = 0
		}
		if before.Errno != unix.EINVAL || after.Errno != want || late.Errno != unix.EINVAL || told != stale {
			t.Errorf("%s: %s before INIT2, %s after, %s with a vCPU; error %#x", kernel, errnoName(before.Errno), errnoName(after.Errno), errnoName(late.Errno), told)
		}
	}
}

// guest_memfd by kernel: flags, and for which VMs there are any.
func TestGuestMemfdByKernel(t *testing.T) {
	for _, c := range []struct {
		kernel                        string
		flagsHere, flagsSNP, flagsOld int64
		memfdOld                      int64
	}{{"6.12", 0, 0, 0, 0}, {"7.2", 3, 1, 3, 1}} {
		m := newMachineOf(t, "genoa", c.kernel, Options{})
		kvm := m.open("/dev/kvm")
		ordinary := m.mustNew(kvm.Ioctl(m, nrCreateVM, 0)).(*VM)
		check := func(o Object, n uint64) int64 { return o.Ioctl(m, nrCheckExtension, n).Value }
		if a, b, d := check(kvm, 244), check(m.vm, 244), check(ordinary, 244); a != c.flagsHere || b != c.flagsSNP || d != c.flagsOld {
			t.Errorf("%s: GUEST_MEMFD_FLAGS %d, %d, %d", c.kernel, a, b, d)
		}
		if got := check(ordinary, 234); got != c.memfdOld {
			t.Errorf("%s: GUEST_MEMFD of an ordinary VM is %d, want %d", c.kernel, got, c.memfdOld)
		}
		for flags := range uint64(4) {
			for vm, allowed := range map[*VM]int64{m.vm: c.flagsSNP, ordinary: c.flagsOld} {
				a := vm.Ioctl(m, nrCreateGuestMem, m.put(append(encode(uint64(pageSize), flags), make([]byte, 48)...)))
				may := int64(flags)&^allowed == 0 && (vm == m.vm || c.memfdOld != 0)
				if (a.Errno == 0) != may {
					t.Errorf("%s: VM type %d, flags %d: %s", c.kernel, vm.typ, flags, errnoName(a.Errno))
				}
				if a.New != nil {
					a.New.Close()
				}
			}
		}
	}
}

// leaves reads KVM_GET_SUPPORTED_CPUID.
func (m *machine) leaves() map[[2]uint32]leaf {
	m.Helper()
	at := m.put(append(encode(uint32(200), uint32(0)), make([]byte, 200*40)...))
	m.must(m.open("/dev/kvm").Ioctl(m, 0xC008AE05, at))
	out := map[[2]uint32]leaf{}
	n := le.Uint32(m.get(at, 4))
	for i := range uint64(n) {
		b := m.get(at+8+40*i, 40)
		l := leaf{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:]), le.Uint32(b[20:]), le.Uint32(b[24:])}
		key := [2]uint32{l.function, l.index}
		if _, twice := out[key]; twice {
			m.Errorf("leaf %#x, %d is there twice", l.function, l.index)
		}
		out[key] = l
	}
	if int(n) != len(out) {
		m.Errorf("%d of %d leaves", len(out), n)
	}
	return out
}

// Each generation has what the one before had.
func TestCPUIDGrows(t *testing.T) {
	for _, kernel := range Profiles() {
		var before map[[2]uint32]leaf
		for _, platform := range psp.Platforms() {
			now := newMachineOf(t, platform, kernel, Options{}).leaves()
			for key, old := range before {
				switch key[0] {
				case 0x80000005, 0x80000006, 0x8000001D, 0xD, 0x80000008: // sizes
					continue
				}
				l := now[key]
				lost := [4]uint32{old.eax &^ l.eax, old.ebx &^ l.ebx, old.ecx &^ l.ecx, old.edx &^ l.edx}
				if key[0] == 1 || key[0] == 0x80000001 {
					lost[0] = 0 // signature
				}
				if key[0] == 0x8000001F {
					lost[2] = 0 // a count of ASIDs
				}
				if lost != ([4]uint32{}) {
					t.Errorf("%s under %s: leaf %#x, %d: lost %#x", platform, kernel, key[0], key[1], lost)
				}
			}
			before = now
		}
	}
}

// Words of CPUID that this host was built to, as KVM's masks leave them of what
// processors of each generation say.
func TestCPUIDWords(t *testing.T) {
	for _, c := range []struct {
		platform, kernel string
		function, index  uint32
		want             [4]uint32
	}{
		{"milan", "6.12", 7, 0, [4]uint32{0, 0x219C07AB, 0x0040060C, 0xAC000010}},
		{"milan", "7.2", 7, 0, [4]uint32{0, 0x219C07AB, 0x0040068C, 0xA8000010}}, // shadow stacks; no SPEC_CTRL without IBPB_RET
		{"genoa", "6.12", 7, 0, [4]uint32{1, 0xF1BF07AB, 0x00415F4E, 0xAC000010}},
		{"genoa", "6.12", 7, 1, [4]uint32{0x20}},
		{"turin", "7.2", 7, 0, [4]uint32{1, 0xF1BF07AB, 0x18415FCE, 0xAC000110}},
		{"turin", "7.2", 7, 1, [4]uint32{0x30}},
		{"milan", "6.12", 1, 0, [4]uint32{0x00A00F11, 0x800, 0x76FA3203, 0x078BFBFF}},
		{"genoa", "7.2", 1, 0, [4]uint32{0x00A10F11, 0x800, 0xF7FA3203, 0x078BFBFF}}, // TSC_DEADLINE, HYPERVISOR
		{"turin", "6.12", 1, 0, [4]uint32{0x00B00F21, 0x800, 0x76FA3203, 0x078BFBFF}},
		// Sizes: 832 bytes of x87, SSE and AVX, then AVX-512 and PKRU; compacted, also CET.
		{"milan", "6.12", 0xD, 0, [4]uint32{0x207, 0x988, 0x988, 0}},
		{"milan", "6.12", 0xD, 1, [4]uint32{0xF, 0x348, 0, 0}},
		{"milan", "7.2", 0xD, 1, [4]uint32{0xF, 0x370, 0x1800, 0}},
		{"genoa", "6.12", 0xD, 0, [4]uint32{0x2E7, 0x988, 0x988, 0}},
		{"genoa", "6.12", 0xD, 1, [4]uint32{0xF, 0x988, 0, 0}},
		{"genoa", "6.12", 0xD, 2, [4]uint32{0x100, 0x240, 0, 0}},
		{"genoa", "6.12", 0xD, 9, [4]uint32{8, 0x980, 0, 0}},
		{"genoa", "7.2", 0xD, 11, [4]uint32{0x10, 0, 1, 0}},
		{"genoa", "7.2", 0xD, 12, [4]uint32{0x18, 0, 1, 0}},
		{"milan", "6.12", 0x80000008, 0, [4]uint32{0x00303030, 0x1102D205, 0, 0}},
		{"genoa", "6.12", 0x80000008, 0, [4]uint32{0x00343934, 0x5102D205, 0, 0}},
		{"genoa", "7.2", 0x80000008, 0, [4]uint32{0x00343934, 0x510AD205, 0, 0}},
		{"milan", "6.12", 0x80000021, 0, [4]uint32{0x18000245}},
		{"genoa", "6.12", 0x80000021, 0, [4]uint32{0x18000347}},
		{"turin", "6.12", 0x80000021, 0, [4]uint32{0x18000347}},
		{"turin", "7.2", 0x80000021, 0, [4]uint32{0x58100347}},
		{"genoa", "6.12", 0x80000022, 0, [4]uint32{1, 6}},
		{"genoa", "6.12", 0x8000001D, 2, [4]uint32{0x4143, 0x01C0003F, 0x7FF, 2}},
		{"genoa", "6.12", 0x8000001D, 4, [4]uint32{}},
		{"genoa", "6.12", 0x8000001E, 0, [4]uint32{}},
		{"genoa", "6.12", 0x8000001F, 0, [4]uint32{0x41A, 51, 0x3EE, 100}},
		{"genoa", "6.12", 0x40000001, 0, [4]uint32{0x01007EFB}},
	} {
		l, found := newMachineOf(t, c.platform, c.kernel, Options{}).leaves()[[2]uint32{c.function, c.index}]
		if got := [4]uint32{l.eax, l.ebx, l.ecx, l.edx}; !found || got != c.want {
			t.Errorf("%s under %s: leaf %#x, %d is %#x, want %#x", c.platform, c.kernel, c.function, c.index, got, c.want)
		}
	}
	if _, found := newMachineOf(t, "milan", "6.12", Options{}).leaves()[[2]uint32{0x80000022, 0}]; found {
		t.Error("a Milan has PerfMonV2")
	}
}

// The sizes in leaf 0xD agree with XCOMP_GUEST_SUPP and with what KVM_SET_XSAVE takes.
func TestXCR0ByPlatform(t *testing.T) {
	for platform, want := range map[string]uint64{"milan": 0x207, "genoa": 0x2E7, "turin": 0x2E7} {
		m := newMachineOf(t, platform, "6.12", Options{})
		out := m.put(make([]byte, 8))
		m.must(m.open("/dev/kvm").Ioctl(m, 0x4018AEE2, m.put(encode(uint32(0), uint32(0), uint64(0), out))))
		if got := le.Uint64(m.get(out, 8)); got != want {
			t.Errorf("%s: XCOMP_GUEST_SUPP %#x, want %#x", platform, got, want)
		}
		v := m.vcpu(0)
		for bit := range 64 {
			b := make([]byte, 4096)
			le.PutUint64(b[0x200:], 1<<bit)
			if a := v.Ioctl(m, nrSetXSAVE, m.put(b)); (a.Errno == 0) != (want>>bit&1 != 0) {
				t.Errorf("%s: XSTATE_BV bit %d: %s", platform, bit, errnoName(a.Errno))
			}
		}
	}
}

// MSRs that tell of the processor: libvirt reads them from /dev/kvm.
func TestFeatureMSRs(t *testing.T) {
	m := newMachine(t, typeSNP)
	kvm := m.open("/dev/kvm")
	entry := func(index uint32) []byte { return encode(index, uint32(0), uint64(0)) }
	list := append(append(encode(uint32(4), uint32(0)), entry(0x10A)...), append(entry(0xC0011029), append(entry(0x8B), entry(0x345)...)...)...)
	at := m.put(list)
	if a := kvm.Ioctl(m, nrGetMSRs, at); a.Errno != 0 || a.Value != 4 {
		t.Errorf("%+v", a)
	}
	for i, want := range []uint64{0x0C000169, 2, 0x0A101148, 0} {
		if got := le.Uint64(m.get(at+8+16*uint64(i)+8, 8)); got != want {
			t.Errorf("MSR %d is %#x, want %#x", i, got, want)
		}
	}
	// As many as are known, up to the first that is not.
	at = m.put(append(append(encode(uint32(3), uint32(0)), entry(0x8B)...), append(entry(0x277), entry(0x8B)...)...))
	if a := kvm.Ioctl(m, nrGetMSRs, at); a.Errno != 0 || a.Value != 1 {
		t.Errorf("with an unknown one in second place: %+v", a)
	}
	if a := kvm.Ioctl(m, nrSetMSRs, at); a.Errno != unix.EINVAL {
		t.Errorf("they can be set: %s", errnoName(a.Errno))
	}
}

// KVM_GET_EMULATED_CPUID: MOVBE and RDPID.
func TestEmulatedCPUID(t *testing.T) {
	m := newMachine(t, typeSNP)
	at := m.put(append(encode(uint32(3), uint32(0)), make([]byte, 120)...))
	m.must(m.open("/dev/kvm").Ioctl(m, 0xC008AE09, at))
	want := append(encode(uint32(3), uint32(0)), encode(
		uint32(0), uint32(0), uint32(0), uint32(7), [6]uint32{},
		uint32(1), uint32(0), uint32(0), uint32(0), uint32(0), uint32(1<<22), [4]uint32{},
		uint32(7), uint32(0), uint32(1), uint32(0), uint32(0), uint32(1<<22), [4]uint32{})...)
	if !bytes.Equal(m.get(at, 128), want) {
		t.Errorf("% x, want % x", m.get(at, 128), want)
	}
}
