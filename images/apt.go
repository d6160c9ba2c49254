package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// apt is the machine's apt with lists, sources and cache of our own: the
// system's are neither read, except for what is installed, nor changed.
// Proxies, credentials and keys are the system's.
type apt struct {
	dir    string
	suites []string
}

// openApt makes the private state below dir for the suites and updates it.
func openApt(ctx context.Context, dir string, m *mirror, suites []string) (*apt, error) {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("there is no %s on this machine", tool)
		}
	}
	a := &apt{dir, suites}
	for _, d := range []string{"lists/partial", "cache/archives/partial", "sources.d", "down"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.d", "snplaunch.sources"), m.deb822(suites), 0o644); err != nil {
		return nil, err
	}
	// A mirror may lack one of the suites, for which apt-get gives an error
	// though it fetched the others; so what counts is what can be found
	// afterwards.
	if _, err := a.run(ctx, "apt-get", "update"); err != nil {
		lists, _ := filepath.Glob(filepath.Join(dir, "lists", "*Packages*"))
		if len(lists) == 0 {
			return nil, fmt.Errorf("fetching package lists from %s: %w", strings.Join(m.uris, " "), err)
		}
	}
	return a, nil
}

// options point apt away from the system's state.
func (a *apt) options() []string {
	var out []string
	for _, o := range []string{
		"Dir::State::lists=" + filepath.Join(a.dir, "lists"),
		"Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"Dir::Etc::sourcelist=/dev/null",
		"Dir::Etc::sourceparts=" + filepath.Join(a.dir, "sources.d"),
		"Dir::Etc::preferences=/dev/null",
		"Dir::Etc::preferencesparts=/dev/null",
		"Acquire::Languages=none",
		"Acquire::GzipIndexes=true",
		// As root, apt would fetch as another user, who may not write here.
		"APT::Sandbox::User=root",
		"quiet=1",
	} {
		out = append(out, "-o", o)
	}
	return out
}

// run runs one of apt's programs and gives its output; an error carries what it
// said.
func (a *apt) run(ctx context.Context, program string, args ...string) (string, error) {
	return a.runIn(ctx, filepath.Join(a.dir, "down"), program, args...)
}

// runIn is run in a folder, which is where apt-get download puts files.
func (a *apt) runIn(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, append(a.options(), args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s %s: %w: %s", program, args[0], err, lastLines(&errs))
	}
	return out.String(), nil
}

// offer is a version of a package in a suite.
type offer struct{ name, version, suite string }

// offers lists the versions of a package, in the order of the suites.
func (a *apt) offers(ctx context.Context, name string) ([]offer, error) {
	out, err := a.run(ctx, "apt-cache", "madison", name)
	if err != nil {
		return nil, err
	}
	found := parseMadison(out)
	var list []offer
	for _, s := range a.suites {
		for _, o := range found {
			if o.suite == s && o.name == name {
				list = append(list, o)
			}
		}
	}
	return list, nil
}

// parseMadison reads lines such as
//
//	ovmf | 2022.11-6+deb12u2 | http://mirror/debian bookworm/main amd64 Packages
func parseMadison(out string) []offer {
	var list []offer
	for line := range strings.Lines(out) {
		f := strings.Split(line, "|")
		if len(f) != 3 {
			continue
		}
		where := strings.Fields(f[2])
		if len(where) < 4 || where[len(where)-1] != "Packages" {
			continue
		}
		suite, _, _ := strings.Cut(where[1], "/")
		list = append(list, offer{strings.TrimSpace(f[0]), strings.TrimSpace(f[1]), suite})
	}
	return list
}

// depends gives the names that a version of a package depends on, with their
// exact versions where it asks for one.
func (a *apt) depends(ctx context.Context, o offer) ([]offer, error) {
	out, err := a.run(ctx, "apt-cache", "show", o.name+"="+o.version)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		if list, ok := strings.CutPrefix(line, "Depends:"); ok {
			return parseDepends(list, o.suite), nil
		}
	}
	return nil, nil
}

var exactVersion = regexp.MustCompile(`^(\S+)(?:\s+\(=\s*([^)\s]+)\))?$`)

// parseDepends reads a Depends field; alternatives and looser relations are
// left out.
func parseDepends(list, suite string) []offer {
	var out []offer
	for _, d := range strings.Split(list, ",") {
		if m := exactVersion.FindStringSubmatch(strings.TrimSpace(d)); m != nil {
			out = append(out, offer{m[1], m[2], suite})
		}
	}
	return out
}

// closure gives a version of a package and all that it needs, from its suite,
// as if nothing were installed on this machine.
func (a *apt) closure(ctx context.Context, o offer) ([]offer, error) {
	status := filepath.Join(a.dir, "nothing-installed")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	out, err := a.run(ctx, "apt-get", "install", "--simulate", "--no-install-recommends", "-o", "Dir::State::status="+status,
		"-t", o.suite, o.name+"="+o.version)
	if err != nil {
		return nil, fmt.Errorf("finding what package %s %s needs: %w", o.name, o.version, err)
	}
	list := parseSimulation(out, o.suite)
	if !slices.Contains(list, o) {
		return nil, fmt.Errorf("finding what package %s %s needs: apt-get would not install it", o.name, o.version)
	}
	return list, nil
}

// missing gives those of the packages, which are of one suite, and of what they
// need that are not installed on this machine in a version that will do. They
// come from that suite and its release, never from a later one, whose
// libraries need a C library of their own.
func (a *apt) missing(ctx context.Context, wanted []offer) ([]offer, error) {
	suite := wanted[0].suite
	var pins strings.Builder
	for _, other := range a.suites {
		if !strings.HasPrefix(suite, other) {
			fmt.Fprintf(&pins, "Package: *\nPin: release n=%s\nPin-Priority: 1\n\n", other)
		}
	}
	preferences := filepath.Join(a.dir, "preferences")
	if err := os.WriteFile(preferences, []byte(pins.String()), 0o644); err != nil {
		return nil, err
	}
	args := []string{"install", "--simulate", "--no-install-recommends", "-t", suite, "-o", "Dir::Etc::preferences=" + preferences}
	for _, o := range wanted {
		args = append(args, o.name+"="+o.version)
	}
	out, err := a.run(ctx, "apt-get", args...)
	if err != nil {
		return nil, fmt.Errorf("finding what package %s %s needs: %w", wanted[0].name, wanted[0].version, err)
	}
	return parseSimulation(out, suite), nil
}

var simulatedInstall = regexp.MustCompile(`(?m)^Inst (\S+) (?:\[[^]]*\] )?\((\S+) `)

// parseSimulation reads lines such as
//
//	Inst libc6 (2.43-7 Debian:unstable [amd64]) []
func parseSimulation(out, suite string) []offer {
	var list []offer
	for _, m := range simulatedInstall.FindAllStringSubmatch(out, -1) {
		list = append(list, offer{m[1], m[2], suite})
	}
	return list
}

// unpack downloads packages, which apt checks against the signed lists, and
// unpacks them into dir.
func (a *apt) unpack(ctx context.Context, list []offer, dir string) error {
	down, err := os.MkdirTemp(a.dir, "down-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(down)
	var names []string
	for _, o := range list {
		names = append(names, o.name+"="+o.version)
	}
	if _, err := a.runIn(ctx, down, "apt-get", append([]string{"download"}, names...)...); err != nil {
		return fmt.Errorf("downloading package %s: %w", strings.Join(names, ", "), err)
	}
	debs, _ := filepath.Glob(filepath.Join(down, "*.deb"))
	if len(debs) != len(list) {
		return fmt.Errorf("downloading package %s: apt-get left %d files, want %d", strings.Join(names, ", "), len(debs), len(list))
	}
	for _, deb := range debs {
		if b, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("unpacking package %s: %w: %s", filepath.Base(deb), err, bytes.TrimSpace(b))
		}
	}
	return nil
}

// install installs a version of a package from the private lists into the
// system, without what it merely recommends.
func (a *apt) install(ctx context.Context, o offer) error {
	args := []string{"install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"}
	if strings.HasSuffix(o.suite, "-backports") {
		// Its dependencies may have to come from backports as well.
		args = append(args, "-t", o.suite)
	}
	_, err := a.run(ctx, "apt-get", append(args, o.name+"="+o.version)...)
	return err
}

// newerThan compares Debian versions.
func newerThan(ctx context.Context, a, b string) bool {
	return exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "ge", b).Run() == nil
}

// errNotOffered means that no suite has a package.
var errNotOffered = errors.New("no suite of this machine's mirror has it")
