package psp

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"sync"

	"github.com/snplaunch/snplaunch/snp"
)

// Config is a simulated processor and the version of its firmware.
type Config struct {
	Product    string // "Genoa"; names the certificates
	Stepping   string // "B1", as in the VCEK's product name "Genoa-B1"
	Family     uint8  // combined with the extended family
	Model      uint8  // combined with the extended model
	SteppingID uint8

	// FirmwareVersion holds the API version in Major and Minor.
	FirmwareVersion snp.FirmwareVersion
	// TCB is current, reported, committed and launch TCB in one.
	TCB        snp.TCBParts
	SMTEnabled bool
	Sockets    int
	// ChipID is CHIP_ID in reports and HWID in the VCEK. All zero: one that
	// is made from the root, so that each user's chip has its own.
	ChipID [64]byte
	// MaxASID is the highest ASID that SNP_ACTIVATE takes; 0: any. A real part
	// has hundreds, but the software host launches more guests than that in
	// one life, so by default nothing runs out.
	MaxASID uint32
	// ReportVersion is VERSION of attestation reports: 2 or 3.
	ReportVersion uint32
}

// DefaultConfig is a Genoa with SMT on and SEV firmware 1.55.25, which makes
// reports of version 3.
func DefaultConfig() Config {
	return Config{
		Product: "Genoa", Stepping: "B1", Family: 0x19, Model: 0x11, SteppingID: 1,
		FirmwareVersion: snp.FirmwareVersion{Major: 1, Minor: 55, Build: 25},
		TCB:             snp.TCBParts{BootLoader: 9, TEE: 0, SNP: 21, Microcode: 72},
		SMTEnabled:      true, Sockets: 1, ReportVersion: 3,
	}
}

// signature is CPUID function 1 EAX.
func (c Config) signature() uint32 {
	family, model := uint32(c.Family), uint32(c.Model)
	base := min(family, 0xF)
	return (family-base)<<20 | model>>4<<16 | base<<8 | model&0xF<<4 | uint32(c.SteppingID)
}

// Platform is one Secure Processor, in state SNP-INIT. Its methods may be
// called by several goroutines at once.
type Platform struct {
	cfg    Config
	ca     *CA
	chipID [64]byte
	key    *ecdsa.PrivateKey // VCEK
	vcek   []byte            // its certificate, DER

	mu     sync.Mutex
	guests int               // contexts that were created and not decommissioned
	asids  map[uint32]*Guest // by SNP_ACTIVATE
}

// New makes a Secure Processor whose VCEK is certified by ca. Chip id and VCEK
// are the same each time for the same root and TCB, as they are on hardware.
func New(cfg Config, ca *CA) (*Platform, error) {
	switch {
	case ca == nil:
		return nil, errors.New("a simulated chip needs a root (LoadOrCreateCA gives one)")
	case cfg.ReportVersion != 2 && cfg.ReportVersion != 3:
		return nil, fmt.Errorf("report version %d is not offered; use 2 or 3", cfg.ReportVersion)
	case cfg.Product != ca.product:
		return nil, fmt.Errorf("the simulated root is one for %s, not for %s", ca.product, cfg.Product)
	}
	p := &Platform{cfg: cfg, ca: ca, chipID: cfg.ChipID, asids: map[uint32]*Guest{}}
	if p.chipID == ([64]byte{}) {
		p.chipID = chipID(ca)
	}
	var err error
	if p.key, err = ca.chipKey(p.chipID, cfg.TCB); err != nil {
		return nil, err
	}
	if p.vcek, err = ca.issueVCEK(cfg, p.chipID, &p.key.PublicKey); err != nil {
		return nil, err
	}
	return p, nil
}

// Status is what PLATFORM_STATUS and SNP_PLATFORM_STATUS tell.
type Status struct {
	APIMajor, APIMinor, Build uint8
	GuestCount                int
	CurrentTCB, ReportedTCB   snp.TCBVersion
}

// Status answers PLATFORM_STATUS.
func (p *Platform) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.cfg.FirmwareVersion
	return Status{v.Major, v.Minor, v.Build, p.guests, p.cfg.TCB.TCBVersion(), p.cfg.TCB.TCBVersion()}
}

// ChipID answers GET_ID.
func (p *Platform) ChipID() [64]byte { return p.chipID }

// CA is the authority that certified this chip.
func (p *Platform) CA() *CA { return p.ca }
