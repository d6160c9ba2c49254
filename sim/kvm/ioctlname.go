package kvm

import "fmt"

// ioctlNumbers are the ioctls by the names of include/uapi/linux/kvm.h and
// psp-sev.h, for faults and messages.
var ioctlNumbers = map[string]uint32{
	"KVM_GET_API_VERSION":             ioGetAPIVersion,
	"KVM_CREATE_VM":                   ioCreateVM,
	"KVM_GET_MSR_INDEX_LIST":          ioGetMSRIndexList,
	"KVM_CHECK_EXTENSION":             ioCheckExtension,
	"KVM_GET_VCPU_MMAP_SIZE":          ioGetVCPUMmapSize,
	"KVM_GET_SUPPORTED_CPUID":         ioGetSupportedCPUID,
	"KVM_GET_EMULATED_CPUID":          ioGetEmulatedCPUID,
	"KVM_GET_MSR_FEATURE_INDEX_LIST":  ioGetMSRFeatureList,
	"KVM_X86_GET_MCE_CAP_SUPPORTED":   ioGetMCECapSupported,
	"KVM_GET_DEVICE_ATTR":             ioGetDeviceAttr,
	"KVM_HAS_DEVICE_ATTR":             ioHasDeviceAttr,
	"KVM_MEMORY_ENCRYPT_REG_REGION":   ioMemoryEncryptRegReg,
	"KVM_MEMORY_ENCRYPT_UNREG_REGION": ioMemoryEncryptUnreg,
	"KVM_GET_DIRTY_LOG":               ioGetDirtyLog,
	"KVM_CREATE_VCPU":                 ioCreateVCPU,
	"KVM_SET_TSS_ADDR":                ioSetTSSAddr,
	"KVM_SET_IDENTITY_MAP_ADDR":       ioSetIdentityMapAddr,
	"KVM_SET_USER_MEMORY_REGION":      ioSetUserMemory,
	"KVM_SET_USER_MEMORY_REGION2":     ioSetUserMemory2,
	"KVM_CREATE_IRQCHIP":              ioCreateIRQChip,
	"KVM_GET_IRQCHIP":                 ioGetIRQChip,
	"KVM_SET_IRQCHIP":                 ioSetIRQChip,
	"KVM_IRQ_LINE":                    ioIRQLine,
	"KVM_IRQ_LINE_STATUS":             ioIRQLineStatus,
	"KVM_REGISTER_COALESCED_MMIO":     ioRegCoalescedMMIO,
	"KVM_UNREGISTER_COALESCED_MMIO":   ioUnregCoalescedMMIO,
	"KVM_SET_GSI_ROUTING":             ioSetGSIRouting,
	"KVM_REINJECT_CONTROL":            ioReinjectControl,
	"KVM_IRQFD":                       ioIRQFD,
	"KVM_CREATE_PIT2":                 ioCreatePIT2,
	"KVM_SET_BOOT_CPU_ID":             ioSetBootCPUID,
	"KVM_IOEVENTFD":                   ioIOEventFD,
	"KVM_SET_CLOCK":                   ioSetClock,
	"KVM_GET_CLOCK":                   ioGetClock,
	"KVM_GET_PIT2":                    ioGetPIT2,
	"KVM_SET_PIT2":                    ioSetPIT2,
	"KVM_ENABLE_CAP":                  ioEnableCap,
	"KVM_SIGNAL_MSI":                  ioSignalMSI,
	"KVM_MEMORY_ENCRYPT_OP":           ioMemoryEncryptOp,
	"KVM_SET_MEMORY_ATTRIBUTES":       ioSetMemoryAttributes,
	"KVM_CREATE_GUEST_MEMFD":          ioCreateGuestMemfd,
	"KVM_CREATE_DEVICE":               ioCreateDevice,
	"KVM_RUN":                         ioRun,
	"KVM_GET_REGS":                    ioGetRegs,
	"KVM_SET_REGS":                    ioSetRegs,
	"KVM_GET_SREGS":                   ioGetSregs,
	"KVM_SET_SREGS":                   ioSetSregs,
	"KVM_GET_MSRS":                    ioGetMSRs,
	"KVM_SET_MSRS":                    ioSetMSRs,
	"KVM_GET_LAPIC":                   ioGetLAPIC,
	"KVM_SET_LAPIC":                   ioSetLAPIC,
	"KVM_SET_CPUID2":                  ioSetCPUID2,
	"KVM_GET_CPUID2":                  ioGetCPUID2,
	"KVM_TPR_ACCESS_REPORTING":        ioTPRAccess,
	"KVM_SET_VAPIC_ADDR":              ioSetVAPICAddr,
	"KVM_GET_MP_STATE":                ioGetMPState,
	"KVM_SET_MP_STATE":                ioSetMPState,
	"KVM_NMI":                         ioNMI,
	"KVM_X86_SETUP_MCE":               ioSetupMCE,
	"KVM_GET_VCPU_EVENTS":             ioGetVCPUEvents,
	"KVM_SET_VCPU_EVENTS":             ioSetVCPUEvents,
	"KVM_GET_DEBUGREGS":               ioGetDebugRegs,
	"KVM_SET_DEBUGREGS":               ioSetDebugRegs,
	"KVM_SET_TSC_KHZ":                 ioSetTSCKHz,
	"KVM_GET_TSC_KHZ":                 ioGetTSCKHz,
	"KVM_SET_XSAVE":                   ioSetXSAVE,
	"KVM_GET_XSAVE":                   ioGetXSAVE,
	"KVM_GET_XSAVE2":                  ioGetXSAVE2,
	"KVM_GET_XCRS":                    ioGetXCRS,
	"KVM_SET_XCRS":                    ioSetXCRS,
	"KVM_KVMCLOCK_CTRL":               ioKVMClockCtrl,
	"KVM_GET_SREGS2":                  ioGetSregs2,
	"KVM_SET_SREGS2":                  ioSetSregs2,
	"KVM_GET_STATS_FD":                ioGetStatsFD,
	"KVM_SET_SIGNAL_MASK":             ioSetSignalMask,
	"KVM_SET_GUEST_DEBUG":             ioSetGuestDebug,
	"KVM_INTERRUPT":                   ioInterrupt,
	"KVM_X86_SET_MCE":                 ioX86SetMCE,
	"SEV_ISSUE_CMD":                   ioSevIssueCommand,
}

var ioctlNames = func() map[uint32]string {
	m := make(map[uint32]string, len(ioctlNumbers))
	for name, n := range ioctlNumbers {
		m[n] = name
	}
	return m
}()

// ioctlName gives an ioctl's name, or its number.
func ioctlName(request uint32) string {
	if name, known := ioctlNames[request]; known {
		return name
	}
	return fmt.Sprintf("ioctl 0x%08x", request)
}

// IoctlName names an ioctl by its number, as include/uapi/linux/kvm.h does.
func IoctlName(request uint32) string { return ioctlName(request) }
