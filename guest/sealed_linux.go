package guest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// seals make a memory file immutable, for its owner too. F_SEAL_WRITE would
// besides look for who holds a page of it for writing, which nobody can here, and
// gives EBUSY when the kernel itself holds one for a moment (mm/memfd.c,
// memfd_wait_for_pins), as was seen on a busy machine.
const seals = unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL

// Seal replaces every opened file by a copy in sealed memory. What is hashed
// afterwards is then what a QEMU that is handed the same descriptors loads,
// whoever writes to the files meanwhile. A file that changes while it is copied
// is an error. It is to be called before anything was hashed.
func (in *Inputs) Seal() error {
	for _, i := range []*Input{in.Firmware, in.Kernel, in.Initrd} {
		if i == nil || !i.HasContents() || i.shared != nil { // which is sealed already
			continue
		}
		if err := i.seal(); err != nil {
			return err
		}
	}
	return nil
}

func (i *Input) seal() error {
	fd, err := unix.MemfdCreate(i.Path, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if errors.Is(err, unix.EINVAL) { // a name has at most 249 bytes
		fd, err = unix.MemfdCreate("snplaunch-input", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return fmt.Errorf("no memory for a copy of %s: %w", i.Path, err)
	}
	copied := os.NewFile(uintptr(fd), i.Path)
	n, err := io.Copy(copied, i.Reader())
	if err == nil && n != i.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		copied.Close()
		return fmt.Errorf("copying %s to memory: %w", i.Path, err)
	}
	if err := i.Unchanged(); err != nil {
		copied.Close()
		return err
	}
	if _, err := unix.FcntlInt(copied.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		copied.Close()
		return fmt.Errorf("sealing the copy of %s: %w", i.Path, err)
	}
	st, err := copied.Stat()
	if err != nil {
		copied.Close()
		return fmt.Errorf("the copy of %s: %w", i.Path, err)
	}
	if i.File != nil {
		i.File.Close()
	}
	i.File, i.reader, i.modified = copied, copied, st.ModTime()
	return nil
}
