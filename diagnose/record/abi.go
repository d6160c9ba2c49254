package record

import (
	"maps"
	"slices"
)

// Ioctl requests (Linux include/uapi/linux/kvm.h, psp-sev.h).
const (
	RequestCreateVM         = 0xAE01
	RequestCreateVCPU       = 0xAE41
	RequestSetMemoryRegion  = 0x4020AE46
	RequestSetMemoryRegion2 = 0x40A0AE49
	RequestSetAttributes    = 0x4020AED2
	RequestCreateGuestMemfd = 0xC040AED4
	RequestMemoryEncryptOp  = 0xC008AEBA
	RequestSEVIssueCommand  = 0xC0105300

	ioSetRegs       = 0x4090AE82
	ioSetSregs      = 0x4138AE84
	ioSetSregs2     = 0x4140AECD
	ioSetXSAVE      = 0x5000AEA5
	ioSetXCRS       = 0x4188AEA7
	ioSetMSRs       = 0x4008AE89
	ioSetDebugRegs  = 0x4080AEA2
	ioSetGuestDebug = 0x4048AE9B
	ioSetClock      = 0x4030AE7B // a VM is let run
	ioKVMClockCtrl  = 0xAEAD     // and stopped
	ioIRQLineStatus = 0xC008AE67 // its devices are at work
)

// Commands of KVM_MEMORY_ENCRYPT_OP (arch/x86/include/uapi/asm/kvm.h, enum sev_cmd_id), and the VM type that they are for.
const (
	CommandInit2  = 22
	CommandStart  = 100
	CommandUpdate = 101
	CommandFinish = 102

	VMTypeSNP = 4 // KVM_X86_SNP_VM
)

// Sizes of structures in bytes, and limits to what is believed of a caller.
const (
	memSlotGuestMemfd = 1 << 2 // KVM_MEM_GUEST_MEMFD
	memoryRegionSize  = 32
	memoryRegion2Size = 160
	attributesSize    = 32
	guestMemfdSize    = 64
	sevCmdSize        = 24
	sevInitSize       = 48
	snpStartSize      = 64
	snpUpdateSize     = 64
	snpFinishSize     = 88
	sevIssueSize      = 16
	msrEntrySize      = 16
	maxMSRs           = 4096
	maxUpdateBytes    = 1 << 32
	maxStderr         = 64 << 10
	maxWrite          = 64 << 10
	maxIovecs         = 64
)

// System calls of x86-64.
const (
	sysWrite     = 1
	sysIoctl     = 16
	sysWritev    = 20
	sysExitGroup = 231

	stderrFD = 2
)

// Requests are the ioctls of KVM's type that a Recorder makes use of.
func Requests() []uint32 {
	requests := []uint32{
		RequestCreateVM, RequestCreateVCPU, RequestSetMemoryRegion, RequestSetMemoryRegion2, RequestSetAttributes, RequestCreateGuestMemfd, RequestMemoryEncryptOp,
		ioSetClock, ioKVMClockCtrl, ioIRQLineStatus,
	}
	return append(requests, slices.Sorted(maps.Keys(registerSets))...)
}

// registerSets are the calls that set a vCPU's registers: their names and the size
// of their structures in bytes; 0: a list with a count.
var registerSets = map[uint32]struct {
	name string
	size int
}{
	ioSetRegs:       {"KVM_SET_REGS", 144},
	ioSetSregs:      {"KVM_SET_SREGS", 312},
	ioSetSregs2:     {"KVM_SET_SREGS2", 320},
	ioSetXSAVE:      {"KVM_SET_XSAVE", 4096},
	ioSetXCRS:       {"KVM_SET_XCRS", 392},
	ioSetMSRs:       {"KVM_SET_MSRS", 0},
	ioSetDebugRegs:  {"KVM_SET_DEBUGREGS", 128},
	ioSetGuestDebug: {"KVM_SET_GUEST_DEBUG", 72},
}

// RegisterRequest gives the ioctl number and the structure's size in bytes of a call
// that sets registers, by its name; size is 0 for KVM_SET_MSRS, a list.
func RegisterRequest(name string) (request uint32, size int, known bool) {
	for r, s := range registerSets {
		if s.name == name {
			return r, s.size, true
		}
	}
	return 0, 0, false
}
