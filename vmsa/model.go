package vmsa

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// Model is a QEMU CPU model and what its CPUID function 1 returns.
type Model struct {
	Name      string // as QEMU's -cpu takes it, without version suffix
	Family    uint32 // display family: base plus extended family
	ModelID   uint32 // display model: extended and base model
	Stepping  uint32
	Versioned bool // whether QEMU takes -v1, -v2… after the name
}

// models are the EPYC models of QEMU 10 and 11 (target/i386/cpu.c). A version
// suffix changes features and caches, never family, model or stepping, so it
// is not listed. EPYC-IBPB is an alias of EPYC-v2.
var models = []Model{
	{"EPYC", 23, 1, 2, true},
	{"EPYC-IBPB", 23, 1, 2, false},
	{"EPYC-Rome", 23, 49, 0, true},
	{"EPYC-Milan", 25, 1, 1, true},
	{"EPYC-Genoa", 25, 17, 0, true},
	{"EPYC-Turin", 26, 0, 0, true},
}

// Models lists the known models.
func Models() []Model { return slices.Clone(models) }

// Signature is EAX of CPUID function 1 of this model.
func (m Model) Signature() uint32 { return Signature(m.Family, m.ModelID, m.Stepping) }

// Signature gives EAX of CPUID function 1 from display family, display model
// and stepping, as QEMU computes cpuid_version: families above 15 are 15 plus
// an extended family; the model's upper four bits are the extended model.
func Signature(family, model, stepping uint32) uint32 {
	sig := (model&0xF)<<4 | (model>>4&0xF)<<16 | stepping&0xF
	if family > 0xF {
		return sig | 0xF00 | (family-0xF)&0xFF<<20
	}
	return sig | family<<8
}

// Lookup gives the signature of an argument of QEMU's -cpu: a model such as
// "EPYC-v4" or "EPYC-Milan", and properties after it, see ParseCPU. Any -vN suffix is taken,
// because it never changes the signature. Spelling counts as in QEMU. An
// unknown name is an error that lists near ones.
func Lookup(name string) (uint32, error) {
	c, err := ParseCPU(name)
	if err != nil {
		return 0, err
	}
	if c.Family != nil && c.ModelID != nil && c.Stepping != nil && c.FromHost() {
		return Signature(*c.Family, *c.ModelID, *c.Stepping), nil
	}
	base, err := lookupModel(c.Model)
	if err != nil {
		return 0, err
	}
	return c.Apply(base), nil
}

func lookupModel(name string) (uint32, error) {
	base := name
	if n := strings.LastIndex(name, "-v"); n > 0 && isVersion(name[n+2:]) {
		base = name[:n]
	}
	for _, m := range models {
		if m.Name == name || m.Versioned && m.Name == base {
			return m.Signature(), nil
		}
	}
	switch {
	case name == "":
		return 0, fmt.Errorf("no CPU model given (use one of %s)", names())
	case name == "host" || name == "max":
		return 0, fmt.Errorf("CPU %q has the signature of the machine it runs on (give a named model such as EPYC-v4, or the signature, EAX of CPUID function 1)", name)
	}
	if near := nearest(name); len(near) > 0 {
		return 0, fmt.Errorf("CPU model %q is unknown (did you mean %s?)", name, strings.Join(near, " or "))
	}
	return 0, fmt.Errorf("CPU model %q is unknown (use one of %s, each with or without -vN, or give the signature)", name, names())
}

// isVersion says whether s is the number of a version: 1, 2, 3…
func isVersion(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

func names() string {
	var out []string
	for _, m := range models {
		out = append(out, m.Name)
	}
	return strings.Join(out, ", ")
}

// nearest lists the models that differ from name by few letters; version and
// case do not count.
func nearest(name string) []string {
	want := strings.ToLower(name)
	suffix := ""
	if n := strings.LastIndex(want, "-v"); n > 0 {
		want, suffix = want[:n], want[n:]
		if !isVersion(suffix[2:]) {
			suffix = ""
		}
	}
	best := 3 // more differences than this is another name
	var out []string
	for _, m := range models {
		d := suggest.Distance(want, strings.ToLower(m.Name))
		// A family's bare code name, e.g. "milan", lacks only the prefix.
		if strings.ToLower(m.Name) == "epyc-"+want {
			d = 0
		}
		full := m.Name
		if m.Versioned {
			full += suffix
		}
		switch {
		case d < best:
			best, out = d, []string{full}
		case d == best && len(out) > 0:
			out = append(out, full)
		}
	}
	return out
}
