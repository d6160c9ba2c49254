// Package guestyaml reads and writes the YAML form of a guest.Guest. Start with
// Load.
//
// Reading is strict: an unknown key, a key given twice, a value of the wrong
// kind and a second document are errors that name the line. Keys that are
// missing keep the values of guest.Default.
package guestyaml

import (
	"fmt"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Load reads a description from a file. Relative paths in it are relative to
// the folder of that file.
func Load(path string) (guest.Guest, error) {
	data, err := strictyaml.File(path, "guest description")
	if err != nil {
		return guest.Guest{}, err
	}
	return Parse(data, path)
}

// Parse reads a description. name is the file's path: it begins each message,
// and relative paths are relative to its folder.
func Parse(data []byte, name string) (guest.Guest, error) {
	root, err := strictyaml.Document(data, name, "one guest", "firmware")
	if err != nil {
		return guest.Guest{}, err
	}
	g := guest.Default()
	r := strictyaml.NewReader(name)
	Read(r, root, "", &g, filepath.Dir(name))
	if err := r.Err(); err != nil {
		return guest.Guest{}, err
	}
	return g, nil
}

// Read changes g to what a mapping says, which may be part of another file.
// prefix is the key of the mapping with a dot; relative paths are relative to dir.
// What is wrong goes to r.
func Read(r *strictyaml.Reader, n *yaml.Node, prefix string, g *guest.Guest, dir string) {
	r.Mapping(n, prefix, fields(g, dir))
	if r.Err() == nil {
		together(r, n, prefix, g)
	}
}

// Marshal writes a description with all its keys that are not at their
// defaults, and firmware, vcpus, cpu, memory_mib and policy always. Load gives
// the same Guest again when it is read in the folder that its paths are
// relative to.
func Marshal(g *guest.Guest) ([]byte, error) {
	defaults := guest.Default()
	out, err := strictyaml.Marshal(fields(g, ""), fields(&defaults, ""))
	if err != nil {
		return nil, fmt.Errorf("writing guest description: %w", err)
	}
	return out, nil
}

// Schema is the JSON Schema (draft 2020-12) of a description.
func Schema() ([]byte, error) {
	return strictyaml.JSONSchema("snplaunch guest description",
		"An AMD SEV-SNP guest: what is measured and what QEMU is told, from which snplaunch derives the launch digest and the command line.",
		Fields())
}

// Fields is the table of all keys, at their defaults, for forms that have a
// description within.
func Fields() []strictyaml.Field {
	g := guest.Default()
	return fields(&g, "")
}

// Reference lists all keys, as a table in Markdown.
func Reference() string { return strictyaml.Table(Fields()) }

// together settles the keys of which one says something about the other: what
// host_kernel means for guest_features, cpu_sig for cpu, and a network without a mode.
func together(r *strictyaml.Reader, root *yaml.Node, prefix string, g *guest.Guest) {
	given := strictyaml.Given(root)
	if k, ok := given["host_kernel"]; ok && given["guest_features"] == nil {
		if err := g.SetHostKernel(g.HostKernel); err != nil {
			r.Fail(k, "%shost_kernel: %v", prefix, err)
		}
	}
	if k, ok := given["cpu_sig"]; ok {
		if given["cpu"] == nil {
			g.CPU = vmsa.CPUFor(*g.CPUSig)
		} else if sig, err := vmsa.Lookup(g.CPU); err == nil && sig != *g.CPUSig {
			r.Fail(k, "%scpu_sig is 0x%x, but %scpu %s has the signature 0x%x (give one of them)", prefix, *g.CPUSig, prefix, g.CPU, sig)
		}
	}
	if given["network"] != nil && g.Network.Mode == "" {
		g.Network.Mode = guest.NetworkUser
	}
}
