package vmsa

// SVSMPage gives the save area of every vCPU of a guest that starts with a
// COCONUT-SVSM image under QEMU: all are alike and start at entry in flat 32-bit
// protected mode (coconut-svsm/qemu 0e64fb84, target/i386/sev.c). The FPU is
// as for Page: QEMU resets MXCSR and FCW together, so a host kernel that
// copies the one copies the other.
func SVSMPage(cfg Config, entry uint64) [PageSize]byte {
	p := QEMU.profile()
	if cfg.NoFPU {
		p.mxcsr, p.fcw = 0, 0
	}
	// Selectors of the table that the SVSM loads first; attributes are those
	// of a 4 GiB segment: G and D/B set.
	code := segment{Selector: 8, Attr: 0xC9B, Limit: 0xFFFFFFFF}
	data := segment{Selector: 16, Attr: 0xC93, Limit: 0xFFFFFFFF}
	return encode([...]placed{
		{0x000, data}, // ES
		{0x010, code}, // CS
		{0x020, data}, // SS
		{0x030, data}, // DS
		{0x040, data}, // FS
		{0x050, segment{Attr: 0x93, Limit: 0xFFFF}}, // GS
	}, p.tr, entry, cr0ET|cr0PE, p, cfg)
}
