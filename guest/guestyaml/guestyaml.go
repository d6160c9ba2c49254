// Package guestyaml reads and writes the YAML form of a guest.Guest. Start with
// Load.
//
// Reading is strict: an unknown key, a key given twice, a value of the wrong
// kind and a second document are errors that name the line. Keys that are
// missing keep the values of guest.Default.
package guestyaml

import (
	"encoding/hex"
	"fmt"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
	"github.com/snplaunch/snplaunch/snp"
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

// fields lists the keys in the order in which Marshal writes them.
func fields(g *guest.Guest, dir string) []strictyaml.Field {
	b := &g.IDBlock
	return []strictyaml.Field{
		strictyaml.Text("name", &g.Name),
		strictyaml.Must(strictyaml.Path("firmware", &g.Firmware, dir)),
		strictyaml.Path("kernel", &g.Kernel, dir),
		strictyaml.Path("initrd", &g.Initrd, dir),
		strictyaml.Text("append", &g.Append),
		strictyaml.SHA256("kernel_sha256", &g.KernelSHA256),
		strictyaml.SHA256("initrd_sha256", &g.InitrdSHA256),
		strictyaml.SHA256("append_sha256", &g.AppendSHA256),
		strictyaml.Must(strictyaml.Decimal("vcpus", &g.VCPUs)),
		strictyaml.Must(strictyaml.Text("cpu", &g.CPU)),
		signature("cpu_sig", &g.CPUSig),
		strictyaml.Must(strictyaml.Decimal("memory_mib", &g.MemoryMiB)),
		strictyaml.Boolean("kernel_hashes", &g.KernelHashes),
		strictyaml.Text("host_kernel", &g.HostKernel),
		features("guest_features", &g.GuestFeatures),
		strictyaml.Must(strictyaml.Number("policy", &g.Policy, "0x%x", 64)),
		hostData("host_data", g),
		{Key: "id_block", Sub: []strictyaml.Field{
			strictyaml.Text("mode", &b.Mode),
			strictyaml.Path("id_key", &b.IDKey, dir),
			strictyaml.Path("author_key", &b.AuthorKey, dir),
			strictyaml.Fixed("family_id", b.FamilyID[:]),
			strictyaml.Fixed("image_id", b.ImageID[:]),
			strictyaml.Number("guest_svn", &b.GuestSVN, "%d", 32),
			strictyaml.Path("id_block_file", &b.IDBlockFile, dir),
			strictyaml.Path("id_auth_file", &b.IDAuthFile, dir),
		}},
		strictyaml.Boolean("vcek_disabled", &g.VCEKDisabled),
		workarounds("guest_visible_workarounds", &g.GuestVisibleWorkarounds),
		strictyaml.Words("command", &g.Command),
		strictyaml.Duration("timeout", &g.Timeout),
	}
}

// together settles the keys of which one says something about the other: what
// host_kernel means for guest_features, and cpu_sig for cpu.
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
}

func signature(k string, p **uint32) strictyaml.Field {
	var v uint32
	f := strictyaml.Number(k, &v, "0x%x", 32)
	set := f.Set
	f.Set = func(n *yaml.Node) error {
		if err := set(n); err != nil {
			return err
		}
		*p = &v
		return nil
	}
	f.Get = func() *yaml.Node {
		if *p == nil {
			return strictyaml.Plain("null")
		}
		return strictyaml.Plain(fmt.Sprintf("0x%x", **p))
	}
	return f
}

// features is SEV_FEATURES, as a number or by names.
func features(k string, p *uint64) strictyaml.Field {
	return strictyaml.Field{Key: k,
		Set: func(n *yaml.Node) error {
			s, err := strictyaml.Scalar(n)
			if err != nil {
				return err
			}
			*p, err = vmsa.ParseFeatures(s)
			return err
		},
		Get: func() *yaml.Node { return strictyaml.Plain(fmt.Sprintf("0x%x", *p)) }}
}

func hostData(k string, g *guest.Guest) strictyaml.Field {
	f := strictyaml.Fixed(k, g.HostData[:])
	set := f.Set
	f.Set = func(n *yaml.Node) error {
		err := set(n)
		g.HostDataSet = err == nil
		return err
	}
	f.Get = func() *yaml.Node {
		if !g.HostDataSet && g.HostData == (snp.HostData{}) {
			return strictyaml.Plain("null")
		}
		return strictyaml.Str(g.HostData.String())
	}
	return f
}

func workarounds(k string, p *[]byte) strictyaml.Field {
	return strictyaml.Field{Key: k,
		Set: func(n *yaml.Node) error {
			raw, err := strictyaml.Hexadecimal(n)
			if err == nil && len(raw) > 0 {
				*p = raw
			}
			return err
		},
		Get: func() *yaml.Node { return strictyaml.Str(hex.EncodeToString(*p)) }}
}
