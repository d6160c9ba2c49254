package kvm

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// VM is an open VM file. The SNP guest context belongs to it: QEMU 11 makes a
// new VM file, and with it a new context, when the guest is reset.
type VM struct {
	host  *Host
	file  *os.File
	typ   uint64
	pid   int
	slots map[uint32]slot
	// attributes are the pages that user space has set to private; they outlive slots.
	attributes ranges
	vcpus      []*VCPU // in creation order, which is the order of their VMSAs

	initialised  bool   // KVM_SEV_INIT2 done
	asid         uint32 // from KVM_SEV_INIT2 on
	vmsaFeatures uint64
	guest        *psp.Guest        // after SNP_LAUNCH_START
	sevFD        int               // the descriptor of /dev/sev that it was started through
	launched     bool              // SNP_LAUNCH_FINISH done
	started      *startRequest     // what SNP_LAUNCH_START was asked for
	finished     *psp.FinishParams // what SNP_LAUNCH_FINISH was asked for
	pages        []Page            // Options.KeepPages
	dead         bool              // KVM has given it up: kvm_vm_dead

	hasIRQChip, hasPIT bool
	irqchip            [3][520]byte
	clock              [48]byte
	pit2               [112]byte
}

// startRequest is what KVM_SEV_SNP_LAUNCH_START asks for.
type startRequest struct {
	policy snp.GuestPolicy
	gosvw  [16]byte
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
	if vm.asid != 0 {
		vm.host.asids.give(vm.asid)
		vm.asid = 0
	}
	vm.file.Close()
}

// private says whether the VM may have private memory (kvm_arch_has_private_mem).
func (vm *VM) private() bool { return vm.typ == vmSNP || vm.typ == vmSWProtected }

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
		return vm.setMemory(c, arg, memoryRegion2Size)
	case ioGetDirtyLog:
		return vm.getDirtyLog(c, arg)
	case ioSetMemoryAttributes:
		return vm.setAttributes(c, arg)
	case ioCreateGuestMemfd:
		return vm.createGuestMemfd(c, arg)
	case ioMemoryEncryptOp:
		return vm.encryptOp(c, arg)
	case ioEnableCap:
		return vm.enableCap(c, arg)
	case ioCreateIRQChip:
		switch {
		case vm.hasIRQChip:
			return fail(unix.EEXIST)
		case len(vm.vcpus) > 0:
			return fail(unix.EINVAL)
		}
		vm.hasIRQChip = true
		return Answer{Undo: func() { vm.hasIRQChip = false }}
	case ioCreatePIT2: // struct kvm_pit_config: flags u32 and padding
		if _, e := load(c, arg, 64); e != 0 {
			return fail(e)
		}
		switch {
		case vm.hasPIT:
			return fail(unix.EEXIST)
		case !vm.hasIRQChip:
			return fail(unix.ENOENT)
		}
		vm.hasPIT = true
		return Answer{Undo: func() { vm.hasPIT = false }}
	case ioGetIRQChip:
		return vm.irqchipState(c, arg, false)
	case ioSetIRQChip:
		return vm.irqchipState(c, arg, true)
	case ioGetClock:
		return store(c, arg, vm.clock[:])
	case ioSetClock:
		return loadInto(c, arg, vm.clock[:])
	case ioGetPIT2, ioSetPIT2:
		if !vm.hasPIT {
			return fail(unix.ENXIO)
		}
		if request == ioSetPIT2 {
			return loadInto(c, arg, vm.pit2[:])
		}
		return store(c, arg, vm.pit2[:])
	case ioIRQLineStatus: // {irq u32, level u32}: the irq becomes the status
		b, e := load(c, arg, 8)
		switch {
		case e != 0:
			return fail(e)
		case !vm.hasIRQChip:
			return fail(unix.ENXIO)
		}
		putU32(b, 1)
		return store(c, arg, b)
	case ioSetTSSAddr:
		if uint32(arg) > 1<<32-3*snp.PageSize {
			return fail(unix.EINVAL)
		}
		return ok()
	case ioSetIdentityMapAddr:
		if len(vm.vcpus) > 0 {
			return fail(unix.EINVAL)
		}
		return ok()
	case ioIRQLine, ioRegCoalescedMMIO, ioUnregCoalescedMMIO, ioSetGSIRouting, ioReinjectControl, ioIRQFD, ioSetBootCPUID, ioIOEventFD, ioSignalMSI:
		return ok() // devices of a machine that never runs
	case ioCreateDevice:
		return fail(unix.ENODEV)
	case ioMemoryEncryptRegReg, ioMemoryEncryptUnreg:
		return fail(unix.ENOTTY)
	}
	vm.host.opts.Logf("ioctl 0x%08x on a VM is not known: ENOTTY", request)
	return fail(unix.ENOTTY)
}

// enableCap answers KVM_ENABLE_CAP: cap u32, flags u32, args[4] u64. Few of
// the extensions need enabling.
func (vm *VM) enableCap(c Caller, arg uint64) Answer {
	b, e := load(c, arg, 104)
	if e != 0 {
		return fail(e)
	}
	n, arg0 := uint64(readU32(b)), readU64(b[8:])
	if readU32(b[4:]) != 0 {
		return fail(unix.EINVAL)
	}
	switch n {
	case capExitHypercall:
		if arg0&^(1<<hypercallMapGPARange) != 0 {
			return fail(unix.EINVAL)
		}
		return ok()
	case capExceptionPayload, capTripleFaultEvent:
		return ok()
	}
	vm.host.opts.Logf("KVM_ENABLE_CAP %d on a VM is not known: EINVAL", n)
	return fail(unix.EINVAL)
}

// irqchipState answers KVM_GET_IRQCHIP and KVM_SET_IRQCHIP: chip_id u32, pad u32, 512 bytes.
func (vm *VM) irqchipState(c Caller, arg uint64, set bool) Answer {
	b, e := load(c, arg, 520)
	if e != 0 {
		return fail(e)
	}
	if !vm.hasIRQChip {
		return fail(unix.ENXIO)
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
