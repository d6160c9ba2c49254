package kvm

import (
	"os"

	"golang.org/x/sys/unix"
)

// VCPU is an open vCPU file. What user space sets is kept as it came and is
// what it reads back; QEMU reads registers back and sets them again before
// the launch, so an answer of zeros would change the measurement.
type VCPU struct {
	vm        *VM
	file      *os.File
	id        uint32
	run       []byte // struct kvm_run, shared with the caller
	vmsa      []byte // its save area, as measured
	debugged  bool   // KVM_SET_GUEST_DEBUG has taken its debug registers
	protected bool   // its save area has been measured: registers are out of reach

	regs      [regsSize]byte
	sregs     [sregsSize]byte
	fpu       *fpState
	xcrs      [392]byte
	events    [64]byte
	debugregs [128]byte
	lapic     [1024]byte
	mpState   [4]byte
	msrs      map[uint32]uint64
	cpuid     []byte // entries only
	tscKHz    uint64
}

const (
	defaultTSCKHz = 2_000_000
	mpUninit      = 1

	guestDebugSize   = 72
	guestDebugEnable = 1
)

// createVCPU answers KVM_CREATE_VCPU; the argument is the APIC id.
func (vm *VM) createVCPU(id uint64) Answer {
	if id >= maxVCPUID || len(vm.vcpus) >= maxVCPUs {
		return fail(unix.EINVAL)
	}
	for _, v := range vm.vcpus {
		if uint64(v.id) == id {
			return fail(unix.EEXIST)
		}
	}
	f, err := newFile("snplaunch-vcpu", vcpuMmapSize)
	if err != nil {
		return fail(unix.ENOMEM)
	}
	run, err := unix.Mmap(int(f.Fd()), 0, vcpuMmapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return fail(unix.ENOMEM)
	}
	v := &VCPU{vm: vm, file: f, id: uint32(id), run: run, fpu: newFPState(), tscKHz: defaultTSCKHz,
		msrs: map[uint32]uint64{msrPAT: defaultPAT}}
	putU64(v.regs[regsRFLAGS:], 2)
	putU64(v.regs[regsRIP:], 0xFFF0)
	putU64(v.debugregs[0x20:], dr6Fixed)
	putU64(v.debugregs[0x28:], dr7Fixed)
	putU32(v.xcrs[:], 1)
	putU64(v.xcrs[16:], 1)
	if id != 0 {
		putU32(v.mpState[:], mpUninit)
	}
	vm.vcpus = append(vm.vcpus, v)
	return Answer{New: v, Undo: func() {
		vm.vcpus = vm.vcpus[:len(vm.vcpus)-1]
		v.Close()
	}}
}

// File implements Object.
func (v *VCPU) File() *os.File { return v.file }

// Close implements Object.
func (v *VCPU) Close() {
	if v.run != nil {
		_ = unix.Munmap(v.run) // nothing to do about it
		v.run = nil
	}
	v.file.Close()
}

func (v *VCPU) dr7() uint64 { return readU64(v.debugregs[0x28:]) }

// xcr0 finds XCR0 in struct kvm_xcrs: nr u32, flags u32, {xcr u32, pad u32, value u64}[16].
func (v *VCPU) xcr0() uint64 {
	for i := uint32(0); i < min(readU32(v.xcrs[:]), 16); i++ {
		e := v.xcrs[8+16*i:]
		if readU32(e) == 0 {
			return readU64(e[8:])
		}
	}
	return 1
}

// Ioctl implements Object.
func (v *VCPU) Ioctl(c Caller, request uint32, arg uint64) Answer {
	return v.vm.host.serve(request, func() Answer { return v.ioctl(c, request, arg) })
}

func (v *VCPU) ioctl(c Caller, request uint32, arg uint64) Answer {
	if v.vm.dead {
		return fail(unix.EIO)
	}
	switch request {
	case ioRun:
		return v.enter(c)
	case ioGetRegs, ioSetRegs, ioGetSregs, ioSetSregs, ioGetSregs2, ioSetSregs2, ioSetXSAVE, ioGetXSAVE, ioGetXSAVE2,
		ioGetXCRS, ioSetXCRS, ioGetDebugRegs, ioSetDebugRegs, ioSetGuestDebug:
		if v.protected { // KVM refuses access to encrypted register state
			return fail(unix.EINVAL)
		}
	}
	switch request {
	case ioGetRegs:
		return store(c, arg, v.regs[:])
	case ioSetRegs:
		return loadInto(c, arg, v.regs[:])
	case ioGetSregs2:
		return store(c, arg, v.sregs[:])
	case ioSetSregs2:
		return loadInto(c, arg, v.sregs[:])
	case ioGetSregs:
		return store(c, arg, v.sregs[:sregsV1])
	case ioSetSregs:
		return loadInto(c, arg, v.sregs[:sregsFlags]) // without the interrupt bitmap, which ends kvm_sregs
	case ioGetXSAVE, ioGetXSAVE2:
		return store(c, arg, v.fpu.get())
	case ioSetXSAVE:
		b, e := load(c, arg, xsaveSize)
		if e != 0 {
			return fail(e)
		}
		if readU64(b[xsaveBV:])&^v.vm.host.cpu.xcr0 != 0 {
			return fail(unix.EINVAL)
		}
		v.fpu.set(b)
		return ok()
	case ioGetXCRS:
		return store(c, arg, v.xcrs[:])
	case ioSetXCRS:
		return loadInto(c, arg, v.xcrs[:])
	case ioGetVCPUEvents:
		return store(c, arg, v.events[:])
	case ioSetVCPUEvents:
		return loadInto(c, arg, v.events[:])
	case ioGetDebugRegs:
		return store(c, arg, v.debugregs[:])
	case ioSetDebugRegs:
		return loadInto(c, arg, v.debugregs[:])
	case ioGetLAPIC:
		return store(c, arg, v.lapic[:])
	case ioSetLAPIC:
		return loadInto(c, arg, v.lapic[:])
	case ioGetMPState:
		return store(c, arg, v.mpState[:])
	case ioSetMPState:
		return loadInto(c, arg, v.mpState[:])
	case ioGetMSRs, ioSetMSRs:
		get := func(index uint32) (uint64, bool) { return v.msrs[index], true }
		set := func(index uint32, value uint64) { v.msrs[index] = value }
		if request == ioGetMSRs {
			set = nil
		}
		return msrList(c, arg, get, set)
	case ioSetCPUID2:
		return v.setCPUID(c, arg)
	case ioGetCPUID2:
		n := len(v.cpuid) / cpuidEntrySize
		head, e := load(c, arg, 8)
		if e != 0 {
			return fail(e)
		}
		if int(readU32(head)) < n {
			return fail(unix.E2BIG)
		}
		putU32(head, uint32(n))
		return store(c, arg, append(head, v.cpuid...))
	case ioSetTSCKHz:
		if arg != 0 {
			v.tscKHz = arg
		}
		return ok()
	case ioGetTSCKHz:
		return value(int64(v.tscKHz))
	case ioSetGuestDebug: // struct kvm_guest_debug: control u32, pad u32, debugreg[8] u64
		b, e := load(c, arg, guestDebugSize)
		if e != 0 {
			return fail(e)
		}
		before := v.debugged
		v.debugged = readU32(b)&guestDebugEnable != 0
		return Answer{Undo: func() { v.debugged = before }}
	case ioTPRAccess, ioSetVAPICAddr, ioSetupMCE, ioKVMClockCtrl, ioSetSignalMask, ioNMI, ioInterrupt, ioX86SetMCE:
		return ok() // devices of a machine that never runs
	case ioEnableCap:
		return fail(unix.EINVAL)
	case ioGetStatsFD:
		return fail(unix.ENOTTY) // 0 would be taken for a descriptor
	}
	v.vm.host.opts.Logf("ioctl 0x%08x on a vCPU is not known: EINVAL", request)
	return fail(unix.EINVAL)
}

// enter answers KVM_RUN. Nothing is executed: the thread waits until the host
// ends the VM, and a signal interrupts the wait as it interrupts KVM_RUN.
func (v *VCPU) enter(c Caller) Answer {
	if v.run[runImmediateExit] != 0 {
		return fail(unix.EINTR)
	}
	vm := v.vm
	if vm.typ == vmSNP && !vm.launched {
		return fail(unix.EINVAL)
	}
	if vm.typ != vmSNP {
		vm.host.opts.Logf("a VM that is no SNP guest runs nothing on the software SNP host")
	}
	vm.host.observe(Event{Kind: EventRun, PID: c.PID(), VM: vm, Guest: vm.guest})
	shutdown := func() {
		putU32(v.run[runExitReason:], exitSystemEvent)
		putU32(v.run[runSystemEventType:], systemEventShut)
		putU32(v.run[runSystemEventType+4:], 0)
	}
	if !vm.host.opts.Hold && vm.vcpus[0] == v {
		shutdown()
		return ok()
	}
	return Answer{Wait: vm.host.ended, Done: shutdown}
}

func (v *VCPU) setCPUID(c Caller, arg uint64) Answer {
	head, e := load(c, arg, 8)
	if e != 0 {
		return fail(e)
	}
	n := int(readU32(head))
	if n > maxCPUIDEntries {
		return fail(unix.E2BIG)
	}
	b, e := load(c, arg+8, n*cpuidEntrySize)
	if e != 0 {
		return fail(e)
	}
	v.cpuid = b
	return ok()
}
