package e2e

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
)

// Matrix is what a matrix.yaml describes.
type Matrix struct {
	Name   string        // (name)
	Budget time.Duration // (budget) for one attempt at a cell; 0: that of its depth
	Groups []*Group      // (groups)

	Path   string   // of the file
	SHA256 [32]byte // of its contents
}

// Group is a part of a matrix: a guest, the axes along which it varies, and what
// is expected of the cells. The word in parentheses is the key of the YAML form.
type Group struct {
	Name   string        // (name) begins the ids of its cells
	Depth  results.Depth // (depth) launch or full
	Budget time.Duration // (budget) for one attempt; 0: the matrix's

	Guest guest.Guest // (guest) what all cells have in common
	Parts Parts       // (parts) what a guest that names no files of its own gets
	Axes  []Axis      // (axes) in the order of the file

	Include []Point // (include) cells beside those that the axes span
	Exclude []Point // (exclude) cells that are left out: all that match one of these

	Expect     *Expect   // (expect) of an untampered cell; nil: that of its depth
	Untampered bool      // (untampered) whether cells with nothing wrong are run
	Twins      bool      // (twins) whether each launch whose ID block is signed here has a twin with one bit of it flipped
	Tampers    []*Tamper // (tamper) what is made wrong in the negative cells
	Steps      []*Step   // (steps) in place of booting, attesting and running the guest's command

	Line int // of the file
}

// Parts says what a guest that names no firmware, kernel and initrd gets from the
// cache that `snplaunch setup` fills.
type Parts string

// Parts.
const (
	PartsAll      Parts = "all"      // firmware, kernel and initrd
	PartsFirmware Parts = "firmware" // the firmware: it finds nothing to boot
	PartsNone     Parts = "none"     // nothing: the description has all
)

// Axis is one direction of a group.
type Axis struct {
	Name   string // key of the file: "vcpus"
	Values []Value
}

// Value is a place on an axis.
type Value struct {
	Label string // in the cell's id
	set   func(*setting)
}

// setting is what the values of a cell make together.
type setting struct {
	guest   guest.Guest
	qemu    string // a word or a path, see qemuWords
	backend string // a word of host.Choose; empty: the run's
	// firmware is a word for a firmware of the cache; empty: the guest's own or the
	// one that it gets by its parts.
	firmware string
	// keys asks for an ID key, and perhaps an author key, made for the run.
	idKey, authorKey bool
}

// Point is a set of places: for each axis that it names, labels of which a cell must
// have one.
type Point struct {
	Labels map[string][]string
	values map[string]Value // of an included cell
	expect *Expect
	line   int
}

// Load reads a matrix from a file. Relative paths in it are relative to the
// folder of that file.
func Load(path string) (*Matrix, error) {
	data, err := strictyaml.File(path, "matrix")
	if err != nil {
		return nil, err
	}
	return Parse(data, path)
}

// Parse reads a matrix. name is the file's path: it begins each message, and relative
// paths are relative to its folder.
func Parse(data []byte, name string) (*Matrix, error) {
	root, err := strictyaml.Document(data, name, "one matrix", "groups")
	if err != nil {
		return nil, err
	}
	m := &Matrix{Path: name, SHA256: sha256.Sum256(data)}
	r := strictyaml.NewReader(name)
	f := &form{m: m, dir: filepath.Dir(name)}
	r.Mapping(root, "", f.matrix())
	if r.Err() == nil {
		f.settle(r, root)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return m, nil
}

// settle gives groups what they did not say, and refuses what does not go together.
func (f *form) settle(r *strictyaml.Reader, root *yaml.Node) {
	if f.m.Name == "" {
		f.m.Name = strings.TrimSuffix(filepath.Base(f.m.Path), filepath.Ext(f.m.Path))
	}
	if len(f.m.Groups) == 0 {
		r.Fail(root, "there are no groups (give the key groups a list)")
	}
	var nodes []*yaml.Node
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "groups" {
			nodes = root.Content[i+1].Content
		}
	}
	seen := map[string]int{}
	for i, g := range f.m.Groups {
		n := nodes[i]
		g.Line = n.Line
		switch {
		case g.Name == "":
			r.Fail(n, "groups[%d] has no name (give the key name)", i)
		case strings.Trim(g.Name, labelChars) != "":
			r.Fail(n, "groups[%d].name: %q: a name has letters, digits and . _ - only", i, g.Name)
		case seen[g.Name] != 0:
			r.Fail(n, "groups[%d].name: there is a group %s already (in line %d)", i, g.Name, seen[g.Name])
		}
		seen[g.Name] = n.Line
		if err := g.settle(); err != nil {
			r.Fail(n, "group %s: %v", g.Name, err)
		}
	}
}

func (g *Group) settle() error {
	if g.Expect == nil {
		g.Expect = defaultExpect(g.Depth)
	}
	if g.Expect.kind == "" {
		g.Expect.kind = defaultExpect(g.Depth).kind
	}
	if g.Depth == results.LaunchOnly {
		if len(g.Steps) > 0 {
			return fmt.Errorf("steps need depth: full")
		}
		if g.Expect.needsBoot() {
			return fmt.Errorf("%q can only be seen of a guest that boots (write depth: full)", g.Expect)
		}
	}
	if err := settleSteps(g.Steps); err != nil {
		return err
	}
	for _, t := range g.Tampers {
		if len(g.Steps) > 0 {
			return fmt.Errorf("a group with steps has no tamper (tamper with a group of its own)")
		}
		if t.depth == results.Full && g.Depth != results.Full {
			return fmt.Errorf("tamper %s can only be caught in a guest that boots (write depth: full)", t.Name)
		}
	}
	if !g.Untampered && len(g.Tampers) == 0 && !g.Twins {
		return fmt.Errorf("untampered: false leaves nothing to run (give tamper)")
	}
	have := map[string]map[string]bool{}
	for _, a := range g.Axes {
		have[a.Name] = map[string]bool{}
		for _, v := range a.Values {
			if have[a.Name][v.Label] {
				return fmt.Errorf("axes.%s has %s twice (give one of them another name: {name: …})", a.Name, v.Label)
			}
			have[a.Name][v.Label] = true
		}
	}
	for _, p := range g.Exclude {
		for axis, labels := range p.Labels {
			for _, l := range labels {
				if !have[axis][l] {
					return fmt.Errorf("exclude in line %d: axes.%s has no %s, so this leaves nothing out", p.line, axis, l)
				}
			}
		}
	}
	return nil
}

// labelChars are what a part of a cell's id may have.
const labelChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+:,"
