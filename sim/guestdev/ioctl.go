package guestdev

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// The ioctls of /dev/sev-guest (include/uapi/linux/sev-guest.h): _IOWR('S',
// nr, struct snp_guest_request_ioctl).
const (
	ioctlGetReport     = 0xC0205300
	ioctlGetDerivedKey = 0xC0205301
	ioctlGetExtReport  = 0xC0205302
)

// Sizes in bytes of what those ioctls exchange, and offsets in it.
const (
	guestRequestSize = 32 // struct snp_guest_request_ioctl
	offReqData       = 0x08
	offRespData      = 0x10
	offExitInfo2     = 0x18

	reportReqSize     = 96
	derivedKeyReqSize = 32
	extReportReqSize  = 112
	offCertsAddress   = 0x60
	offCertsLen       = 0x68
	reportRespSize    = 4000
	derivedKeyRspSize = 64
)

// command says what one ioctl carries.
type command struct {
	msgType           uint8
	reqSize, respSize int
	payloadSize       int // what of the request is the guest message
	certs             bool
}

var commands = map[uint32]command{
	ioctlGetReport:     {MsgReportReq, reportReqSize, reportRespSize, reportReqSize, false},
	ioctlGetDerivedKey: {MsgKeyReq, derivedKeyReqSize, derivedKeyRspSize, derivedKeyReqSize, false},
	ioctlGetExtReport:  {MsgReportReq, extReportReqSize, reportRespSize, reportReqSize, true},
}

// ioctl does one step of an ioctl. The kernel shows a CUSE server only what
// the server asked for, so an ioctl is asked again, with more of the caller's
// memory each time, until it is complete: first the ioctl's struct, then the
// request it points to, then the places that take the answer.
func (d *device) ioctl(r fuseIoctl) ioctlReply {
	cmd, known := commands[r.cmd]
	switch {
	case !known, r.flags&fuseIoctlCompat != 0:
		return ioctlReply{result: -int32(unix.ENOTTY)}
	case r.flags&fuseIoctlUnrestricted == 0:
		return ioctlReply{result: -int32(unix.EINVAL)}
	}
	whole := iovec{r.arg, guestRequestSize}
	if len(r.in) == 0 {
		return ioctlReply{retryIn: []iovec{whole}}
	}
	if len(r.in) < guestRequestSize {
		return ioctlReply{result: -int32(unix.EINVAL)}
	}
	le := binary.LittleEndian
	head, req := r.in[:guestRequestSize], r.in[guestRequestSize:]
	reqData, respData := le.Uint64(head[offReqData:]), le.Uint64(head[offRespData:])
	if head[0] == 0 || reqData == 0 || respData == 0 {
		return ioctlReply{result: -int32(unix.EINVAL)}
	}
	ins := []iovec{whole, {reqData, uint64(cmd.reqSize)}}
	if len(req) == 0 {
		return ioctlReply{retryIn: ins}
	}
	if len(req) != cmd.reqSize {
		return ioctlReply{result: -int32(unix.EINVAL)}
	}
	var certsRoom uint32
	var certsAddress uint64
	if cmd.certs {
		certsAddress, certsRoom = le.Uint64(req[offCertsAddress:]), le.Uint32(req[offCertsLen:])
		if certsAddress == 0 {
			certsRoom = 0 // as the driver: without an address, no certificates
		}
		if certsRoom > MaxCertTable || certsRoom%snp.PageSize != 0 {
			return ioctlReply{result: -int32(unix.EINVAL)}
		}
	}
	if r.outSize == 0 {
		outs := []iovec{whole}
		if cmd.certs {
			outs = append(outs, ins[1])
		}
		outs = append(outs, iovec{respData, uint64(cmd.respSize)})
		if certsRoom != 0 {
			outs = append(outs, iovec{certsAddress, uint64(certsRoom)})
		}
		return ioctlReply{retryIn: ins, retryOut: outs}
	}
	return d.forward(cmd, head, req, certsRoom)
}

// forward sends the guest message to the host and makes the last reply. Its
// bytes follow the order in which ioctl offered places for them; a failure
// stops after the struct and the request, so that the response stays as it was.
func (d *device) forward(cmd command, head, req []byte, certsRoom uint32) ioctlReply {
	le := binary.LittleEndian
	out := append([]byte(nil), head...)
	if cmd.certs {
		out = append(out, req...)
	}
	fail := func(errno unix.Errno, exitInfo2 uint64) ioctlReply {
		le.PutUint64(out[offExitInfo2:], exitInfo2)
		return ioctlReply{result: -int32(errno), out: out}
	}
	a, err := d.ask(&request{
		msgType:    cmd.msgType,
		msgVersion: head[0],
		certs:      cmd.certs,
		certsRoom:  certsRoom,
		payload:    req[:cmd.payloadSize],
	})
	noFirmware := snp.StatusNoFWCall
	switch {
	case err != nil:
		d.logf("sev-guest: %v", err)
		return fail(unix.EIO, uint64(uint32(noFirmware)))
	case a.vmmError != 0:
		if cmd.certs && a.vmmError == vmmInvalidLen {
			le.PutUint32(out[guestRequestSize+offCertsLen:], a.certsLen)
		}
		return fail(unix.EIO, uint64(a.vmmError)<<32)
	case a.status != snp.StatusSuccess:
		return fail(unix.EIO, uint64(uint32(a.status)))
	case a.msgType != cmd.msgType+1 || len(a.payload) > cmd.respSize || uint64(len(a.certs)) > uint64(certsRoom):
		d.logf("sev-guest: answer of type %d with %d bytes and %d bytes of certificates does not fit request %d", a.msgType, len(a.payload), len(a.certs), cmd.msgType)
		return fail(unix.EBADMSG, 0)
	}
	le.PutUint64(out[offExitInfo2:], 0)
	out = append(out, a.payload...)
	out = append(out, make([]byte, cmd.respSize-len(a.payload))...)
	out = append(out, a.certs...)
	out = append(out, make([]byte, int(certsRoom)-len(a.certs))...)
	return ioctlReply{out: out}
}

// ask sends one request to the host and waits for its answer.
func (d *device) ask(r *request) (*answer, error) {
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
