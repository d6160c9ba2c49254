package images

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// libraryDirs are the folders of an unpacked tree in which the dynamic linker
// would look, in its order.
var libraryDirs = []string{
	"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu",
	"usr/lib64", "lib64", "usr/lib", "lib",
}

// neededLibraries gives the libraries that programs need, directly and through
// others, by the name under which they are needed; each with its file below
// tree. The dynamic linker itself is one of them.
func neededLibraries(programs []string, tree string) (map[string]string, error) {
	found := map[string]string{}
	queue := append([]string(nil), programs...)
	for ; len(queue) > 0; queue = queue[1:] {
		names, err := needed(queue[0])
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if _, have := found[name]; have {
				continue
			}
			path, err := findLibrary(name, tree)
			if err != nil {
				return nil, fmt.Errorf("%s needs %s: %w", filepath.Base(queue[0]), name, err)
			}
			found[name] = path
			queue = append(queue, path)
		}
	}
	return found, nil
}

// needed gives the libraries that an ELF file names, and its dynamic linker.
func needed(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	names, err := f.DynString(elf.DT_NEEDED)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if rpath, _ := f.DynString(elf.DT_RPATH); len(rpath) > 0 {
		// Such a path comes before --library-path.
		return nil, fmt.Errorf("%s takes its libraries from %s, wherever it is put", path, rpath[0])
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		names = append(names, filepath.Base(cString(b)))
	}
	return names, nil
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// findLibrary gives the file of a library, links resolved; what leads out of
// the tree is not taken.
func findLibrary(name, tree string) (string, error) {
	if name != filepath.Base(name) {
		return "", fmt.Errorf("%q is no name of a library", name)
	}
	for _, dir := range libraryDirs {
		path, err := filepath.EvalSymlinks(filepath.Join(tree, dir, name))
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(tree, path); err == nil && filepath.IsLocal(rel) {
			return path, nil
		}
	}
	return "", fmt.Errorf("none of the unpacked packages has it: %w", fs.ErrNotExist)
}

// filesBelow lists the files of a folder, links among them, relative to it.
func filesBelow(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return err // a link that leads nowhere
		}
		rel, err := filepath.Rel(dir, path)
		out = append(out, rel)
		return err
	})
	return out, err
}
