package guest_test

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
)

func TestSharedCopiesAreMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "firmware")
	write := func(content string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("one", time.Unix(1000, 0))
	s := guest.NewShared()
	g := guest.Default()
	g.Firmware = path
	var mu sync.Mutex
	copies := map[uintptr]bool{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			in, err := s.Open(&g)
			if err != nil {
				t.Error(err)
				return
			}
			if sum, err := in.Firmware.SHA256(); err != nil || sum != sha256.Sum256([]byte("one")) {
				t.Errorf("%x, %v", sum, err)
			}
			mu.Lock()
			copies[in.Firmware.File.Fd()] = true
			mu.Unlock()
			if err := in.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(copies) != 1 {
		t.Errorf("%d copies of one file", len(copies))
	}
	before, err := s.Open(&g)
	if err != nil {
		t.Fatal(err)
	}
	write("two", time.Unix(2000, 0))
	after, err := s.Open(&g)
	if err != nil {
		t.Fatal(err)
	}
	for want, in := range map[string]*guest.Inputs{"one": before, "two": after} {
		got, err := io.ReadAll(in.Firmware.Reader())
		sum, sumErr := in.Firmware.SHA256()
		if err != nil || sumErr != nil || string(got) != want || sum != sha256.Sum256([]byte(want)) {
			t.Errorf("got %q, %v, SHA-256 %x, %v; want %q", got, err, sum, sumErr, want)
		}
	}
	// A digest that was given is held against the copy, for each guest that gives one.
	wrong := g
	wrong.Kernel, wrong.KernelSHA256 = path, &[32]byte{1}
	in, err := s.Open(&wrong)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Kernel.SHA256(); err == nil {
		t.Error("another digest than the one that was given was taken")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := before.Firmware.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a copy is open after Close")
	}
	g.Firmware = filepath.Join(t.TempDir(), "none")
	if _, err := s.Open(&g); err == nil {
		t.Error("a missing file was opened")
	}
}
