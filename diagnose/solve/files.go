package solve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
)

// Folders hold files that may have been used in place of the guest's. Each is
// a folder, which is searched with those in it, or a file.
type Folders struct {
	Firmware []string
	Kernels  []string
	Initrds  []string
}

const (
	// maxFiles bounds how many files of one kind are read.
	maxFiles = 512
	// maxDepth is how far below a folder files are looked for.
	maxDepth = 3
)

// found is one kind of file in folders.
type found struct {
	paths  []string // sorted
	unread []string // sentences about what could not be used
}

// list gives the regular files in folders.
func list(ctx context.Context, folders []string) found {
	var f found
	for _, root := range folders {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil && path == root:
				return err
			case err != nil:
				f.unread = append(f.unread, fmt.Sprintf("%s cannot be read: %v", path, err))
				return nil
			case d.IsDir():
				if rel, err := filepath.Rel(root, path); err == nil && depth(rel) > maxDepth {
					return fs.SkipDir
				}
				return nil
			}
			if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || slices.Contains(f.paths, path) {
				return nil // a dangling link, a socket, or found before
			}
			if len(f.paths) == maxFiles {
				f.unread = append(f.unread, fmt.Sprintf("%s has more than %d files; the others were not looked at (name a folder with fewer)", root, maxFiles))
				return fs.SkipAll
			}
			f.paths = append(f.paths, path)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			f.unread = append(f.unread, fmt.Sprintf("%s cannot be read: %v", root, err))
		}
	}
	slices.SortFunc(f.paths, cmp.Compare[string])
	return f
}

// depth is how many folders a relative path leads through.
func depth(rel string) int {
	n := 0
	for ; rel != "." && rel != string(filepath.Separator); rel = filepath.Dir(rel) {
		n++
	}
	return n
}

// readBlob hashes a file.
func readBlob(path string) (*blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum, _, err := hashes.SHA256(f)
	return &blob{path, sum}, err
}

// isKernel says whether a file is a kernel that QEMU makes a hashes table for.
func isKernel(path string) (bool, error) {
	in, err := guest.OpenInput(path)
	if err != nil {
		return false, err
	}
	defer in.File.Close()
	kind, err := guest.KernelKindOf(in, in.Size)
	return kind == guest.KernelBzImage || kind == guest.KernelPE, err
}

// readFirmware reads an image. Both are nil for a file that is none; an SVSM's image comes as
// tables alone, to be placed below a firmware.
func readFirmware(path string) (*firmware, error) {
	in, err := guest.OpenInput(path)
	if err != nil {
		return nil, err
	}
	defer in.File.Close()
	return firmwareOf(path, in, in.Size)
}

func firmwareOf(path string, r io.ReaderAt, size int64) (*firmware, error) {
	img, err := ovmf.Parse(r, size)
	if errors.Is(err, ovmf.ErrSize) || errors.Is(err, ovmf.ErrNoTable) {
		return nil, nil // no firmware, or half of one
	}
	if err != nil {
		return nil, err
	}
	pages, err := measure.FirmwarePages(r, img)
	if err != nil {
		return nil, err
	}
	f := &firmware{path: path, size: size, image: img}
	var c measure.Context
	for _, p := range pages {
		c.Extend(p.Update)
	}
	f.digest = c.LD
	return f, nil
}

// svsmBelow places an SVSM's image below a firmware with room for a variable
// store between them.
func svsmBelow(path string, r io.ReaderAt, size int64, f *firmware, vars int64) (*svsmImage, error) {
	img, err := ovmf.ParseAt(r, size, uint64(1<<32-f.size-vars))
	if err != nil {
		return nil, err
	}
	pages, err := measure.FirmwarePages(r, img)
	if err != nil {
		return nil, err
	}
	s := &svsmImage{path: path, vars: vars, image: img}
	s.pages = make([]snp.Update, len(pages))
	for i, p := range pages {
		s.pages[i] = p.Update
	}
	return s, nil
}

const (
	// maxBeside bounds how many files beside the guest's own are read, and how
	// large each may be, in bytes.
	maxBeside     = 64
	maxBesideSize = 256 << 20
)

// Beside adds the files in the folders of the guest's own: other builds mostly lie
// there. Folders below them are left out.
func (f *Folders) Beside(g *guest.Guest) {
	for _, x := range []struct {
		path string
		to   *[]string
	}{{g.Firmware, &f.Firmware}, {g.Kernel, &f.Kernels}, {g.Initrd, &f.Initrds}} {
		if x.path == "" {
			continue
		}
		dir := filepath.Dir(x.path)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // the guest's own file has been opened; nothing else is asked for
		}
		n := 0
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			st, err := os.Stat(path)
			if err != nil || !st.Mode().IsRegular() || st.Size() > maxBesideSize || path == x.path {
				continue
			}
			if n++; n > maxBeside {
				break
			}
			*x.to = append(*x.to, path)
		}
	}
}
