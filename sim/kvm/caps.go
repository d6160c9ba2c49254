package kvm

// Extensions that KVM_CHECK_EXTENSION is asked for (include/uapi/linux/kvm.h,
// KVM_CAP_*). Numbers that are not here are answered with 0, "not supported",
// which is what a kernel answers for extensions younger than itself.
const (
	capNrVCPUs          = 9
	capNrMemSlots       = 10
	capCoalescedMMIO    = 15
	capIRQRouting       = 25
	capMCE              = 31
	capAdjustClock      = 39
	capGetMSRFeatures   = 153
	capMaxVCPUs         = 66
	capSyncRegs         = 74
	capReadonlyMem      = 81
	capX86SMM           = 117
	capMultiAddrSpace   = 118
	capMaxVCPUID        = 128
	capExceptionPayload = 164
	capExitHypercall    = 201
	capXSAVE2           = 208
	capTripleFaultEvent = 218
	capMemoryAttributes = 233
	capGuestMemfd       = 234
	capVMTypes          = 235
	capGuestMemfdFlags  = 244

	hypercallMapGPARange = 12 // KVM_HC_MAP_GPA_RANGE
	adjustClockFlags     = 7  // TSC stable, realtime, host TSC
	multiAddrSpaces      = 2
	irqRoutes            = 4096
)

// extensions holds the answers that depend on nothing.
var extensions = map[uint64]int64{
	0:                   1, // IRQCHIP
	1:                   1, // HLT
	3:                   1, // USER_MEMORY
	4:                   1, // SET_TSS_ADDR
	6:                   1, // VAPIC
	7:                   1, // EXT_CPUID
	8:                   1, // CLOCKSOURCE
	capNrVCPUs:          maxVCPUs,
	capNrMemSlots:       maxMemSlots,
	11:                  1, // PIT
	12:                  1, // NOP_IO_DELAY
	14:                  1, // MP_STATE
	capCoalescedMMIO:    coalescedPage,
	16:                  1, // SYNC_MMU
	21:                  1, // DESTROY_MEMORY_REGION_WORKS
	22:                  1, // USER_NMI
	23:                  1, // SET_GUEST_DEBUG
	24:                  1, // REINJECT_CONTROL
	capIRQRouting:       irqRoutes,
	26:                  1, // IRQ_INJECT_STATUS
	30:                  1, // JOIN_MEMORY_REGIONS_WORKS
	capMCE:              mceBanks,
	32:                  1, // IRQFD
	33:                  1, // PIT2
	34:                  1, // SET_BOOT_CPU_ID
	35:                  1, // PIT_STATE2
	36:                  1, // IOEVENTFD
	37:                  1, // SET_IDENTITY_MAP_ADDR
	capAdjustClock:      adjustClockFlags,
	40:                  1, // INTERNAL_ERROR_DATA
	41:                  1, // VCPU_EVENTS
	50:                  1, // DEBUGREGS
	51:                  1, // X86_ROBUST_SINGLESTEP
	54:                  1, // ENABLE_CAP
	55:                  1, // XSAVE
	56:                  1, // XCRS
	59:                  1, // ASYNC_PF
	60:                  1, // TSC_CONTROL
	61:                  1, // GET_TSC_KHZ
	capMaxVCPUs:         maxVCPUs,
	72:                  1, // TSC_DEADLINE_TIMER
	76:                  1, // KVMCLOCK_CTRL
	77:                  1, // SIGNAL_MSI
	82:                  1, // IRQFD_RESAMPLE
	98:                  1, // ENABLE_CAP_VM
	122:                 1, // IOEVENTFD_ANY_LENGTH
	capMaxVCPUID:        maxVCPUID,
	136:                 1, // IMMEDIATE_EXIT
	95:                  1, // EXT_EMUL_CPUID
	capGetMSRFeatures:   1,
	capExceptionPayload: 1,
	200:                 1, // SREGS2
	capExitHypercall:    1 << hypercallMapGPARange,
	capXSAVE2:           xsaveSize,
	209:                 1, // SYS_ATTRIBUTES
	capTripleFaultEvent: 1,
	231:                 1, // USER_MEMORY2
}

// extension answers KVM_CHECK_EXTENSION on /dev/kvm (vm is nil) or on a VM.
// A VM with protected state says no to what would need its registers or
// shadowed memory: has_protected_state in Linux arch/x86/kvm/x86.c,
// kvm_vm_ioctl_check_extension.
func (h *Host) extension(n uint64, vm *VM) int64 {
	protected := vm != nil && vm.typ == vmSNP
	switch n {
	case capVMTypes:
		return h.vmTypes()
	case capGuestMemfd:
		if h.inject.lacks(LackGuestMemfd) {
			return 0
		}
		return boolValue(vm == nil || vm.private() || h.opts.Profile.gmemFlags)
	case capGuestMemfdFlags:
		if h.inject.lacks(LackGuestMemfd) || !h.opts.Profile.gmemFlags {
			return 0
		}
		return int64(gmemFlags(vm))
	case capMemoryAttributes:
		if vm != nil && !vm.private() {
			return 0
		}
		return memAttrPrivate
	case capReadonlyMem:
		return boolValue(!protected)
	case capSyncRegs:
		if protected {
			return 0
		}
		return 7 // regs, sregs, events
	case capX86SMM:
		return boolValue(!protected)
	case capMultiAddrSpace:
		if vm != nil && vm.private() {
			return 1
		}
		return multiAddrSpaces
	}
	return extensions[n]
}

// vmTypes is KVM_CAP_VM_TYPES: a bit for each VM type.
func (h *Host) vmTypes() int64 {
	types := int64(1<<vmDefault | 1<<vmSWProtected | 1<<vmSNP)
	if h.inject.lacks(LackSEV) || h.inject.lacks(LackSNPVMType) {
		types &^= 1 << vmSNP
	}
	return types
}

func boolValue(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
