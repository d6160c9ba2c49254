package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The yardstick must hash everything, or it measures nothing.
func TestHashes(t *testing.T) {
	data := make([]byte, 70*pageSize)
	for i := range data {
		if page := i / pageSize; page < 20 || page == 40 {
			data[i] = byte(i%251 + page)
		}
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	got, err := whole(open())
	if want := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || fmt.Sprintf("%x", got) != want {
		t.Errorf("whole: %x, %v; want %s", got, err, want)
	}

	digest := make([]byte, sha512.Size384)
	for page := range len(data) / pageSize {
		contents := sha512.Sum384(data[page*pageSize : (page+1)*pageSize])
		next := sha512.Sum384(append(append(digest, contents[:]...), make([]byte, infoSize-2*contentsAt)...))
		digest = next[:]
	}
	if got, err := pages(open()); err != nil || !bytes.Equal(got, digest) {
		t.Errorf("pages: %x, %v; want %x", got, err, digest)
	}
	f := open()
	f.Close()
	if _, err := pages(f); err == nil {
		t.Error("pages of a file that cannot be read")
	}
}
