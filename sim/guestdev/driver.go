package guestdev

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// Driver is what Linux's sev-guest driver is in a guest: the one way to the
// Secure Processor, for the device (Serve) and for configfs-tsm (NewReport),
// one request at a time.
//
// It gives up as the driver does. After an error of the firmware or of the
// host, or an answer that does not fit, Linux wipes the key that it spoke to
// the firmware with, since the sequence number under which that request was
// encrypted must not be used again; whatever is asked later fails with ENOTTY.
type Driver struct {
	host io.ReadWriter
	logf func(format string, args ...any)

	mu    sync.Mutex
	wiped bool // the VMPCK
}

// NewDriver gives a driver whose Secure Processor is at the other end of host,
// the virtio-serial port. logf, which may be nil, gets a line for each request
// that could not be answered, as the kernel's log does.
func NewDriver(host io.ReadWriter, logf func(format string, args ...any)) *Driver {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	return &Driver{host: host, logf: logf}
}

// Values of exitinfo2 that come from neither firmware nor host.
const (
	// exitInfoNotSent is what the driver starts with, and what is left where
	// the request never got out of the guest.
	exitInfoNotSent = 0xFF
	// exitInfoNoFirmware is SEV_RET_NO_FW_CALL, -1: the host did not answer.
	exitInfoNoFirmware = ^uint64(0)
)

// disabled says whether the driver has given up.
func (d *Driver) disabled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wiped
}

// send does one request (Linux 6.12: handle_guest_request): it gives the
// answer, what exitinfo2 becomes, and an error number. Where there is too
// little room for the certificates the answer says how much is needed.
func (d *Driver) send(r *request, respSize int) (*answer, uint64, unix.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wiped {
		return nil, exitInfoNotSent, unix.ENOTTY
	}
	giveUp := func(a *answer, exitInfo2 uint64, errno unix.Errno, why string) (*answer, uint64, unix.Errno) {
		d.wiped = true
		d.logf("sev-guest: %s (exitinfo2 0x%x); VMPCK0 is disabled from now on, and requests fail with ENOTTY", why, exitInfo2)
		return a, exitInfo2, errno
	}
	a, err := d.ask(r)
	switch {
	case err != nil:
		return giveUp(nil, exitInfoNoFirmware, unix.EIO, err.Error())
	case a.vmmError == vmmInvalidLen && r.certs:
		// The driver repeats such a request without certificates, so that
		// the sequence number is used up, and goes on.
		return a, uint64(vmmInvalidLen) << 32, unix.EIO
	case a.vmmError != 0:
		return giveUp(a, uint64(a.vmmError)<<32, unix.EIO, "the host refused a request")
	case a.status != snp.StatusSuccess:
		return giveUp(a, uint64(uint32(a.status)), unix.EIO, "the firmware refused a request")
	case a.msgType != r.msgType+1 || len(a.payload) > respSize || uint64(len(a.certs)) > uint64(r.certsRoom):
		return giveUp(nil, 0, unix.EBADMSG, fmt.Sprintf(
			"an answer of type %d with %d bytes and %d bytes of certificates does not fit request %d", a.msgType, len(a.payload), len(a.certs), r.msgType))
	}
	return a, 0, 0
}

// ask sends one request to the host and waits for its answer.
func (d *Driver) ask(r *request) (*answer, error) {
	if _, err := d.host.Write(r.bytes()); err != nil {
		return nil, fmt.Errorf("sending a guest message to the host over port %s: %w", PortName, err)
	}
	b, err := readFrame(d.host, answerHeaderSize+MaxPayload+MaxCertTable)
	if err == io.EOF {
		return nil, fmt.Errorf("the host closed port %s without answering a guest message", PortName)
	}
	if err != nil {
		return nil, fmt.Errorf("waiting for the host's answer on port %s: %w", PortName, err)
	}
	return parseAnswer(b)
}

// Offsets and sizes in MSG_REPORT_RSP and in the certificate table, in bytes.
const (
	reportRspHeader = 0x20 // STATUS u32, REPORT_SIZE u32, reserved
	certEntrySize   = 24   // GUID, offset u32, length u32
)

// NewReport makes a report over inblob, 64 bytes, for the VMPL privlevel, as
// Linux's sev-guest driver does for configfs-tsm (sev_report_new): outblob is
// the report, auxblob the certificate table without what follows its last
// certificate, empty where the host has none.
func (d *Driver) NewReport(inblob []byte, privlevel uint32) (outblob, auxblob []byte, errno unix.Errno) {
	if len(inblob) != len(snp.ReportData{}) {
		return nil, nil, unix.EINVAL
	}
	le := binary.LittleEndian
	req := make([]byte, reportReqSize)
	copy(req, inblob)
	le.PutUint32(req[len(inblob):], privlevel)
	a, _, errno := d.send(&request{
		msgType: MsgReportReq, msgVersion: 1, certs: true, certsRoom: MaxCertTable, payload: req,
	}, reportRespSize)
	if errno != 0 {
		return nil, nil, errno
	}
	rsp := make([]byte, snp.PageSize)
	copy(rsp, a.payload)
	switch status := snp.Status(le.Uint32(rsp)); status {
	case snp.StatusSuccess:
	case snp.StatusInvalidParam, snp.StatusInvalidKey:
		return nil, nil, unix.EINVAL
	default:
		return nil, nil, unix.ENXIO
	}
	size := uint64(le.Uint32(rsp[4:]))
	if size > uint64(len(rsp)-reportRspHeader) {
		return nil, nil, unix.ENOMEM
	}
	return rsp[reportRspHeader:][:size], certTable(a.certs), 0
}

// certTable cuts a certificate table to what its entries tell of.
func certTable(b []byte) []byte {
	le := binary.LittleEndian
	table := make([]byte, MaxCertTable)
	copy(table, b)
	var size uint32
	for entry := table; len(entry) >= certEntrySize; entry = entry[certEntrySize:] {
		if [certEntrySize]byte(entry) == [certEntrySize]byte{} {
			break
		}
		size = max(size, le.Uint32(entry[16:])+le.Uint32(entry[20:]))
	}
	return table[:min(size, MaxCertTable)]
}
