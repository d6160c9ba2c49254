package host

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// mostKernelLog bounds what is read: the ring buffer of a large server.
const mostKernelLog = 16 << 20

// kernelLog gives the kernel's ring buffer as text. A read of /dev/kmsg gives one
// record, "PRIORITY,SEQUENCE,TIME,FLAGS;MESSAGE" and lines that begin with a blank
// (Documentation/ABI/testing/dev-kmsg). In a folder of files it is a file of such records.
func (p probe) kernelLog() ([]byte, error) {
	if err := p.ctx.Err(); err != nil {
		return nil, err
	}
	// os.File would wait for the next record.
	fd, err := unix.Open(p.path("dev/kmsg"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/kmsg", Err: err}
	}
	defer unix.Close(fd)
	var out bytes.Buffer
	record := make([]byte, 64<<10)
	for out.Len() < mostKernelLog {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EAGAIN) || err == nil && n == 0:
			return out.Bytes(), nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // records were overwritten meanwhile
			continue
		case err != nil:
			return nil, err
		}
		out.Write(record[:n])
	}
	return out.Bytes(), nil
}
