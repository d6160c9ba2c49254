package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/vmsa"
)

// cpuFlags are the ways to say what kind of vCPU a guest has. Several at once
// must agree.
type cpuFlags struct {
	model, cpu                string // --vcpu-type, --cpu
	sig                       *uint32
	family, modelID, stepping *uint32
}

func addCPUFlags(fs *flag.FlagSet) *cpuFlags {
	c := &cpuFlags{}
	fs.StringVar(&c.model, "vcpu-type", "", "`MODEL`: QEMU CPU model, e.g. EPYC-Genoa, properties after it as -cpu takes them, or host for this machine's")
	fs.StringVar(&c.cpu, "cpu", "", "`MODEL`: the same as --vcpu-type")
	number := func(name, usage string, limit uint64, dst **uint32) {
		fs.Func(name, usage, func(s string) error {
			v, err := strconv.ParseUint(s, 0, 64)
			if err != nil || v > limit {
				hint := ""
				if _, err := strconv.ParseUint(s, 16, 32); err == nil {
					hint = "; write 0x" + s + " for hexadecimal"
				}
				return fmt.Errorf("%q is not a number from 0 to %d%s", s, limit, hint)
			}
			n := uint32(v)
			*dst = &n
			return nil
		})
	}
	number("vcpu-sig", "`N`: CPU signature (EAX of CPUID function 1), in any base: 8392466, 0x800f12, 0b…, 0o…", math.MaxUint32, &c.sig)
	number("vcpu-family", "`N`: CPU family, with --vcpu-model and --vcpu-stepping", 0xFF+0xF, &c.family)
	number("vcpu-model", "`N`: CPU model, with --vcpu-family and --vcpu-stepping", 0xFF, &c.modelID)
	number("vcpu-stepping", "`N`: CPU stepping, with --vcpu-family and --vcpu-model", 0xF, &c.stepping)
	return c
}

// way is one way in which the kind of vCPU was given.
type way struct {
	flag string
	sig  uint32
}

// apply puts what the flags say in place of what the description says. note
// hears what host stands for.
func (c *cpuFlags) apply(g *guest.Guest, note func(string)) error {
	var ways []way
	for _, m := range []struct{ flag, model string }{{"--vcpu-type", c.model}, {"--cpu", c.cpu}} {
		if m.model == "" {
			continue
		}
		g.CPU, g.CPUSig = m.model, nil
		if err := resolveHost(g, note); err != nil {
			return fmt.Errorf("%s: %w", m.flag, err)
		}
		sig, err := g.Signature()
		// A model that only QEMU knows may have its signature beside it.
		if err != nil && c.sig == nil && c.family == nil {
			return usageError("%s: %w", m.flag, err)
		}
		if err == nil {
			ways = append(ways, way{fmt.Sprintf("%s %s", m.flag, m.model), sig})
		}
	}
	if c.sig != nil {
		ways = append(ways, way{"--vcpu-sig", *c.sig})
	}
	switch {
	case c.family != nil && c.modelID != nil && c.stepping != nil:
		ways = append(ways, way{"--vcpu-family, --vcpu-model and --vcpu-stepping", vmsa.Signature(*c.family, *c.modelID, *c.stepping)})
	case c.family != nil || c.modelID != nil || c.stepping != nil:
		return usageError("--vcpu-family, --vcpu-model and --vcpu-stepping make a signature only together; give all three")
	}
	for _, w := range ways[min(1, len(ways)):] {
		if w.sig != ways[0].sig {
			return usageError("%s means the CPU signature 0x%x, but %s means 0x%x; give one of them", ways[0].flag, ways[0].sig, w.flag, w.sig)
		}
	}
	if len(ways) == 0 {
		return resolveHost(g, note)
	}
	if c.model == "" && c.cpu == "" {
		g.CPU = vmsa.CPUFor(ways[0].sig)
		g.CPUSig = &ways[0].sig
	} else if _, err := vmsa.Lookup(g.CPU); err != nil {
		g.CPUSig = &ways[0].sig
	}
	return nil
}

// resolveHost gives a guest with the processor of its host the signature of
// this machine's.
func resolveHost(g *guest.Guest, note func(string)) error {
	c, err := vmsa.ParseCPU(g.CPU)
	if err != nil || g.CPUSig != nil || !c.FromHost() {
		return nil // what is wrong with the model is said where it is looked up
	}
	if _, err := vmsa.Lookup(g.CPU); err == nil {
		return nil // its properties say everything
	}
	own, ok := host.CPUSignature()
	if !ok {
		return errors.New("this machine has no CPUID instruction, so `host` means nothing here; name a model, or give --vcpu-sig")
	}
	sig := c.Apply(own)
	g.CPUSig = &sig
	family, model, stepping := vmsa.SplitSignature(sig)
	note(fmt.Sprintf("CPU %s is measured as this machine's, signature 0x%08x (family %d, model %d, stepping %d); on another machine the digest is another", g.CPU, sig, family, model, stepping))
	return nil
}
