package kvm

import (
	"testing"

	"golang.org/x/sys/unix"
)

// withDevices makes the interrupt controllers and the timer.
func withDevices(m *machine) {
	m.must(m.vm.Ioctl(m, 0xAE60, 0))
	m.must(m.vm.Ioctl(m, 0x4040AE77, m.put(make([]byte, 64))))
}

// What is made first and what only once (Linux arch/x86/kvm/x86.c, kvm_arch_vm_ioctl).
func TestDeviceOrder(t *testing.T) {
	m := newMachine(t, typeSNP)
	call := func(what string, request uint32, arg uint64, want unix.Errno) {
		t.Helper()
		if a := m.vm.Ioctl(m, request, arg); a.Errno != want {
			t.Errorf("%s: %s, want %s", what, errnoName(a.Errno), errnoName(want))
		}
	}
	empty := m.put(make([]byte, 1024))
	call("PIT before the interrupt controllers", 0x4040AE77, empty, unix.ENOENT)
	call("state of controllers that are not there", 0xC208AE62, empty, unix.ENXIO)
	call("setting it", 0x8208AE63, empty, unix.ENXIO)
	call("a line of theirs", 0xC008AE67, empty, unix.ENXIO)
	call("state of a PIT that is not there", 0x8070AE9F, empty, unix.ENXIO)
	call("setting it", 0x4070AEA0, empty, unix.ENXIO)
	call("identity map", 0x4008AE48, empty, 0)
	call("TSS", 0xAE47, 0xFEFFD000, 0)
	call("TSS at the end of 4 GiB", 0xAE47, 0xFFFFE000, unix.EINVAL)
	withDevices(m)
	call("PIT again", 0x4040AE77, empty, unix.EEXIST)
	call("PIT from nowhere", 0x4040AE77, 8, unix.EFAULT)
	call("interrupt controllers again", 0xAE60, 0, unix.EEXIST)
	m.vcpu(0)
	call("identity map after a vCPU", 0x4008AE48, empty, unix.EINVAL)

	late := newMachine(t, typeSNP)
	late.vcpu(0)
	if a := late.vm.Ioctl(late, 0xAE60, 0); a.Errno != unix.EINVAL {
		t.Errorf("interrupt controllers after a vCPU: %s, want EINVAL", errnoName(a.Errno))
	}
}
