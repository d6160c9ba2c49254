package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// minKernel is the first Linux that the guest may have: since 6.11 the
// sev-guest driver works with what hosts do today.
const minKernel = "6.11"

// The packages that bring each part, in the order in which they are tried.
var (
	firmwarePackages = []string{"ovmf-amdsev"}
	genericPackages  = []string{"ovmf-generic", "ovmf"} // the second until Debian split it
)

// kernelPackage depends on the newest kernel of its suite.
const kernelPackage = "linux-image-cloud-amd64"

// Setup finds what there is, fetches and builds what is missing, and checks
// the contents of what was fetched before. It stops where something can neither
// be found nor fetched; the error says what and how to provide it. What it got
// until then stays. Two setups in the same cache take turns.
func Setup(ctx context.Context, o Options) (*Set, error) {
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	unlock, err := c.lock(ctx, o.progress)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s := &setup{o: o, cache: c, root: "/"}
	defer s.close()
	return s.run(ctx)
}

// setup is one run of Setup.
type setup struct {
	o     Options
	cache *cache
	root  string
	apt   *apt   // opened when first needed
	tmp   string // its folder
}

func (s *setup) close() {
	if s.tmp != "" {
		os.RemoveAll(s.tmp)
	}
}

func (s *setup) run(ctx context.Context) (*Set, error) {
	set, err := find(ctx, s.o, s.root, true)
	if err != nil {
		return nil, err
	}
	if set.QEMU.Path == "" {
		if set.QEMU, err = s.installQEMU(ctx); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		at       *Artifact
		role     role
		kind     firmwareKind
		file     string
		packages []string
		given    string
	}{
		{&set.Firmware, roleFirmware, amdSev, "OVMF.amdsev.fd", firmwarePackages, s.o.Firmware},
		{&set.GenericFirmware, roleGeneric, generic, "OVMF.fd", genericPackages, s.o.GenericFirmware},
	} {
		if f.at.Path != "" && !(s.o.Refresh && f.given == "" && f.at.Package != "") {
			continue
		}
		m, err := s.fetchFirmware(ctx, f.role, f.kind, f.file, f.packages)
		if err != nil {
			return nil, fmt.Errorf("the firmware %s is missing and could not be fetched: %w; provide one with --ovmf, or install a package that has it", f.file, err)
		}
		*f.at = m.artifact()
	}
	if set.Kernel.Path == "" || (s.o.Refresh && s.o.Kernel == "") {
		m, err := s.fetchKernel(ctx)
		if err != nil {
			return nil, fmt.Errorf("a guest kernel is missing and could not be fetched: %w; provide one with --kernel", err)
		}
		set.Kernel, set.ModulesDir = m.artifact(), m.modulesDir()
	}
	if err := s.fetchExtras(ctx, set); err != nil {
		return nil, err
	}
	if s.o.Initrd == "" {
		if err := s.buildInitrd(ctx, set); err != nil {
			return nil, err
		}
	}
	set.missing = nil
	return set, nil
}

// fetchExtras fetches what only some callers ask for.
func (s *setup) fetchExtras(ctx context.Context, set *Set) error {
	if s.o.QEMUNext && (set.QEMUNext == nil || s.o.Refresh) {
		q, err := s.fetchQEMUNext(ctx)
		if err != nil {
			return fmt.Errorf("QEMU %d or later, to be unpacked beside the machine's own, could not be fetched: %w; leave out --qemu-next", minQEMUNext, err)
		}
		set.QEMUNext = &q
	}
	if s.o.PlainFirmware && (set.PlainFirmware == nil || s.o.Refresh) {
		m, err := s.fetchPlainFirmware(ctx)
		if err != nil {
			return fmt.Errorf("an OVMF without SNP metadata could not be fetched: %w; leave out --plain-firmware", err)
		}
		a := m.artifact()
		set.PlainFirmware = &a
	}
	if s.o.Libvirt && (set.Libvirt == nil || s.o.Refresh) {
		m, err := s.fetchLibvirt(ctx)
		if err != nil {
			return fmt.Errorf("libvirt %s or later could not be fetched: %w; leave out --libvirt", minLibvirt, err)
		}
		a := m.artifact()
		set.Libvirt = &a
	}
	return nil
}

// openApt opens the machine's apt, for fetching, when it is needed first.
func (s *setup) openApt(ctx context.Context) (*apt, error) {
	if s.apt != nil {
		return s.apt, nil
	}
	m, err := s.mirror()
	if err != nil {
		return nil, err
	}
	if s.tmp, err = s.cache.tempDir(); err != nil {
		return nil, err
	}
	suites := m.allSuites()
	if s.o.PlainFirmware && !slices.Contains(suites, plainSuite) {
		suites = append(suites, plainSuite)
	}
	s.o.progress("fetching package lists of " + strings.Join(suites, ", ") + " from this machine's mirror")
	s.apt, err = openApt(ctx, filepath.Join(s.tmp, "apt"), m, suites)
	return s.apt, err
}

func (s *setup) mirror() (*mirror, error) {
	entries, err := readSources(filepath.Join(s.root, "etc/apt"))
	if err != nil {
		return nil, err
	}
	return findMirror(entries, osCodename(s.root))
}

// installQEMU installs QEMU with apt, from suites that fit the machine only.
func (s *setup) installQEMU(ctx context.Context) (QEMUInfo, error) {
	_, missing := findQEMU(ctx, s.o.QEMU)
	m, err := s.mirror()
	if err != nil {
		return QEMUInfo{}, fmt.Errorf("%w; install QEMU %d or later with this machine's package manager, or name one with --qemu", missing, minQEMU)
	}
	if !s.o.InstallQEMU || os.Geteuid() != 0 {
		return QEMUInfo{}, fmt.Errorf("%w; as root, run `snplaunch setup --install`, which installs %s, or name one with --qemu", missing, m.qemuAdvice())
	}
	tmp, err := s.cache.tempDir()
	if err != nil {
		return QEMUInfo{}, err
	}
	defer os.RemoveAll(tmp)
	s.o.progress("fetching package lists of " + strings.Join(m.releaseSuites(), ", ") + " from this machine's mirror")
	a, err := openApt(ctx, tmp, m, m.releaseSuites())
	if err != nil {
		return QEMUInfo{}, fmt.Errorf("%w, and installing it failed: %w", missing, err)
	}
	offers, err := a.offers(ctx, "qemu-system-x86")
	if err != nil {
		return QEMUInfo{}, err
	}
	for _, f := range offers {
		// The epoch is 1, so versions of upstream compare behind it.
		if !newerThan(ctx, f.version, fmt.Sprintf("1:%d", minQEMU)) {
			continue
		}
		s.o.progress(fmt.Sprintf("installing QEMU (package %s %s from %s)", f.name, f.version, f.suite))
		if err := a.install(ctx, f); err != nil {
			return QEMUInfo{}, fmt.Errorf("installing QEMU: %w", err)
		}
		return findQEMU(ctx, "")
	}
	return QEMUInfo{}, fmt.Errorf("%w, and none of %s on this machine's mirror has it; name one with --qemu", missing, strings.Join(m.releaseSuites(), ", "))
}

func (m *mirror) qemuAdvice() string {
	suites := m.releaseSuites()
	if len(suites) == 1 || m.codename != "bookworm" {
		return "the package qemu-system-x86"
	}
	return "the package qemu-system-x86 from " + suites[1]
}

// fetchFirmware takes a firmware image out of the first package that has a
// usable one.
func (s *setup) fetchFirmware(ctx context.Context, r role, kind firmwareKind, file string, packages []string) (*manifest, error) {
	a, err := s.openApt(ctx)
	if err != nil {
		return nil, err
	}
	var tried []error
	for _, name := range packages {
		offers, err := a.offers(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, f := range offers {
			m, err := s.takeFirmware(ctx, a, f, r, kind, file)
			if err == nil {
				return m, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			tried = append(tried, err)
		}
	}
	if len(tried) == 0 {
		return nil, fmt.Errorf("package %s: %w (%s)", packages[0], errNotOffered, strings.Join(a.suites, ", "))
	}
	return nil, errors.Join(tried...)
}

func (s *setup) takeFirmware(ctx context.Context, a *apt, f offer, r role, kind firmwareKind, file string) (*manifest, error) {
	s.o.progress(fmt.Sprintf("fetching %s (package %s %s from %s)", file, f.name, f.version, f.suite))
	tree, err := s.unpack(ctx, a, f)
	if err != nil {
		return nil, err
	}
	from := filepath.Join(tree, "usr/share/ovmf", file)
	if err := errors.Join(checkTables(from, kind), checkKind(from, kind)); err != nil {
		return nil, fmt.Errorf("package %s %s: %w", f.name, f.version, err)
	}
	m := &manifest{Package: f.name, Version: f.version, Suite: f.suite, Path: file}
	if m.dir, err = os.MkdirTemp(s.tmp, "part-"); err != nil {
		return nil, err
	}
	if err := os.Rename(from, filepath.Join(m.dir, file)); err != nil {
		return nil, err
	}
	if err := m.record(file); err != nil {
		return nil, err
	}
	return s.cache.addPart(r, m)
}

// fetchKernel takes kernel and modules out of the package that kernelPackage
// names, of the first suite that is new enough.
func (s *setup) fetchKernel(ctx context.Context) (*manifest, error) {
	a, err := s.openApt(ctx)
	if err != nil {
		return nil, err
	}
	offers, err := a.offers(ctx, kernelPackage)
	if err != nil {
		return nil, err
	}
	for _, f := range offers {
		if !newerThan(ctx, f.version, minKernel) {
			continue
		}
		deps, err := a.depends(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, d := range deps {
			if release, ok := strings.CutPrefix(d.name, "linux-image-"); ok && d.version != "" {
				return s.takeKernel(ctx, a, d, release)
			}
		}
		return nil, fmt.Errorf("package %s %s of %s depends on no linux-image package of one version", f.name, f.version, f.suite)
	}
	return nil, fmt.Errorf("package %s %s or later: %w (%s)", kernelPackage, minKernel, errNotOffered, strings.Join(a.suites, ", "))
}

func (s *setup) takeKernel(ctx context.Context, a *apt, f offer, release string) (*manifest, error) {
	s.o.progress(fmt.Sprintf("fetching the guest kernel (package %s from %s)", f.name, f.suite))
	tree, err := s.unpack(ctx, a, f)
	if err != nil {
		return nil, err
	}
	m := &manifest{
		Package: f.name, Version: f.version, Suite: f.suite,
		Path: "vmlinuz", ModulesDir: filepath.Join("lib/modules", release),
	}
	if m.dir, err = os.MkdirTemp(s.tmp, "part-"); err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(tree, "boot", "vmlinuz-"+release), filepath.Join(m.dir, m.Path)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(m.modulesDir()), 0o755); err != nil {
		return nil, err
	}
	modules := filepath.Join(tree, "lib/modules", release)
	if _, err := os.Stat(modules); err != nil { // Debian 13 and later
		modules = filepath.Join(tree, "usr/lib/modules", release)
	}
	if err := os.Rename(modules, m.modulesDir()); err != nil {
		return nil, err
	}
	used := []string{m.Path}
	t, err := openModuleTree(m.modulesDir())
	if err != nil {
		return nil, err
	}
	wanted, err := t.forGuest()
	if err != nil {
		return nil, err
	}
	for _, want := range wanted {
		for _, k := range want.files {
			rel, err := filepath.Rel(m.dir, t.files[k.name])
			if err != nil {
				return nil, err
			}
			used = append(used, rel)
		}
	}
	if err := m.record(used...); err != nil {
		return nil, err
	}
	return s.cache.addPart(roleKernel, m)
}

// unpack unpacks a package into a new folder.
func (s *setup) unpack(ctx context.Context, a *apt, f offer) (string, error) {
	tree, err := os.MkdirTemp(s.tmp, "tree-")
	if err != nil {
		return "", err
	}
	return tree, a.unpack(ctx, []offer{f}, tree)
}

// buildInitrd builds the initrd with a shell, or where Go or the sources are
// missing the small one, and records what it was built from.
func (s *setup) buildInitrd(ctx context.Context, set *Set) error {
	set.Notes = nil
	io := InitrdOptions{SourceDir: s.o.SourceDir, ModulesDir: set.ModulesDir, CacheDir: s.cache.dir, Progress: s.o.Progress}
	r := initrdRecord{Modules: set.ModulesDir}
	var err error
	r.Artifact, err = BuildInitrd(ctx, io)
	switch {
	case err == nil:
		if r.Source, err = sourceHash(s.o); err != nil {
			return err
		}
	case errors.Is(err, errNoGo) || (errors.Is(err, errNoSource) && io.SourceDir == ""):
		exe, exeErr := os.Executable()
		if exeErr != nil {
			return exeErr
		}
		if r.Artifact, exeErr = BuildSmallInitrd(ctx, exe, io); exeErr != nil {
			return fmt.Errorf("an initrd is missing and could not be built: %w, and %w; provide one with --initrd", err, exeErr)
		}
		if r.Program, exeErr = hashFile(exe); exeErr != nil {
			return exeErr
		}
		set.Notes = append(set.Notes, fmt.Sprintf("%s (there is %v)", noShell, err))
	default:
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	set.Initrd = r.Artifact
	b = append(b, '\n')
	if r.Source != "" {
		if err := writeAtomic(s.cache.path(initrdRecordName(r.Source)), b); err != nil {
			return err
		}
	}
	return writeAtomic(s.cache.path(initrdRecordName("")), b)
}
