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
	attrPolicyBits   = 1 // KVM_X86_SNP_POLICY_BITS
	attrReqCerts     = 2 // KVM_X86_SEV_SNP_REQ_CERTS
	deviceAttrSize   = 24
)

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
		body := make([]byte, 4*len(featureMSRs))
		for i, m := range featureMSRs {
			putU32(body[4*i:], m)
		}
		return storeList(c, arg, len(featureMSRs), 4, body)
	case ioGetMSRs:
		return msrList(c, arg, s.host.cpu.featureMSR, nil)
	case ioCheckExtension:
		return value(s.host.extension(arg, nil))
	case ioGetVCPUMmapSize:
		return value(vcpuMmapSize)
	case ioGetSupportedCPUID:
		return storeCPUID(c, arg, s.host.cpu.supportedCPUID())
	case ioGetEmulatedCPUID:
		return storeCPUID(c, arg, emulatedCPUID())
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
// {flags u32, group u32, attr u64, addr u64}. All attributes are u64.
func (s *System) deviceAttr(c Caller, arg uint64, get bool) Answer {
	b, e := load(c, arg, deviceAttrSize)
	if e != 0 {
		return fail(e)
	}
	if readU32(b) != 0 {
		return fail(unix.EINVAL)
	}
	v, known := s.attribute(readU32(b[4:]), readU64(b[8:]))
	if !known {
		return fail(unix.ENXIO)
	}
	if !get {
		return ok()
	}
	out := make([]byte, 8)
	putU64(out, v)
	return store(c, readU64(b[16:]), out)
}

func (s *System) attribute(group uint32, attr uint64) (v uint64, known bool) {
	kernel := s.host.opts.Profile
	switch group {
	case attrGroupX86:
		return s.host.cpu.xcr0, attr == attrXCompGuest
	case attrGroupSEV:
		switch {
		case s.host.inject.lacks(LackSEV):
			return 0, false
		case attr == attrVMSAFeatures && kernel.vmsaAttr:
			return kernel.vmsaFeatures(), true
		case attr == attrPolicyBits && kernel.policyBits:
			return uint64(kernel.policyMask(s.host.platform.Config())), true
		case attr == attrReqCerts && kernel.reqCerts:
			return 1, true
		}
	}
	return 0, false
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
