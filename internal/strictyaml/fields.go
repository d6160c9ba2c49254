package strictyaml

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/snp"
)

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

// Text is a value of any letters.
func Text[T ~string](k string, p *T) Field {
	return Field{Key: k,
		Set: func(n *yaml.Node) error {
			s, err := Scalar(n)
			*p = T(s)
			return err
		},
		Get: func() *yaml.Node { return Str(string(*p)) }}
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

// Number is a value of so many bits, in the notations of Go; format is the one that it is written in.
func Number[T ~uint32 | ~uint64](k string, p *T, format string, bits int) Field {
	return Field{Key: k,
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

// Decimal is a whole number.
func Decimal(k string, p *int) Field {
	return Field{Key: k,
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
	return Field{Key: k,
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
	return Field{Key: k,
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
	return Field{Key: k,
		Set: func(n *yaml.Node) error {
			s, err := Scalar(n)
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
		Get: func() *yaml.Node {
			if *p == nil {
				return Plain("null")
			}
			return Str(hex.EncodeToString((*p)[:]))
		}}
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
	return Field{Key: k,
		Set: func(n *yaml.Node) error {
			if n.Kind != yaml.SequenceNode {
				return errors.New(`a list is wanted, one word an item (e.g. [uname, "-a"])`)
			}
			var out []string
			for _, item := range n.Content {
				s, err := Scalar(item)
				if err != nil {
					return err
				}
				out = append(out, s)
			}
			*p = out
			return nil
		},
		Get: func() *yaml.Node {
			n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for _, w := range *p {
				n.Content = append(n.Content, Str(w))
			}
			return n
		}}
}

// Duration is a time such as 90s.
func Duration(k string, p *time.Duration) Field {
	return Field{Key: k,
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

// Must marks a Field that Marshal always writes.
func Must(f Field) Field {
	f.Always = true
	return f
}

// Plain is a value that needs no quotes.
func Plain(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

// Str is a text value, which gets quotes where it would read as something else.
func Str(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
