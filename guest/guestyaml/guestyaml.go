// Package guestyaml reads and writes the YAML form of a guest.Guest. Start with
// Load.
//
// Reading is strict: an unknown key, a key given twice, a value of the wrong
// kind and a second document are errors that name the line. Keys that are
// missing keep the values of guest.Default.
package guestyaml

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	multierror "github.com/hashicorp/go-multierror"
	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// maxFile is more than any description has, in bytes.
const maxFile = 1 << 20

// Load reads a description from a file. Relative paths in it are relative to
// the folder of that file.
func Load(path string) (guest.Guest, error) {
	f, err := os.Open(path)
	if err != nil {
		return guest.Guest{}, fmt.Errorf("reading guest description: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return guest.Guest{}, fmt.Errorf("reading guest description %s: %w", path, err)
	}
	if len(data) > maxFile {
		return guest.Guest{}, fmt.Errorf("reading guest description %s: more than %d bytes, so this is none", path, maxFile)
	}
	return Parse(data, path)
}

// Parse reads a description. name is the file's path: it begins each message,
// and relative paths are relative to its folder.
func Parse(data []byte, name string) (guest.Guest, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return guest.Guest{}, fmt.Errorf("%s: the file is empty (give at least the key firmware)", name)
		}
		return guest.Guest{}, fmt.Errorf("%s: %w", name, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return guest.Guest{}, fmt.Errorf("%s:%d: a second document begins (a file describes one guest)", name, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return guest.Guest{}, fmt.Errorf("%s: %w", name, err)
	}
	g := guest.Default()
	r := reader{name: name}
	r.mapping(doc.Content[0], "", fields(&g, filepath.Dir(name)))
	if r.errs == nil {
		r.together(doc.Content[0], &g)
	}
	if r.errs == nil {
		return g, nil
	}
	if len(r.errs.Errors) == 1 {
		return guest.Guest{}, r.errs.Errors[0]
	}
	r.errs.ErrorFormat = func(errs []error) string {
		lines := make([]string, len(errs))
		for i, e := range errs {
			lines[i] = e.Error()
		}
		return strings.Join(lines, "\n")
	}
	return guest.Guest{}, r.errs
}

// Marshal writes a description with all its keys that are not at their
// defaults, and firmware, vcpus, cpu, memory_mib and policy always. Load gives
// the same Guest again when it is read in the folder that its paths are
// relative to.
func Marshal(g *guest.Guest) ([]byte, error) {
	defaults := guest.Default()
	root := &yaml.Node{Kind: yaml.MappingNode}
	was := fields(&defaults, "")
	for i, f := range fields(g, "") {
		if f.sub != nil {
			sub := &yaml.Node{Kind: yaml.MappingNode}
			for j, s := range f.sub {
				if v := s.get(); !sameNode(v, was[i].sub[j].get()) {
					sub.Content = append(sub.Content, key(s.key), v)
				}
			}
			if len(sub.Content) > 0 {
				root.Content = append(root.Content, key(f.key), sub)
			}
			continue
		}
		if v := f.get(); f.always || !sameNode(v, was[i].get()) {
			root.Content = append(root.Content, key(f.key), v)
		}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("writing guest description: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("writing guest description: %w", err)
	}
	return out.Bytes(), nil
}

// field is one key: how to read its value and how to write it, or, for a
// mapping, its keys.
type field struct {
	key    string
	set    func(*yaml.Node) error
	get    func() *yaml.Node
	always bool // Marshal writes it even at its default
	sub    []field
}

// fields lists the keys in the order in which Marshal writes them.
func fields(g *guest.Guest, dir string) []field {
	b := &g.IDBlock
	return []field{
		text("name", &g.Name),
		must(path("firmware", &g.Firmware, dir)),
		path("kernel", &g.Kernel, dir),
		path("initrd", &g.Initrd, dir),
		text("append", &g.Append),
		digest("kernel_sha256", &g.KernelSHA256),
		digest("initrd_sha256", &g.InitrdSHA256),
		digest("append_sha256", &g.AppendSHA256),
		must(decimal("vcpus", &g.VCPUs)),
		must(text("cpu", &g.CPU)),
		signature("cpu_sig", &g.CPUSig),
		must(decimal("memory_mib", &g.MemoryMiB)),
		boolean("kernel_hashes", &g.KernelHashes),
		text("host_kernel", &g.HostKernel),
		features("guest_features", &g.GuestFeatures),
		must(number("policy", &g.Policy, "0x%x", 64)),
		hostData("host_data", g),
		{key: "id_block", sub: []field{
			text("mode", &b.Mode),
			path("id_key", &b.IDKey, dir),
			path("author_key", &b.AuthorKey, dir),
			fixed("family_id", b.FamilyID[:]),
			fixed("image_id", b.ImageID[:]),
			number("guest_svn", &b.GuestSVN, "%d", 32),
			path("id_block_file", &b.IDBlockFile, dir),
			path("id_auth_file", &b.IDAuthFile, dir),
		}},
		boolean("vcek_disabled", &g.VCEKDisabled),
		workarounds("guest_visible_workarounds", &g.GuestVisibleWorkarounds),
		words("command", &g.Command),
		duration("timeout", &g.Timeout),
	}
}

// reader collects what is wrong, with its lines.
type reader struct {
	name string
	errs *multierror.Error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.errs = multierror.Append(r.errs, fmt.Errorf("%s:%d: %s", r.name, n.Line, fmt.Sprintf(format, args...)))
}

// mapping sets the fields that n has. prefix is the key of n with a dot.
func (r *reader) mapping(n *yaml.Node, prefix string, fields []field) {
	if n.Kind != yaml.MappingNode {
		what := "the description"
		if prefix != "" {
			what = strings.TrimSuffix(prefix, ".")
		}
		r.fail(n, "%s is not a mapping (write lines of the form key: value)", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			r.fail(k, "a key is not a word")
			continue
		}
		if line, twice := seen[k.Value]; twice {
			r.fail(k, "key %s%s is given twice (first in line %d)", prefix, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		at := slices.IndexFunc(fields, func(f field) bool { return f.key == k.Value })
		if at < 0 {
			var known []string
			for _, f := range fields {
				known = append(known, f.key)
			}
			r.fail(k, "unknown key %s%s (%s)", prefix, k.Value, suggest.Remedy(k.Value, known))
			continue
		}
		if v.Kind == yaml.AliasNode {
			r.fail(v, "%s%s is an alias (write the value out)", prefix, k.Value)
			continue
		}
		if fields[at].sub != nil {
			r.mapping(v, prefix+k.Value+".", fields[at].sub)
			continue
		}
		if err := fields[at].set(v); err != nil {
			r.fail(v, "%s%s: %v", prefix, k.Value, err)
		}
	}
}

// together settles the keys of which one says something about the other: what
// host_kernel means for guest_features, and cpu_sig for cpu.
func (r *reader) together(root *yaml.Node, g *guest.Guest) {
	given := map[string]*yaml.Node{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		given[root.Content[i].Value] = root.Content[i]
	}
	if k, ok := given["host_kernel"]; ok && given["guest_features"] == nil {
		if err := g.SetHostKernel(g.HostKernel); err != nil {
			r.fail(k, "host_kernel: %v", err)
		}
	}
	if k, ok := given["cpu_sig"]; ok {
		if given["cpu"] == nil {
			g.CPU = vmsa.CPUFor(*g.CPUSig)
		} else if sig, err := vmsa.Lookup(g.CPU); err == nil && sig != *g.CPUSig {
			r.fail(k, "cpu_sig is 0x%x, but cpu %s has the signature 0x%x (give one of them)", *g.CPUSig, g.CPU, sig)
		}
	}
}

// scalar gives the text of a plain value. A missing one (null) is an error,
// because it says neither "default" nor "empty".
func scalar(n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode {
		return "", errors.New("a single value is wanted")
	}
	if n.ShortTag() == "!!null" {
		return "", errors.New(`the value is missing (leave the key out, or write "" for an empty one)`)
	}
	if n.ShortTag() == "!!binary" { // how YAML writes text that is not UTF-8
		var s string
		if err := n.Decode(&s); err != nil {
			return "", errors.New("the value is not base64")
		}
		return s, nil
	}
	return n.Value, nil
}

func text[T ~string](k string, p *T) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			s, err := scalar(n)
			*p = T(s)
			return err
		},
		get: func() *yaml.Node { return str(string(*p)) }}
}

func path(k string, p *string, dir string) field {
	f := text(k, p)
	set := f.set
	f.set = func(n *yaml.Node) error {
		if err := set(n); err != nil {
			return err
		}
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
		return nil
	}
	return f
}

func number[T ~uint32 | ~uint64](k string, p *T, format string, bits int) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			s, err := scalar(n)
			if err != nil {
				return err
			}
			v, err := strconv.ParseUint(s, 0, bits)
			if err != nil {
				return fmt.Errorf("%q is not a number of %d bits (write e.g. 196608 or 0x30000)", s, bits)
			}
			*p = T(v)
			return nil
		},
		// uint64, because a type's own String would get in the way of %x.
		get: func() *yaml.Node { return plain(fmt.Sprintf(format, uint64(*p))) }}
}

func decimal(k string, p *int) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			s, err := scalar(n)
			if err != nil {
				return err
			}
			v, err := strconv.ParseInt(s, 10, 32)
			if err != nil {
				return fmt.Errorf("%q is not a decimal number of 32 bits", s)
			}
			*p = int(v)
			return nil
		},
		get: func() *yaml.Node { return plain(strconv.Itoa(*p)) }}
}

func signature(k string, p **uint32) field {
	var v uint32
	f := number(k, &v, "0x%x", 32)
	set := f.set
	f.set = func(n *yaml.Node) error {
		if err := set(n); err != nil {
			return err
		}
		*p = &v
		return nil
	}
	f.get = func() *yaml.Node {
		if *p == nil {
			return plain("null")
		}
		return plain(fmt.Sprintf("0x%x", **p))
	}
	return f
}

func boolean(k string, p *bool) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			s, err := scalar(n)
			if err != nil {
				return err
			}
			if s != "true" && s != "false" {
				return fmt.Errorf("%q is neither true nor false", s)
			}
			*p = s == "true"
			return nil
		},
		get: func() *yaml.Node { return plain(strconv.FormatBool(*p)) }}
}

// fixed is a value of as many bytes as dst has, in hexadecimal.
func fixed(k string, dst []byte) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			raw, err := hexadecimal(n)
			if err != nil {
				return err
			}
			if len(raw) != len(dst) {
				return fmt.Errorf("got %d bytes, want %d (%d hexadecimal digits)", len(raw), len(dst), 2*len(dst))
			}
			copy(dst, raw)
			return nil
		},
		get: func() *yaml.Node { return str(hex.EncodeToString(dst)) }}
}

// digest is a SHA-256 in hexadecimal or base64.
func digest(k string, p **[32]byte) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			s, err := scalar(n)
			if err != nil {
				return err
			}
			sum, err := snp.ParseSHA256(s)
			if err != nil {
				return err
			}
			*p = &sum
			return nil
		},
		get: func() *yaml.Node {
			if *p == nil {
				return plain("null")
			}
			return str(hex.EncodeToString((*p)[:]))
		}}
}

// features is SEV_FEATURES, as a number or by names.
func features(k string, p *uint64) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			s, err := scalar(n)
			if err != nil {
				return err
			}
			*p, err = vmsa.ParseFeatures(s)
			return err
		},
		get: func() *yaml.Node { return plain(fmt.Sprintf("0x%x", *p)) }}
}

func hostData(k string, g *guest.Guest) field {
	f := fixed(k, g.HostData[:])
	set := f.set
	f.set = func(n *yaml.Node) error {
		err := set(n)
		g.HostDataSet = err == nil
		return err
	}
	f.get = func() *yaml.Node {
		if !g.HostDataSet && g.HostData == (snp.HostData{}) {
			return plain("null")
		}
		return str(g.HostData.String())
	}
	return f
}

func workarounds(k string, p *[]byte) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			raw, err := hexadecimal(n)
			if err == nil && len(raw) > 0 {
				*p = raw
			}
			return err
		},
		get: func() *yaml.Node { return str(hex.EncodeToString(*p)) }}
}

func hexadecimal(n *yaml.Node) ([]byte, error) {
	s, err := scalar(n)
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("the value is not made of pairs of hexadecimal digits")
	}
	return raw, nil
}

func words(k string, p *[]string) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			if n.Kind != yaml.SequenceNode {
				return errors.New(`a list is wanted, one word an item (e.g. [uname, "-a"])`)
			}
			var out []string
			for _, item := range n.Content {
				s, err := scalar(item)
				if err != nil {
					return err
				}
				out = append(out, s)
			}
			*p = out
			return nil
		},
		get: func() *yaml.Node {
			n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for _, w := range *p {
				n.Content = append(n.Content, str(w))
			}
			return n
		}}
}

func duration(k string, p *time.Duration) field {
	return field{key: k,
		set: func(n *yaml.Node) error {
			s, err := scalar(n)
			if err != nil {
				return err
			}
			d, err := time.ParseDuration(s)
			if err != nil {
				return fmt.Errorf("%q is not a duration (write e.g. 90s or 5m)", s)
			}
			*p = d
			return nil
		},
		get: func() *yaml.Node { return plain(p.String()) }}
}

// must marks a field that Marshal always writes.
func must(f field) field {
	f.always = true
	return f
}

func key(k string) *yaml.Node { return plain(k) }

// plain is a value that needs no quotes.
func plain(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

// str is a text value, which gets quotes where it would read as something else.
func str(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// sameNode compares values as they are written.
func sameNode(a, b *yaml.Node) bool {
	return a.Value == b.Value && slices.EqualFunc(a.Content, b.Content, sameNode)
}
