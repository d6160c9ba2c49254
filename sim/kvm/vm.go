package kvm

import (
	"os"

	"github.com/snplaunch/snplaunch/sim/psp"
	"golang.org/x/sys/unix"
)

// VM is an open VM file. The SNP guest context belongs to it: QEMU 11 makes a
// new VM file, and with it a new context, when the guest is reset.
type VM struct {
	host    *Host
	file    *os.File
	typ     uint64
	pid     int
	slots   map[uint32]slot
	private ranges
	vcpus   []*VCPU // in creation order, which is the order of their VMSAs

	initialised  bool // KVM_SEV_INIT2 done
	vmsaFeatures uint64
	guest        *psp.Guest // after SNP_LAUNCH_START
	sevFD        int        // the descriptor of /dev/sev that it was started through
	launched     bool       // SNP_LAUNCH_FINISH done
	dead         bool       // KVM has given it up: kvm_vm_dead

	irqchip [3][520]byte
	clock   [48]byte
	pit2    [112]byte
}

func newVM(h *Host, f *os.File, typ uint64, pid int) *VM {
	return &VM{host: h, file: f, typ: typ, pid: pid, slots: map[uint32]slot{}}
}

// File implements Object.
func (vm *VM) File() *os.File { return vm.file }

// Close implements Object: the last descriptor of the VM is gone, so its
// context is decommissioned.
func (vm *VM) Close() {
	if vm.guest != nil {
		vm.guest.Decommission()
	}
	vm.file.Close()
}

// Guest is the VM's guest context, nil before SNP_LAUNCH_START.
func (vm *VM) Guest() *psp.Guest { return vm.guest }

// VCPUs is how many vCPUs the VM has.
func (vm *VM) VCPUs() int { return len(vm.vcpus) }

// Ioctl implements Object.
func (vm *VM) Ioctl(c Caller, request uint32, arg uint64) Answer {
	return vm.host.serve(request, func() Answer { return vm.ioctl(c, request, arg) })
}

func (vm *VM) ioctl(c Caller, request uint32, arg uint64) Answer {
	if vm.dead {
		return fail(unix.EIO)
	}
	switch request {
	case ioCheckExtension:
		return value(vm.host.extension(arg, vm))
	case ioCreateVCPU:
		return vm.createVCPU(arg)
	case ioSetUserMemory:
		return vm.setMemory(c, arg, memoryRegionSize)
	case ioSetUserMemory2:
		return vm.setMemory(c, arg, snpMemoryRegion2Size)
	case ioSetMemoryAttributes:
		return vm.setAttributes(c, arg)
	case ioCreateGuestMemfd:
		return vm.createGuestMemfd(c, arg)
	case ioMemoryEncryptOp:
		return vm.encryptOp(c, arg)
	case ioEnableCap:
		return vm.enableCap(c, arg)
	case ioGetIRQChip:
		return vm.irqchipState(c, arg, false)
	case ioSetIRQChip:
		return vm.irqchipState(c, arg, true)
	case ioGetClock:
		return store(c, arg, vm.clock[:])
	case ioSetClock:
		return loadInto(c, arg, vm.clock[:])
	case ioGetPIT2:
		return store(c, arg, vm.pit2[:])
	case ioSetPIT2:
		return loadInto(c, arg, vm.pit2[:])
	case ioIRQLineStatus: // {irq u32, level u32}: the irq becomes the status
		b, e := load(c, arg, 8)
		if e != 0 {
			return fail(e)
		}
		putU32(b, 1)
		return store(c, arg, b)
	case ioSetTSSAddr, ioSetIdentityMapAddr, ioCreateIRQChip, ioIRQLine, ioRegCoalescedMMIO, ioUnregCoalescedMMIO,
		ioSetGSIRouting, ioReinjectControl, ioIRQFD, ioCreatePIT2, ioSetBootCPUID, ioIOEventFD, ioSignalMSI:
		return ok() // devices of a machine that never runs
	case ioCreateDevice:
		return fail(unix.ENODEV)
	case ioMemoryEncryptRegReg, ioMemoryEncryptUnreg:
		return fail(unix.ENOTTY)
	}
	vm.host.opts.Logf("ioctl 0x%08x on a VM is not known: EINVAL", request)
	return fail(unix.EINVAL)
}

// enableCap answers KVM_ENABLE_CAP: cap u32, flags u32, args[4] u64.
func (vm *VM) enableCap(c Caller, arg uint64) Answer {
	b, e := load(c, arg, 104)
	if e != 0 {
		return fail(e)
	}
	n, arg0 := uint64(readU32(b)), readU64(b[8:])
	if readU32(b[4:]) != 0 {
		return fail(unix.EINVAL)
	}
	if n == capExitHypercall && arg0&^(1<<hypercallMapGPARange) != 0 {
		return fail(unix.EINVAL)
	}
	if vm.host.extension(n, vm) == 0 {
		return fail(unix.EINVAL)
	}
	return ok()
}

// irqchipState answers KVM_GET_IRQCHIP and KVM_SET_IRQCHIP: chip_id u32, pad u32, 512 bytes.
func (vm *VM) irqchipState(c Caller, arg uint64, set bool) Answer {
	b, e := load(c, arg, 520)
	if e != 0 {
		return fail(e)
	}
	id := readU32(b)
	if int(id) >= len(vm.irqchip) {
		return fail(unix.EINVAL)
	}
	if set {
		copy(vm.irqchip[id][:], b)
		return ok()
	}
	putU32(vm.irqchip[id][:], id)
	return store(c, arg, vm.irqchip[id][:])
}

// loadInto answers a "set" call whose whole argument is kept as it is.
func loadInto(c Caller, arg uint64, dst []byte) Answer {
	b, e := load(c, arg, len(dst))
	if e != 0 {
		return fail(e)
	}
	copy(dst, b)
	return ok()
}
