// Package strictyaml reads YAML as a description of fixed form: an unknown key,
// a key given twice, a value of the wrong kind, an alias and a second document
// are errors that name the line. Start with Document and Reader.Mapping.
//
// A form is a list of Fields, each of which reads its value, writes it, says what it
// means and which JSON Schema it has, so that reader, writer, schema and manual
// cannot drift apart. Marshal, JSONSchema and Table take the same list.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	multierror "github.com/hashicorp/go-multierror"
	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// maxFile is more than any description has, in bytes.
const maxFile = 1 << 20

// Field is one key. Exactly one of Set, Sub, Items and Read says what its value
// is: a value, a mapping, a list of mappings, or something of another form.
type Field struct {
	Key    string
	Doc    string // what it means: a sentence, or several
	Schema Schema // of a value; mappings and lists of them have their own
	Set    func(*yaml.Node) error
	Get    func() *yaml.Node
	Always bool // Marshal writes it even at its default
	Sub    []Field
	Items  func() []Field   // begins the next item and gives its keys
	Each   func() [][]Field // the keys of each item that there is, for Marshal
	Read   func(r *Reader, n *yaml.Node, name string)
}

// File reads a file of at most 1 MiB. what names it in messages, e.g. "guest description".
func File(path, what string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading %s: %w (%s)", what, err, beside(filepath.Dir(path), filepath.Base(path)))
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, fmt.Errorf("reading %s: %s is a folder (%s)", what, path, beside(path, ""))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", what, path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("reading %s %s: more than %d bytes, so this is none", what, path, maxFile)
	}
	return data, nil
}

// mostNamed is how many files a message lists.
const mostNamed = 8

// beside says which YAML files there are in a folder, as a remedy for a name that is of none.
func beside(dir, name string) string {
	entries, _ := os.ReadDir(dir) // one that cannot be read has nothing to name
	var names []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			names = append(names, e.Name())
		}
	}
	switch near := suggest.Nearest(name, names); {
	case len(names) == 0:
		return "there is no YAML file in that folder; give the path of one"
	case len(near) == 0 && len(names) > mostNamed:
		return fmt.Sprintf("use one of the %d YAML files in that folder", len(names))
	}
	return suggest.Remedy(name, names)
}

// Document parses the one document of a file. name begins each message, what is
// what the file describes ("one guest"), first a key that an empty one lacks.
func Document(data []byte, name, what, first string) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: the file is empty (give at least the key %s)", name, first)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document begins (a file describes %s)", name, second.Line, what)
	} else if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return doc.Content[0], nil
}

// Reader collects what is wrong, with its lines.
type Reader struct {
	name string
	errs *multierror.Error
}

// NewReader reads the file of that name.
func NewReader(name string) *Reader { return &Reader{name: name} }

// Fail notes what is wrong at a node.
func (r *Reader) Fail(n *yaml.Node, format string, args ...any) {
	r.errs = multierror.Append(r.errs, fmt.Errorf("%s:%d: %s", r.name, n.Line, fmt.Sprintf(format, args...)))
}

// Add notes an error that names its place itself, as those of Err do.
func (r *Reader) Add(err error) { r.errs = multierror.Append(r.errs, err) }

// Err gives everything that is wrong, a line each; nil where nothing is.
func (r *Reader) Err() error {
	if r.errs == nil {
		return nil
	}
	if len(r.errs.Errors) == 1 {
		return r.errs.Errors[0]
	}
	r.errs.ErrorFormat = func(errs []error) string {
		lines := make([]string, len(errs))
		for i, e := range errs {
			lines[i] = e.Error()
		}
		return strings.Join(lines, "\n")
	}
	return r.errs
}

// Mapping sets the fields that n has. prefix is the key of n with a dot.
func (r *Reader) Mapping(n *yaml.Node, prefix string, fields []Field) {
	if n.Kind != yaml.MappingNode {
		what := "the description"
		if prefix != "" {
			what = strings.TrimSuffix(prefix, ".")
		}
		r.Fail(n, "%s is not a mapping (write lines of the form key: value)", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			r.Fail(k, "a key is not a word")
			continue
		}
		if line, twice := seen[k.Value]; twice {
			r.Fail(k, "key %s%s is given twice (first in line %d)", prefix, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		at := slices.IndexFunc(fields, func(f Field) bool { return f.Key == k.Value })
		if at < 0 {
			var known []string
			for _, f := range fields {
				known = append(known, f.Key)
			}
			r.Fail(k, "unknown key %s%s (%s)", prefix, k.Value, suggest.Remedy(k.Value, known))
			continue
		}
		r.value(v, prefix+k.Value, fields[at])
	}
}

func (r *Reader) value(v *yaml.Node, name string, f Field) {
	switch {
	case v.Kind == yaml.AliasNode:
		r.Fail(v, "%s is an alias (write the value out)", name)
	case f.Sub != nil:
		r.Mapping(v, name+".", f.Sub)
	case f.Items != nil:
		if v.Kind != yaml.SequenceNode {
			r.Fail(v, "%s is not a list (begin each item with a dash)", name)
			return
		}
		for i, item := range v.Content {
			r.Mapping(item, fmt.Sprintf("%s[%d].", name, i), f.Items())
		}
	case f.Read != nil:
		f.Read(r, v, name)
	default:
		if err := f.Set(v); err != nil {
			r.Fail(v, "%s: %v", name, err)
		}
	}
}

// Given lists the keys of a mapping, with the nodes that they are.
func Given(n *yaml.Node) map[string]*yaml.Node {
	given := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		given[n.Content[i].Value] = n.Content[i]
	}
	return given
}

// Marshal writes fields that are not at their defaults, and those that are
// always written. defaults is the same list of a description that is.
func Marshal(fields, defaults []Field) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(node(fields, defaults)); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func node(fields, defaults []Field) *yaml.Node {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for i, f := range fields {
		if f.Sub != nil || f.Items != nil {
			var n *yaml.Node
			if f.Sub != nil {
				n = node(f.Sub, defaults[i].Sub)
			} else {
				n = list(f.Each(), defaults[i].Items)
			}
			if len(n.Content) > 0 {
				root.Content = append(root.Content, Plain(f.Key), n)
			}
			continue
		}
		if v := f.Get(); f.Always || !same(v, defaults[i].Get()) {
			root.Content = append(root.Content, Plain(f.Key), v)
		}
	}
	return root
}

// list writes items; blank gives one at its defaults.
func list(items [][]Field, blank func() []Field) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, fields := range items {
		item := node(fields, blank())
		if len(item.Content) == 0 {
			item.Style = yaml.FlowStyle
		}
		n.Content = append(n.Content, item)
	}
	return n
}

// same compares values as they are written.
func same(a, b *yaml.Node) bool {
	return a.Value == b.Value && slices.EqualFunc(a.Content, b.Content, same)
}
