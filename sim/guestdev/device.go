package guestdev

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Serve offers the character device until cuse fails or ends. Each Read of cuse
// (an open /dev/cuse, see OpenCUSE) gives one request and each Write is one
// reply. Requests are served one at a time, as Linux's driver does.
func (d *Driver) Serve(cuse io.ReadWriter) error {
	buf := make([]byte, requestBufferSize)
	for {
		n, err := cuse.Read(buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, io.EOF), errors.Is(err, unix.ENODEV):
			return nil
		case err != nil:
			return fmt.Errorf("reading a request for /dev/%s: %w", DeviceName, err)
		}
		reply, err := d.handle(buf[:n])
		if err != nil {
			return err
		}
		if reply == nil {
			continue
		}
		// ENOENT: the caller was interrupted and no longer waits.
		if _, err := cuse.Write(reply); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("answering a request for /dev/%s: %w", DeviceName, err)
		}
	}
}

// handle answers one request; nil means that none is expected. It fails only
// where no device can come of it.
func (d *Driver) handle(b []byte) ([]byte, error) {
	r, err := parseFuseRequest(b)
	if err != nil {
		return nil, err
	}
	switch r.opcode {
	case opCUSEInit:
		body, err := cuseInit(r.body, DeviceName)
		if err != nil {
			return nil, err
		}
		return fuseReply(r.unique, 0, body), nil
	case opOpen:
		return fuseReply(r.unique, 0, make([]byte, fuseOpenOutSize)), nil
	case opRelease, opFlush:
		return fuseReply(r.unique, 0, nil), nil
	case opInterrupt:
		return nil, nil
	case opIoctl:
		call, err := parseFuseIoctl(r.body)
		if err != nil {
			d.logf("sev-guest: %v", err)
			return fuseReply(r.unique, int32(unix.EINVAL), nil), nil
		}
		reply := d.ioctl(call)
		return fuseReply(r.unique, 0, reply.bytes()), nil
	}
	return fuseReply(r.unique, int32(unix.ENOSYS), nil), nil
}
