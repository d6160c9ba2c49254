package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/guest"
)

// sums are SHA-256s of files, each read once for as long as it does not change.
type sums struct {
	mu    sync.Mutex
	known map[fileID]string
}

type fileID struct {
	path     string
	size     int64
	modified time.Time
}

// inputs are what a cell is made of, so that two runs can be compared.
func (s *sums) inputs(g *guest.Guest, qemu string) ([]results.Input, error) {
	var out []results.Input
	for _, f := range []struct{ name, path string }{
		{"firmware", g.Firmware}, {"kernel", g.Kernel}, {"initrd", g.Initrd}, {"qemu", qemu},
	} {
		if f.path == "" {
			continue
		}
		sum, err := s.file(f.path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		out = append(out, results.Input{Name: f.name, SHA256: sum})
	}
	if g.Append != "" {
		sum := sha256.Sum256([]byte(g.Append))
		out = append(out, results.Input{Name: "append", SHA256: hex.EncodeToString(sum[:])})
	}
	return out, nil
}

func (s *sums) file(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	id := fileID{path, st.Size(), st.ModTime()}
	s.mu.Lock()
	defer s.mu.Unlock() // workers that begin with the same file wait for one of them
	if sum := s.known[id]; sum != "" {
		return sum, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	s.known[id] = hex.EncodeToString(h.Sum(nil))
	return s.known[id], nil
}
