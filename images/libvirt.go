package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// minLibvirt is the first libvirt that knows <launchSecurity type='sev-snp'>.
const minLibvirt = "10.5"

// libvirtPackages are what a session's libvirtd and virsh are made of, all of
// one version; the first is what is looked for.
var libvirtPackages = []string{"libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-daemon-log", "libvirt-clients"}

// libvirtd is the daemon, below the part's folder.
const libvirtd = "usr/sbin/libvirtd"

// fetchLibvirt unpacks the distribution's libvirt and what it needs that this
// machine has not installed. Nothing is installed: whoever uses it lays the
// part's usr over the machine's in a mount namespace of their own.
func (s *setup) fetchLibvirt(ctx context.Context) (*manifest, error) {
	a, err := s.openApt(ctx)
	if err != nil {
		return nil, err
	}
	offers, err := a.offers(ctx, libvirtPackages[0])
	if err != nil {
		return nil, err
	}
	// The nearest suite's fits the machine's libraries best.
	for _, suite := range a.suites {
		for _, f := range offers {
			if f.suite != suite || !newerThan(ctx, f.version, minLibvirt) {
				continue
			}
			return s.takeLibvirt(ctx, a, f)
		}
	}
	return nil, fmt.Errorf("package %s %s or later: %w (%s)", libvirtPackages[0], minLibvirt, errNotOffered, strings.Join(a.suites, ", "))
}

func (s *setup) takeLibvirt(ctx context.Context, a *apt, f offer) (*manifest, error) {
	var wanted []offer
	for _, name := range libvirtPackages {
		wanted = append(wanted, offer{name, f.version, f.suite})
	}
	list, err := a.missing(ctx, wanted)
	if err != nil {
		return nil, err
	}
	s.o.progress(fmt.Sprintf("fetching libvirt (package %s %s from %s) and the %d packages that it needs", f.name, f.version, f.suite, len(list)-1))
	m := &manifest{Package: f.name, Version: f.version, Suite: f.suite, Path: libvirtd}
	if m.dir, err = os.MkdirTemp(s.tmp, "part-"); err != nil {
		return nil, err
	}
	tree := filepath.Join(m.dir, "tree")
	if err := a.unpack(ctx, list, tree); err != nil {
		return nil, err
	}
	// Only usr is laid over the machine's; where a package has files in /lib,
	// that is the machine's /usr/lib.
	if err := os.Rename(filepath.Join(tree, "usr"), filepath.Join(m.dir, "usr")); err != nil {
		return nil, err
	}
	if err := mergeTree(filepath.Join(tree, "lib"), filepath.Join(m.dir, "usr/lib")); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(tree); err != nil {
		return nil, err
	}
	for _, unread := range []string{"doc", "man", "locale"} {
		if err := os.RemoveAll(filepath.Join(m.dir, "usr/share", unread)); err != nil {
			return nil, err
		}
	}
	files, err := filesBelow(m.dir)
	if err != nil {
		return nil, err
	}
	if err := m.record(files...); err != nil {
		return nil, err
	}
	return s.cache.addPart(roleLibvirt, m)
}

// mergeTree moves what is below from to the same places below to. A from that
// is not there is empty.
func mergeTree(from, to string) error {
	entries, err := os.ReadDir(from)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		target := filepath.Join(to, e.Name())
		if st, err := os.Stat(target); err == nil && st.IsDir() && e.IsDir() {
			if err := mergeTree(filepath.Join(from, e.Name()), target); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(from, e.Name()), target); err != nil {
			return err
		}
	}
	return nil
}
