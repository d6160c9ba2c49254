package vmsa

import (
	"fmt"
	"strconv"
	"strings"
)

// CPU is the argument of QEMU's -cpu as far as it decides the signature.
type CPU struct {
	Model string // "EPYC-v4", "host"

	// Properties that replace a part of the model's signature; nil where not given.
	Family, ModelID, Stepping *uint32
}

// The greatest values that QEMU takes for family=, model= and stepping=.
const (
	maxFamily   = 0xFF + 0xF
	maxModel    = 0xFF
	maxStepping = 0xF
)

// ParseCPU reads an argument of -cpu: a model, then properties with commas
// between them ("EPYC-v4,family=25,model=17,stepping=0,+invtsc"). Properties
// other than family, model and stepping do not change the signature and are
// not looked at. The model is not looked up.
func ParseCPU(s string) (CPU, error) {
	name, rest, more := strings.Cut(s, ",")
	c := CPU{Model: name}
	for more {
		var word string
		word, rest, more = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(word, "=")
		for _, p := range []struct {
			name  string
			dst   **uint32
			limit uint64
		}{{"family", &c.Family, maxFamily}, {"model", &c.ModelID, maxModel}, {"stepping", &c.Stepping, maxStepping}} {
			if key != p.name {
				continue
			}
			v, err := strconv.ParseUint(value, 0, 32)
			if err != nil || v > p.limit {
				return CPU{}, fmt.Errorf("CPU %q: %s=%s is not a number from 0 to %d, which QEMU asks for", s, key, value, p.limit)
			}
			n := uint32(v)
			if *p.dst != nil && **p.dst != n {
				return CPU{}, fmt.Errorf("CPU %q: %s is given twice, as %d and as %d (give it once)", s, key, **p.dst, n)
			}
			*p.dst = &n
		}
	}
	return c, nil
}

// FromHost says whether the model is one whose signature is that of the
// machine that QEMU runs on.
func (c CPU) FromHost() bool { return c.Model == "host" || c.Model == "max" }

// Apply gives the signature that base becomes by the properties.
func (c CPU) Apply(base uint32) uint32 {
	family, model, stepping := SplitSignature(base)
	for _, p := range []struct {
		given *uint32
		dst   *uint32
	}{{c.Family, &family}, {c.ModelID, &model}, {c.Stepping, &stepping}} {
		if p.given != nil {
			*p.dst = *p.given
		}
	}
	return Signature(family, model, stepping)
}

// SplitSignature is the inverse of Signature: display family, display model,
// stepping.
func SplitSignature(sig uint32) (family, model, stepping uint32) {
	family = sig >> 8 & 0xF
	if family == 0xF {
		family += sig >> 20 & 0xFF
	}
	return family, sig>>4&0xF | sig>>12&0xF0, sig & 0xF
}

// CPUFor gives an argument of -cpu with which QEMU's guests have a signature:
// the model that has it, or one with properties. It is empty where no family,
// model and stepping make it up.
func CPUFor(sig uint32) string {
	for _, m := range models {
		if m.Signature() == sig {
			return m.Name
		}
	}
	family, model, stepping := SplitSignature(sig)
	if Signature(family, model, stepping) != sig {
		return ""
	}
	return fmt.Sprintf("EPYC-v4,family=%d,model=%d,stepping=%d", family, model, stepping)
}
