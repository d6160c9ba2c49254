package kvm

// Ioctl request numbers, all 32 bits: several share type and number and
// differ only in direction and size (Linux include/uapi/linux/kvm.h).
const (
	// On /dev/kvm.
	ioGetAPIVersion       = 0xAE00
	ioCreateVM            = 0xAE01
	ioGetMSRIndexList     = 0xC004AE02
	ioCheckExtension      = 0xAE03 // also on a VM file
	ioGetVCPUMmapSize     = 0xAE04
	ioGetSupportedCPUID   = 0xC008AE05
	ioGetEmulatedCPUID    = 0xC008AE09
	ioGetMSRFeatureList   = 0xC004AE0A
	ioGetMCECapSupported  = 0x8008AE9D
	ioGetDeviceAttr       = 0x4018AEE2
	ioHasDeviceAttr       = 0x4018AEE3
	ioMemoryEncryptRegReg = 0x8010AEBB
	ioMemoryEncryptUnreg  = 0x8010AEBC

	// On a VM file.
	ioCreateVCPU          = 0xAE41
	ioSetTSSAddr          = 0xAE47
	ioSetIdentityMapAddr  = 0x4008AE48
	ioGetDirtyLog         = 0x4010AE42
	ioSetUserMemory       = 0x4020AE46
	ioSetUserMemory2      = 0x40A0AE49
	ioCreateIRQChip       = 0xAE60
	ioGetIRQChip          = 0xC208AE62
	ioSetIRQChip          = 0x8208AE63
	ioIRQLine             = 0x4008AE61
	ioIRQLineStatus       = 0xC008AE67
	ioRegCoalescedMMIO    = 0x4010AE67
	ioUnregCoalescedMMIO  = 0x4010AE68
	ioSetGSIRouting       = 0x4008AE6A
	ioReinjectControl     = 0xAE71
	ioIRQFD               = 0x4020AE76
	ioCreatePIT2          = 0x4040AE77
	ioSetBootCPUID        = 0xAE78
	ioIOEventFD           = 0x4040AE79
	ioSetClock            = 0x4030AE7B
	ioGetClock            = 0x8030AE7C
	ioGetPIT2             = 0x8070AE9F
	ioSetPIT2             = 0x4070AEA0
	ioEnableCap           = 0x4068AEA3 // also on a vCPU file
	ioSignalMSI           = 0x4020AEA5
	ioMemoryEncryptOp     = 0xC008AEBA
	ioSetMemoryAttributes = 0x4020AED2
	ioCreateGuestMemfd    = 0xC040AED4
	ioCreateDevice        = 0xC00CAEE0

	// On a vCPU file.
	ioRun             = 0xAE80
	ioGetRegs         = 0x8090AE81
	ioSetRegs         = 0x4090AE82
	ioGetSregs        = 0x8138AE83
	ioSetSregs        = 0x4138AE84
	ioGetMSRs         = 0xC008AE88
	ioSetMSRs         = 0x4008AE89
	ioGetLAPIC        = 0x8400AE8E
	ioSetLAPIC        = 0x4400AE8F
	ioSetCPUID2       = 0x4008AE90
	ioGetCPUID2       = 0xC008AE91
	ioTPRAccess       = 0xC028AE92
	ioSetVAPICAddr    = 0x4008AE93
	ioGetMPState      = 0x8004AE98
	ioSetMPState      = 0x4004AE99
	ioNMI             = 0xAE9A
	ioSetupMCE        = 0x4008AE9C
	ioGetVCPUEvents   = 0x8040AE9F
	ioSetVCPUEvents   = 0x4040AEA0
	ioGetDebugRegs    = 0x8080AEA1
	ioSetDebugRegs    = 0x4080AEA2
	ioSetTSCKHz       = 0xAEA2
	ioGetTSCKHz       = 0xAEA3
	ioSetXSAVE        = 0x5000AEA5
	ioGetXSAVE        = 0x9000AEA4
	ioGetXSAVE2       = 0x9000AECF
	ioGetXCRS         = 0x8188AEA6
	ioSetXCRS         = 0x4188AEA7
	ioKVMClockCtrl    = 0xAEAD
	ioGetSregs2       = 0x8140AECC
	ioSetSregs2       = 0x4140AECD
	ioGetStatsFD      = 0xAECE
	ioSetSignalMask   = 0x4004AE8B
	ioSetGuestDebug   = 0x4048AE9B
	ioInterrupt       = 0x4004AE86
	ioX86SetMCE       = 0x4040AE9E
	ioSevIssueCommand = 0xC0105300 // on /dev/sev (include/uapi/linux/psp-sev.h)
)

// apiVersion is what KVM_GET_API_VERSION has answered since Linux 2.6.22.
const apiVersion = 12

// VM types (KVM_CREATE_VM), arch/x86/include/uapi/asm/kvm.h.
const (
	vmDefault     = 0
	vmSWProtected = 1
	vmSNP         = 4
)

// Commands of KVM_MEMORY_ENCRYPT_OP, arch/x86/include/uapi/asm/kvm.h.
const (
	sevInit2           = 22
	snpLaunchStart     = 100
	snpLaunchUpdate    = 101
	snpLaunchFinish    = 102
	snpEnableReqCerts  = 103
	firstSNPCommand    = 100
	kvmSevCmdSize      = 24
	kvmSevInitSize     = 48
	snpStartSize       = 64
	snpUpdateSize      = 64
	snpFinishSize      = 88
	memAttrPrivate     = 1 << 3
	exitSystemEvent    = 24 // KVM_EXIT_SYSTEM_EVENT
	systemEventShut    = 1  // KVM_SYSTEM_EVENT_SHUTDOWN
	runImmediateExit   = 1  // offsets in struct kvm_run
	runExitReason      = 8
	runSystemEventType = 32
	vcpuMmapSize       = 3 * 4096 // kvm_run, PIO page, coalesced MMIO ring
	coalescedPage      = 2        // page of the ring, KVM_CAP_COALESCED_MMIO
)

// Limits: what KVM 6.12 answers on x86 for its limits.
const (
	maxVCPUs    = 1024
	maxVCPUID   = 4096
	maxMemSlots = 32764
	mceBanks    = 32
)
