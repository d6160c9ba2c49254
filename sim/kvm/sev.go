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

// firmware gives a command to the Secure Processor; what it leaves is stored in
// the caller's memory at cmd.data.
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
			out[7] = st.Build
			putU32(out[8:], uint32(st.GuestCount))
			return snp.StatusSuccess, out
		})
	case sevSNPPlatformStatus:
		return cmd.firmware(cmdSNPPlatformStatus, func() (snp.Status, []byte) {
			st := cmd.host.platform.Status()
			out := make([]byte, 32)
			out[0], out[1], out[2], out[3] = st.APIMajor, st.APIMinor, platformInit, 1
			putU32(out[4:], uint32(st.Build))
			putU32(out[12:], uint32(st.GuestCount))
			putU64(out[16:], uint64(st.CurrentTCB))
			putU64(out[24:], uint64(st.ReportedTCB))
			return snp.StatusSuccess, out
		})
	case sevGetID2:
		return cmd.getID2()
	}
	cmd.host.opts.Logf("SEV_ISSUE_CMD %d on /dev/sev is not offered by the software host: EIO, UNSUPPORTED", id)
	cmd.status = snp.StatusUnsupported
	return fail(unix.EIO)
}

// getID2 answers SEV_GET_ID2: struct sev_user_data_get_id2, packed: address u64, length u32.
func (cmd *sevIssue) getID2() Answer {
	in, e := load(cmd, cmd.data, getID2Size)
	if e != 0 {
		return fail(e)
	}
	address, room := readU64(in), readU32(in[8:])
	a := cmd.firmware(cmdGetID, func() (snp.Status, []byte) {
		putU32(in[8:], chipIDSize)
		if room < chipIDSize {
			return snp.StatusInvalidLength, in
		}
		return snp.StatusSuccess, in
	})
	if a.Errno != 0 {
		return a
	}
	id := cmd.host.platform.ChipID()
	if err := cmd.Write(address, id[:]); err != nil {
		return fail(unix.EFAULT)
	}
	return ok()
}

// platformInit is the platform state INIT.
const platformInit = 1
