package kvm

import (
	"os"

	"golang.org/x/sys/unix"
)

// System is an open /dev/kvm.
type System struct {
	host *Host
	file *os.File
}

// File implements Object.
func (s *System) File() *os.File { return s.file }

// Close implements Object.
func (s *System) Close() { s.file.Close() }

// Device attributes of /dev/kvm (arch/x86/include/uapi/asm/kvm.h).
const (
	attrGroupX86     = 0
	attrXCompGuest   = 0 // KVM_X86_XCOMP_GUEST_SUPP
	attrGroupSEV     = 1
	attrVMSAFeatures = 0 // KVM_X86_SEV_VMSA_FEATURES
	deviceAttrSize   = 24
)

// msrIndices is KVM_GET_MSR_INDEX_LIST: the MSRs that QEMU may save and
// restore. Only those that a vCPU at reset has are named.
var msrIndices = []uint32{
	0x10, 0x3B, 0x174, 0x175, 0x176, 0x1A0, 0x1D9, 0x277, 0x2FF, 0x140, 0xDA0,
	0x4B564D00, 0x4B564D01, 0x4B564D02, 0x4B564D03, 0x4B564D04,
	0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103, 0xC0000104,
	0xC0010117, 0xC001011F, 0x48, 0xC0010015,
}

// Ioctl implements Object.
func (s *System) Ioctl(c Caller, request uint32, arg uint64) Answer {
	return s.host.serve(request, func() Answer { return s.ioctl(c, request, arg) })
}

func (s *System) ioctl(c Caller, request uint32, arg uint64) Answer {
	switch request {
	case ioGetAPIVersion:
		return value(apiVersion)
	case ioCreateVM:
		return s.createVM(c, arg)
	case ioGetMSRIndexList:
		body := make([]byte, 4*len(msrIndices))
		for i, m := range msrIndices {
			putU32(body[4*i:], m)
		}
		return storeList(c, arg, len(msrIndices), 4, body)
	case ioGetMSRFeatureList:
		return storeList(c, arg, 0, 4, nil)
	case ioCheckExtension:
		return value(s.host.extension(arg, nil))
	case ioGetVCPUMmapSize:
		return value(vcpuMmapSize)
	case ioGetSupportedCPUID:
		leaves := supportedCPUID()
		return storeList(c, arg, len(leaves), 8, encodeCPUID(leaves))
	case ioGetEmulatedCPUID:
		return storeList(c, arg, 0, 8, nil)
	case ioGetMCECapSupported:
		b := make([]byte, 8)
		putU64(b, mceBanks|1<<8|1<<24) // MCG_CTL_P, MCG_SER_P
		return store(c, arg, b)
	case ioGetDeviceAttr, ioHasDeviceAttr:
		return s.deviceAttr(c, arg, request == ioGetDeviceAttr)
	}
	s.host.opts.Logf("ioctl 0x%08x on /dev/kvm is not known: EINVAL", request)
	return fail(unix.EINVAL)
}

// deviceAttr answers KVM_GET_DEVICE_ATTR and KVM_HAS_DEVICE_ATTR:
// {flags u32, group u32, attr u64, addr u64}. Both attributes are u64.
func (s *System) deviceAttr(c Caller, arg uint64, get bool) Answer {
	b, e := load(c, arg, deviceAttrSize)
	if e != 0 {
		return fail(e)
	}
	if readU32(b) != 0 {
		return fail(unix.EINVAL)
	}
	var v uint64
	switch group, attr := readU32(b[4:]), readU64(b[8:]); {
	case group == attrGroupX86 && attr == attrXCompGuest:
		v = supportedXCR0
	case group == attrGroupSEV && attr == attrVMSAFeatures:
		v = supportedVMSAFeatures
	default:
		return fail(unix.ENXIO)
	}
	if !get {
		return ok()
	}
	out := make([]byte, 8)
	putU64(out, v)
	return store(c, readU64(b[16:]), out)
}

func (s *System) createVM(c Caller, typ uint64) Answer {
	if typ >= 63 || s.host.vmTypes()>>typ&1 == 0 {
		return fail(unix.EINVAL)
	}
	f, err := newFile("snplaunch-vm", 0)
	if err != nil {
		return fail(unix.ENOMEM)
	}
	return Answer{New: newVM(s.host, f, typ, c.PID())}
}
