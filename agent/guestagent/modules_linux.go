package guestagent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// ModulesDir is where the initrd holds kernel modules, uncompressed: one folder
// for each module that the agent may want, with the module and all that it
// depends on as NN-name.ko, to be loaded in the order of the numbers.
const ModulesDir = "/lib/snplaunch/modules"

// loadModules loads a module with all that it depends on. It does nothing
// where the initrd does not bring the module: the kernel may have it built in.
func loadModules(dir, name string) error {
	files, err := filepath.Glob(filepath.Join(dir, name, "*.ko"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, f := range files {
		if err := loadModule(f); err != nil {
			return err
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("loading a kernel module: %w", err)
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	switch {
	case err == nil, errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("loading kernel module %s: %w: it was built for another kernel than %s", path, err, kernelRelease())
	}
	return fmt.Errorf("loading kernel module %s: %w", path, err)
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return strings.TrimRight(string(u.Release[:]), "\x00")
}
