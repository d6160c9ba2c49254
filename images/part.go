package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// role is what a fetched part is for; it is the name of its folder in the cache.
type role string

const (
	roleFirmware role = "firmware-amdsev"
	roleGeneric  role = "firmware-generic"
	rolePlain    role = "firmware-plain"
	roleKernel   role = "kernel"
	roleQEMUNext role = "qemu-next"
	roleLibvirt  role = "libvirt"
)

// manifestName is the file that makes a fetched part valid.
const manifestName = "manifest.json"

// manifest says what a fetched part is and which of its files are used.
type manifest struct {
	Package string `json:"package"`
	Version string `json:"version"`
	Suite   string `json:"suite"`
	// Path is the part's main file and ModulesDir the folder of a kernel's
	// modules, both relative to the manifest's folder.
	Path       string `json:"path"`
	ModulesDir string `json:"modules_dir,omitempty"`
	// Files are all files that are used, by path relative to the folder.
	Files map[string]fileRecord `json:"files"`

	dir string
}

func (m *manifest) artifact() Artifact {
	return Artifact{
		Path: filepath.Join(m.dir, m.Path), Package: m.Package, Version: m.Version,
		SHA256: m.Files[m.Path].SHA256,
	}
}

func (m *manifest) modulesDir() string {
	if m.ModulesDir == "" {
		return ""
	}
	return filepath.Join(m.dir, m.ModulesDir)
}

// record fills in Files for the given paths relative to the folder.
func (m *manifest) record(paths ...string) error {
	m.Files = map[string]fileRecord{}
	for _, p := range paths {
		full := filepath.Join(m.dir, p)
		st, err := os.Stat(full)
		if err != nil {
			return err
		}
		sum, err := hashFile(full)
		if err != nil {
			return err
		}
		m.Files[p] = fileRecord{SHA256: sum, Size: st.Size(), ModTime: st.ModTime()}
	}
	return nil
}

// check compares the files with the manifest: by size and time, and by their
// contents as well where deep.
func (m *manifest) check(deep bool) error {
	for p, want := range m.Files {
		full := filepath.Join(m.dir, p)
		st, err := os.Stat(full)
		if err != nil {
			return err
		}
		if st.Size() != want.Size || !st.ModTime().Equal(want.ModTime) {
			return fmt.Errorf("%s is not the file that was fetched: its size or time has changed", full)
		}
		if !deep {
			continue
		}
		sum, err := hashFile(full)
		if err != nil {
			return err
		}
		if sum != want.SHA256 {
			return fmt.Errorf("%s is not the file that was fetched: its SHA-256 is %s, not %s", full, sum, want.SHA256)
		}
	}
	return nil
}

// part gives the part of that role that was fetched last and is whole, or nil.
func (c *cache) part(r role, deep bool) *manifest {
	files, _ := filepath.Glob(c.path(string(r), "*", manifestName))
	var newest *manifest
	var newestInfo fs.FileInfo
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || (newest != nil && !info.ModTime().After(newestInfo.ModTime())) {
			continue
		}
		m, err := readManifest(f)
		if err != nil || m.check(deep) != nil {
			continue
		}
		newest, newestInfo = m, info
	}
	return newest
}

func readManifest(path string) (*manifest, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &manifest{dir: filepath.Dir(path)}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for p := range m.Files {
		if !filepath.IsLocal(p) {
			return nil, fmt.Errorf("%s names a file outside its folder: %s", path, p)
		}
	}
	if _, ok := m.Files[m.Path]; !ok || (m.ModulesDir != "" && !filepath.IsLocal(m.ModulesDir)) {
		return nil, errors.New(path + " does not name its own files")
	}
	return m, nil
}

// addPart moves a finished folder with its manifest into the cache, in the
// place of all parts of that role.
func (c *cache) addPart(r role, m *manifest) (*manifest, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := writeAtomic(filepath.Join(m.dir, manifestName), append(b, '\n')); err != nil {
		return nil, err
	}
	old, _ := filepath.Glob(c.path(string(r), "*"))
	// As in the name of a package's file: a colon would part lists of folders.
	name := m.Package + "_" + strings.ReplaceAll(m.Version, ":", "%3a")
	to := c.path(string(r), name)
	for n := 1; ; n++ { // a damaged or refreshed part may have the name
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = c.path(string(r), fmt.Sprintf("%s.%d", name, n))
	}
	if err := os.MkdirAll(c.path(string(r)), 0o755); err != nil {
		return nil, err
	}
	// Folders made by MkdirTemp are the owner's alone.
	if err := os.Chmod(m.dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Rename(m.dir, to); err != nil {
		return nil, err
	}
	m.dir = to
	for _, o := range old {
		os.RemoveAll(o)
	}
	return m, nil
}
