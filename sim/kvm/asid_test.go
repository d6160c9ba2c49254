package kvm

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/psp"
)

// A host has so many ASIDs: KVM_SEV_INIT2 is EBUSY when all are in use, and
// those of VMs that have ended are given again after a flush.
func TestASIDs(t *testing.T) {
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	c := psp.DefaultConfig()
	c.MaxASID = 3
	p, err := psp.New(c, ca)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachineWith(t, p, typeSNP)
	kvm := m.open("/dev/kvm")
	launch := func() (*VM, unix.Errno) {
		m.vm = kvm.Ioctl(m, nrCreateVM, typeSNP).New.(*VM)
		a, told := m.op(cmdINIT2, m.put(initParams(0, 0, 0)))
		if a.Errno != 0 {
			if told != stale {
				t.Errorf("INIT2 tells %#x", told)
			}
			m.vm.Close()
			return nil, a.Errno
		}
		a, _ = m.op(cmdSTART, m.put(startParams(0x30000, 0)))
		m.must(a)
		return m.vm, 0
	}
	var vms []*VM
	for range 3 {
		vm, e := launch()
		if e != 0 {
			t.Fatal(errnoName(e))
		}
		vms = append(vms, vm)
	}
	for range 2 {
		if _, e := launch(); e != unix.EBUSY {
			t.Errorf("a fourth guest: %s, want EBUSY", errnoName(e))
		}
	}
	for round := range 5 {
		vms[1].Close()
		vm, e := launch()
		if e != 0 {
			t.Fatalf("round %d: %s", round, errnoName(e))
		}
		vms[1] = vm
		if vms[1].asid != 2 {
			t.Errorf("round %d: ASID %d, want the free one, 2", round, vms[1].asid)
		}
	}
	for _, vm := range vms {
		vm.Close()
	}
	// A call that was undone has taken none.
	m.vm = m.mustNew(kvm.Ioctl(m, nrCreateVM, typeSNP)).(*VM)
	for range 10 {
		a, _ := m.op(cmdINIT2, m.put(initParams(0, 0, 0)))
		m.must(a).Undo()
	}
	m.initialise()
}
