package strictyaml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Schema is a JSON Schema, or a part of one, by its keywords.
type Schema map[string]any

// keywords is the order in which a schema is written; others follow by name.
var keywords = []string{"$schema", "title", "description", "type", "enum", "pattern", "minimum", "maximum", "default", "examples", "properties", "items"}

// MarshalJSON writes the keywords in the order in which a person reads them.
func (s Schema) MarshalJSON() ([]byte, error) {
	var names []string
	for k := range s {
		names = append(names, k)
	}
	rank := func(k string) int {
		if i := slices.Index(keywords, k); i >= 0 {
			return i
		}
		return len(keywords)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	members := make([]member, len(names))
	for i, k := range names {
		members[i] = member{k, s[k]}
	}
	return object(members).MarshalJSON()
}

// object is a JSON object whose members have an order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		var value bytes.Buffer
		enc := json.NewEncoder(&value)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value.Bytes())
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// JSONSchema gives the JSON Schema (draft 2020-12) of files with these fields, which
// are at their defaults.
func JSONSchema(title, description string, fields []Field) ([]byte, error) {
	s := SchemaOf(fields)
	s["$schema"], s["title"], s["description"] = "https://json-schema.org/draft/2020-12/schema", title, description
	var compact, out bytes.Buffer
	enc := json.NewEncoder(&compact)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("writing a JSON Schema: %w", err)
	}
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return nil, fmt.Errorf("writing a JSON Schema: %w", err)
	}
	return out.Bytes(), nil
}

// SchemaOf describes a mapping of these keys.
func SchemaOf(fields []Field) Schema {
	var properties object
	for _, f := range fields {
		var s Schema
		switch {
		case f.Sub != nil:
			s = SchemaOf(f.Sub)
		case f.Items != nil:
			s = Schema{"type": "array", "items": SchemaOf(f.Items())}
		default:
			s = f.With(nil).Schema
			if v, ok := f.Default(); ok {
				s["default"] = v
			}
		}
		if f.Doc != "" {
			s["description"] = f.Doc
		}
		properties = append(properties, member{f.Key, s})
	}
	return Schema{"type": "object", "properties": properties, "additionalProperties": false}
}

// Default gives the value now, of a field at its defaults; false where it is empty
// or there is none.
func (f Field) Default() (any, bool) {
	if f.Get == nil {
		return nil, false
	}
	var v any
	n := f.Get()
	if n.Kind != yaml.ScalarNode || n.Decode(&v) != nil || v == nil || v == "" {
		return nil, false
	}
	if strings.Trim(n.Value, "0") == "" && n.ShortTag() == "!!str" { // bytes that are all zero
		return nil, false
	}
	return v, true
}
