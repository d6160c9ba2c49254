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
	cmd := exec.CommandContext(ctx, program, append(a.options(), args...)...)
	cmd.Dir = filepath.Join(a.dir, "down")
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

// unpack downloads a package, which apt checks against the signed lists, and
// unpacks it into dir.
func (a *apt) unpack(ctx context.Context, o offer, dir string) error {
	down := filepath.Join(a.dir, "down")
	before, _ := filepath.Glob(filepath.Join(down, "*.deb"))
	for _, f := range before {
		os.Remove(f)
	}
	if _, err := a.run(ctx, "apt-get", "download", o.name+"="+o.version); err != nil {
		return fmt.Errorf("downloading package %s %s: %w", o.name, o.version, err)
	}
	debs, _ := filepath.Glob(filepath.Join(down, "*.deb"))
	if len(debs) != 1 {
		return fmt.Errorf("downloading package %s %s: apt-get left %d files, want one", o.name, o.version, len(debs))
	}
	defer os.Remove(debs[0])
	if b, err := exec.CommandContext(ctx, "dpkg-deb", "-x", debs[0], dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking package %s %s: %w: %s", o.name, o.version, err, bytes.TrimSpace(b))
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
