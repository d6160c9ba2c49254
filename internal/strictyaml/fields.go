package strictyaml

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/snp"
)

// Says sets what the key means.
func (f Field) Says(doc string) Field {
	f.Doc = doc
	return f
}

// Like adds examples to the schema.
func (f Field) Like(examples ...any) Field { return f.With(Schema{"examples": examples}) }

// With adds to the schema.
func (f Field) With(more Schema) Field {
	s := Schema{}
	for k, v := range f.Schema {
		s[k] = v
	}
	for k, v := range more {
		s[k] = v
	}
	f.Schema = s
	return f
}

// Must marks a Field that Marshal always writes.
func Must(f Field) Field {
	f.Always = true
	return f
}

// Scalar gives the text of a plain value. A missing one (null) is an error,
// because it says neither "default" nor "empty".
func Scalar(n *yaml.Node) (string, error) {
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

// Plain is a value that needs no quotes.
func Plain(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

// Str is a text value, which gets quotes where it would read as something else.
func Str(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// Value is a single value that is read by parse; text gives what parse reads, or
// false where there is no value.
func Value(k string, schema Schema, parse func(string) error, text func() (string, bool)) Field {
	return Field{Key: k, Schema: schema,
		Set: func(n *yaml.Node) error {
			s, err := Scalar(n)
			if err != nil {
				return err
			}
			return parse(s)
		},
		Get: func() *yaml.Node {
			s, ok := text()
			if !ok {
				return Plain("null")
			}
			return Str(s)
		}}
}

// Text is any text.
func Text[T ~string](k string, p *T) Field {
	return Value(k, Schema{"type": "string"},
		func(s string) error { *p = T(s); return nil },
		func() (string, bool) { return string(*p), true })
}

// Choice is one of some words. It is not checked when it is read: who owns the type
// says more about a wrong one.
func Choice[T ~string](k string, p *T, words ...T) Field {
	enum := make([]any, len(words))
	for i, w := range words {
		enum[i] = string(w)
	}
	return Text(k, p).With(Schema{"enum": enum})
}

// Path is the path of a file; a relative one is relative to dir.
func Path(k string, p *string, dir string) Field {
	f := Text(k, p)
	set := f.Set
	f.Set = func(n *yaml.Node) error {
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

// Number is a number of so many bits without sign, in any base; format writes it.
func Number[T ~uint32 | ~uint64](k string, p *T, format string, bits int) Field {
	return Field{Key: k,
		Schema: Schema{"type": []any{"integer", "string"}, "minimum": 0, "maximum": uint64(1)<<(bits-1) - 1 + uint64(1)<<(bits-1),
			"pattern": `^(0[xX](_?[0-9a-fA-F])+|0[oO]?(_?[0-7])+|0[bB](_?[01])+|0|[1-9](_?[0-9])*)$`},
		Set: func(n *yaml.Node) error {
			s, err := Scalar(n)
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
		Get: func() *yaml.Node { return Plain(fmt.Sprintf(format, uint64(*p))) }}
}

// Decimal is a decimal number.
func Decimal(k string, p *int) Field {
	return Field{Key: k, Schema: Schema{"type": "integer"},
		Set: func(n *yaml.Node) error {
			s, err := Scalar(n)
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
		Get: func() *yaml.Node { return Plain(strconv.Itoa(*p)) }}
}

// Boolean is true or false.
func Boolean(k string, p *bool) Field {
	return Field{Key: k, Schema: Schema{"type": "boolean"},
		Set: func(n *yaml.Node) error {
			s, err := Scalar(n)
			if err != nil {
				return err
			}
			if s != "true" && s != "false" {
				return fmt.Errorf("%q is neither true nor false", s)
			}
			*p = s == "true"
			return nil
		},
		Get: func() *yaml.Node { return Plain(strconv.FormatBool(*p)) }}
}

// Fixed is a value of as many bytes as dst has, in hexadecimal.
func Fixed(k string, dst []byte) Field {
	return Field{Key: k, Schema: Schema{"type": "string", "pattern": fmt.Sprintf("^[0-9a-fA-F]{%d}$", 2*len(dst))},
		Set: func(n *yaml.Node) error {
			raw, err := Hexadecimal(n)
			if err != nil {
				return err
			}
			if len(raw) != len(dst) {
				return fmt.Errorf("got %d bytes, want %d (%d hexadecimal digits)", len(raw), len(dst), 2*len(dst))
			}
			copy(dst, raw)
			return nil
		},
		Get: func() *yaml.Node { return Str(hex.EncodeToString(dst)) }}
}

// SHA256 is a digest in hexadecimal or base64.
func SHA256(k string, p **[32]byte) Field {
	return Value(k, Schema{"type": "string", "pattern": `^([0-9a-fA-F]{64}|[-+/_0-9A-Za-z]{43}=?)$`},
		func(s string) error {
			sum, err := snp.ParseSHA256(s)
			if err == nil {
				*p = &sum
			}
			return err
		},
		func() (string, bool) {
			if *p == nil {
				return "", false
			}
			return hex.EncodeToString((*p)[:]), true
		})
}

// Bytes are at most max bytes in hexadecimal, which whoever owns them checks; no
// bytes are nil.
func Bytes(k string, p *[]byte, max int) Field {
	return Field{Key: k, Schema: Schema{"type": "string", "pattern": fmt.Sprintf("^([0-9a-fA-F]{2}){0,%d}$", max)},
		Set: func(n *yaml.Node) error {
			raw, err := Hexadecimal(n)
			if err == nil && len(raw) > 0 {
				*p = raw
			}
			return err
		},
		Get: func() *yaml.Node { return Str(hex.EncodeToString(*p)) }}
}

// Hexadecimal gives the bytes of a plain value.
func Hexadecimal(n *yaml.Node) ([]byte, error) {
	s, err := Scalar(n)
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("the value is not made of pairs of hexadecimal digits")
	}
	return raw, nil
}

// Words is a list of values of any letters.
func Words(k string, p *[]string) Field {
	return Parsed(k, p, Schema{"type": "string"}, `[uname, "-a"]`,
		func(s string) (string, error) { return s, nil }, func(s string) string { return s })
}

// Parsed is a list of single values, each read by parse; text gives what parse reads.
// like is an example for messages.
func Parsed[T any](k string, p *[]T, item Schema, like string, parse func(string) (T, error), text func(T) string) Field {
	return Field{Key: k, Schema: Schema{"type": "array", "items": item},
		Set: func(n *yaml.Node) error {
			if n.Kind != yaml.SequenceNode {
				return fmt.Errorf("a list is wanted, one word an item (e.g. %s)", like)
			}
			var out []T
			for _, item := range n.Content {
				s, err := Scalar(item)
				if err != nil {
					return err
				}
				v, err := parse(s)
				if err != nil {
					return err
				}
				out = append(out, v)
			}
			*p = out
			return nil
		},
		Get: func() *yaml.Node {
			n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for _, v := range *p {
				n.Content = append(n.Content, Str(text(v)))
			}
			return n
		}}
}

// Pairs is a mapping of names to single values, kept as NAME=value in the order in
// which they are written.
func Pairs(k string, p *[]string) Field {
	return Field{Key: k,
		Schema: Schema{"type": "object", "propertyNames": Schema{"pattern": "^[^=]+$"},
			"additionalProperties": Schema{"type": []any{"string", "number", "boolean"}}},
		Set: func(n *yaml.Node) error {
			if n.Kind != yaml.MappingNode {
				return errors.New("a mapping is wanted, lines of the form NAME: value")
			}
			var out []string
			seen := map[string]bool{}
			for i := 0; i+1 < len(n.Content); i += 2 {
				name, err := Scalar(n.Content[i])
				if err != nil {
					return err
				}
				value, err := Scalar(n.Content[i+1])
				switch {
				case err != nil:
					return fmt.Errorf("%s: %w", name, err)
				case name == "" || strings.Contains(name, "="):
					return fmt.Errorf("%q cannot be a name", name)
				case seen[name]:
					return fmt.Errorf("%s is given twice", name)
				}
				seen[name] = true
				out = append(out, name+"="+value)
			}
			*p = out
			return nil
		},
		Get: func() *yaml.Node {
			n := &yaml.Node{Kind: yaml.MappingNode}
			for _, pair := range *p {
				name, value, _ := strings.Cut(pair, "=")
				n.Content = append(n.Content, Str(name), Str(value))
			}
			return n
		}}
}

// Duration is a time such as 90s or 5m.
func Duration(k string, p *time.Duration) Field {
	return Field{Key: k,
		Schema: Schema{"type": []any{"string", "integer"}, "minimum": 0, "maximum": 0,
			"pattern": `^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`},
		Set: func(n *yaml.Node) error {
			s, err := Scalar(n)
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
		Get: func() *yaml.Node { return Plain(p.String()) }}
}

// Mapping is a key with keys of its own.
func Mapping(k string, fields ...Field) Field { return Field{Key: k, Sub: fields} }

// List is a list of mappings; fields gives the keys of an item.
func List[T any](k string, p *[]T, fields func(*T) []Field) Field {
	return Field{Key: k,
		Items: func() []Field {
			var item T
			*p = append(*p, item)
			return fields(&(*p)[len(*p)-1])
		},
		Each: func() [][]Field {
			var out [][]Field
			for i := range *p {
				out = append(out, fields(&(*p)[i]))
			}
			return out
		},
	}
}
