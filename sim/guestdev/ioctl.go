package guestdev

import (
	"encoding/binary"

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
//
// What is looked at, and in which order, is what snp_guest_ioctl of Linux 6.12
// does.
func (d *Driver) ioctl(r fuseIoctl) ioctlReply {
	switch {
	case r.flags&fuseIoctlCompat != 0: // the driver has no such entry point
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
	head, req := r.in[:guestRequestSize], r.in[guestRequestSize:]
	switch {
	case head[0] == 0:
		return ioctlReply{result: -int32(unix.EINVAL)}
	case d.disabled():
		return ioctlReply{result: -int32(unix.ENOTTY)}
	}
	ins := []iovec{whole}
	cmd, known := commands[r.cmd]
	if !known {
		return notSent(r, head, ins, unix.ENOTTY)
	}
	le := binary.LittleEndian
	reqData, respData := le.Uint64(head[offReqData:]), le.Uint64(head[offRespData:])
	if reqData == 0 || respData == 0 {
		return notSent(r, head, ins, unix.EINVAL)
	}
	ins = append(ins, iovec{reqData, uint64(cmd.reqSize)})
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
			certsRoom = 0 // without an address, no certificates
		}
		if certsRoom > MaxCertTable || certsRoom%snp.PageSize != 0 {
			return notSent(r, head, ins, unix.EINVAL)
		}
	}
	outs := []iovec{whole}
	if cmd.certs {
		outs = append(outs, ins[1])
	}
	outs = append(outs, iovec{respData, uint64(cmd.respSize)})
	if certsRoom != 0 {
		outs = append(outs, iovec{certsAddress, uint64(certsRoom)})
	}
	switch uint64(r.outSize) {
	case 0:
		return ioctlReply{retryIn: ins, retryOut: outs}
	case total(outs):
		return d.forward(cmd, head, req, certsRoom)
	}
	// The caller changed its request meanwhile: there is room for another.
	return ioctlReply{result: -int32(unix.EINVAL)}
}

// notSent refuses a request before it leaves the guest. The driver writes the
// ioctl's struct back then, so room for it is asked for first.
func notSent(r fuseIoctl, head []byte, ins []iovec, errno unix.Errno) ioctlReply {
	if r.outSize == 0 {
		return ioctlReply{retryIn: ins, retryOut: ins[:1]}
	}
	out := append([]byte(nil), head...)
	binary.LittleEndian.PutUint64(out[offExitInfo2:], exitInfoNotSent)
	return ioctlReply{result: -int32(errno), out: out[:min(len(out), int(r.outSize))]}
}

// forward sends the guest message to the host and makes the last reply. Its
// bytes follow the order in which ioctl offered places for them. A failure
// stops after the struct and the request, so that the response stays as it was;
// on success both are written as they were read, since the driver writes
// neither then.
func (d *Driver) forward(cmd command, head, req []byte, certsRoom uint32) ioctlReply {
	le := binary.LittleEndian
	out := append([]byte(nil), head...)
	if cmd.certs {
		out = append(out, req...)
	}
	a, exitInfo2, errno := d.send(&request{
		msgType:    cmd.msgType,
		msgVersion: head[0],
		certs:      cmd.certs,
		certsRoom:  certsRoom,
		payload:    req[:cmd.payloadSize],
	}, cmd.respSize)
	if errno != 0 {
		if exitInfo2 != 0 {
			le.PutUint64(out[offExitInfo2:], exitInfo2)
		}
		if cmd.certs && exitInfo2>>32 == vmmInvalidLen {
			le.PutUint32(out[guestRequestSize+offCertsLen:], a.certsLen)
		}
		return ioctlReply{result: -int32(errno), out: out}
	}
	out = append(out, a.payload...)
	out = append(out, make([]byte, cmd.respSize-len(a.payload))...)
	out = append(out, a.certs...)
	out = append(out, make([]byte, int(certsRoom)-len(a.certs))...)
	return ioctlReply{out: out}
}

func total(list []iovec) (n uint64) {
	for _, v := range list {
		n += v.length
	}
	return n
}
