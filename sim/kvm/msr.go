package kvm

import "golang.org/x/sys/unix"

const (
	maxMSRs      = 256 // MAX_IO_MSRS
	msrEntrySize = 16
)

// MSRs that tell of the processor rather than of a vCPU
// (KVM_GET_MSR_FEATURE_INDEX_LIST; those that AMD processors have).
const (
	msrUcodeRev         = 0x8B
	msrArchCapabilities = 0x10A
	msrPerfCapabilities = 0x345
	msrDECfg            = 0xC0011029
)

var featureMSRs = []uint32{msrDECfg, msrUcodeRev, msrArchCapabilities, msrPerfCapabilities}

// featureMSR answers KVM_GET_MSRS on /dev/kvm.
func (m *machineCPU) featureMSR(index uint32) (uint64, bool) {
	switch index {
	case msrUcodeRev:
		return uint64(m.patchLevel) | uint64(m.microcode), true
	case msrArchCapabilities:
		// RDCL_NO, SKIP_L1DFL_VMENTRY, MDS_NO, PSCHANGE_MC_NO, TAA_NO, GDS_NO,
		// RFDS_NO: an AMD processor has none of these weaknesses
		// (kvm_get_arch_capabilities).
		return 1<<0 | 1<<3 | 1<<5 | 1<<6 | 1<<8 | 1<<26 | 1<<27, true
	case msrPerfCapabilities:
		return 0, true
	case msrDECfg:
		return 1 << 1, true // LFENCE is serialising
	}
	return 0, false
}

// msrIndices is KVM_GET_MSR_INDEX_LIST: the MSRs that QEMU may save and
// restore. Only those that a vCPU at reset has are named.
var msrIndices = []uint32{
	0x10, 0x3B, 0x174, 0x175, 0x176, 0x1A0, 0x1D9, 0x277, 0x2FF, 0x140, 0xDA0,
	0x4B564D00, 0x4B564D01, 0x4B564D02, 0x4B564D03, 0x4B564D04,
	0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103, 0xC0000104,
	0xC0010117, 0xC001011F, 0x48, 0xC0010015,
}

// msrList answers KVM_GET_MSRS and KVM_SET_MSRS: nmsrs u32, pad u32, then
// {index u32, reserved u32, data u64}. The value of the call is how many
// were done before one that is not known; QEMU asserts that it is all of them.
// set is nil for KVM_GET_MSRS.
func msrList(c Caller, arg uint64, get func(uint32) (uint64, bool), set func(uint32, uint64)) Answer {
	head, e := load(c, arg, 8)
	if e != 0 {
		return fail(e)
	}
	n := int(readU32(head))
	if n >= maxMSRs {
		return fail(unix.E2BIG)
	}
	b, e := load(c, arg+8, n*msrEntrySize)
	if e != 0 {
		return fail(e)
	}
	done := 0
	for ; done < n; done++ {
		entry := b[done*msrEntrySize:]
		index := readU32(entry)
		if set != nil {
			set(index, readU64(entry[8:]))
			continue
		}
		value, known := get(index)
		if !known {
			break
		}
		putU64(entry[8:], value)
	}
	if set == nil && n > 0 {
		if err := c.Write(arg+8, b); err != nil {
			return fail(unix.EFAULT)
		}
	}
	return value(int64(done))
}
