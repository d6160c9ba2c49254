package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/snplaunch/snplaunch/guest"
)

// qcowMagic begins every qcow2 file.
var qcowMagic = []byte("QFI\xfb")

// checkDisks sees before anything is launched that QEMU can have the disks.
func checkDisks(disks []guest.Disk) error {
	var errs []error
	for i, d := range disks {
		if err := checkDisk(d); err != nil {
			errs = append(errs, fmt.Errorf("disks[%d].file: %s: %w", i, d.File, err))
		}
	}
	return errors.Join(errs...)
}

func checkDisk(d guest.Disk) error {
	// A FIFO would block when it is opened.
	if st, err := os.Stat(d.File); err != nil {
		return fmt.Errorf("%w (give the path of an image)", cause(err))
	} else if !st.Mode().IsRegular() {
		return errors.New("it is not a regular file (give other kinds of disk by qemu_args)")
	}
	flag := os.O_RDWR
	if d.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(d.File, flag, 0)
	if err != nil {
		if !d.ReadOnly && errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w (make it writable for you, or give read_only)", cause(err))
		}
		return cause(err)
	}
	defer f.Close()
	head := make([]byte, len(qcowMagic))
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return cause(err)
	}
	switch qcow := bytes.Equal(head, qcowMagic); {
	case qcow && d.Format == "":
		return errors.New("it is a qcow2 file, but the format is not given (give format: qcow2, or raw where the guest is to see the file as it is)")
	case !qcow && d.Format == guest.DiskQCOW2:
		return errors.New("it is no qcow2 file (give format: raw)")
	}
	return nil
}

// cause leaves the path out of an error that names it elsewhere.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
