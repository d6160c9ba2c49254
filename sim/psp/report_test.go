package psp

import (
	"bytes"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// The fields of a report, at the offsets of AMD 56860's table, each with a value of
// its own.
func TestReport(t *testing.T) {
	for _, version := range []uint32{2, 3, 5} {
		p := platform(t, func(c *Config) {
			c.ReportVersion = version
			c.TCB = snp.TCBParts{BootLoader: 4, TEE: 1, SNP: 22, Microcode: 211}
			c.CommittedTCB = snp.TCBParts{BootLoader: 3, TEE: 1, SNP: 21, Microcode: 210}
			c.ReportedTCB = snp.TCBParts{BootLoader: 3, TEE: 0, SNP: 20, Microcode: 209}
			c.CommittedFirmware = snp.FirmwareVersion{Major: 1, Minor: 54, Build: 7}
			c.MitVector = 0x0123456789ABCDEF
		})
		g := p.CreateContext()
		must(t, g.LaunchStart(snp.PolicyDefault|snp.PolicyDebug, [16]byte{}))
		must(t, g.Activate(1))
		must(t, g.LaunchUpdate(snp.PageZero, 0x800000, page()))
		f := signedParams(t, g, newKey(t), newKey(t))
		must(t, g.LaunchFinish(f))
		data := snp.ReportData{1, 2, 3}
		typ, rsp, st := g.GuestRequest(5, 1, reportRequest(data, 2, 1))
		must(t, st)
		checkReport(t, p, typ, rsp)
		raw := rsp[0x20:]

		in := func(v uint32, value uint64) uint64 { // fields that version v brought
			if version < v {
				return 0
			}
			return value
		}
		for _, c := range []struct {
			name string
			at   int
			want uint64
		}{
			{"GUEST_SVN and VERSION", 0x000, uint64(version) | 9<<32},
			{"POLICY", 0x008, 0xB0000},
			{"VMPL and SIGNATURE_ALGO", 0x030, 2 | 1<<32},
			{"CURRENT_TCB", 0x038, 4 | 1<<8 | 22<<48 | 211<<56},
			{"PLATFORM_INFO: SMT_EN", 0x040, 1},
			{"AUTHOR_KEY_EN, SIGNING_KEY VCEK", 0x048, 1},
			{"REPORT_ID_MA", 0x160, 1<<64 - 1},
			{"REPORT_ID_MA, end", 0x178, 1<<64 - 1},
			{"REPORTED_TCB", 0x180, 3 | 20<<48 | 209<<56},
			{"family, model, stepping", 0x188, in(3, 0x011119)},
			{"COMMITTED_TCB", 0x1E0, 3 | 1<<8 | 21<<48 | 210<<56},
			{"CURRENT 1.55.25 and COMMITTED 1.54.7", 0x1E8, 0x0001360700013719},
			{"LAUNCH_TCB, the committed one", 0x1F0, 3 | 1<<8 | 21<<48 | 210<<56},
			{"LAUNCH_MIT_VECTOR", 0x1F8, in(5, 0x0123456789ABCDEF)},
			{"CURRENT_MIT_VECTOR", 0x200, in(5, 0x0123456789ABCDEF)},
		} {
			if got := le.Uint64(raw[c.at:]); got != c.want {
				t.Errorf("version %d, %s: %#x, want %#x", version, c.name, got, c.want)
			}
		}
		chip := p.ChipID()
		for _, c := range []struct {
			name string
			at   int
			want []byte
		}{
			{"FAMILY_ID", 0x010, []byte("family id 16 b. ")},
			{"IMAGE_ID", 0x020, []byte("image id, 16 b. ")},
			{"REPORT_DATA", 0x050, data[:]},
			{"MEASUREMENT", 0x090, f.IDBlock[:48]},
			{"HOST_DATA", 0x0C0, f.HostData[:]},
			{"ID_KEY_DIGEST", 0x0E0, g.idKey[:]},
			{"AUTHOR_KEY_DIGEST", 0x110, g.authorKey[:]},
			{"REPORT_ID", 0x140, g.reportID[:]},
			{"CHIP_ID", 0x1A0, chip[:]},
		} {
			if got := raw[c.at : c.at+len(c.want)]; !bytes.Equal(got, c.want) || zero(got) {
				t.Errorf("version %d, %s: % x, want % x", version, c.name, got, c.want)
			}
		}
		for _, r := range [][2]int{{0x04C, 0x050}, {0x18B, 0x1A0}, {0x1EB, 0x1EC}, {0x1EF, 0x1F0}, {0x208, 0x2A0}} {
			if !zero(raw[r[0]:r[1]]) {
				t.Errorf("version %d: reserved bytes %#x to %#x are not zero", version, r[0], r[1])
			}
		}
	}
}

// A report of Turin has its TCB layout, FMC included, and a chip id of 8 bytes.
func TestTurinReport(t *testing.T) {
	cfg, err := ParsePlatform("turin")
	if err != nil {
		t.Fatal(err)
	}
	cfg.TCB = snp.TCBParts{FMC: 9, BootLoader: 8, TEE: 7, SNP: 6, Microcode: 5}
	p, err := New(cfg, testCA(t))
	if err != nil {
		t.Fatal(err)
	}
	r := mustReport(t, running(t, p))
	for name, got := range map[string]snp.TCBVersion{"CURRENT": r.CurrentTCB, "REPORTED": r.ReportedTCB, "COMMITTED": r.CommittedTCB, "LAUNCH": r.LaunchTCB} {
		if got != 0x0500000006070809 {
			t.Errorf("%s_TCB is %s, want microcode 5 in byte 7, SNP 6, TEE 7, boot loader 8, FMC 9 from byte 3 down", name, got)
		}
	}
	if r.Version != 5 || r.CPUFamily != 0x1A || r.CPUModel != 2 || r.CPUStepping != 1 || r.LaunchMitVector != 1 || r.CurrentMitVector != 1 {
		t.Errorf("report %+v", r)
	}
	if id := r.ChipID; zero(id[:8]) || !zero(id[8:]) {
		t.Errorf("CHIP_ID % x has not 8 bytes", id)
	}
}

// Each bit of PLATFORM_INFO says what the platform was set up for.
func TestPlatformInfo(t *testing.T) {
	for bit, set := range map[int]func(*Config){
		-1: func(*Config) {},
		0:  func(c *Config) { c.SMTEnabled = true },
		1:  func(c *Config) { c.TSMEEnabled = true },
		2:  func(c *Config) { c.ECCEnabled = true },
		3:  func(c *Config) { c.RAPLDisabled = true },
		4:  func(c *Config) { c.CiphertextHiding = true },
		5:  func(c *Config) { c.AliasCheckComplete = true },
	} {
		p := fresh(t, func(c *Config) { c.SMTEnabled = false; set(c) })
		var want uint64
		if bit >= 0 {
			want = 1 << bit
		}
		if got := mustReport(t, running(t, p)).PlatformInfo; got != want {
			t.Errorf("bit %d: PLATFORM_INFO %#x, want %#x", bit, got, want)
		}
	}
}

// The key that a guest asks for signs; without a wish it is the VLEK where there is
// one; the mask of the chip's key leaves the report unsigned, that of its id
// leaves CHIP_ID out.
func TestSigningKeyAndMasks(t *testing.T) {
	vlek := func(c *Config) { c.VLEKLoaded = true }
	for _, c := range []struct {
		name   string
		change func(*Config)
		keySel uint32
		flags  byte // at 0x48: MASK_CHIP_KEY in bit 1, SIGNING_KEY from bit 2
		chip   bool
	}{
		{"VCEK by choice", nil, 0, 0, true},
		{"VCEK by wish", vlek, 1, 0, true},
		{"VLEK by choice", vlek, 0, 1 << 2, true},
		{"VLEK by wish", vlek, 2, 1 << 2, true},
		{"MASK_CHIP_ID", func(c *Config) { c.MaskChipID = true }, 0, 0, false},
		{"VLEK, MASK_CHIP_ID", func(c *Config) { vlek(c); c.MaskChipID = true }, 0, 1 << 2, false},
		{"MASK_CHIP_KEY", func(c *Config) { c.MaskChipKey = true }, 0, 7<<2 | 2, true},
		{"both masks and a VLEK", func(c *Config) { vlek(c); c.MaskChipID, c.MaskChipKey = true, true }, 2, 7<<2 | 2, false},
	} {
		p := platform(t, c.change)
		typ, rsp, st := running(t, p).GuestRequest(5, 1, reportRequest(snp.ReportData{}, 0, c.keySel))
		must(t, st)
		checkReport(t, p, typ, rsp)
		raw := rsp[0x20:]
		if raw[0x48] != c.flags || zero(raw[0x1A0:0x1E0]) == c.chip {
			t.Errorf("%s: flags %#x, CHIP_ID % x", c.name, raw[0x48], raw[0x1A0:0x1A8])
		}
	}
}

// What the host sets while the platform runs shows in the next report, and the key
// goes with the reported TCB.
func TestSetConfigAndCommit(t *testing.T) {
	p := platform(t, func(c *Config) {
		c.CommittedTCB = snp.TCBParts{BootLoader: 9, SNP: 20, Microcode: 70}
		c.CommittedFirmware = snp.FirmwareVersion{Major: 1, Minor: 55, Build: 20}
	})
	g := running(t, p)
	first := p.Certificates().VCEK
	older := snp.TCBParts{BootLoader: 8, SNP: 19, Microcode: 70}
	must(t, p.SetConfig(older.TCBVersion(), true, false))
	r := mustReport(t, g)
	if r.ReportedTCB != older.TCBVersion() || r.CommittedTCB != p.cfg.CommittedTCB.TCBVersion() || r.ChipID != ([64]byte{}) {
		t.Errorf("after SNP_SET_CONFIG: %+v", r)
	}
	if bytes.Equal(first, p.Certificates().VCEK) {
		t.Error("the VCEK did not change with REPORTED_TCB")
	}
	if s := p.Status(); s.ReportedTCB != older.TCBVersion() || !s.MaskChipID || s.MaskChipKey || s.VLEKLoaded {
		t.Errorf("SNP_PLATFORM_STATUS: %+v", s)
	}

	for name, tcb := range map[string]snp.TCBVersion{
		"above the committed TCB":                     p.cfg.TCB.TCBVersion(),
		"above it in one part and below it in others": snp.TCBParts{TEE: 1}.TCBVersion(),
	} {
		if st := p.SetConfig(tcb, false, false); st != snp.StatusBadSVN {
			t.Errorf("%s: %s, want BAD_SVN", name, st)
		}
	}
	if st := p.SetConfig(older.TCBVersion()|1<<16, false, false); st != snp.StatusInvalidParam {
		t.Errorf("a reserved byte: %s", st)
	}
	if r := mustReport(t, g); r.ReportedTCB != older.TCBVersion() || r.ChipID != ([64]byte{}) {
		t.Error("a refused SNP_SET_CONFIG changed the platform")
	}

	must(t, p.SetConfig(0, false, false)) // the committed TCB
	must(t, p.Commit())
	r = mustReport(t, g)
	if tcb := p.cfg.TCB.TCBVersion(); r.CommittedTCB != tcb || r.ReportedTCB != tcb || r.LaunchTCB == tcb || r.CommittedFW != p.cfg.FirmwareVersion {
		t.Errorf("after SNP_COMMIT: %+v", r)
	}
	must(t, p.LoadVLEK())
	if r = mustReport(t, g); r.SigningKey != snp.SigningKeyVLEK || !p.Status().VLEKLoaded {
		t.Errorf("after SNP_VLEK_LOAD the report is signed with key %d", r.SigningKey)
	}

	p.Shutdown()
	for name, st := range map[string]snp.Status{"SET_CONFIG": p.SetConfig(0, false, false), "COMMIT": p.Commit(), "VLEK_LOAD": p.LoadVLEK()} {
		if st != snp.StatusInvalidPlatformState {
			t.Errorf("%s after a shutdown: %s", name, st)
		}
	}
	if p.Status().Initialised {
		t.Error("the platform is said to be initialised after a shutdown")
	}
	p.Init()
	must(t, p.Commit())
}
