package launcher

import (
	"errors"
	"sync"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/sim/psp"
)

// Shared is what many launches of one process have in common, so that none of
// them makes it anew: sealed copies of the guests' files with their hashes, and
// the software host's root. Launches at the same time may use one.
type Shared struct {
	files *guest.Shared

	mu sync.Mutex
	ca map[string]*psp.CA // by folder
}

// NewShared makes an empty one. Close ends it.
func NewShared() *Shared {
	return &Shared{files: guest.NewShared(), ca: map[string]*psp.CA{}}
}

// Close gives everything back. No launch may be under way.
func (s *Shared) Close() error { return s.files.Close() }

// open opens the guest's files, for a launch sealed.
func (s *Shared) open(g *guest.Guest, launch bool) (*guest.Inputs, error) {
	if s != nil && launch {
		return s.files.Open(g)
	}
	in, err := g.Open()
	if err != nil || !launch {
		return in, err
	}
	if err := in.Seal(); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// root gives the software host's root, which is made on first use and kept in dir.
func (s *Shared) root(dir string, making func()) (*psp.CA, error) {
	if s == nil {
		return psp.LoadOrCreateCA(dir, making)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ca := s.ca[dir]; ca != nil {
		return ca, nil
	}
	ca, err := psp.LoadOrCreateCA(dir, making)
	if err == nil {
		s.ca[dir] = ca
	}
	return ca, err
}
