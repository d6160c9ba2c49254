package images

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// aptEntry is one source of packages as the machine's apt has it, whatever the
// format it was written in (sources.list(5)).
type aptEntry struct {
	uris, suites, components []string
	// signedBy is the value of Signed-By: a file, a fingerprint or, over
	// several lines, a key; empty where apt uses all the keys it trusts.
	signedBy string
}

// debianSuites are names under which Debian's releases are known.
var debianSuites = []string{"bookworm", "trixie", "forky", "duke", "sid", "stable", "testing", "unstable"}

// readSources reads the machine's apt sources below etc ("/etc/apt").
func readSources(etc string) ([]aptEntry, error) {
	files := []string{filepath.Join(etc, "sources.list")}
	parts, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(parts)
	var out []aptEntry
	for _, f := range append(files, parts...) {
		b, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading apt's sources: %w", err)
		}
		switch filepath.Ext(f) {
		case ".list":
			out = append(out, parseOneLine(b)...)
		case ".sources":
			out = append(out, parseDeb822(b)...)
		}
	}
	return out, nil
}

// parseOneLine reads the format of sources.list. Lines that make no sense are
// apt's to complain about.
func parseOneLine(b []byte) []aptEntry {
	var out []aptEntry
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || !strings.ContainsAny(rest[:1], " \t") {
			continue
		}
		rest = strings.TrimSpace(rest)
		var e aptEntry
		if opts, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(opts, "[") {
			for _, o := range strings.Fields(opts[1:]) {
				if v, ok := strings.CutPrefix(o, "signed-by="); ok {
					e.signedBy = v
				}
			}
			rest = after
		}
		f := strings.Fields(rest)
		if len(f) < 2 {
			continue
		}
		e.uris, e.suites, e.components = f[:1], f[1:2], f[2:]
		out = append(out, e)
	}
	return out
}

// parseDeb822 reads the format of *.sources.
func parseDeb822(b []byte) []aptEntry {
	var out []aptEntry
	fields := map[string]string{}
	last := ""
	flush := func() {
		types := strings.Fields(fields["types"])
		if slices.Contains(types, "deb") && !isNo(fields["enabled"]) {
			e := aptEntry{
				uris:       strings.Fields(fields["uris"]),
				suites:     strings.Fields(fields["suites"]),
				components: strings.Fields(fields["components"]),
				signedBy:   strings.Trim(fields["signed-by"], " \t"),
			}
			if len(e.uris) > 0 && len(e.suites) > 0 {
				out = append(out, e)
			}
		}
		fields, last = map[string]string{}, ""
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += "\n" + line
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				last = ""
				continue
			}
			last = strings.ToLower(strings.TrimSpace(name))
			fields[last] = strings.TrimSpace(value)
		}
	}
	flush()
	return out
}

func isNo(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "no", "false", "0", "off", "disable", "without":
		return true
	}
	return false
}

// mirror is the machine's own Debian mirror.
type mirror struct {
	uris     []string
	signedBy string
	codename string // the release that the machine follows, as its sources name it
}

// errNoMirror means that apt here does not get Debian's packages.
var errNoMirror = errors.New("this machine's apt has no Debian release among its sources")

// findMirror picks the entry that brings the release itself: component main of a
// suite with a release's name. Where there are several, codename, the machine's
// own word about itself, decides.
func findMirror(entries []aptEntry, codename string) (*mirror, error) {
	var first *mirror
	for _, e := range entries {
		if !slices.Contains(e.components, "main") {
			continue
		}
		for _, s := range e.suites {
			m := &mirror{e.uris, e.signedBy, s}
			if s == codename {
				return m, nil
			}
			if !slices.Contains(debianSuites, s) {
				continue
			}
			if first == nil {
				first = m
			}
		}
	}
	if first == nil {
		return nil, errNoMirror
	}
	return first, nil
}

// osCodename reads VERSION_CODENAME of os-release(5); empty where there is none.
func osCodename(root string) string {
	b, _ := os.ReadFile(filepath.Join(root, "etc/os-release"))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// releaseSuites are the suites that fit the machine: from them packages may be
// installed.
func (m *mirror) releaseSuites() []string {
	switch m.codename {
	case "sid", "unstable", "testing", "forky", "duke":
		return []string{m.codename}
	}
	return []string{m.codename, m.codename + "-backports"}
}

// allSuites are those and sid, from which files may be taken.
func (m *mirror) allSuites() []string {
	s := m.releaseSuites()
	if m.codename == "sid" || m.codename == "unstable" {
		return s
	}
	return append(s, "sid")
}

// deb822 writes sources of the suites, for apt's package index alone: neither
// translations nor the data of software centres are wanted.
func (m *mirror) deb822(suites []string) []byte {
	var b bytes.Buffer
	for _, s := range suites {
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nTargets: Packages\n", strings.Join(m.uris, " "), s)
		if m.signedBy != "" {
			fmt.Fprintf(&b, "Signed-By: %s\n", m.signedBy)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
