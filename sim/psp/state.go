package psp

import "github.com/snplaunch/snplaunch/snp"

// Shutdown is SNP_SHUTDOWN_EX as the commands on guests see it: until Init each of
// them answers INVALID_PLATFORM_STATE. What it does to the RMP is not emulated.
func (p *Platform) Shutdown() { p.setDown(true) }

// Init is SNP_INIT_EX as the commands on guests see it.
func (p *Platform) Init() { p.setDown(false) }

func (p *Platform) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// SetConfig is SNP_SET_CONFIG: the TCB that reports tell and that the chip's key
// is derived for (0: the committed one), and what of the chip is kept out of
// reports. The key and its certificate change with the TCB.
func (p *Platform) SetConfig(reported snp.TCBVersion, maskChipID, maskChipKey bool) snp.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, l := p.settings, p.cfg.TCBLayout
	s.reported = l.Unpack(reported)
	if reported == 0 {
		s.reported = s.committed
	}
	switch {
	case p.down:
		return snp.StatusInvalidPlatformState
	case reported != 0 && l.Pack(s.reported) != reported: // bytes that the layout reserves
		return snp.StatusInvalidParam
	case !s.reported.AtMost(s.committed):
		return snp.StatusBadSVN
	}
	s.maskChipID, s.maskChipKey = maskChipID, maskChipKey
	return p.enforce(s)
}

// Commit is SNP_COMMIT: what runs becomes what the host cannot go back behind. A
// reported TCB that was the committed one follows it.
func (p *Platform) Commit() snp.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return snp.StatusInvalidPlatformState
	}
	s := p.settings
	if s.reported == s.committed {
		s.reported = p.cfg.TCB
	}
	s.committed, s.committedFW = p.cfg.TCB, p.cfg.FirmwareVersion
	return p.enforce(s)
}

// LoadVLEK is SNP_VLEK_LOAD of a key that was wrapped for this chip: the provider
// is Config.CSPID.
func (p *Platform) LoadVLEK() snp.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return snp.StatusInvalidPlatformState
	}
	s := p.settings
	s.vlekLoaded = true
	return p.enforce(s)
}

// enforce is change for a command; the lock is held. Making keys of a root that was
// used before does not fail.
func (p *Platform) enforce(s settings) snp.Status {
	if p.change(s) != nil {
		return snp.StatusHWErrorPlatform
	}
	return snp.StatusSuccess
}
