package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Writer appends cells to a file of results. It may be used by several
// goroutines at once.
type Writer struct {
	mu   sync.Mutex
	file *os.File
}

// Create begins a file of results; one that is there already is an error that
// satisfies errors.Is(err, fs.ErrExist). Close it when all cells have ended.
func Create(path string, h Header) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("writing results: %w", err)
	}
	w := &Writer{file: f}
	if err = w.lock(); err == nil {
		h.Format = FormatVersion
		err = w.line(h)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// Resume goes on with the file of a run that was killed, and gives what it
// holds. What is left of a line that was cut is taken away. A file that another
// process is writing is an error; so is one without a header, ErrNoHeader.
func Resume(path string) (*Writer, *Run, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("resuming: %w", err)
	}
	w := &Writer{file: f}
	run, err := w.resume()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("resuming %s: %w", path, err), f.Close())
	}
	return w, run, nil
}

func (w *Writer) resume() (*Run, error) {
	if err := w.lock(); err != nil {
		return nil, err
	}
	run, whole, err := read(w.file)
	if err != nil {
		return nil, err
	}
	if err := w.file.Truncate(whole); err != nil {
		return nil, err
	}
	last := make([]byte, 1)
	if _, err := w.file.ReadAt(last, whole-1); err != nil {
		return nil, err
	}
	if last[0] != '\n' {
		_, err = w.file.WriteString("\n")
	}
	return run, err
}

// lock keeps a second writer away, for as long as the file is open.
func (w *Writer) lock() error {
	err := unix.Flock(int(w.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another snplaunch is writing %s", w.file.Name())
	}
	return err
}

// Idle gives an error where a writer has a file of results open.
func Idle(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		return fmt.Errorf("another snplaunch is writing %s", path)
	}
	return nil
}

// Add appends a cell that has ended. It is in the file, safe from the death of
// this process, when Add returns.
func (w *Writer) Add(c Cell) error { return w.line(c) }

// Close puts everything on the disk.
func (w *Writer) Close() error {
	return errors.Join(w.file.Sync(), w.file.Close())
}

// line is one write(2), so that whoever reads meanwhile sees a line or none.
func (w *Writer) line(v any) error {
	text, err := encodeLine(v)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.file.Write(text); err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	return nil
}

// Write writes a whole run, as JSON lines.
func Write(out io.Writer, run *Run) error {
	lines := []any{run.Header}
	for _, c := range run.Cells {
		lines = append(lines, c)
	}
	for _, l := range lines {
		text, err := encodeLine(l)
		if err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func encodeLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // digests and commands stay legible
	err := enc.Encode(v)
	return b.Bytes(), err
}
