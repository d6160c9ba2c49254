package psp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
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

	Firmware snp.FirmwareVersion
	// TCB is current, reported, committed and launch TCB in one.
	TCB        snp.TCBParts
	SMTEnabled bool
	Sockets    int
	// ReportVersion is VERSION of attestation reports: 2 or 3.
	ReportVersion uint32
}

// DefaultConfig is a Genoa with SMT on and SEV firmware 1.55.25, which makes
// reports of version 3.
func DefaultConfig() Config {
	return Config{
		Product: "Genoa", Stepping: "B1", Family: 0x19, Model: 0x11, SteppingID: 1,
		Firmware:   snp.FirmwareVersion{Major: 1, Minor: 55, Build: 25},
		TCB:        snp.TCBParts{BootLoader: 9, TEE: 0, SNP: 21, Microcode: 72},
		SMTEnabled: true, Sockets: 1, ReportVersion: 3,
	}
}

// Platform is one Secure Processor, in state SNP-INIT.
type Platform struct {
	cfg    Config
	ca     *CA
	chipID [64]byte
	key    *ecdsa.PrivateKey // VCEK
	vcek   []byte            // its certificate, DER

	mu     sync.Mutex
	guests int
}

// New makes a Secure Processor whose VCEK is certified by ca.
func New(cfg Config, ca *CA) (*Platform, error) {
	switch {
	case cfg.ReportVersion != 2 && cfg.ReportVersion != 3:
		return nil, fmt.Errorf("report version %d is not offered; use 2 or 3", cfg.ReportVersion)
	case cfg.Product != ca.product:
		return nil, fmt.Errorf("the simulated root is one for %s, not for %s", ca.product, cfg.Product)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the simulated chip's key: %w", err)
	}
	p := &Platform{cfg: cfg, ca: ca, key: key, chipID: chipID(ca)}
	if p.vcek, err = ca.issueVCEK(cfg, p.chipID, &key.PublicKey); err != nil {
		return nil, err
	}
	return p, nil
}

// chipID gives each user's simulated machine its own chip id. All 64 bytes are
// used, as verifiers tell Turin by a short one; and it begins with a byte that
// no parser takes for the head of a DER string (snpguest does with 02 and 04).
func chipID(ca *CA) [64]byte {
	id := sha512.Sum512(append([]byte("snplaunch chip id "), ca.ark.Raw...))
	id[0] = 0x5A
	if id[63] == 0 {
		id[63] = 1
	}
	return id
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
	v := p.cfg.Firmware
	return Status{v.Major, v.Minor, v.Build, p.guests, p.cfg.TCB.TCBVersion(), p.cfg.TCB.TCBVersion()}
}

// ChipID answers GET_ID.
func (p *Platform) ChipID() [64]byte { return p.chipID }

// CA is the authority that certified this chip.
func (p *Platform) CA() *CA { return p.ca }

// Chain are the certificates that a report of this chip verifies with, DER.
type Chain struct{ ARK, ASK, VCEK []byte }

// Certificates gives the chain.
func (p *Platform) Certificates() Chain { return Chain{p.ca.ark.Raw, p.ca.ask.Raw, p.vcek} }

// Identifiers of certificates in the table of an extended report (GHCB
// specification 56421; RFC 4122 byte order, as go-sev-guest and virtee/sev read it).
var (
	guidVCEK = [16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidASK  = [16]byte{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	guidARK  = [16]byte{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
)

// Table gives the chain as the certificate table of an extended report:
// entries {GUID[16], offset u32, length u32}, ended by a zero entry, then the
// certificates; offsets count from the start of the table.
func (c Chain) Table() []byte {
	entries := []struct {
		guid [16]byte
		der  []byte
	}{{guidVCEK, c.VCEK}, {guidASK, c.ASK}, {guidARK, c.ARK}}
	const entrySize = 24
	head := make([]byte, entrySize*(len(entries)+1))
	var body []byte
	for i, e := range entries {
		h := head[entrySize*i:]
		copy(h, e.guid[:])
		le.PutUint32(h[16:], uint32(len(head)+len(body)))
		le.PutUint32(h[20:], uint32(len(e.der)))
		body = append(body, e.der...)
	}
	return append(head, body...)
}
