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
	sevGetID2            = 8
	sevSNPPlatformStatus = 9
	sevMaxCommand        = 12
	sevIssueSize         = 16
	getID2Size           = 12
	chipIDSize           = 64
)

// Ioctl implements Object. struct sev_issue_cmd, packed: cmd u32, data u64, error u32.
func (s *SEV) Ioctl(c Caller, request uint32, arg uint64) Answer {
	if request != ioSevIssueCommand {
		return fail(unix.EINVAL)
	}
	b, e := load(c, arg, sevIssueSize)
	if e != 0 {
		return fail(e)
	}
	data := readU64(b[4:])
	finish := func(e unix.Errno, st snp.Status) Answer {
		putU32(b[12:], uint32(st))
		if err := c.Write(arg, b); err != nil {
			return fail(unix.EFAULT)
		}
		return fail(e)
	}
	st := s.host.platform.Status()
	switch cmd := readU32(b); cmd {
	case sevPlatformStatus:
		out := make([]byte, 12)
		out[0], out[1], out[2] = st.APIMajor, st.APIMinor, platformInit
		out[7] = st.Build
		putU32(out[8:], uint32(st.GuestCount))
		if err := c.Write(data, out); err != nil {
			return fail(unix.EFAULT)
		}
		return finish(0, snp.StatusSuccess)
	case sevSNPPlatformStatus:
		out := make([]byte, 32)
		out[0], out[1], out[2], out[3] = st.APIMajor, st.APIMinor, platformInit, 1
		putU32(out[4:], uint32(st.Build))
		putU32(out[12:], uint32(st.GuestCount))
		putU64(out[16:], uint64(st.CurrentTCB))
		putU64(out[24:], uint64(st.ReportedTCB))
		if err := c.Write(data, out); err != nil {
			return fail(unix.EFAULT)
		}
		return finish(0, snp.StatusSuccess)
	case sevGetID2: // struct sev_user_data_get_id2, packed: address u64, length u32
		in, e := load(c, data, getID2Size)
		if e != 0 {
			return fail(e)
		}
		room := readU32(in[8:])
		putU32(in[8:], chipIDSize)
		if err := c.Write(data, in); err != nil {
			return fail(unix.EFAULT)
		}
		if room < chipIDSize {
			return finish(unix.EIO, snp.StatusInvalidLength)
		}
		id := s.host.platform.ChipID()
		if err := c.Write(readU64(in), id[:]); err != nil {
			return fail(unix.EFAULT)
		}
		return finish(0, snp.StatusSuccess)
	default:
		if cmd > sevMaxCommand {
			return finish(unix.EINVAL, snp.StatusSuccess)
		}
		s.host.opts.Logf("SEV_ISSUE_CMD %d on /dev/sev is not offered by the software host: EIO, UNSUPPORTED", cmd)
		return finish(unix.EIO, snp.StatusUnsupported)
	}
}

// platformInit is the platform state INIT.
const platformInit = 1
