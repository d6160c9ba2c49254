package images

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/therootcompany/xz"
)

// kernelModule is one kernel module, ready to be loaded.
type kernelModule struct {
	name string // as in /proc/modules: underscores, no dashes
	data []byte // uncompressed ELF, signature included
}

// maxModuleSize bounds what a compressed module may grow to, in bytes.
const maxModuleSize = 64 << 20

// moduleTree is a kernel's folder of modules, /lib/modules/VERSION.
type moduleTree struct {
	dir     string
	files   map[string]string // module name -> file
	builtin map[string]bool
}

// openModuleTree lists the modules below dir.
func openModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, files: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := moduleFileName(d.Name()); ok && d.Type().IsRegular() {
			t.files[name] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	if len(t.files) == 0 {
		return nil, fmt.Errorf("kernel modules: there are none in %s; it must be the folder lib/modules/VERSION of the kernel that the guest boots", dir)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		if name, ok := moduleFileName(filepath.Base(strings.TrimSpace(line))); ok {
			t.builtin[name] = true
		}
	}
	return t, nil
}

// moduleFileName gives the module's name for a file such as sev-guest.ko.xz.
func moduleFileName(file string) (string, bool) {
	base, _, ok := strings.Cut(file, ".ko")
	rest := strings.TrimPrefix(file, base+".ko")
	if !ok || base == "" || (rest != "" && rest != ".xz" && rest != ".zst" && rest != ".gz") {
		return "", false
	}
	return moduleName(base), true
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// errNoModule means that a kernel has no module of a name.
var errNoModule = errors.New("kernel module missing")

// closure gives the module of that name and all that it depends on, in the
// order in which they must be loaded; nothing where it is built in.
func (t *moduleTree) closure(name string) ([]kernelModule, error) {
	var out []kernelModule
	state := map[string]int{} // 1: being resolved, 2: done
	var visit func(name string) error
	visit = func(name string) error {
		name = moduleName(name)
		switch {
		case state[name] == 2 || t.builtin[name]:
			return nil
		case state[name] == 1:
			return fmt.Errorf("kernel module %s depends on itself", name)
		}
		state[name] = 1
		path, ok := t.files[name]
		if !ok {
			return fmt.Errorf("%w: %s is not in %s: the kernel was built without it, or it is in a package of further modules", errNoModule, name, t.dir)
		}
		data, err := readModule(path)
		if err != nil {
			return err
		}
		deps, err := moduleDepends(data)
		if err != nil {
			return fmt.Errorf("kernel module %s: %w", path, err)
		}
		for _, d := range deps {
			if err := visit(d); err != nil {
				return err
			}
		}
		state[name] = 2
		out = append(out, kernelModule{name, data})
		return nil
	}
	if err := visit(name); err != nil {
		return nil, err
	}
	return out, nil
}

// wantedModule is a module that the agent asks for, with all that it needs.
type wantedModule struct {
	name  string
	files []kernelModule // in the order of loading
}

// forGuest gives guestModules and what there is of optionalModules.
func (t *moduleTree) forGuest() ([]wantedModule, error) {
	var out []wantedModule
	for i, name := range slices.Concat(guestModules, optionalModules) {
		list, err := t.closure(name)
		if i >= len(guestModules) && errors.Is(err, errNoModule) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, wantedModule{name, list})
	}
	return out, nil
}

// readModule reads a module and undoes its compression.
func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kernel module: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(f, xz.DefaultDictMax)
	case ".gz":
		r, err = gzip.NewReader(f)
	case ".zst":
		var out []byte
		if out, err = exec.Command("zstd", "-dcq", path).Output(); err != nil {
			return nil, fmt.Errorf("kernel module %s is compressed with zstd: running zstd to unpack it: %w", path, err)
		}
		r = bytes.NewReader(out)
	}
	if err != nil {
		return nil, fmt.Errorf("kernel module %s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModuleSize+1))
	if err != nil {
		return nil, fmt.Errorf("kernel module %s: %w", path, err)
	}
	if len(data) > maxModuleSize {
		return nil, fmt.Errorf("kernel module %s: more than %d bytes", path, maxModuleSize)
	}
	return data, nil
}

// moduleDepends reads the names behind "depends=" in the .modinfo section of a
// module (Linux include/linux/module.h, scripts/mod/modpost.c).
func moduleDepends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no .modinfo section, so it is no kernel module")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Split(string(info), "\x00") {
		list, ok := strings.CutPrefix(field, "depends=")
		if ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
