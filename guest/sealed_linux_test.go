package guest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func sealedInputs(t *testing.T, content []byte) (*Inputs, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "firmware.fd")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := (&Guest{Firmware: path}).Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in, path
}

func TestSealedInputsDoNotChange(t *testing.T) {
	content := bytes.Repeat([]byte("firmware"), 10000)
	in, path := sealedInputs(t, content)
	if err := in.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if sum, err := in.Firmware.SHA256(); err != nil || sum != sha256.Sum256(content) {
		t.Errorf("SHA-256 %x, %v; want that of the file when it was sealed", sum, err)
	}
	got, err := io.ReadAll(in.Firmware.Reader())
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v; want the file when it was sealed", len(got), err)
	}
	if err := in.Firmware.Unchanged(); err != nil {
		t.Error(err)
	}
	// Not even through the descriptor itself.
	if _, err := in.Firmware.File.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to the sealed copy: %v, want EPERM", err)
	}
	if b, err := unix.Mmap(int(in.Firmware.File.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
		t.Errorf("mapping the sealed copy for writing: %v, want EPERM", err)
		_ = unix.Munmap(b)
	}
	if err := in.Firmware.File.Truncate(1); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncating the sealed copy: %v, want EPERM", err)
	}
}

func TestSealRefusesAFileThatChanged(t *testing.T) {
	in, path := sealedInputs(t, []byte("firmware"))
	for name, change := range map[string]func() error{
		"shorter": func() error { return os.Truncate(path, 3) },
		"longer":  func() error { return os.WriteFile(path, []byte("firmware and more"), 0o600) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := in.Seal(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want an error that names %s", name, err, path)
		}
	}
}
