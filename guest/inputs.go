package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/hashes"
)

// Inputs are the files of a guest, each opened once, so that what is measured
// and what is launched are the same file even when its name moves on.
type Inputs struct {
	Firmware *Input
	Kernel   *Input // nil without a kernel
	Initrd   *Input // nil without an initrd
}

// Input is one opened file, or other bytes that stand for one.
type Input struct {
	Path string   // name for messages; empty where only the digest is known
	File *os.File // nil for an Input that was not opened from a file
	Size int64    // bytes, when it was opened

	reader   io.ReaderAt // nil where only the digest is known
	want     *[32]byte   // what the SHA-256 must be
	modified time.Time
	shared   *Input // whose file and digest this uses; nil for one with its own
	once     sync.Once
	sum      [32]byte
	err      error
}

// NewInput makes an Input of size bytes that r gives, e.g. of a bytes.Reader.
// name is for messages.
func NewInput(name string, r io.ReaderAt, size int64) *Input {
	return &Input{Path: name, Size: size, reader: r}
}

// DigestInput makes an Input of which only the SHA-256 is known. what names
// it in messages.
func DigestInput(what string, sum [32]byte) *Input {
	in := &Input{Path: what, sum: sum}
	in.once.Do(func() {})
	return in
}

// HasContents says whether there are bytes to read, and not only their digest, or
// nothing at all.
func (i *Input) HasContents() bool { return i != nil && i.reader != nil }

// ReadAt implements io.ReaderAt.
func (i *Input) ReadAt(p []byte, off int64) (int, error) {
	if i.reader == nil {
		return 0, fmt.Errorf("%s is known by its digest only (give the file)", i.Path)
	}
	return i.reader.ReadAt(p, off)
}

// Open opens the guest's files for reading. All that cannot be opened is
// reported at once. Close ends it.
func (g *Guest) Open() (*Inputs, error) { return g.open(true, OpenInput) }

// OpenBoot is Open without the firmware.
func (g *Guest) OpenBoot() (*Inputs, error) { return g.open(false, OpenInput) }

func (g *Guest) open(firmware bool, openInput func(path string) (*Input, error)) (*Inputs, error) {
	in := &Inputs{}
	var f findings
	for _, p := range []struct {
		field, path string
		sum         *[32]byte
		dst         **Input
		wanted      bool
	}{
		{"firmware", g.Firmware, g.FirmwareSHA256, &in.Firmware, firmware},
		{"kernel", g.Kernel, g.KernelSHA256, &in.Kernel, g.HasKernel()},
		{"initrd", g.Initrd, g.InitrdSHA256, &in.Initrd, g.Initrd != "" || g.InitrdSHA256 != nil},
	} {
		if !p.wanted {
			continue
		}
		if p.path == "" && p.sum != nil {
			*p.dst = DigestInput(p.field, *p.sum)
			continue
		}
		input, err := openInput(p.path)
		if err != nil {
			f.add(p.field, quote(p.path), reason(err), "give the path of a readable file")
			continue
		}
		input.want = p.sum
		*p.dst = input
	}
	if err := f.result("opening the guest's files"); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// reason leaves the path out of an error that names it elsewhere.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// OpenInput opens one file, which must be a regular one.
func OpenInput(path string) (*Input, error) {
	// Asking before opening keeps a FIFO from blocking; asking again after it
	// keeps a file that was swapped in between from slipping through.
	if st, err := os.Stat(path); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Input{Path: path, File: file, Size: st.Size(), reader: file, modified: st.ModTime()}, nil
}

// Close closes all files; every error is reported.
func (in *Inputs) Close() error {
	var errs []error
	for _, i := range []*Input{in.Firmware, in.Kernel, in.Initrd} {
		if i != nil && i.File != nil && i.shared == nil {
			errs = append(errs, i.File.Close())
		}
	}
	return errors.Join(errs...)
}

// Reader reads the whole file from its start, whatever was read before.
func (i *Input) Reader() io.Reader { return io.NewSectionReader(i, 0, i.Size) }

// SHA256 gives the file's SHA-256. It is computed on the first call, streaming,
// and kept; concurrent calls are safe. A file that changes meanwhile is an error.
func (i *Input) SHA256() ([32]byte, error) {
	i.once.Do(func() {
		sum, n, err := i.hash()
		if err == nil && n != i.Size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			i.err = fmt.Errorf("reading %s: %w", i.Path, err)
			return
		}
		i.sum = sum
		if i.err = i.Unchanged(); i.err == nil && i.want != nil && *i.want != i.sum {
			i.err = fmt.Errorf("%s has the SHA-256 %x, but %x was given for it (give the file that was meant; if it is the one, `snplaunch lock` writes its digest into the description)", i.Path, i.sum, *i.want)
		}
	})
	return i.sum, i.err
}

// hash gives the SHA-256 of as many bytes as there are to read.
func (i *Input) hash() (sum [32]byte, n int64, err error) {
	if i.shared != nil {
		sum, err = i.shared.SHA256()
		return sum, i.Size, err
	}
	return hashes.SHA256(i.Reader())
}

// CheckPins holds every file against the SHA-256 that the description gives for it,
// all at once. All that differ are reported.
func (in *Inputs) CheckPins() error {
	files := []*Input{in.Firmware, in.Kernel, in.Initrd}
	errs := make([]error, len(files))
	var wg sync.WaitGroup
	for at, i := range files {
		if i != nil && i.want != nil {
			wg.Go(func() { _, errs[at] = i.SHA256() })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Unchanged says whether the file still has the size and time of modification
// that it had when it was opened. What is no file counts as unchanged.
func (i *Input) Unchanged() error {
	if i.File == nil {
		return nil
	}
	st, err := i.File.Stat()
	if err != nil {
		return fmt.Errorf("reading %s: %w", i.Path, err)
	}
	if st.Size() != i.Size || !st.ModTime().Equal(i.modified) {
		return fmt.Errorf("%s changed while it was in use (run again when nothing writes to it)", i.Path)
	}
	return nil
}
