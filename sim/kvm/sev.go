package kvm

import (
	"os"

	"github.com/snplaunch/snplaunch/snp"
	"golang.org/x/sys/unix"
)

// SEV is an open /dev/sev.
type SEV struct {
	host *Host
	file *os.File
}

// File implements Object.
func (s *SEV) File() *os.File { return s.file }

// Close implements Object.
func (s *SEV) Close() { s.file.Close() }

// Commands of SEV_ISSUE_CMD (include/uapi/linux/psp-sev.h).
const (
	sevPlatformStatus    = 1
	sevPDHCertExport     = 5
	sevGetID             = 7
	sevGetID2            = 8
	sevSNPPlatformStatus = 9
	sevSNPCommit         = 10
	sevSNPSetConfig      = 11
	sevSNPVLEKLoad       = 12
	sevMaxCommand        = 12
	sevIssueSize         = 16
	pdhExportSize        = 24
	getID2Size           = 12
	chipIDSize           = 64
	snpConfigSize        = 64
	vlekLoadSize         = 16
	vlekHashstickSize    = 432
	maxBlob              = 16 << 10 // SEV_FW_BLOB_MAX_SIZE
)

// Ioctl implements Object. struct sev_issue_cmd, packed: cmd u32, data u64,
// error u32 (out). It is copied back whatever the outcome, but for EFAULT and a
// command above the highest.
func (s *SEV) Ioctl(c Caller, request uint32, arg uint64) Answer {
	return s.host.serve(request, func() Answer { return s.ioctl(c, request, arg) })
}

func (s *SEV) ioctl(c Caller, request uint32, arg uint64) Answer {
	if request != ioSevIssueCommand {
		return fail(unix.EINVAL)
	}
	b, e := load(c, arg, sevIssueSize)
	if e != 0 {
		return fail(e)
	}
	id := readU32(b)
	if id > sevMaxCommand {
		return fail(unix.EINVAL)
	}
	cmd := &sevIssue{Caller: c, host: s.host, data: readU64(b[4:]), status: snp.Status(readU32(b[12:]))}
	a := cmd.answer(id)
	putU32(b[12:], uint32(cmd.status))
	if err := c.Write(arg, b); err != nil {
		return fail(unix.EFAULT)
	}
	return a
}

// sevIssue is one SEV_ISSUE_CMD.
type sevIssue struct {
	Caller
	host   *Host
	data   uint64
	status snp.Status // error
}

// firmware gives a command to the Secure Processor; what that leaves is stored
// in the caller's memory at cmd.data, also where the command has failed.
func (cmd *sevIssue) firmware(command string, do func() (snp.Status, []byte)) Answer {
	var out []byte
	r := cmd.host.firmware(command, func() (st snp.Status) {
		st, out = do()
		return st
	})
	if r.told {
		cmd.status = r.status
	}
	if out != nil {
		if err := cmd.Write(cmd.data, out); err != nil {
			return fail(unix.EFAULT)
		}
	}
	return fail(r.errno)
}

func (cmd *sevIssue) answer(id uint32) Answer {
	switch id {
	case sevPlatformStatus:
		return cmd.firmware(cmdPlatformStatus, func() (snp.Status, []byte) {
			st := cmd.host.platform.Status()
			out := make([]byte, 12)
			out[0], out[1], out[2] = st.APIMajor, st.APIMinor, platformInit
			putU32(out[3:], platformES)
			out[7] = st.Build
			putU32(out[8:], uint32(st.GuestCount))
			return snp.StatusSuccess, out
		})
	case sevPDHCertExport:
		return cmd.pdhCertExport()
	case sevGetID:
		return cmd.firmware(cmdGetID, func() (snp.Status, []byte) {
			id := cmd.host.platform.ChipID()
			return snp.StatusSuccess, append(id[:], make([]byte, chipIDSize)...) // no second socket
		})
	case sevGetID2:
		return cmd.getID2()
	case sevSNPPlatformStatus:
		if cmd.data == 0 {
			return fail(unix.EINVAL)
		}
		return cmd.firmware(cmdSNPPlatformStatus, func() (snp.Status, []byte) { return snp.StatusSuccess, cmd.host.snpStatus() })
	case sevSNPCommit:
		return cmd.firmware(cmdSNPCommit, func() (snp.Status, []byte) { return cmd.host.platform.Commit(), nil })
	case sevSNPSetConfig:
		return cmd.setConfig()
	case sevSNPVLEKLoad:
		return cmd.loadVLEK()
	}
	cmd.host.opts.Logf("SEV_ISSUE_CMD %d on /dev/sev is not offered by the software host: EIO, UNSUPPORTED", id)
	cmd.status = snp.StatusUnsupported
	return fail(unix.EIO)
}

// snpStatus is struct sev_user_data_snp_status.
func (h *Host) snpStatus() []byte {
	st := h.platform.Status()
	out := make([]byte, 32)
	out[0], out[1], out[2], out[3] = st.APIMajor, st.APIMinor, byte(boolValue(st.Initialised)), 1 // RMP initialised
	putU32(out[4:], uint32(st.Build))
	hides := h.platform.Config().FirmwareVersion.Minor >= featureInfoMinor
	var flags uint32
	for bit, set := range []bool{st.MaskChipID, st.MaskChipKey, st.VLEKLoaded, hides, st.RAPLDisabled, hides, st.CiphertextHiding} {
		flags |= uint32(boolValue(set)) << bit
	}
	putU32(out[8:], flags)
	putU32(out[12:], uint32(st.GuestCount))
	putU64(out[16:], uint64(st.CurrentTCB))
	putU64(out[24:], uint64(st.ReportedTCB))
	return out
}

// getID2 answers SEV_GET_ID2: struct sev_user_data_get_id2, packed: address u64,
// length u32. Too short a length is INVALID_LEN, with the one that is needed.
func (cmd *sevIssue) getID2() Answer {
	in, e := load(cmd, cmd.data, getID2Size)
	if e != 0 {
		return fail(e)
	}
	address, room := readU64(in), readU32(in[8:])
	a := cmd.firmware(cmdGetID, func() (snp.Status, []byte) {
		putU32(in[8:], chipIDSize)
		if address == 0 || room < chipIDSize {
			return snp.StatusInvalidLength, in
		}
		return snp.StatusSuccess, in
	})
	if a.Errno != 0 {
		return a
	}
	id := cmd.host.platform.ChipID()
	return store(cmd, address, id[:])
}

// pdhCertExport answers SEV_PDH_CERT_EXPORT: struct
// sev_user_data_pdh_cert_export, packed: pdh_cert_address u64, pdh_cert_len
// u32, cert_chain_address u64, cert_chain_len u32. Who asks with no room is told
// the lengths with INVALID_LEN, as QEMU's query-sev-capabilities does first.
func (cmd *sevIssue) pdhCertExport() Answer {
	in, e := load(cmd, cmd.data, pdhExportSize)
	if e != 0 {
		return fail(e)
	}
	pdhAt, pdhRoom, chainAt, chainRoom := readU64(in), readU32(in[8:]), readU64(in[12:]), readU32(in[20:])
	ask := pdhAt == 0 || pdhRoom == 0 || chainAt == 0
	if !ask && (pdhRoom > maxBlob || chainRoom > maxBlob) {
		return fail(unix.EFAULT)
	}
	pdh, chain := sevCertificates(cmd.host.platform.Status().APIMajor, cmd.host.platform.Status().APIMinor)
	a := cmd.firmware(cmdPDHCertExport, func() (snp.Status, []byte) {
		putU32(in[8:], uint32(len(pdh)))
		putU32(in[20:], uint32(len(chain)))
		if ask || int(pdhRoom) < len(pdh) || int(chainRoom) < len(chain) {
			return snp.StatusInvalidLength, in
		}
		return snp.StatusSuccess, in
	})
	if a.Errno != 0 {
		return a
	}
	if a := store(cmd, pdhAt, pdh); a.Errno != 0 {
		return a
	}
	return store(cmd, chainAt, chain)
}

// sevCertificates are certificates of legacy SEV, which SNP has no use for:
// the PDH's, and those of PEK, OCA and CEK. They have the right sizes, versions
// and usages, and no keys.
func sevCertificates(major, minor uint8) (pdh, chain []byte) {
	const (
		size                   = 2084
		usageOCA, usagePEK     = 0x1001, 0x1002
		usagePDH, usageCEK     = 0x1003, 0x1004
		algorithmECDHSHA256    = 3
		algorithmECDSASHA256   = 2
		version, usage, algoAt = 0, 8, 12
	)
	certificate := func(u, algorithm uint32) []byte {
		b := make([]byte, size)
		putU32(b[version:], 1)
		b[4], b[5] = major, minor
		putU32(b[usage:], u)
		putU32(b[algoAt:], algorithm)
		return b
	}
	for _, u := range []uint32{usagePEK, usageOCA, usageCEK} {
		chain = append(chain, certificate(u, algorithmECDSASHA256)...)
	}
	return certificate(usagePDH, algorithmECDHSHA256), chain
}

// setConfig answers SNP_SET_CONFIG: struct sev_user_data_snp_config, whose
// reported_tcb u64 is followed by a bit each for mask_chip_id and mask_chip_key.
func (cmd *sevIssue) setConfig() Answer {
	if cmd.data == 0 {
		return fail(unix.EINVAL)
	}
	b, e := load(cmd, cmd.data, snpConfigSize)
	if e != 0 {
		return fail(e)
	}
	return cmd.firmware(cmdSNPConfig, func() (snp.Status, []byte) {
		mask := readU32(b[8:])
		if mask&^3 != 0 || !isZero(b[12:]) {
			return snp.StatusInvalidParam, nil
		}
		return cmd.host.platform.SetConfig(snp.TCBVersion(readU64(b)), mask&1 != 0, mask&2 != 0), nil
	})
}

// loadVLEK answers SNP_VLEK_LOAD: struct sev_user_data_snp_vlek_load: len u32,
// vlek_wrapped_version u8, rsvd[3], vlek_wrapped_address u64. Any hashstick is
// taken for one that AMD's service wrapped for this chip.
func (cmd *sevIssue) loadVLEK() Answer {
	if cmd.data == 0 {
		return fail(unix.EINVAL)
	}
	b, e := load(cmd, cmd.data, vlekLoadSize)
	if e != 0 {
		return fail(e)
	}
	if readU32(b) != vlekLoadSize || b[4] != 0 || readU64(b[8:]) == 0 {
		return fail(unix.EINVAL)
	}
	if _, e := load(cmd, readU64(b[8:]), vlekHashstickSize); e != 0 {
		return fail(e)
	}
	return cmd.firmware(cmdSNPVLEKLoad, func() (snp.Status, []byte) { return cmd.host.platform.LoadVLEK(), nil })
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// PLATFORM_STATUS: state INIT, and that SEV-ES is initialised too.
const (
	platformInit = 1
	platformES   = 1 << 8
)
