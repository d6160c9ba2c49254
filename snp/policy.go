package snp

import (
	"fmt"
	"strconv"
	"strings"
)

// GuestPolicy is the 64-bit POLICY that SNP_LAUNCH_START takes, that the ID
// block repeats and that the report shows (56860, "Guest Policy").
type GuestPolicy uint64

// Bits of GuestPolicy. Bits 7:0 and 15:8 hold the minimum firmware ABI minor
// and major version; bits 63:26 must be zero.
const (
	PolicySMT                  GuestPolicy = 1 << 16 // host may run with SMT on
	PolicyReservedOne          GuestPolicy = 1 << 17 // must be one
	PolicyMigrateMA            GuestPolicy = 1 << 18 // a migration agent may be associated
	PolicyDebug                GuestPolicy = 1 << 19 // the host may decrypt guest memory
	PolicySingleSocket         GuestPolicy = 1 << 20 // only one socket may run the guest
	PolicyCXLAllow             GuestPolicy = 1 << 21
	PolicyMemAES256XTS         GuestPolicy = 1 << 22
	PolicyRAPLDis              GuestPolicy = 1 << 23
	PolicyCiphertextHidingDRAM GuestPolicy = 1 << 24
	PolicyPageSwapDisable      GuestPolicy = 1 << 25

	// PolicyDefault is QEMU's default and ours: SMT allowed, nothing else.
	PolicyDefault = PolicySMT | PolicyReservedOne
)

var policyBitNames = []struct {
	bit  GuestPolicy
	name string
}{
	{PolicySMT, "SMT"},
	{PolicyMigrateMA, "MIGRATE_MA"},
	{PolicyDebug, "DEBUG"},
	{PolicySingleSocket, "SINGLE_SOCKET"},
	{PolicyCXLAllow, "CXL_ALLOW"},
	{PolicyMemAES256XTS, "MEM_AES_256_XTS"},
	{PolicyRAPLDis, "RAPL_DIS"},
	{PolicyCiphertextHidingDRAM, "CIPHERTEXT_HIDING_DRAM"},
	{PolicyPageSwapDisable, "PAGE_SWAP_DISABLE"},
}

// ABIMajor is the least firmware ABI major version that the guest accepts.
func (p GuestPolicy) ABIMajor() uint8 { return uint8(p >> 8) }

// ABIMinor is the least firmware ABI minor version that the guest accepts.
func (p GuestPolicy) ABIMinor() uint8 { return uint8(p) }

// String gives the policy as QEMU takes it, e.g. "0x30000".
func (p GuestPolicy) String() string { return "0x" + strconv.FormatUint(uint64(p), 16) }

// Describe gives the policy in words: "0x30000 (ABI 0.0, SMT)".
func (p GuestPolicy) Describe() string {
	words := []string{fmt.Sprintf("ABI %d.%d", p.ABIMajor(), p.ABIMinor())}
	known := GuestPolicy(0xFFFF) | PolicyReservedOne
	for _, b := range policyBitNames {
		known |= b.bit
		if p&b.bit != 0 {
			words = append(words, b.name)
		}
	}
	if p&PolicyReservedOne == 0 {
		words = append(words, "bit 17 clear, which no firmware accepts")
	}
	if rest := p &^ known; rest != 0 {
		words = append(words, fmt.Sprintf("reserved bits 0x%x", uint64(rest)))
	}
	return fmt.Sprintf("%s (%s)", p, strings.Join(words, ", "))
}

// ParseGuestPolicy reads a policy in hexadecimal (0x…), octal, binary or decimal.
func ParseGuestPolicy(s string) (GuestPolicy, error) {
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("policy %q is not a 64-bit number (write it as 0x30000 or 196608)", s)
	}
	return GuestPolicy(v), nil
}
