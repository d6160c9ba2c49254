package psp

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// Config is a simulated processor, its firmware, and how its owner has set
// both up. ParsePlatform and DefaultConfig give whole ones, to be changed.
type Config struct {
	Product    string // "Genoa"; names the certificates
	Stepping   string // "B1", as in the VCEK's product name "Genoa-B1"
	Family     uint8  // combined with the extended family
	Model      uint8  // combined with the extended model
	SteppingID uint8

	TCBLayout snp.TCBLayout
	// ChipIDSize is how many bytes of CHIP_ID name the chip; the rest is zero.
	// 64 on Milan and Genoa, 8 on Turin.
	ChipIDSize int

	// FirmwareVersion is that of the running firmware: its API version in Major
	// and Minor, and its build.
	FirmwareVersion snp.FirmwareVersion
	// CommittedFirmware is what the host cannot go back behind any more; zero:
	// FirmwareVersion.
	CommittedFirmware snp.FirmwareVersion
	// TCB is CURRENT_TCB.
	TCB snp.TCBParts
	// CommittedTCB is COMMITTED_TCB, which a guest's LAUNCH_TCB is taken from;
	// zero: TCB.
	CommittedTCB snp.TCBParts
	// ReportedTCB is REPORTED_TCB as SNP_SET_CONFIG sets it, which the VCEK is
	// derived for; zero: CommittedTCB.
	ReportedTCB snp.TCBParts
	// MitVector is CURRENT_MIT_VECTOR, and LAUNCH_MIT_VECTOR of guests that start
	// (reports of version 5).
	MitVector uint64

	// What the machine was set up for. Guest policies ask for it and reports
	// show it in PLATFORM_INFO.
	SMTEnabled         bool
	TSMEEnabled        bool
	ECCEnabled         bool
	RAPLDisabled       bool
	CiphertextHiding   bool // of DRAM
	AliasCheckComplete bool
	// MemAES256XTS: memory is encrypted with AES-256-XTS. Reports do not show it.
	MemAES256XTS bool
	Sockets      int

	// MaskChipID makes CHIP_ID of reports zero (SNP_SET_CONFIG).
	MaskChipID bool
	// MaskChipKey keeps the chip's key out of reports, which are then not signed,
	// and out of derived keys (SNP_SET_CONFIG).
	MaskChipKey bool
	// VLEKLoaded: the provider's key was loaded (SNP_VLEK_LOAD), and signs where
	// a guest does not ask for the VCEK.
	VLEKLoaded bool
	// CSPID names the provider in the VLEK's certificate; empty: "snplaunch".
	CSPID string

	// ChipID is CHIP_ID in reports and HWID in the VCEK. All zero: one that
	// is made from the root, so that each user's chip has its own.
	ChipID [64]byte
	// MaxASID is the highest ASID that SNP_ACTIVATE takes; 0: any. A real part
	// has hundreds, but the software host launches more guests than that in
	// one life, so by default nothing runs out.
	MaxASID uint32
	// CPUIDCheck: CPUID pages are held against the processor. Without it only
	// their form is, so that a launch with any CPU model goes through: for
	// sweeps over all of them, which no single real processor would take.
	CPUIDCheck bool
	// ReportVersion is VERSION of attestation reports: 2, 3 or 5.
	ReportVersion uint32
}

// Platforms are the names that ParsePlatform takes.
func Platforms() []string { return []string{"milan", "genoa", "turin"} }

// ParsePlatform gives the processor of a name of Platforms, in either case.
// Firmware builds and TCB versions are examples of the kind that such parts
// have; so are the report versions, which are chosen so that each of the three
// is some platform's.
func ParsePlatform(name string) (Config, error) {
	c := Config{SMTEnabled: true, Sockets: 1, CPUIDCheck: true, ChipIDSize: 64}
	switch strings.ToLower(name) {
	case "milan":
		c.Product, c.Stepping, c.Family, c.Model, c.SteppingID = "Milan", "B1", 0x19, 0x01, 1
		c.FirmwareVersion = snp.FirmwareVersion{Major: 1, Minor: 55, Build: 24}
		c.TCB = snp.TCBParts{BootLoader: 4, TEE: 0, SNP: 24, Microcode: 219}
		c.ReportVersion = 2
	case "genoa":
		c.Product, c.Stepping, c.Family, c.Model, c.SteppingID = "Genoa", "B1", 0x19, 0x11, 1
		c.FirmwareVersion = snp.FirmwareVersion{Major: 1, Minor: 55, Build: 25}
		c.TCB = snp.TCBParts{BootLoader: 9, TEE: 0, SNP: 21, Microcode: 72}
		c.ReportVersion = 3
	case "turin":
		c.Product, c.Stepping, c.Family, c.Model, c.SteppingID = "Turin", "B1", 0x1A, 0x02, 1
		c.FirmwareVersion = snp.FirmwareVersion{Major: 1, Minor: 58, Build: 2}
		c.TCBLayout, c.ChipIDSize = snp.TCBLayoutTurin, 8
		c.TCB = snp.TCBParts{FMC: 1, BootLoader: 1, TEE: 1, SNP: 4, Microcode: 81}
		c.MitVector = 1
		c.ReportVersion = 5
	default:
		return Config{}, fmt.Errorf("platform %q is not one of %s", name, strings.Join(Platforms(), ", "))
	}
	return c, nil
}

// DefaultConfig is a Genoa with SMT on and SEV firmware 1.55.25, which makes
// reports of version 3.
func DefaultConfig() Config {
	c, err := ParsePlatform("genoa")
	if err != nil {
		panic(err) // it is in the list above
	}
	return c
}

// check says what of a configuration no processor has.
func (c Config) check() error {
	switch c.ReportVersion {
	case 2, 3, 5:
	default:
		return fmt.Errorf("report version %d is not offered; use 2, 3 or 5", c.ReportVersion)
	}
	if c.ChipIDSize < 1 || c.ChipIDSize > 64 {
		return fmt.Errorf("a chip id of %d bytes does not fit the report; it has 1 to 64", c.ChipIDSize)
	}
	for _, b := range c.ChipID[c.ChipIDSize:] {
		if b != 0 {
			return fmt.Errorf("chip ids of a %s have %d bytes; the rest must be zero", c.Product, c.ChipIDSize)
		}
	}
	if committed := c.committed(); !committed.AtMost(c.TCB) || !c.reported().AtMost(committed) {
		return fmt.Errorf("TCB versions: reported %+v must not be above committed %+v, nor that above current %+v", c.reported(), committed, c.TCB)
	}
	return nil
}

func (c Config) committed() snp.TCBParts {
	if c.CommittedTCB == (snp.TCBParts{}) {
		return c.TCB
	}
	return c.CommittedTCB
}

func (c Config) reported() snp.TCBParts {
	if c.ReportedTCB == (snp.TCBParts{}) {
		return c.committed()
	}
	return c.ReportedTCB
}

func (c Config) committedFirmware() snp.FirmwareVersion {
	if c.CommittedFirmware == (snp.FirmwareVersion{}) {
		return c.FirmwareVersion
	}
	return c.CommittedFirmware
}

func (c Config) cspID() string {
	if c.CSPID == "" {
		return "snplaunch"
	}
	return c.CSPID
}

// signature is CPUID function 1 EAX.
func (c Config) signature() uint32 {
	family, model := uint32(c.Family), uint32(c.Model)
	base := min(family, 0xF)
	return (family-base)<<20 | model>>4<<16 | base<<8 | model&0xF<<4 | uint32(c.SteppingID)
}

// platformInfo is PLATFORM_INFO.
func (c Config) platformInfo() (info uint64) {
	for bit, set := range map[uint64]bool{
		snp.PlatformSMTEnabled: c.SMTEnabled, snp.PlatformTSMEEnabled: c.TSMEEnabled, snp.PlatformECCEnabled: c.ECCEnabled,
		snp.PlatformRAPLDisabled: c.RAPLDisabled, snp.PlatformCiphertextHidingDRAM: c.CiphertextHiding,
		snp.PlatformAliasCheckComplete: c.AliasCheckComplete,
	} {
		if set {
			info |= bit
		}
	}
	return info
}

// policyRefused says whether SNP_LAUNCH_START refuses a policy for its bits 16
// and above: reserved ones, and those that ask for what the platform is not.
// Firmware 1.55.25 reserves 63:21. Bits 24:21 are known from 1.56 on and bit 25
// from 1.58 (that one by Linux 7.2, sev_get_snp_policy_bits); where exactly 24:21
// came is not known.
func (c Config) policyRefused(p snp.GuestPolicy) bool {
	fw := c.FirmwareVersion
	atLeast := func(minor uint8) bool { return fw.Major > 1 || fw.Major == 1 && fw.Minor >= minor }
	known := snp.GuestPolicy(1<<21 - 1)
	if atLeast(56) {
		known |= snp.PolicyCXLAllow | snp.PolicyMemAES256XTS | snp.PolicyRAPLDis | snp.PolicyCiphertextHidingDRAM
	}
	if atLeast(58) {
		known |= snp.PolicyPageSwapDisable
	}
	return p&snp.PolicyReservedOne == 0 ||
		p&snp.PolicySMT == 0 && c.SMTEnabled ||
		p&^known != 0 ||
		p&snp.PolicyMemAES256XTS != 0 && !c.MemAES256XTS ||
		p&snp.PolicyRAPLDis != 0 && !c.RAPLDisabled ||
		p&snp.PolicyCiphertextHidingDRAM != 0 && !c.CiphertextHiding
}
