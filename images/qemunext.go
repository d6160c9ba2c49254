package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The folders of an unpacked QEMU, and the script that starts it. The program
// is run by its own dynamic linker, so that it takes its own libraries and none
// of the machine's; everything that it opens by name is in its folder too.
const (
	nextWrapper   = "qemu-system-x86_64"
	nextProgram   = "bin/qemu-system-x86_64"
	nextLoader    = "lib/ld-linux-x86-64.so.2"
	nextLibraries = "lib"
	nextModules   = "lib/qemu"
	nextData      = "share/qemu"
	nextBIOS      = "share/seabios"
)

// minQEMUNext is the first major version that counts as the next one.
const minQEMUNext = 11

// qemuPackage is the package that Debian has qemu-system-x86_64 in.
const qemuPackage = "qemu-system-x86"

// wrapperScript starts the program in place of itself, so that the process
// started by this script's path is QEMU. The machine's cache of libraries names
// others than these and is left out. QEMU looks for its modules where the
// variable says and for its data where -L says, after what the caller has named.
const wrapperScript = `#!/bin/sh
self=$0
if [ -L "$self" ]; then self=$(readlink -f -- "$self"); fi
case $self in */*) here=${self%/*} ;; *) here=. ;; esac
case $here in /*) ;; *) here=$PWD/$here ;; esac
export QEMU_MODULE_DIR="${QEMU_MODULE_DIR:-$here/` + nextModules + `}"
exec "$here/` + nextLoader + `" --inhibit-cache --library-path "$here/` + nextLibraries + `" --argv0 ` + qemuProgram + ` \
  "$here/` + nextProgram + `" "$@" -L "$here/` + nextData + `" -L "$here/` + nextBIOS + `"
`

// findQEMUNext gives the QEMU that was unpacked into the cache; empty where
// there is none.
func findQEMUNext(ctx context.Context, c *cache, deep bool) (QEMUInfo, error) {
	m := c.part(roleQEMUNext, deep)
	if m == nil {
		return QEMUInfo{}, nil
	}
	return m.qemu(ctx)
}

// qemu asks the QEMU of an unpacked part for its version.
func (m *manifest) qemu(ctx context.Context) (QEMUInfo, error) {
	q, err := findQEMU(ctx, filepath.Join(m.dir, nextWrapper))
	if err != nil {
		return QEMUInfo{}, err
	}
	q.Package, q.PackageVersion, q.SHA256 = m.Package, m.Version, m.Files[nextProgram].SHA256
	return q, nil
}

// fetchQEMUNext unpacks the newest QEMU of all suites with everything that it
// needs. Nothing is installed.
func (s *setup) fetchQEMUNext(ctx context.Context) (QEMUInfo, error) {
	if strings.ContainsAny(s.cache.dir, ":;") {
		return QEMUInfo{}, fmt.Errorf("the dynamic linker cannot find libraries below %s, which has a colon or semicolon in its name; set SNPLAUNCH_CACHE to another folder", s.cache.dir)
	}
	a, err := s.openApt(ctx)
	if err != nil {
		return QEMUInfo{}, err
	}
	offers, err := a.offers(ctx, qemuPackage)
	if err != nil {
		return QEMUInfo{}, err
	}
	var newest *offer
	for i, f := range offers {
		if newerThan(ctx, f.version, fmt.Sprintf("1:%d", minQEMUNext)) && (newest == nil || newerThan(ctx, f.version, newest.version)) {
			newest = &offers[i]
		}
	}
	if newest == nil {
		return QEMUInfo{}, fmt.Errorf("package %s 1:%d or later: %w (%s)", qemuPackage, minQEMUNext, errNotOffered, strings.Join(a.suites, ", "))
	}
	list, err := a.closure(ctx, *newest)
	if err != nil {
		return QEMUInfo{}, err
	}
	s.o.progress(fmt.Sprintf("fetching QEMU (package %s %s from %s) and the %d packages that it needs", newest.name, newest.version, newest.suite, len(list)-1))
	tree, err := os.MkdirTemp(s.tmp, "tree-")
	if err != nil {
		return QEMUInfo{}, err
	}
	if err := a.unpack(ctx, list, tree); err != nil {
		return QEMUInfo{}, err
	}
	m := &manifest{Package: newest.name, Version: newest.version, Suite: newest.suite, Path: nextProgram}
	if m.dir, err = os.MkdirTemp(s.tmp, "part-"); err != nil {
		return QEMUInfo{}, err
	}
	if err := takeQEMU(tree, m.dir); err != nil {
		return QEMUInfo{}, fmt.Errorf("package %s %s: %w", newest.name, newest.version, err)
	}
	os.RemoveAll(tree)
	used, err := filesBelow(m.dir)
	if err != nil {
		return QEMUInfo{}, err
	}
	if err := m.record(used...); err != nil {
		return QEMUInfo{}, err
	}
	// What does not run here does not get into the cache.
	if _, err := m.qemu(ctx); err != nil {
		return QEMUInfo{}, err
	}
	if m, err = s.cache.addPart(roleQEMUNext, m); err != nil {
		return QEMUInfo{}, err
	}
	return m.qemu(ctx)
}

// takeQEMU moves QEMU, its modules, its data and the libraries that all of
// them need from an unpacked tree into dir, and writes the wrapper.
func takeQEMU(tree, dir string) error {
	for from, to := range map[string]string{
		"usr/bin/" + qemuProgram:        nextProgram,
		"usr/lib/x86_64-linux-gnu/qemu": nextModules,
		"usr/share/qemu":                nextData,
		"usr/share/seabios":             nextBIOS,
	} {
		to = filepath.Join(dir, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(tree, from), to); err != nil {
			return err
		}
	}
	programs, err := filepath.Glob(filepath.Join(dir, nextModules, "*.so"))
	if err != nil {
		return err
	}
	libs, err := neededLibraries(append(programs, filepath.Join(dir, nextProgram)), tree)
	if err != nil {
		return err
	}
	for name, from := range libs {
		if err := os.Rename(from, filepath.Join(dir, nextLibraries, name)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, nextLoader)); err != nil {
		return fmt.Errorf("its dynamic linker is missing: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, nextWrapper), []byte(wrapperScript), 0o755)
}
