package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// cache is the folder where fetched and built files are kept. Beside each file
// FILE lies FILE.json, which says what it is; a file without one is not taken.
type cache struct{ dir string }

// fileRecord is FILE.json.
type fileRecord struct {
	SHA256  string    `json:"sha256"`
	Size    int64     `json:"size"`  // bytes
	ModTime time.Time `json:"mtime"` // of the file when it was recorded
}

// DefaultCacheDir is $SNPLAUNCH_CACHE, or snplaunch in the user's cache
// folder.
func DefaultCacheDir() (string, error) {
	if dir := os.Getenv("SNPLAUNCH_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the folder for fetched files: %w; set SNPLAUNCH_CACHE to a folder", err)
	}
	return filepath.Join(dir, "snplaunch"), nil
}

// openCache names the cache; nothing is made yet.
func openCache(dir string) (*cache, error) {
	if dir == "" {
		var err error
		if dir, err = DefaultCacheDir(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &cache{dir}, nil
}

func (c *cache) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// tempDir makes a folder in the cache, so that what is made in it can be
// renamed into place. The caller removes it.
func (c *cache) tempDir() (string, error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return "", fmt.Errorf("making the folder for fetched files: %w; set SNPLAUNCH_CACHE to a folder that can be written", err)
	}
	return os.MkdirTemp(c.dir, ".tmp-")
}

// add moves a finished file into the cache, records it and gives its SHA-256.
// The record comes last: until it is there the file does not count.
func (c *cache) add(from, to string) (string, error) {
	sum, err := hashFile(from)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(from, to); err != nil {
		return "", err
	}
	return sum, recordFile(to, sum)
}

// recordFile writes FILE.json.
func recordFile(path, sum string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	b, err := json.Marshal(fileRecord{SHA256: sum, Size: st.Size(), ModTime: st.ModTime()})
	if err != nil {
		return err
	}
	return writeAtomic(path+".json", b)
}

// known says whether a file is in the cache as it was recorded, by size and
// time, and gives its SHA-256.
func (c *cache) known(path string) (string, bool) {
	b, err := os.ReadFile(path + ".json")
	if err != nil {
		return "", false
	}
	var r fileRecord
	st, err := os.Stat(path)
	if err != nil || json.Unmarshal(b, &r) != nil || len(r.SHA256) != 64 {
		return "", false
	}
	return r.SHA256, st.Size() == r.Size && st.ModTime().Equal(r.ModTime)
}

// writeAtomic writes a file under a temporary name and renames it.
func writeAtomic(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
