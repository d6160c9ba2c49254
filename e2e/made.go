package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/idblock"
)

// made are the files that a run makes for itself: keys, and copies with a bit
// flipped. They lie in memory, so that nothing is left of them, and no key is ever on
// a disk, however the run ends. This process opens them by the paths that it is given.
type made struct {
	mu    sync.Mutex
	files map[string]*os.File
}

// file gives the path of what is made at the first call.
func (m *made) file(name string, contents func() ([]byte, error)) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.files[name]; f != nil {
		return pathOf(f), nil
	}
	b, err := contents()
	if err != nil {
		return "", err
	}
	f, err := unnamedFile()
	if err != nil {
		return "", err
	}
	if _, err := f.Write(b); err != nil {
		return "", errors.Join(err, f.Close())
	}
	m.files[name] = f
	return pathOf(f), nil
}

// unnamedFile is one in memory.
func unnamedFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("snplaunch-e2e", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), "snplaunch-e2e"), nil
}

func pathOf(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// key gives a key that is made for the run and forgotten with it.
func (m *made) key(name string) (string, error) {
	path, err := m.file(name+" key", func() ([]byte, error) {
		key, err := idblock.GenerateKey()
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
	})
	if err != nil {
		return "", fmt.Errorf("making a key for the run: %w", err)
	}
	return path, nil
}

// flipped gives a copy of a file with one bit in its middle flipped, the same for all
// cells.
func (m *made) flipped(path string) (string, error) {
	return m.file("flipped "+path, func() ([]byte, error) {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return nil, fmt.Errorf("%s is empty, so that no bit of it can be flipped", path)
		}
		b[len(b)/2] ^= 1
		return b, nil
	})
}

func (m *made) close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
