package kvm

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// Extensions that QEMU 10.0 stops or warns without (observed), by number in
// include/uapi/linux/kvm.h.
var needed = []uint64{
	0, 3, 4, 7, 9, 10, 14, 21, 25, 30, 31, 32, 33, 35, 36, 37, 39, 40, 41, 50, 51, 55, 56, 60, 61, 66, 77, 122, 136, 164, 200, 201, 208, 218, 231, 233, 234, 235,
}

func TestCheckExtension(t *testing.T) {
	snpVM, ordinary := newMachine(t, typeSNP), newMachine(t, 0)
	kvm := snpVM.open("/dev/kvm")
	check := func(o Object, n uint64) int64 {
		a := o.Ioctl(snpVM, nrCheckExtension, n)
		if a.Errno != 0 || a.Value < 0 {
			t.Errorf("extension %d: %+v", n, a)
		}
		return a.Value
	}
	for _, n := range needed {
		if check(kvm, n) == 0 || check(snpVM.vm, n) == 0 {
			t.Errorf("extension %d is missing", n)
		}
	}
	for n, want := range map[uint64]int64{
		235: 1<<0 | 1<<1 | 1<<4, // VM_TYPES: DEFAULT, SW_PROTECTED, SNP
		233: 8,                  // MEMORY_ATTRIBUTES: PRIVATE
		201: 1 << 12,            // EXIT_HYPERCALL: MAP_GPA_RANGE
		208: 4096,               // XSAVE2: size of the area
		153: 1,                  // GET_MSR_FEATURES
		203: 0, 9999: 0, 1 << 40: 0,
	} {
		if got := check(kvm, n); got != want {
			t.Errorf("extension %d is %#x, want %#x", n, got, want)
		}
	}
	// What a VM with protected state cannot do (has_protected_state and
	// has_private_mem in Linux arch/x86/kvm/x86.c).
	snpVM.initialise()
	for n, want := range map[uint64][2]int64{81: {1, 0}, 117: {1, 0}, 118: {2, 1}, 74: {7, 0}} { // READONLY_MEM, X86_SMM, MULTI_ADDRESS_SPACE, SYNC_REGS
		if got := check(kvm, n); got != want[0] {
			t.Errorf("extension %d on /dev/kvm is %d, want %d", n, got, want[0])
		}
		if got := check(ordinary.vm, n); got != want[0] {
			t.Errorf("extension %d on an ordinary VM is %d, want %d", n, got, want[0])
		}
		if got := check(snpVM.vm, n); got != want[1] {
			t.Errorf("extension %d on an SNP VM is %d, want %d", n, got, want[1])
		}
	}
	// The coalesced ring is a page of the mapping of a vCPU.
	size := kvm.Ioctl(snpVM, 0xAE04, 0).Value
	if ring := check(kvm, 15); ring <= 0 || (ring+1)*4096 > size {
		t.Errorf("coalesced MMIO ring on page %d of a mapping of %d bytes", ring, size)
	}
}

func TestSystem(t *testing.T) {
	m := newMachine(t, typeSNP)
	kvm := m.open("/dev/kvm")
	if a := kvm.Ioctl(m, 0xAE00, 0); a.Value != 12 || a.Errno != 0 {
		t.Errorf("KVM_GET_API_VERSION: %+v", a)
	}
	for _, typ := range []uint64{2, 3, 5, 1 << 32, 1<<64 - 1} {
		if a := kvm.Ioctl(m, nrCreateVM, typ); a.Errno != unix.EINVAL || a.New != nil {
			t.Errorf("VM type %d: %+v", typ, a)
		}
	}
	// Lists: E2BIG with the count where there is too little room, then all of it.
	for name, l := range map[string]struct {
		nr          uint32
		head, entry int
		counts      bool // E2BIG tells how many there are
	}{
		"KVM_GET_MSR_INDEX_LIST": {0xC004AE02, 4, 4, true}, "KVM_GET_MSR_FEATURE_INDEX_LIST": {0xC004AE0A, 4, 4, true},
		"KVM_GET_SUPPORTED_CPUID": {0xC008AE05, 8, 40, false}, "KVM_GET_EMULATED_CPUID": {0xC008AE09, 8, 40, false},
	} {
		at := m.put(make([]byte, 8192))
		a := kvm.Ioctl(m, l.nr, at)
		n := int(le.Uint32(m.get(at, 4)))
		if a.Errno != unix.E2BIG || (n != 0) != l.counts {
			t.Errorf("%s without room: %s, count %d", name, errnoName(a.Errno), n)
		}
		if !l.counts {
			at := m.put(append(encode(uint32(200)), make([]byte, 8192)...))
			m.must(kvm.Ioctl(m, l.nr, at))
			if n = int(le.Uint32(m.get(at, 4))); n == 0 {
				t.Errorf("%s is empty", name)
			}
		}
		{
			for room, want := range map[int]unix.Errno{n - 1: unix.E2BIG, n: 0, n + 1: 0} {
				at := m.put(append(encode(uint32(room)), bytes.Repeat([]byte{0xA5}, 8192)...))
				a := kvm.Ioctl(m, l.nr, at)
				after := m.get(at+uint64(l.head+n*l.entry), 8)
				if a.Errno != want || (l.counts || want == 0) && int(le.Uint32(m.get(at, 4))) != n || !bytes.Equal(after, bytes.Repeat([]byte{0xA5}, 8)) {
					t.Errorf("%s with room for %d of %d: %s", name, room, n, errnoName(a.Errno))
				}
			}
		}
		m.next = m.base
	}
	// Device attributes: XCR0 and the VMSA features that INIT2 takes.
	attr := func(nr, flags, group uint32, attr, addr uint64) Answer {
		return kvm.Ioctl(m, nr, m.put(encode(flags, group, attr, addr)))
	}
	out := m.put(make([]byte, 8))
	for _, c := range []struct {
		group uint32
		want  uint64
	}{{0, 0x2E7}, {1, 1 << 5}} {
		m.must(attr(0x4018AEE3, 0, c.group, 0, 0))
		m.must(attr(0x4018AEE2, 0, c.group, 0, out))
		if got := le.Uint64(m.get(out, 8)); got != c.want {
			t.Errorf("attribute 0 of group %d is %#x, want %#x", c.group, got, c.want)
		}
	}
	for name, c := range map[string]struct {
		a    Answer
		want unix.Errno
	}{
		"unknown attribute": {attr(0x4018AEE2, 0, 0, 1, out), unix.ENXIO}, "unknown group": {attr(0x4018AEE3, 0, 2, 0, 0), unix.ENXIO},
		"flags": {attr(0x4018AEE2, 1, 0, 0, out), unix.EINVAL}, "nowhere": {attr(0x4018AEE2, 0, 0, 0, 8), unix.EFAULT},
		"setting one": {attr(0x4018AEE1, 0, 0, 0, out), unix.EINVAL}, "unreadable": {kvm.Ioctl(m, 0x4018AEE2, 8), unix.EFAULT},
	} {
		if c.a.Errno != c.want {
			t.Errorf("%s: %s, want %s", name, errnoName(c.a.Errno), errnoName(c.want))
		}
	}
	for _, path := range []string{"/dev/kvm2", "/dev/sev-guest", "", "dev/kvm", "/dev/"} {
		if o, err := m.host.Open(path); o != nil || err != nil {
			t.Errorf("%q: %v, %v", path, o, err)
		}
	}
}

func TestDevSEV(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start() // one guest
	sev := m.open("/dev/sev")
	issue := func(cmd uint32, data uint64) (Answer, uint32) {
		at := m.put(encode(cmd, data, uint32(stale)))
		a := sev.Ioctl(m, nrSEVIssueCommand, at)
		return a, le.Uint32(m.get(at+12, 4))
	}
	out := m.put(bytes.Repeat([]byte{0xA5}, 64))
	a, fw := issue(1, out) // PLATFORM_STATUS: api 1.55, INIT, SEV-ES too, build 25, one guest
	if want := append([]byte{1, 55, 1, 0, 1, 0, 0, 25, 1, 0, 0, 0}, 0xA5, 0xA5); a.Errno != 0 || fw != 0 || !bytes.Equal(m.get(out, 14), want) {
		t.Errorf("PLATFORM_STATUS: %s, error %#x, % x", errnoName(a.Errno), fw, m.get(out, 14))
	}
	a, fw = issue(9, out) // SNP_PLATFORM_STATUS, with the RMP initialised; TCB 9, 0, 21, 72
	want := append([]byte{1, 55, 1, 1, 25, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, bytes.Repeat([]byte{9, 0, 0, 0, 0, 0, 21, 72}, 2)...)
	if a.Errno != 0 || fw != 0 || !bytes.Equal(m.get(out, 33), append(want, 0xA5)) {
		t.Errorf("SNP_PLATFORM_STATUS: %s, error %#x, % x", errnoName(a.Errno), fw, m.get(out, 33))
	}
	id := m.put(bytes.Repeat([]byte{0xA5}, 65))
	ask := m.put(encode(id, uint32(63)))
	if a, fw = issue(8, ask); a.Errno != unix.EIO || fw != 4 || le.Uint32(m.get(ask+8, 4)) != 64 {
		t.Errorf("GET_ID2 with room for 63: %s, error %#x, wants %d", errnoName(a.Errno), fw, le.Uint32(m.get(ask+8, 4)))
	}
	if a, fw = issue(8, ask); a.Errno != 0 || fw != 0 || bytes.Equal(m.get(id, 64), bytes.Repeat([]byte{0xA5}, 64)) || m.get(id+64, 1)[0] != 0xA5 {
		t.Errorf("GET_ID2 with room for 64: %s, error %#x", errnoName(a.Errno), fw)
	}
	for cmd, want := range map[uint32]struct {
		errno unix.Errno
		error uint32
	}{0: {unix.EIO, 0x15}, 2: {unix.EIO, 0x15}, 6: {unix.EIO, 0x15}, 13: {unix.EINVAL, stale}, 0xFFFFFFFF: {unix.EINVAL, stale}} {
		if a, fw := issue(cmd, out); a.Errno != want.errno || fw != want.error {
			t.Errorf("command %d: %s, error %#x; want %s, %#x", cmd, errnoName(a.Errno), fw, errnoName(want.errno), want.error)
		}
	}
	for _, cmd := range []uint32{1, 8, 9} {
		if a, _ := issue(cmd, 8); a.Errno != unix.EFAULT {
			t.Errorf("command %d with data nowhere: %s", cmd, errnoName(a.Errno))
		}
	}
	if a, _ := issue(8, m.put(encode(uint64(8), uint32(64)))); a.Errno != unix.EFAULT {
		t.Errorf("GET_ID2 to nowhere: %s", errnoName(a.Errno))
	}
	if a := sev.Ioctl(m, nrSEVIssueCommand, 8); a.Errno != unix.EFAULT {
		t.Errorf("unreadable: %s", errnoName(a.Errno))
	}
	m.vm.Close() // QEMU has ended: its guest is gone
	if a, _ := issue(1, out); a.Errno != 0 || m.get(out+8, 1)[0] != 0 {
		t.Errorf("%d guests after the VM was closed", m.get(out+8, 1)[0])
	}
}

// known are the ioctls that this host answers on each kind of file.
var known = map[string][]uint32{
	"kvm": {0xAE00, 0xAE01, 0xC004AE02, 0xAE03, 0xAE04, 0xC008AE05, 0xC008AE09, 0xC004AE0A, 0x8008AE9D, 0x4018AEE2, 0x4018AEE3, 0x4018AEE1, 0xC008AE88},
	"vm": {0xAE03, 0xAE41, 0x4010AE42, 0xAE47, 0x4008AE48, 0x4020AE46, 0x40A0AE49, 0xAE60, 0xC208AE62, 0x8208AE63, 0x4008AE61, 0xC008AE67, 0x4010AE67,
		0x4010AE68, 0x4008AE6A, 0xAE71, 0x4020AE76, 0x4040AE77, 0xAE78, 0x4040AE79, 0x4030AE7B, 0x8030AE7C, 0x8070AE9F, 0x4070AEA0, 0x4068AEA3,
		0x4020AEA5, 0xC008AEBA, 0x8010AEBB, 0x8010AEBC, 0x4020AED2, 0xC040AED4, 0xC00CAEE0},
	"vcpu": {0xAE80, 0x8090AE81, 0x4090AE82, 0x8138AE83, 0x4138AE84, 0xC018AE85, 0x4004AE86, 0xC008AE88, 0x4008AE89, 0x4004AE8B, 0x81A0AE8C, 0x41A0AE8D,
		0x8400AE8E, 0x4400AE8F, 0x4008AE90, 0xC008AE91, 0xC028AE92, 0x4008AE93, 0x8004AE98, 0x4004AE99, 0xAE9A, 0x4048AE9B, 0x4008AE9C, 0x4040AE9E,
		0x8040AE9F, 0x4040AEA0, 0x8080AEA1, 0x4080AEA2, 0xAEA2, 0xAEA3, 0x4068AEA3, 0x9000AEA4, 0x5000AEA5, 0x8188AEA6, 0x4188AEA7, 0xAEAD, 0xAEB7,
		0xC080AEBE, 0x4080AEBF, 0x8140AECC, 0x4140AECD, 0xAECE, 0x9000AECF},
	"sev": {0xC0105300},
}

// A request that is not known is an error, never 0: several numbers differ in
// direction or size only, and 0 may be taken for a descriptor.
func TestUnknownIoctlsFail(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.initialise()
	objects := map[string]Object{"kvm": m.open("/dev/kvm"), "sev": m.open("/dev/sev"), "vm": m.vm, "vcpu": m.vcpu(0)}
	logged := 0
	m.host.opts.Logf = func(string, ...any) { logged++ }
	at := m.put(make([]byte, 4096))
	tried := 0
	for kind, o := range objects {
		is := map[uint32]bool{}
		for _, nr := range known[kind] {
			is[nr] = true
		}
		for _, typ := range []uint32{0xAE00, 0x5300} {
			for _, sized := range []uint32{0, 0x40000000, 0x80000000, 0xC0000000} {
				for _, size := range []uint32{0, 4, 8, 16, 24, 32, 64, 80, 144, 312, 320, 392, 1024, 4096} {
					for nr := range uint32(256) {
						request := sized | size<<16 | typ | nr
						if is[request] {
							continue
						}
						tried++
						if a := o.Ioctl(m, request, at); a.Errno == 0 || a.New != nil || a.Wait != nil {
							t.Errorf("ioctl %#x on %s: %+v", request, kind, a)
						}
					}
				}
			}
		}
	}
	if tried < 100000 {
		t.Errorf("only %d requests tried", tried)
	}
	if logged == 0 {
		t.Error("nobody heard of the unknown requests")
	}
	// Capabilities that are not offered cannot be enabled either, nor any with flags.
	enable := func(n, flags uint32, arg uint64) unix.Errno {
		return m.vm.Ioctl(m, 0x4068AEA3, m.put(append(encode(n, flags, arg), make([]byte, 88)...))).Errno
	}
	if e := enable(201, 0, 1<<12); e != 0 {
		t.Errorf("EXIT_HYPERCALL with MAP_GPA_RANGE: %s", errnoName(e))
	}
	for name, e := range map[string]unix.Errno{"another hypercall": enable(201, 0, 1), "flags": enable(201, 1, 1<<12), "unknown": enable(9999, 0, 0), "READONLY_MEM": enable(81, 0, 0)} {
		if e != unix.EINVAL {
			t.Errorf("%s: %s, want EINVAL", name, errnoName(e))
		}
	}
}
