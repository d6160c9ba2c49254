package kvm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// state is all that a call on the VM may change, as a text to compare.
func (m *machine) state() string {
	var b bytes.Buffer
	fmt.Fprintln(&b, m.vm.initialised, m.vm.launched, m.vm.guest != nil, len(m.vm.vcpus), m.host.platform.Status().GuestCount)
	if g := m.vm.guest; g != nil {
		fmt.Fprintln(&b, g.LaunchDigest(), g.Policy(), g.Updates())
	}
	for _, v := range m.vm.vcpus {
		fmt.Fprintln(&b, v.id, v.protected, v.debugged, v.vmsaPage(1))
	}
	fmt.Fprintln(&b, m.vm.attributes, m.vm.hasIRQChip, m.vm.hasPIT, m.vm.dead)
	taken := 0
	for _, id := range slices.Sorted(maps.Keys(m.vm.slots)) {
		s := m.vm.slots[id]
		fmt.Fprintln(&b, "slot", id, s.gpa, s.size, s.uaddr, s.gmem != nil, s.gmemOffset)
		if s.gmem != nil {
			taken += len(s.gmem.populated)
		}
	}
	fmt.Fprintln(&b, "taken", taken)
	return b.String()
}

// A call whose answer could not be delivered is undone and made again by the
// kernel: undone, nothing of it is left, and made again it does what it would
// have done.
func TestUndo(t *testing.T) {
	type call func(*machine) Answer
	op := func(id uint32, data []byte) call {
		return func(m *machine) Answer { a, _ := m.op(id, m.put(data)); return a }
	}
	update := func(typ uint8, pages uint64) call {
		return func(m *machine) Answer {
			a, _, _ := m.update(0x800, m.put(make([]byte, pages*pageSize)), pages*pageSize, typ, 0)
			return a
		}
	}
	for name, c := range map[string]struct {
		setup []func(*machine)
		call  call
		errno unix.Errno
	}{
		"INIT2": {nil, op(cmdINIT2, initParams(0, 0, 0)), 0},
		"CREATE_VCPU": {[]func(*machine){func(m *machine) { m.initialise(); m.vcpu(0) }}, func(m *machine) Answer {
			return m.vm.Ioctl(m, nrCreateVCPU, 1)
		}, 0},
		"START":     {[]func(*machine){(*machine).initialise}, op(cmdSTART, startParams(0x30000, 0)), 0},
		"slot made": {[]func(*machine){ready1}, func(m *machine) Answer { return m.region(7, 1<<40, 16*pageSize, 64<<20) }, 0},
		"slot deleted": {[]func(*machine){ready1}, func(m *machine) Answer {
			return m.vm.Ioctl(m, nrUserMemory2, m.put(append(encode(uint32(1), uint32(4)), make([]byte, 152)...)))
		}, 0},
		"shared slot moved": {[]func(*machine){ready1, func(m *machine) {
			m.must(m.vm.Ioctl(m, nrUserMemory, m.put(encode(uint32(8), uint32(0), uint64(1<<41), uint64(pageSize), uint64(0)))))
		}}, func(m *machine) Answer {
			return m.vm.Ioctl(m, nrUserMemory, m.put(encode(uint32(8), uint32(0), uint64(1<<42), uint64(pageSize), uint64(0))))
		}, 0},
		"START refused":    {[]func(*machine){(*machine).initialise}, op(cmdSTART, startParams(0x30200, 0)), unix.EIO},
		"UPDATE NORMAL":    {[]func(*machine){ready1}, func(m *machine) Answer { return updateAt(m, 0x900, 1, 3) }, 0},
		"UPDATE ZERO":      {[]func(*machine){ready1}, func(m *machine) Answer { return updateAt(m, 0x900, 3, 3) }, 0},
		"UPDATE SECRETS":   {[]func(*machine){ready1}, func(m *machine) Answer { return updateAt(m, 0x900, 5, 1) }, 0},
		"UPDATE populated": {[]func(*machine){ready1}, update(1, 1), unix.EIO},
		"UPDATE half way":  {[]func(*machine){ready1}, func(m *machine) Answer { return updateAt(m, 0x7FF, 1, 3) }, 0}, // 0x800 is taken
		"FINISH":           {[]func(*machine){ready1, twoVCPUs}, op(cmdFINISH, finish{}.bytes()), 0},
		"FINISH refused": {[]func(*machine){ready1, twoVCPUs}, func(m *machine) Answer {
			a, _ := m.finish(finish{blockEn: 1, block: m.put(make([]byte, 96)), auth: m.put(make([]byte, 4096))})
			return a
		}, unix.EIO},
		"FINISH, ID block nowhere": {[]func(*machine){ready1, twoVCPUs}, op(cmdFINISH, finish{blockEn: 1, block: 8, auth: 8}.bytes()), unix.EFAULT},
		"FINISH, second vCPU debugged": {[]func(*machine){ready1, twoVCPUs, func(m *machine) {
			d := make([]byte, 128)
			d[0x28] = 1
			m.must(m.vcpus[1].Ioctl(m, nrSetDebugRegs, m.put(d)))
		}}, op(cmdFINISH, finish{}.bytes()), unix.EINVAL},
		"FINISH of a launched VM":               {[]func(*machine){ready1, twoVCPUs, func(m *machine) { a, _ := m.finish(finish{}); m.must(a) }}, op(cmdFINISH, finish{}.bytes()), unix.EINVAL},
		"FINISH of a launched VM without vCPUs": {[]func(*machine){ready1, func(m *machine) { a, _ := m.finish(finish{}); m.must(a) }}, op(cmdFINISH, finish{}.bytes()), unix.EIO},
		"FINISH after one that was refused": {[]func(*machine){ready1, twoVCPUs, func(m *machine) {
			if a, _ := m.finish(finish{blockEn: 1, block: m.put(make([]byte, 96)), auth: m.put(make([]byte, 4096))}); a.Errno != unix.EIO {
				m.Fatalf("%+v", a)
			}
		}}, op(cmdFINISH, finish{}.bytes()), unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			m, plain := newMachine(t, typeSNP), newMachine(t, typeSNP)
			for _, f := range c.setup {
				f(m)
				f(plain)
			}
			before := m.state()
			for range 3 {
				a := c.call(m)
				if a.Errno != c.errno {
					t.Fatalf("gives %s, want %s", errnoName(a.Errno), errnoName(c.errno))
				}
				if a.Undo != nil {
					a.Undo()
				}
				if got := m.state(); got != before {
					t.Fatal("undone, and something of it is left")
				}
			}
			for _, a := range []Answer{c.call(m), c.call(plain)} {
				if a.Errno != c.errno {
					t.Errorf("made again: %s, want %s", errnoName(a.Errno), errnoName(c.errno))
				}
				if a.New != nil {
					t.Cleanup(a.New.Close)
				}
			}
			if m.state() != plain.state() {
				t.Error("made again it does something else than at first")
			}
			if c.errno == 0 && m.state() == before {
				t.Error("the call changes nothing, so that this test shows nothing")
			}
		})
	}
}

func updateAt(m *machine, gfn uint64, typ uint8, pages uint64) Answer {
	a, _, _ := m.update(gfn, m.put(pattern(int(pages*pageSize))), pages*pageSize, typ, 0)
	return a
}

func twoVCPUs(m *machine) {
	m.setQEMURegisters(m.vcpu(0), qemuVCPU{})
	m.setQEMURegisters(m.vcpu(1), qemuVCPU{reset: apReset})
}

// Undoing an update gives the caller back the parameters that it had, since the
// kernel restarts the call with them.
func TestUndoUpdateGivesParametersBack(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	m.memory16M()
	params := updateParams(0x800, m.put(pattern(2*pageSize)), 2*pageSize, 1, 0)
	at := m.put(params)
	a, _ := m.op(cmdUPDATE, at)
	m.must(a)
	if bytes.Equal(m.get(at, 64), params) {
		t.Fatal("the update left its parameters alone")
	}
	a.Undo()
	if !bytes.Equal(m.get(at, 64), params) {
		t.Errorf("undone: % x, want % x", m.get(at, 64), params)
	}
	a, _ = m.op(cmdUPDATE, at)
	m.must(a)
	want := snp.LaunchDigest{}
	for _, u := range m.vm.Guest().Updates() {
		want = fold(want, uint8(u.Type), u.GPA, u.Contents)
	}
	if n := len(m.vm.Guest().Updates()); n != 2 || m.digest() != want {
		t.Errorf("restarted: %d pages, digest %s, want %s", n, m.digest(), want)
	}
}

// What was handed out before stays as it was, whatever is undone and done
// again: the launcher keeps the list of updates of a failed launch.
func TestUndoDoesNotRewriteHistory(t *testing.T) {
	m := newMachine(t, typeSNP)
	ready1(m)
	twoVCPUs(m)
	a, _ := m.finish(finish{})
	m.must(a)
	kept := m.vm.Guest().Updates()
	copied := append([]snp.Update(nil), kept...)
	a.Undo()
	regs := make([]byte, 144)
	regs[0] = 0x77
	for _, v := range m.vcpus {
		m.must(v.Ioctl(m, nrSetRegs, m.put(regs)))
	}
	a, _ = m.finish(finish{})
	m.must(a)
	for i := range copied {
		if kept[i] != copied[i] {
			t.Errorf("page %d of the list handed out before has changed", i)
		}
	}
}
