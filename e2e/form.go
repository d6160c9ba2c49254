package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/snp"
)

// form reads a matrix.yaml.
type form struct {
	m   *Matrix
	dir string
}

func (f *form) matrix() []strictyaml.Field {
	return []strictyaml.Field{
		strictyaml.Text("name", &f.m.Name).Says("Of the matrix, in reports. By default the file's, without its extension."),
		strictyaml.Duration("budget", &f.m.Budget).Like("2m").Says("What one attempt at a cell may take, for groups that do not say it. By default the guest's own time limit."),
		{Key: "groups", Items: f.group, Doc: "The parts of the matrix: each a guest, axes along which it varies, and what is expected."},
	}
}

func (f *form) group() []strictyaml.Field {
	g := &Group{Depth: results.Full, Guest: guest.Default(), Parts: PartsAll, Untampered: true}
	f.m.Groups = append(f.m.Groups, g)
	var depth, parts string
	twins := true
	g.Twins = twins
	return []strictyaml.Field{
		strictyaml.Text("name", &g.Name).With(strictyaml.Schema{"pattern": "^[0-9A-Za-z._:,+-]+$"}).Says("Begins the ids of its cells. Must be there."),
		oneOf("depth", &depth, func(s string) { g.Depth = results.Depth(s) }, string(results.LaunchOnly), string(results.Full)).
			Says("`launch`: to SNP_LAUNCH_FINISH, which compares the digest with that in the ID block; nothing boots. `full` (the default): boot, report, verification, and the guest's command or the steps."),
		oneOf("parts", &parts, func(s string) { g.Parts = Parts(s) }, string(PartsAll), string(PartsFirmware), string(PartsNone)).
			Says("What a guest that names no files gets of what `snplaunch setup` has fetched: `all` (the default), `firmware`, or `none`."),
		strictyaml.Duration("budget", &g.Budget).Like("90s").Says("What one attempt at a cell of the group may take."),
		{Key: "guest", Read: f.guest(&g.Guest), Schema: guestSchema(false), Doc: "What the cells have in common: the path of a guest.yaml, or its keys here."},
		{Key: "axes", Sub: f.axes(g), Doc: "What is varied. Each point that they span is a cell; a group without axes has one."},
		{Key: "include", Read: f.points(&g.Include, true), Schema: pointsSchema(f.axisForms(), true), Doc: "Cells beside those that the axes span: for each, its values, and `expect` where that is another."},
		{Key: "exclude", Read: f.points(&g.Exclude, false), Schema: pointsSchema(f.axisForms(), false), Doc: "Cells to leave out: those that have, on each axis that is named, the value or one of the list of values."},
		{Key: "expect", Schema: expectSchema(), Doc: "How the launches must end. By default `launches`, or `report-matches` where they are full.", Set: func(n *yaml.Node) error {
			g.Expect = &Expect{}
			return g.Expect.node(n)
		}},
		strictyaml.Boolean("untampered", &g.Untampered).Says("Whether there are cells with nothing made wrong."),
		strictyaml.Boolean("twins", &g.Twins).Says("Whether each launch without a boot whose ID block is signed here has a twin with one bit of the digest in it flipped, which must fail."),
		{Key: "tamper", Set: g.tampers, Schema: tamperSchema(), Doc: "What is made wrong, in a cell of its own for each: a list, or `all` that fit."},
		{Key: "steps", Doc: "What is done in place of booting, attesting and running the guest's command.", Items: func() []strictyaml.Field {
			s := &Step{}
			g.Steps = append(g.Steps, s)
			return s.fields(f)
		}},
	}
}

// oneOf is one of some words.
func oneOf(k string, p *string, take func(string), words ...string) strictyaml.Field {
	f := strictyaml.Choice(k, p, words...)
	set := f.Set
	f.Set = func(n *yaml.Node) error {
		if err := set(n); err != nil {
			return err
		}
		if !slices.Contains(words, *p) {
			return fmt.Errorf("%q is none of them (%s)", *p, suggest.Remedy(*p, words))
		}
		take(*p)
		return nil
	}
	return f
}

// guest reads the path of a guest.yaml, or a mapping of its keys.
func (f *form) guest(g *guest.Guest) func(*strictyaml.Reader, *yaml.Node, string) {
	return func(r *strictyaml.Reader, n *yaml.Node, name string) {
		if n.Kind == yaml.MappingNode {
			guestyaml.Read(r, n, name+".", g, f.dir)
			return
		}
		path, err := f.path(n)
		if err == nil {
			*g, err = guestyaml.Load(path)
		}
		if err != nil {
			r.Fail(n, "%s: %v", name, err)
		}
	}
}

// placed is an error that names its place in the file.
type placed struct{ error }

// note tells r of an error about n.
func note(r *strictyaml.Reader, n *yaml.Node, name string, err error) {
	var p placed
	switch {
	case errors.As(err, &p):
		r.Add(p.error)
	case err != nil:
		r.Fail(n, "%s: %v", name, err)
	}
}

// mapping reads a mapping of its own.
func (f *form) mapping(n *yaml.Node, read func(*strictyaml.Reader)) error {
	r := strictyaml.NewReader(f.m.Path)
	read(r)
	if err := r.Err(); err != nil {
		return placed{err}
	}
	return nil
}

// changeGuest changes a guest to what a mapping says.
func (f *form) changeGuest(n *yaml.Node, g *guest.Guest) error {
	return f.mapping(n, func(r *strictyaml.Reader) { guestyaml.Read(r, n, "", g, f.dir) })
}

func (f *form) path(n *yaml.Node) (string, error) {
	s, err := strictyaml.Scalar(n)
	if err != nil || s == "" || filepath.IsAbs(s) {
		return s, err
	}
	return filepath.Join(f.dir, s), nil
}

// axisForms says how a value is read on each axis. The order is that in which
// values are applied: a guest first, as it changes everything.
func (f *form) axisForms() []axisForm {
	return []axisForm{
		{"guest", "a guest.yaml, or a mapping of its keys with a name", guestSchema(true), f.guestValue},
		{"vcpus", "a number", strictyaml.Schema{"type": "integer"}, func(n *yaml.Node) (Value, error) {
			count := 0
			err := strictyaml.Decimal("", &count).Set(n)
			return Value{strconv.Itoa(count), func(s *setting) { s.guest.VCPUs = count }}, err
		}},
		{"cpu", "a CPU model", strictyaml.Schema{"type": "string"}, func(n *yaml.Node) (Value, error) {
			s, err := strictyaml.Scalar(n)
			return Value{s, func(set *setting) { set.guest.CPU, set.guest.CPUSig = s, nil }}, err
		}},
		{"firmware", "amdsev, generic, plain or a path", fileSchema(), f.firmwareValue},
		{"qemu", "installed, next or a path", fileSchema(), f.qemuValue},
		{"policy", "a number", strictyaml.Number("", new(snp.GuestPolicy), "", 64).Schema, func(n *yaml.Node) (Value, error) {
			var p snp.GuestPolicy
			err := strictyaml.Number("", &p, "0x%x", 64).Set(n)
			return Value{p.String(), func(s *setting) { s.guest.Policy = p }}, err
		}},
		{"id_block", "none, signed, author, or a mapping of its keys with a name", idBlockSchema(), f.idBlockValue},
		{"host_data", "none or 64 hexadecimal digits", strictyaml.Schema{"type": "string", "pattern": "^(none|[0-9a-fA-F]{64})$"}, func(n *yaml.Node) (Value, error) {
			s, err := strictyaml.Scalar(n)
			if err != nil {
				return Value{}, err
			}
			if s == "none" {
				return Value{s, func(set *setting) { set.guest.HostData, set.guest.HostDataSet = snp.HostData{}, false }}, nil
			}
			var d snp.HostData
			err = strictyaml.Fixed("", d[:]).Set(n)
			return Value{s[:min(8, len(s))], func(set *setting) { set.guest.HostData, set.guest.HostDataSet = d, true }}, err
		}},
		{"kernel_hashes", "true or false", strictyaml.Schema{"type": "boolean"}, func(n *yaml.Node) (Value, error) {
			on := false
			err := strictyaml.Boolean("", &on).Set(n)
			return Value{strconv.FormatBool(on), func(s *setting) { s.guest.KernelHashes = on }}, err
		}},
		{"backend", "auto, snp or sim", strictyaml.Schema{"enum": []any{host.Auto, host.SNP, host.Sim}}, func(n *yaml.Node) (Value, error) {
			var word string
			v := Value{set: func(s *setting) { s.backend = word }}
			err := oneOf("", &word, func(w string) { v.Label = w }, host.Auto, host.SNP, host.Sim).Set(n)
			return v, err
		}},
	}
}

type axisForm struct {
	name, values string
	schema       strictyaml.Schema // of a value
	read         func(*yaml.Node) (Value, error)
}

func (f *form) axes(g *Group) []strictyaml.Field {
	var out []strictyaml.Field
	for _, a := range f.axisForms() {
		out = append(out, strictyaml.Field{Key: a.name, Doc: "Each value " + a.values + ".", Schema: strictyaml.Schema{"type": "array", "minItems": 1, "items": a.schema}, Read: func(r *strictyaml.Reader, n *yaml.Node, name string) {
			axis := Axis{Name: a.name}
			if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
				r.Fail(n, "%s: a list is wanted, each item %s", name, a.values)
				return
			}
			for i, item := range n.Content {
				v, err := a.value(item)
				note(r, item, fmt.Sprintf("%s[%d]", name, i), err)
				axis.Values = append(axis.Values, v)
			}
			g.Axes = append(g.Axes, axis)
		}})
	}
	return out
}

func (a axisForm) value(n *yaml.Node) (Value, error) {
	if n.Kind == yaml.AliasNode {
		return Value{}, errors.New("an alias (write the value out)")
	}
	v, err := a.read(n)
	if err == nil && (v.Label == "" || strings.Trim(v.Label, labelChars) != "") {
		err = fmt.Errorf("%q cannot be part of a cell's name (give it one: {name: …})", v.Label)
	}
	return v, err
}

// named takes the key name out of a mapping.
func named(n *yaml.Node) (name string, rest *yaml.Node, err error) {
	rest = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" {
			if name, err = strictyaml.Scalar(n.Content[i+1]); err != nil {
				return "", nil, fmt.Errorf("name: %w", err)
			}
			continue
		}
		rest.Content = append(rest.Content, n.Content[i], n.Content[i+1])
	}
	if name == "" {
		return "", nil, errors.New("a mapping needs a name, for the names of its cells (give the key name)")
	}
	return name, rest, nil
}

func (f *form) guestValue(n *yaml.Node) (Value, error) {
	if n.Kind == yaml.MappingNode {
		name, rest, err := named(n)
		if err != nil {
			return Value{}, err
		}
		g := guest.Default() // only to see that it can be read
		if err := f.changeGuest(rest, &g); err != nil {
			return Value{}, err
		}
		return Value{name, func(s *setting) { _ = f.changeGuest(rest, &s.guest) }}, nil
	}
	path, err := f.path(n)
	if err != nil {
		return Value{}, err
	}
	g, err := guestyaml.Load(path)
	if err != nil {
		return Value{}, err
	}
	name := g.Name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	return Value{name, func(s *setting) { s.guest = g }}, nil
}

// fileValue reads one of some words, a path, or {name: …, file: …}.
func (f *form) fileValue(n *yaml.Node, words ...string) (label, word, path string, err error) {
	if n.Kind == yaml.MappingNode {
		var file string
		name, rest, err := named(n)
		if err != nil {
			return "", "", "", err
		}
		fields := []strictyaml.Field{strictyaml.Path("file", &file, f.dir)}
		if err := f.mapping(rest, func(r *strictyaml.Reader) { r.Mapping(rest, "", fields) }); err != nil {
			return "", "", "", err
		}
		if file == "" {
			return "", "", "", errors.New("the key file is missing")
		}
		return name, "", file, nil
	}
	s, err := strictyaml.Scalar(n)
	switch {
	case err != nil:
		return "", "", "", err
	case slices.Contains(words, s):
		return s, s, "", nil
	case !strings.ContainsAny(s, "./"):
		return "", "", "", fmt.Errorf("%q is neither one of %s nor a path (a file of this folder is ./%s)", s, strings.Join(words, ", "), s)
	}
	path, err = f.path(n)
	return filepath.Base(path), "", path, err
}

func (f *form) firmwareValue(n *yaml.Node) (Value, error) {
	label, word, path, err := f.fileValue(n, firmwareAmdSev, firmwareGeneric, firmwarePlain)
	return Value{label, func(s *setting) { s.firmware, s.guest.Firmware = word, path }}, err
}

func (f *form) qemuValue(n *yaml.Node) (Value, error) {
	label, word, path, err := f.fileValue(n, qemuInstalled, qemuNext)
	if err == nil && path != "" && !filepath.IsAbs(path) {
		path = "." + string(filepath.Separator) + path // a path in the matrix is never a name in PATH
	}
	return Value{label, func(s *setting) {
		if s.qemu = word; word == "" {
			s.qemu = path
		}
	}}, err
}

func (f *form) idBlockValue(n *yaml.Node) (Value, error) {
	if n.Kind == yaml.MappingNode {
		name, rest, err := named(n)
		if err != nil {
			return Value{}, err
		}
		whole := &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Content: []*yaml.Node{strictyaml.Plain("id_block"), rest}}
		g := guest.Default()
		if err := f.changeGuest(whole, &g); err != nil {
			return Value{}, err
		}
		return Value{name, func(s *setting) {
			s.guest.IDBlock = guest.IDBlock{Mode: guest.IDBlockSign}
			_ = f.changeGuest(whole, &s.guest)
		}}, nil
	}
	var word string
	v := Value{set: func(s *setting) {
		b := &s.guest.IDBlock
		*b = guest.IDBlock{Mode: guest.IDBlockSign, FamilyID: b.FamilyID, ImageID: b.ImageID, GuestSVN: b.GuestSVN}
		switch word {
		case "none":
			b.Mode = guest.IDBlockNone
		case "author":
			s.idKey, s.authorKey = true, true
		}
	}}
	err := oneOf("", &word, func(w string) { v.Label = w }, "none", "signed", "author").Set(n)
	return v, err
}

// points reads a list of mappings of axes, each to a value or, of a cell that is left
// out, also to a list of labels.
func (f *form) points(into *[]Point, include bool) func(*strictyaml.Reader, *yaml.Node, string) {
	return func(r *strictyaml.Reader, n *yaml.Node, name string) {
		if n.Kind != yaml.SequenceNode {
			r.Fail(n, "%s: a list is wanted, each item a mapping of axes, such as {vcpus: 2, cpu: EPYC-v4}", name)
			return
		}
		for i, item := range n.Content {
			p := Point{Labels: map[string][]string{}, values: map[string]Value{}, line: item.Line}
			var fields []strictyaml.Field
			for _, a := range f.axisForms() {
				fields = append(fields, strictyaml.Field{Key: a.name, Read: func(r *strictyaml.Reader, v *yaml.Node, name string) {
					if !include {
						note(r, v, name, p.labels(a.name, v))
						return
					}
					value, err := a.value(v)
					note(r, v, name, err)
					p.Labels[a.name], p.values[a.name] = []string{value.Label}, value
				}})
			}
			if include {
				fields = append(fields, strictyaml.Field{Key: "expect", Set: func(v *yaml.Node) error {
					p.expect = &Expect{}
					return p.expect.node(v)
				}})
			}
			item, name := item, fmt.Sprintf("%s[%d]", name, i)
			r.Mapping(item, name+".", fields)
			if len(p.Labels) == 0 {
				r.Fail(item, "%s names no axis", name)
			}
			*into = append(*into, p)
		}
	}
}

func (p *Point) labels(axis string, n *yaml.Node) error {
	items := n.Content
	if n.Kind != yaml.SequenceNode {
		items = []*yaml.Node{n}
	}
	for _, i := range items {
		s, err := strictyaml.Scalar(i)
		if err != nil {
			return err
		}
		p.Labels[axis] = append(p.Labels[axis], s)
	}
	return nil
}

// tampers reads words, or all.
func (g *Group) tampers(n *yaml.Node) error {
	words := n.Content
	if n.Kind == yaml.ScalarNode && n.Value == tamperAll {
		g.Tampers = append(g.Tampers, &Tamper{Name: tamperAll})
		return nil
	}
	if n.Kind != yaml.SequenceNode || len(words) == 0 {
		return errors.New("a list is wanted, or all")
	}
	for _, w := range words {
		s, err := strictyaml.Scalar(w)
		if err != nil {
			return err
		}
		t := tamperNamed(s)
		if t == nil {
			return fmt.Errorf("line %d: %q is nothing that can be tampered with (%s)", w.Line, s, suggest.Remedy(s, TamperNames()))
		}
		if slices.Contains(g.Tampers, t) {
			return fmt.Errorf("line %d: %s is there twice", w.Line, s)
		}
		g.Tampers = append(g.Tampers, t)
	}
	return nil
}
