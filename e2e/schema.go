package e2e

import (
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
)

// Schema gives the JSON Schema of matrix.yaml.
func Schema() ([]byte, error) {
	return strictyaml.JSONSchema("snplaunch matrix", "Launches of AMD SEV-SNP guests along axes, and how each must end.", matrixFields())
}

// Reference lists all keys of matrix.yaml but those of steps, as a table in Markdown.
func Reference() string {
	var b strings.Builder
	for line := range strings.Lines(strictyaml.Table(matrixFields())) {
		if !strings.HasPrefix(line, "| `groups[].steps[].") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func matrixFields() []strictyaml.Field { return (&form{m: &Matrix{}}).matrix() }

type schema = strictyaml.Schema

// either is what fits exactly one of several.
func either(of ...any) schema { return schema{"oneOf": of} }

// withName is a mapping of some keys and a name, which must be there.
func withName(fields []strictyaml.Field) schema {
	var name string
	fields = slices.DeleteFunc(slices.Clone(fields), func(f strictyaml.Field) bool { return f.Key == "name" })
	s := strictyaml.SchemaOf(append([]strictyaml.Field{strictyaml.Text("name", &name).Says("In the ids of its cells.")}, fields...))
	s["required"] = []any{"name"}
	return s
}

// guestSchema is a path or a description, which needs a name as a value of an axis.
func guestSchema(value bool) schema {
	described := strictyaml.SchemaOf(guestyaml.Fields())
	if value {
		described = withName(guestyaml.Fields())
	}
	return either(schema{"type": "string", "minLength": 1}, described)
}

// fileSchema is a word, a path, or a file with a name.
func fileSchema() schema {
	var file string
	s := withName([]strictyaml.Field{strictyaml.Path("file", &file, "")})
	s["required"] = []any{"name", "file"}
	return either(schema{"type": "string", "minLength": 1}, s)
}

func idBlockSchema() schema {
	fields := guestyaml.Fields()
	at := slices.IndexFunc(fields, func(f strictyaml.Field) bool { return f.Key == "id_block" })
	return either(schema{"enum": []any{"none", "signed", "author"}}, withName(fields[at].Sub))
}

// pointsSchema is a list of mappings of axes.
func pointsSchema(axes []axisForm, include bool) schema {
	properties := schema{}
	for _, a := range axes {
		value := a.schema
		if !include { // labels
			label := schema{"type": []any{"string", "number", "boolean"}}
			value = either(label, schema{"type": "array", "items": label})
		}
		properties[a.name] = value
	}
	if include {
		properties["expect"] = expectSchema()
	}
	return schema{"type": "array", "items": schema{"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1}}
}

func expectSchema() schema {
	var bare, followed []string
	properties := schema{"digest": schema{"type": "string"}}
	for _, k := range expectKinds {
		properties[k.kind] = schema{"type": "string"}
		bare = append(bare, k.kind)
		if k.arg != "" {
			followed = append(followed, k.kind)
		}
	}
	line := "^(" + strings.Join(bare, "|") + "|(" + strings.Join(append(followed, "digest"), "|") + ") *:.*)$"
	return either(schema{"type": "string", "pattern": line},
		schema{"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1})
}

func tamperSchema() schema {
	var names []any
	for _, n := range TamperNames() {
		names = append(names, n)
	}
	return either(schema{"const": tamperAll}, schema{"type": "array", "minItems": 1, "uniqueItems": true, "items": schema{"enum": names}})
}
