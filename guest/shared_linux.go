package guest

import (
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Shared keeps sealed copies of files that many launches start from, so that
// each is copied and hashed once, however often it is launched. A file that has
// changed since is copied anew. Its methods may be called by several goroutines
// at once.
type Shared struct {
	mu    sync.Mutex
	files map[string]*sharedFile // by path
	old   []*sharedFile          // copies of files that changed; a launch under way may have one
}

// sharedFile is one sealed copy and what its file was when it was made.
type sharedFile struct {
	once     sync.Once
	err      error
	size     int64
	modified time.Time
	copied   *Input
}

// NewShared makes an empty one. Close ends it.
func NewShared() *Shared { return &Shared{files: map[string]*sharedFile{}} }

// Open opens a guest's files as Guest.Open and Inputs.Seal do. Closing what it
// gives leaves the copies to the next launch.
func (s *Shared) Open(g *Guest) (*Inputs, error) { return g.open(true, s.input) }

// input gives an Input of the copy of a file, which is made where there is none.
func (s *Shared) input(path string) (*Input, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	f := s.files[path]
	if f == nil || f.size != st.Size() || !f.modified.Equal(st.ModTime()) {
		if f != nil {
			s.old = append(s.old, f)
		}
		f = &sharedFile{size: st.Size(), modified: st.ModTime()}
		s.files[path] = f
	}
	s.mu.Unlock()
	f.once.Do(func() {
		if f.copied, f.err = OpenInput(path); f.err == nil {
			f.err = f.copied.seal()
		}
	})
	if f.err != nil {
		s.mu.Lock()
		if s.files[path] == f { // another attempt may go well
			delete(s.files, path)
			s.old = append(s.old, f)
		}
		s.mu.Unlock()
		return nil, f.err
	}
	c := f.copied
	return &Input{Path: c.Path, File: c.File, Size: c.Size, reader: c.reader, modified: c.modified, shared: c}, nil
}

// Close closes the copies. No launch may be under way.
func (s *Shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range slices.AppendSeq(s.old, maps.Values(s.files)) {
		if f.copied != nil && f.copied.File != nil {
			errs = append(errs, f.copied.File.Close())
		}
	}
	s.old, s.files = nil, map[string]*sharedFile{}
	return errors.Join(errs...)
}
