package psp

import (
	"errors"
	"sync"

	"github.com/snplaunch/snplaunch/snp"
)

// Platform is one Secure Processor, in state SNP-INIT until Shutdown. Its
// methods may be called by several goroutines at once.
type Platform struct {
	cfg    Config
	ca     *CA
	line   *line
	chipID [64]byte

	mu       sync.Mutex
	down     bool
	settings settings
	vcek     certified         // for settings.reported
	vlek     certified         // where one is loaded
	guests   int               // contexts that were created and not decommissioned
	asids    map[uint32]*Guest // by SNP_ACTIVATE
	dirty    map[uint32]bool   // ASIDs that a guest has left since the last DF_FLUSH
}

// settings are what commands of the host change while the platform runs.
type settings struct {
	committed, reported     snp.TCBParts
	committedFW             snp.FirmwareVersion
	maskChipID, maskChipKey bool
	vlekLoaded              bool
}

// New makes a Secure Processor whose keys are certified by ca. Chip id and VCEK
// are the same each time for the same root and TCB, as they are on hardware.
func New(cfg Config, ca *CA) (*Platform, error) {
	if ca == nil {
		return nil, errors.New("a simulated chip needs a root (LoadOrCreateCA gives one)")
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	l, err := ca.lineOf(cfg.Product)
	if err != nil {
		return nil, err
	}
	p := &Platform{cfg: cfg, ca: ca, line: l, chipID: cfg.ChipID, asids: map[uint32]*Guest{}, dirty: map[uint32]bool{}}
	if p.chipID == ([64]byte{}) {
		p.chipID = chipID(l, cfg.ChipIDSize)
	}
	s := settings{cfg.committed(), cfg.reported(), cfg.committedFirmware(), cfg.MaskChipID, cfg.MaskChipKey, cfg.VLEKLoaded}
	return p, p.change(s)
}

// change puts new settings into force, with the keys that go with them. The
// lock is held, or no one else knows p yet.
func (p *Platform) change(s settings) (err error) {
	vcek, vlek := p.vcek, p.vlek
	retired := s.reported != p.settings.reported
	if vcek.key == nil || retired {
		if vcek, err = p.ca.endorse(p.endorsement(false, s.reported)); err != nil {
			return err
		}
	}
	if s.vlekLoaded && (vlek.key == nil || retired) {
		if vlek, err = p.ca.endorse(p.endorsement(true, s.reported)); err != nil {
			return err
		}
	}
	p.settings, p.vcek, p.vlek = s, vcek, vlek
	return nil
}

// Status is what PLATFORM_STATUS and SNP_PLATFORM_STATUS tell.
type Status struct {
	APIMajor, APIMinor, Build uint8
	GuestCount                int
	CurrentTCB, ReportedTCB   snp.TCBVersion
	Initialised               bool // in state SNP-INIT
	MaskChipID, MaskChipKey   bool
	VLEKLoaded                bool
	RAPLDisabled              bool
	CiphertextHiding          bool
}

// Status answers PLATFORM_STATUS.
func (p *Platform) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, l, s := p.cfg.FirmwareVersion, p.cfg.TCBLayout, p.settings
	return Status{
		APIMajor: v.Major, APIMinor: v.Minor, Build: v.Build, GuestCount: p.guests,
		CurrentTCB: l.Pack(p.cfg.TCB), ReportedTCB: l.Pack(s.reported),
		Initialised: !p.down, MaskChipID: s.maskChipID, MaskChipKey: s.maskChipKey, VLEKLoaded: s.vlekLoaded,
		RAPLDisabled: p.cfg.RAPLDisabled, CiphertextHiding: p.cfg.CiphertextHiding,
	}
}

// Config is what the platform was made with.
func (p *Platform) Config() Config { return p.cfg }

// ChipID answers GET_ID: the first Config.ChipIDSize bytes name the chip.
func (p *Platform) ChipID() [64]byte { return p.chipID }

// CA is the authority that certified this chip.
func (p *Platform) CA() *CA { return p.ca }

// Fingerprint is the SHA-256 of the ARK certificate that this chip's reports
// verify with, 64 hexadecimal digits.
func (p *Platform) Fingerprint() string { return p.ca.FingerprintOf(p.cfg.Product) }
