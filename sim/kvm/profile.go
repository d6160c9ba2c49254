package kvm

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// Profile is a host kernel: what differs between kernels that launch SNP
// guests. Profiles lists them; the zero value is DefaultProfile.
type Profile struct {
	name string
	since
	// debugSwap: DebugSwap (bit 5) is in every save area, asked for or not.
	debugSwap bool
	// fpuUnsynced: the save area has no floating point state, not even MXCSR and FCW.
	fpuUnsynced bool
}

// since says what a kernel has that older ones have not.
type since struct {
	// policyToFirmware: policies without SMT and with SINGLE_SOCKET are the
	// firmware's to refuse (6.16 or before); until then they are EINVAL.
	policyToFirmware bool
	// policyBits: the policy bits that are let through follow the firmware's
	// FEATURE_INFO, and KVM_X86_SNP_POLICY_BITS tells them.
	policyBits bool
	// reqCerts: KVM_SEV_SNP_ENABLE_REQ_CERTS.
	reqCerts bool
	// secureTSC: guests may be given SecureTSC (bit 9).
	secureTSC bool
	// vmsaAttr: KVM_X86_SEV_VMSA_FEATURES tells what KVM_SEV_INIT2 takes.
	vmsaAttr bool
	// emulatedBits: CPUID 1 ECX tells what KVM emulates, TSC_DEADLINE and
	// HYPERVISOR (6.14).
	emulatedBits bool
	// newCPUID: features told to user space since 6.14 (SRSO_USER_KERNEL_NO),
	// 6.15 (PREFETCHI) and 6.16 (IBRS_SAME_MODE).
	newCPUID bool
	// shadowStacks: CET for guests of AMD processors (6.18).
	shadowStacks bool
	// gmemFlags: guest_memfd for all VMs, with flags (6.18).
	gmemFlags bool
}

// DefaultProfile is the kernel of a Host that names none: the oldest long-term
// one with SNP hosts.
const DefaultProfile = "6.12"

var profiles = []Profile{
	{name: "6.11", since: since{vmsaAttr: true}},
	{name: "6.12", since: since{vmsaAttr: true}},
	{name: "7.2", since: since{policyToFirmware: true, policyBits: true, reqCerts: true, secureTSC: true, vmsaAttr: true,
		emulatedBits: true, newCPUID: true, shadowStacks: true, gmemFlags: true}},
	// AMD's SNP host tree of 2023, based on 6.6. Its save areas are what is
	// modelled: DebugSwap in all of them (Linux d1f85fbe836e; AMDESE/AMDSEV
	// issue 195) and no floating point state, which came with KVM_SEV_INIT2
	// (virtee/sev-snp-measure ae95e59). Its own ioctls were others; here it
	// answers those of 6.11, which released QEMUs make.
	{name: "amd-6.6", since: since{vmsaAttr: true}, debugSwap: true, fpuUnsynced: true},
}

// Profiles are the names that ParseProfile takes.
func Profiles() []string {
	names := make([]string, len(profiles))
	for i, p := range profiles {
		names[i] = p.name
	}
	return names
}

// ParseProfile finds a kernel by its name.
func ParseProfile(name string) (Profile, error) {
	for _, p := range profiles {
		if p.name == strings.ToLower(name) {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("kernel profile %q is not one of %s%s", name, strings.Join(Profiles(), ", "), didYouMean(name, Profiles()))
}

// String gives the profile's name.
func (p Profile) String() string { return p.orDefault().name }

func (p Profile) orDefault() Profile {
	if p.name != "" {
		return p
	}
	p, err := ParseProfile(DefaultProfile)
	if err != nil {
		panic(err) // it is in the list above
	}
	return p
}

// Save area features (SEV_FEATURES).
const (
	featureSNPActive = 1 << 0
	featureDebugSwap = 1 << 5
	featureSecureTSC = 1 << 9
)

// vmsaFeatures are those that KVM_SEV_INIT2 takes (sev_supported_vmsa_features).
func (p Profile) vmsaFeatures() uint64 {
	f := uint64(featureDebugSwap)
	if p.secureTSC {
		f |= featureSecureTSC
	}
	return f
}

// basePolicyMask are the policy bits that every kernel passes to the firmware:
// versions, SMT, bit 17, DEBUG, SINGLE_SOCKET (SNP_POLICY_MASK_VALID).
const basePolicyMask = snp.GuestPolicy(0xFFFF) | snp.PolicySMT | snp.PolicyReservedOne | snp.PolicyDebug | snp.PolicySingleSocket

// Firmware from which on FEATURE_INFO tells of policy bits 21 to 24, and of 25.
const (
	featureInfoMinor = 56
	pageSwapMinor    = 58
)

// policyMask are the policy bits that are passed to a platform's firmware
// (sev_get_snp_policy_bits).
func (p Profile) policyMask(c psp.Config) snp.GuestPolicy {
	mask := basePolicyMask
	if !p.policyBits {
		return mask
	}
	atLeast := func(minor uint8) bool {
		v := c.FirmwareVersion
		return v.Major > 1 || v.Major == 1 && v.Minor >= minor
	}
	if atLeast(featureInfoMinor) {
		mask |= snp.PolicyCXLAllow | snp.PolicyMemAES256XTS | snp.PolicyRAPLDis | snp.PolicyCiphertextHidingDRAM
	}
	if atLeast(pageSwapMinor) {
		mask |= snp.PolicyPageSwapDisable
	}
	return mask
}

// PolicyBits are the policy bits that KVM_X86_SNP_POLICY_BITS tells on a platform; 0
// where this kernel has no such attribute.
func (p Profile) PolicyBits(c psp.Config) snp.GuestPolicy {
	if !p.policyBits {
		return 0
	}
	return p.policyMask(c)
}

// policyRefused says whether KVM_SEV_SNP_LAUNCH_START is EINVAL for its policy.
func (p Profile) policyRefused(policy snp.GuestPolicy, c psp.Config) bool {
	switch {
	case policy&^p.policyMask(c) != 0, policy&snp.PolicyReservedOne == 0:
		return true
	case p.policyToFirmware:
		return false
	}
	return policy&snp.PolicySMT == 0 || policy&snp.PolicySingleSocket != 0
}
