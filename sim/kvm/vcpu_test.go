package kvm

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// registerPairs are the ioctls of a vCPU that set what another one gets.
var registerPairs = []struct {
	name     string
	get, set uint32
	size     int
}{
	{"REGS", 0x8090AE81, 0x4090AE82, 144},
	{"SREGS2", 0x8140AECC, 0x4140AECD, 320},
	{"XSAVE", 0x9000AECF, 0x5000AEA5, 4096},
	{"XCRS", 0x8188AEA6, 0x4188AEA7, 392},
	{"VCPU_EVENTS", 0x8040AE9F, 0x4040AEA0, 64},
	{"DEBUGREGS", 0x8080AEA1, 0x4080AEA2, 128},
	{"LAPIC", 0x8400AE8E, 0x4400AE8F, 1024},
	{"MP_STATE", 0x8004AE98, 0x4004AE99, 4},
}

// What is set is what is read: QEMU reads registers back and sets them again
// before the launch, so that anything else would change the measurement.
func TestGetAfterSet(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	m := newMachine(t, typeSNP)
	m.initialise()
	vcpus := []*VCPU{m.vcpu(0), m.vcpu(1)}
	for _, p := range registerPairs {
		for round := range 2 {
			var set [2][]byte
			for i, v := range vcpus {
				set[i] = make([]byte, p.size)
				for j := range set[i] {
					set[i][j] = byte(r.Uint32())
				}
				if p.name == "XSAVE" {
					wholeXSAVE(set[i])
				}
				m.must(v.Ioctl(m, p.set, m.put(set[i])))
			}
			for i, v := range vcpus {
				at := m.put(bytes.Repeat([]byte{0xA5}, p.size+8))
				m.must(v.Ioctl(m, p.get, at))
				got := m.get(at, p.size+8)
				if !bytes.Equal(got[:p.size], set[i]) {
					t.Errorf("%s, round %d, vCPU %d: reads otherwise than it was set", p.name, round, i)
				}
				if !bytes.Equal(got[p.size:], bytes.Repeat([]byte{0xA5}, 8)) {
					t.Errorf("%s: writes more than %d bytes", p.name, p.size)
				}
			}
			m.next = m.base
		}
	}
}

// wholeXSAVE makes an XSAVE area of random bytes one in which every component
// that KVM offers is in use, and nothing stands between them.
func wholeXSAVE(b []byte) {
	clear(b[0x1A0:0x240])
	le.PutUint64(b[0x200:], 0x2E7) // x87, SSE, AVX, AVX-512, PKRU
	clear(b[0x988:])
}

// KVM_GET_SREGS and KVM_SET_SREGS, the older form: the interrupt bitmap at its
// end is no register, and what SREGS2 has in its place stays.
func TestSREGS(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.initialise()
	v := m.vcpu(0)
	newer := pattern(320)
	m.must(v.Ioctl(m, nrSetSREGS2, m.put(newer)))
	older := bytes.Repeat([]byte{0x77}, 312)
	m.must(v.Ioctl(m, 0x4138AE84, m.put(older)))
	at := m.put(make([]byte, 320))
	m.must(v.Ioctl(m, 0x8140AECC, at))
	if got := m.get(at, 320); !bytes.Equal(got[:0x118], older[:0x118]) || !bytes.Equal(got[0x118:], newer[0x118:]) {
		t.Error("SREGS were set otherwise than given, or changed what is not theirs")
	}
	at = m.put(make([]byte, 312))
	m.must(v.Ioctl(m, 0x8138AE83, at))
	if got := m.get(at, 312); !bytes.Equal(got[:0x118], older[:0x118]) {
		t.Error("SREGS read otherwise than they were set")
	}
}

// State of the VM's devices that QEMU reads back.
func TestDeviceStateIsKept(t *testing.T) {
	m := newMachine(t, typeSNP)
	withDevices(m)
	for name, p := range map[string]struct {
		get, set uint32
		size     int
	}{"CLOCK": {0x8030AE7C, 0x4030AE7B, 48}, "PIT2": {0x8070AE9F, 0x4070AEA0, 112}} {
		b := pattern(p.size)
		m.must(m.vm.Ioctl(m, p.set, m.put(b)))
		at := m.put(make([]byte, p.size))
		m.must(m.vm.Ioctl(m, p.get, at))
		if !bytes.Equal(m.get(at, p.size), b) {
			t.Errorf("%s reads otherwise than it was set", name)
		}
	}
	for chip := range uint32(3) {
		b := append(encode(chip, uint32(0)), bytes.Repeat([]byte{byte(0x30 + chip)}, 512)...)
		m.must(m.vm.Ioctl(m, 0x8208AE63, m.put(b)))
	}
	for chip := range uint32(3) {
		at := m.put(append(encode(chip, uint32(0)), make([]byte, 512)...))
		m.must(m.vm.Ioctl(m, 0xC208AE62, at))
		if got := m.get(at, 520); le.Uint32(got) != chip || !bytes.Equal(got[8:], bytes.Repeat([]byte{byte(0x30 + chip)}, 512)) {
			t.Errorf("IRQCHIP %d reads otherwise than it was set", chip)
		}
	}
	for _, nr := range []uint32{0x8208AE63, 0xC208AE62} {
		if a := m.vm.Ioctl(m, nr, m.put(append(encode(uint32(3)), make([]byte, 516)...))); a.Errno != unix.EINVAL {
			t.Errorf("IRQCHIP 3: %s", errnoName(a.Errno))
		}
	}
}

// KVM_SET_MSRS answers how many it set, and QEMU asserts that it is all.
func TestMSRs(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.initialise()
	v := m.vcpu(0)
	const n = 87 // as QEMU sends
	list := encode(uint32(n), uint32(0))
	for i := range uint64(n) {
		list = append(list, encode(uint32(0x100+i), uint32(0), 1000+i)...)
	}
	if a := v.Ioctl(m, nrSetMSRs, m.put(list)); a.Errno != 0 || a.Value != n {
		t.Errorf("KVM_SET_MSRS of %d answers %d, %s", n, a.Value, errnoName(a.Errno))
	}
	ask := encode(uint32(n), uint32(0))
	for i := range uint64(n) {
		ask = append(ask, encode(uint32(0x100+i), uint32(0), uint64(0))...)
	}
	at := m.put(ask)
	if a := v.Ioctl(m, nrGetMSRs, at); a.Errno != 0 || a.Value != n {
		t.Errorf("KVM_GET_MSRS of %d answers %d, %s", n, a.Value, errnoName(a.Errno))
	}
	if !bytes.Equal(m.get(at, len(list)), list) {
		t.Error("MSRs read otherwise than they were set")
	}
	at = m.put(encode(uint32(1), uint32(0), uint32(0x277), uint32(0), uint64(0)))
	m.must(v.Ioctl(m, nrGetMSRs, at))
	if got := le.Uint64(m.get(at+16, 8)); got != 0x0007040600070406 {
		t.Errorf("PAT at reset is %#x", got)
	}
	for _, nr := range []uint32{nrGetMSRs, nrSetMSRs} {
		if a := v.Ioctl(m, nr, m.put(encode(uint64(0)))); a.Errno != 0 || a.Value != 0 {
			t.Errorf("ioctl %#x of no MSR: %d, %s", nr, a.Value, errnoName(a.Errno))
		}
		if a := v.Ioctl(m, nr, m.put(encode(uint32(257), uint32(0)))); a.Errno != unix.E2BIG {
			t.Errorf("ioctl %#x of 257 MSRs: %s, want E2BIG", nr, errnoName(a.Errno))
		}
		if a := v.Ioctl(m, nr, m.base+uint64(len(m.b))-8); a.Errno != 0 { // count 0 at the end of memory
			t.Errorf("ioctl %#x: %s", nr, errnoName(a.Errno))
		}
		m.must(answerOf(m.Write(m.base+uint64(len(m.b))-8, encode(uint32(1), uint32(0)))))
		if a := v.Ioctl(m, nr, m.base+uint64(len(m.b))-8); a.Errno != unix.EFAULT {
			t.Errorf("ioctl %#x of a list that cannot be read: %s, want EFAULT", nr, errnoName(a.Errno))
		}
		m.must(answerOf(m.Write(m.base+uint64(len(m.b))-8, make([]byte, 8))))
	}
}

// KVM_GET_CPUID2 gives what KVM_SET_CPUID2 set, with E2BIG until there is
// room: QEMU asks with 1, 2, 4… to build the CPUID page.
func TestCPUID2(t *testing.T) {
	m := newMachine(t, typeSNP)
	v := m.vcpu(0)
	const n = 5
	entries := pattern(n * 40)
	m.must(v.Ioctl(m, nrSetCPUID2, m.put(append(encode(uint32(n), uint32(0)), entries...))))
	for room := uint32(1); room <= 8; room++ {
		at := m.put(append(encode(room, uint32(0)), make([]byte, 8*40)...))
		a := v.Ioctl(m, nrGetCPUID2, at)
		if room < n {
			if a.Errno != unix.E2BIG {
				t.Errorf("room for %d of %d: %s, want E2BIG", room, n, errnoName(a.Errno))
			}
			continue
		}
		got := m.get(at, 8+8*40)
		if a.Errno != 0 || le.Uint32(got) != n || !bytes.Equal(got[8:8+n*40], entries) || !bytes.Equal(got[8+n*40:], make([]byte, (8-n)*40)) {
			t.Errorf("room for %d: %s, or entries otherwise than set", room, errnoName(a.Errno))
		}
	}
	if a := v.Ioctl(m, nrSetCPUID2, m.put(append(encode(uint32(257), uint32(0)), make([]byte, 257*40)...))); a.Errno != unix.E2BIG {
		t.Errorf("257 entries: %s, want E2BIG", errnoName(a.Errno))
	}
}

func TestTSCKHz(t *testing.T) {
	m := newMachine(t, typeSNP)
	v := m.vcpu(0)
	if a := v.Ioctl(m, 0xAEA3, 0); a.Errno != 0 || a.Value <= 0 {
		t.Errorf("at first: %+v", a)
	}
	m.must(v.Ioctl(m, 0xAEA2, 2500000))
	if a := v.Ioctl(m, 0xAEA3, 0); a.Value != 2500000 {
		t.Errorf("set to 2500000, reads %d", a.Value)
	}
}

// SET_XSAVE takes no component that the processor lacks.
func TestXSAVERefusesUnknownComponents(t *testing.T) {
	m := newMachine(t, typeSNP)
	v := m.vcpu(0)
	for _, bv := range []uint64{1 << 3, 1 << 17, 1 << 63} {
		b := make([]byte, 4096)
		le.PutUint64(b[0x200:], bv)
		if a := v.Ioctl(m, nrSetXSAVE, m.put(b)); a.Errno != unix.EINVAL {
			t.Errorf("XSTATE_BV %#x: %s, want EINVAL", bv, errnoName(a.Errno))
		}
	}
}

func TestCreateVCPU(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.vcpu(0)
	m.vcpu(255)
	for id, want := range map[uint64]unix.Errno{0: unix.EEXIST, 255: unix.EEXIST, 4096: unix.EINVAL, 1 << 32: unix.EINVAL, 1<<64 - 1: unix.EINVAL} {
		if a := m.vm.Ioctl(m, nrCreateVCPU, id); a.Errno != want || a.New != nil {
			t.Errorf("id %d: %s, want %s", id, errnoName(a.Errno), errnoName(want))
		}
	}
	if m.vm.VCPUs() != 2 {
		t.Errorf("%d vCPUs, want 2", m.vm.VCPUs())
	}
	for i, want := range []uint32{0, 1} { // the bootstrap processor runs, others wait for INIT
		at := m.put(make([]byte, 4))
		m.must(m.vcpus[i].Ioctl(m, 0x8004AE98, at))
		if got := le.Uint32(m.get(at, 4)); got != want {
			t.Errorf("vCPU %d is in MP_STATE %d, want %d", i, got, want)
		}
	}
}

// A descriptor that is 0 would be QEMU's standard input.
func TestGetStatsFDFails(t *testing.T) {
	m := newMachine(t, typeSNP)
	v := m.vcpu(0)
	for name, o := range map[string]Object{"vCPU": v, "VM": m.vm} {
		if a := o.Ioctl(m, 0xAECE, 0); a.Errno == 0 || a.New != nil {
			t.Errorf("KVM_GET_STATS_FD of a %s: %+v", name, a)
		}
	}
}

// runPage reads and writes struct kvm_run through the vCPU's file, as QEMU does
// through its mapping.
func runPage(t *testing.T, v *VCPU, at int64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := v.File().ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	return b
}

func shutdownIsTold(t *testing.T, v *VCPU) bool {
	t.Helper()
	// exit_reason KVM_EXIT_SYSTEM_EVENT, type KVM_SYSTEM_EVENT_SHUTDOWN, ndata 0
	return bytes.Equal(runPage(t, v, 8, 4), encode(uint32(24))) && bytes.Equal(runPage(t, v, 32, 8), encode(uint32(1), uint32(0)))
}

func TestRun(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	bsp, ap := m.vcpu(0), m.vcpu(1)
	if st, err := bsp.File().Stat(); err != nil || st.Size() < 3*4096 {
		t.Errorf("struct kvm_run, its PIO page and the ring have %d bytes, %v", st.Size(), err)
	}
	if a := bsp.Ioctl(m, nrRun, 0); a.Errno != unix.EINVAL {
		t.Errorf("before the launch: %+v, want EINVAL", a)
	}
	a, _ := m.finish(finish{})
	m.must(a)

	if _, err := bsp.File().WriteAt([]byte{1}, 1); err != nil { // immediate_exit
		t.Fatal(err)
	}
	if a := bsp.Ioctl(m, nrRun, 0); a.Errno != unix.EINTR || a.Wait != nil {
		t.Errorf("with immediate_exit: %+v, want EINTR", a)
	}
	if _, err := bsp.File().WriteAt([]byte{0}, 1); err != nil {
		t.Fatal(err)
	}

	n := len(m.events)
	waits := map[*VCPU]Answer{}
	for _, v := range []*VCPU{bsp, ap} {
		a := v.Ioctl(m, nrRun, 0)
		if a.Errno != 0 || a.Wait == nil || a.Done == nil {
			t.Fatalf("a launched vCPU does not wait: %+v", a)
		}
		select {
		case <-a.Wait:
			t.Error("it does not wait until the host ends it")
		case <-time.After(20 * time.Millisecond):
		}
		waits[v] = a
	}
	if got := m.events[n:]; len(got) != 2 || got[0].Kind != EventRun || got[1].Kind != EventRun || got[0].Guest != m.vm.Guest() {
		t.Errorf("observed %+v", got)
	}
	m.host.EndAll()
	m.host.EndAll() // is harmless
	for v, a := range waits {
		select {
		case <-a.Wait:
		case <-time.After(5 * time.Second):
			t.Fatal("EndAll does not end the wait")
		}
		if shutdownIsTold(t, v) {
			t.Error("shutdown is told before the answer is taken")
		}
		a.Done()
		if !shutdownIsTold(t, v) {
			t.Error("the vCPU is not told to shut down")
		}
	}
	// Who comes later is told at once.
	if a := ap.Ioctl(m, nrRun, 0); a.Errno != 0 || a.Wait == nil {
		t.Errorf("after EndAll: %+v", a)
	} else if _, open := <-a.Wait; open {
		t.Error("after EndAll: waits")
	}
}

// Without Hold the bootstrap processor is told to shut down at once; the
// others wait for the end.
func TestRunWithoutHold(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.host.opts.Hold = false
	m.start()
	bsp, ap := m.vcpu(0), m.vcpu(1)
	a, _ := m.finish(finish{})
	m.must(a)
	if a := ap.Ioctl(m, nrRun, 0); a.Errno != 0 || a.Wait == nil {
		t.Errorf("AP: %+v", a)
	}
	if a := bsp.Ioctl(m, nrRun, 0); a.Errno != 0 || a.Wait != nil || a.Value != 0 {
		t.Errorf("BSP: %+v", a)
	}
	if !shutdownIsTold(t, bsp) {
		t.Error("the bootstrap processor is not told to shut down")
	}
}
