package strictyaml

import (
	"fmt"
	"strings"
)

// Row is a key with what a manual says of it.
type Row struct {
	Key     string // with the keys that it is below, e.g. disks[].file
	Default string // as it is written; empty: none
	Doc     string
}

// Rows lists all keys of fields, which are at their defaults.
func Rows(fields []Field) []Row { return rows("", fields) }

func rows(prefix string, fields []Field) []Row {
	var out []Row
	for _, f := range fields {
		r := Row{Key: prefix + f.Key, Doc: f.Doc}
		if _, ok := f.Default(); ok {
			r.Default = f.Get().Value
		}
		out = append(out, r)
		switch {
		case f.Sub != nil:
			out = append(out, rows(r.Key+".", f.Sub)...)
		case f.Items != nil:
			out = append(out, rows(r.Key+"[].", f.Items())...)
		}
	}
	return out
}

// Table is a Markdown table of all keys.
func Table(fields []Field) string {
	var b strings.Builder
	b.WriteString("| key | default | says |\n|---|---|---|\n")
	for _, r := range Rows(fields) {
		value := ""
		if r.Default != "" {
			value = "`" + r.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Key, value, strings.ReplaceAll(r.Doc, "|", `\|`))
	}
	return b.String()
}
