package host

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

const (
	sevIssueCommand      = 0xC0105300 // SEV_ISSUE_CMD
	sevSNPPlatformStatus = 9          // SNP_PLATFORM_STATUS

	kvmCheckExtension = 0xAE03
	kvmGetDeviceAttr  = 0x4018AEE2
	kvmCapGuestMemfd  = 234
	kvmCapVMTypes     = 235
	kvmVMTypeSNP      = 4
	kvmX86GroupSEV    = 1
	kvmX86PolicyBits  = 1 // KVM_X86_SNP_POLICY_BITS
)

// here says whether devices are those of this machine.
func (p probe) here() bool { return p.root.Dir == "" || p.root.Dir == "/" }

// askPlatform issues SNP_PLATFORM_STATUS: struct sev_issue_cmd, packed, is cmd u32,
// data u64 (an address), error u32.
func (p probe) askPlatform() ([]byte, error) {
	if !p.here() {
		return nil, errNotAsked
	}
	f, err := os.OpenFile("/dev/sev", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out, issue := make([]byte, snpStatusSize), make([]byte, 16)
	var pin runtime.Pinner // the address is in issue, where nobody else sees it
	pin.Pin(&out[0])
	defer pin.Unpin()
	le := binary.LittleEndian
	le.PutUint32(issue, sevSNPPlatformStatus)
	le.PutUint64(issue[4:], uint64(uintptr(unsafe.Pointer(&out[0]))))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), sevIssueCommand, uintptr(unsafe.Pointer(&issue[0])))
	if errno != 0 {
		if status := snp.Status(le.Uint32(issue[12:])); status != 0 {
			return nil, fmt.Errorf("SNP_PLATFORM_STATUS: %w, firmware status %s", errno, status)
		}
		return nil, fmt.Errorf("SNP_PLATFORM_STATUS: %w", errno)
	}
	return out, nil
}

// askKVM asks for capabilities and the policy mask.
func (p probe) askKVM() (KVMOffers, error) {
	if !p.here() {
		return KVMOffers{}, errNotAsked
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return KVMOffers{}, err
	}
	defer f.Close()
	capability := func(n uintptr) (uintptr, error) {
		v, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), kvmCheckExtension, n)
		if errno != 0 {
			return 0, fmt.Errorf("KVM_CHECK_EXTENSION: %w", errno)
		}
		return v, nil
	}
	types, err := capability(kvmCapVMTypes)
	if err != nil {
		return KVMOffers{}, err
	}
	memfd, err := capability(kvmCapGuestMemfd)
	if err != nil {
		return KVMOffers{}, err
	}
	o := KVMOffers{SNP: types>>kvmVMTypeSNP&1 != 0, GuestMemfd: memfd != 0}
	// struct kvm_device_attr: flags u32, group u32, attr u64, addr u64 of a u64.
	mask := new(uint64)
	var pin runtime.Pinner
	pin.Pin(mask)
	defer pin.Unpin()
	attr := &struct {
		flags, group uint32
		attr         uint64
		addr         uint64
	}{group: kvmX86GroupSEV, attr: kvmX86PolicyBits, addr: uint64(uintptr(unsafe.Pointer(mask)))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), kvmGetDeviceAttr, uintptr(unsafe.Pointer(attr))); errno == 0 {
		o.PolicyBits = snp.GuestPolicy(*mask)
	}
	return o, nil
}
