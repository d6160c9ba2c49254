package guestdev

import (
	"encoding/binary"
	"fmt"
)

// What a CUSE server reads and writes: include/uapi/linux/fuse.h and
// fs/fuse/cuse.c of Linux 6.12. Sizes are in bytes.
const (
	fuseInHeaderSize  = 40
	fuseOutHeaderSize = 16
	cuseInitInSize    = 16
	cuseInitOutSize   = 72
	fuseOpenOutSize   = 16
	fuseIoctlInSize   = 32
	fuseIoctlOutSize  = 16
	fuseIovecSize     = 16

	// maxTransfer bounds one direction of an ioctl: max_read and max_write
	// of CUSE_INIT. An extended report request moves 20,528 bytes.
	maxTransfer = 64 << 10
	// requestBufferSize holds the largest request the kernel sends: it
	// refuses reads into anything smaller than 8 KiB.
	requestBufferSize = maxTransfer + 8192
)

// Opcodes.
const (
	opOpen      = 14
	opRelease   = 18
	opFlush     = 25
	opInterrupt = 36
	opIoctl     = 39
	opCUSEInit  = 4096
)

// Flags of CUSE_INIT, of an ioctl request and of an ioctl reply.
const (
	cuseUnrestrictedIoctl  = 1 << 0
	fuseIoctlCompat        = 1 << 0
	fuseIoctlUnrestricted  = 1 << 1
	fuseIoctlRetry         = 1 << 2
	fuseKernelVersion      = 7
	fuseKernelMinorVersion = 31 // 16 and later have 64-bit ioctl iovecs
)

// fuseRequest is one request: what matters of fuse_in_header, and the body.
type fuseRequest struct {
	opcode uint32
	unique uint64
	body   []byte
}

// parseFuseRequest splits one read from /dev/cuse.
func parseFuseRequest(b []byte) (fuseRequest, error) {
	if len(b) < fuseInHeaderSize {
		return fuseRequest{}, fmt.Errorf("CUSE request: got %d bytes, want at least %d", len(b), fuseInHeaderSize)
	}
	if n := binary.LittleEndian.Uint32(b); uint64(n) != uint64(len(b)) {
		return fuseRequest{}, fmt.Errorf("CUSE request: header says %d bytes, the kernel gave %d", n, len(b))
	}
	return fuseRequest{
		opcode: binary.LittleEndian.Uint32(b[4:]),
		unique: binary.LittleEndian.Uint64(b[8:]),
		body:   b[fuseInHeaderSize:],
	}, nil
}

// fuseReply makes one reply. errno is 0 or a positive error number.
func fuseReply(unique uint64, errno int32, body []byte) []byte {
	out := make([]byte, fuseOutHeaderSize, fuseOutHeaderSize+len(body))
	binary.LittleEndian.PutUint32(out, uint32(fuseOutHeaderSize+len(body)))
	binary.LittleEndian.PutUint32(out[4:], uint32(-errno))
	binary.LittleEndian.PutUint64(out[8:], unique)
	return append(out, body...)
}

// cuseInit answers CUSE_INIT with the name of the device.
func cuseInit(body []byte, name string) ([]byte, error) {
	if len(body) < cuseInitInSize {
		return nil, fmt.Errorf("CUSE_INIT: got %d bytes, want %d", len(body), cuseInitInSize)
	}
	le := binary.LittleEndian
	major, minor, flags := le.Uint32(body), le.Uint32(body[4:]), le.Uint32(body[12:])
	if major != fuseKernelVersion || minor < 16 {
		return nil, fmt.Errorf("CUSE_INIT: the kernel speaks FUSE %d.%d, this server needs %d.16 or later", major, minor, fuseKernelVersion)
	}
	if flags&cuseUnrestrictedIoctl == 0 {
		return nil, fmt.Errorf("CUSE_INIT: the kernel offers no unrestricted ioctls, without which the requests behind pointers cannot be read")
	}
	out := make([]byte, cuseInitOutSize, cuseInitOutSize+len("DEVNAME=")+len(name)+1)
	le.PutUint32(out[0:], fuseKernelVersion)
	le.PutUint32(out[4:], min(minor, fuseKernelMinorVersion))
	le.PutUint32(out[12:], cuseUnrestrictedIoctl)
	le.PutUint32(out[16:], maxTransfer)
	le.PutUint32(out[20:], maxTransfer)
	// dev_major and dev_minor stay 0: the kernel picks a number.
	return append(out, "DEVNAME="+name+"\x00"...), nil
}

// fuseIoctl is one FUSE_IOCTL request.
type fuseIoctl struct {
	flags   uint32
	cmd     uint32
	arg     uint64
	in      []byte
	outSize uint32
}

// parseFuseIoctl reads the body of a FUSE_IOCTL request.
func parseFuseIoctl(body []byte) (fuseIoctl, error) {
	if len(body) < fuseIoctlInSize {
		return fuseIoctl{}, fmt.Errorf("FUSE_IOCTL: got %d bytes, want at least %d", len(body), fuseIoctlInSize)
	}
	le := binary.LittleEndian
	r := fuseIoctl{
		flags:   le.Uint32(body[8:]),
		cmd:     le.Uint32(body[12:]),
		arg:     le.Uint64(body[16:]),
		in:      body[fuseIoctlInSize:],
		outSize: le.Uint32(body[28:]),
	}
	if n := le.Uint32(body[24:]); uint64(n) != uint64(len(r.in)) {
		return fuseIoctl{}, fmt.Errorf("FUSE_IOCTL: in_size is %d, %d bytes follow", n, len(r.in))
	}
	return r, nil
}

// iovec is a range of the calling process's memory.
type iovec struct{ base, length uint64 }

// ioctlReply is the answer to one FUSE_IOCTL: either ranges to fetch and
// offer before the kernel asks again, or the result and the bytes to write.
type ioctlReply struct {
	retryIn, retryOut []iovec
	result            int32 // 0 or a negative error number
	out               []byte
}

// bytes gives fuse_ioctl_out and what follows it.
func (r *ioctlReply) bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, fuseIoctlOutSize, fuseIoctlOutSize+len(r.out)+fuseIovecSize*(len(r.retryIn)+len(r.retryOut)))
	if r.retryIn == nil {
		le.PutUint32(b, uint32(r.result))
		return append(b, r.out...)
	}
	le.PutUint32(b[4:], fuseIoctlRetry)
	le.PutUint32(b[8:], uint32(len(r.retryIn)))
	le.PutUint32(b[12:], uint32(len(r.retryOut)))
	for _, list := range [][]iovec{r.retryIn, r.retryOut} {
		for _, v := range list {
			b = le.AppendUint64(le.AppendUint64(b, v.base), v.length)
		}
	}
	return b
}
