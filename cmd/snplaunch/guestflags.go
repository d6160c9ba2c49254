package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// guestFlags are the flags that describe a guest. They are kept as changes, to
// be made to what the YAML file says.
type guestFlags struct {
	changes []func(*guest.Guest)
	given   map[string]bool
}

// defaultAppend is the command line of the cached kernel.
const defaultAppend = "console=ttyS0 panic=-1"

func addGuestFlags(fs *flag.FlagSet) *guestFlags {
	gf := &guestFlags{given: map[string]bool{}}
	set := func(name, usage string, parse func(string) (func(*guest.Guest), error)) {
		fs.Func(name, usage, func(s string) error {
			change, err := parse(s)
			if err != nil {
				return err
			}
			gf.given[name] = true
			gf.changes = append(gf.changes, change)
			return nil
		})
	}
	text := func(name, usage string, field func(*guest.Guest) *string) {
		set(name, usage, func(s string) (func(*guest.Guest), error) {
			return func(g *guest.Guest) { *field(g) = s }, nil
		})
	}
	number := func(name, usage string, limit uint64, apply func(*guest.Guest, uint64)) {
		set(name, usage, func(s string) (func(*guest.Guest), error) {
			v, err := strconv.ParseUint(s, 0, 64)
			if err != nil || v > limit {
				return nil, fmt.Errorf("%q is not a number from 0 to %d", s, limit)
			}
			return func(g *guest.Guest) { apply(g, v) }, nil
		})
	}
	text("ovmf", "`FILE`: firmware, an OVMF image", func(g *guest.Guest) *string { return &g.Firmware })
	text("kernel", "`FILE`: kernel", func(g *guest.Guest) *string { return &g.Kernel })
	text("initrd", "`FILE`: initrd", func(g *guest.Guest) *string { return &g.Initrd })
	text("append", "`STRING`: kernel command line, to the byte", func(g *guest.Guest) *string { return &g.Append })
	number("vcpus", "`N`: number of vCPUs", math.MaxInt32, func(g *guest.Guest, v uint64) { g.VCPUs = int(v) })
	text("vcpu-type", "`MODEL`: QEMU CPU model, e.g. EPYC-Genoa", func(g *guest.Guest) *string { return &g.CPU })
	text("cpu", "`MODEL`: the same as --vcpu-type", func(g *guest.Guest) *string { return &g.CPU })
	number("vcpu-sig", "`N`: CPU signature (EAX of CPUID function 1) to measure instead of the model's", math.MaxUint32, func(g *guest.Guest, v uint64) {
		sig := uint32(v)
		g.CPUSig = &sig
	})
	number("memory", "`MIB`: guest memory; not measured", 1<<30, func(g *guest.Guest, v uint64) { g.MemoryMiB = int(v) })
	set("kernel-hashes", "`on|off`: measure kernel, initrd and command line", func(s string) (func(*guest.Guest), error) {
		on, err := parseOnOff(s)
		return func(g *guest.Guest) { g.KernelHashes = on }, err
	})
	set("guest-features", "`N|NAMES`: SEV_FEATURES of the vCPUs; QEMU launches with 0x1", func(s string) (func(*guest.Guest), error) {
		v, err := vmsa.ParseFeatures(s)
		return func(g *guest.Guest) { g.GuestFeatures = v }, err
	})
	set("policy", "`N`: guest policy, e.g. 0x30000", func(s string) (func(*guest.Guest), error) {
		p, err := snp.ParseGuestPolicy(s)
		return func(g *guest.Guest) { g.Policy = p }, err
	})
	set("host-data", "`HEX|BASE64`: 32 bytes that the report repeats", func(s string) (func(*guest.Guest), error) {
		raw, err := hexOrBase64(s, len(snp.HostData{}))
		return func(g *guest.Guest) { copy(g.HostData[:], raw); g.HostDataSet = true }, err
	})
	set("family-id", "`HEX`: 16 bytes for the ID block", func(s string) (func(*guest.Guest), error) {
		id, err := snp.ParseFamilyID(s)
		return func(g *guest.Guest) { g.IDBlock.FamilyID = id }, err
	})
	set("image-id", "`HEX`: 16 bytes for the ID block", func(s string) (func(*guest.Guest), error) {
		id, err := snp.ParseImageID(s)
		return func(g *guest.Guest) { g.IDBlock.ImageID = id }, err
	})
	number("guest-svn", "`N`: security version for the ID block", math.MaxUint32, func(g *guest.Guest, v uint64) { g.IDBlock.GuestSVN = uint32(v) })
	return gf
}

// addLaunchFlags adds those that only a launch knows.
func (gf *guestFlags) addLaunchFlags(fs *flag.FlagSet) {
	file := func(name, usage string, apply func(*guest.Guest, string)) {
		fs.Func(name, usage, func(s string) error {
			gf.changes = append(gf.changes, func(g *guest.Guest) { apply(g, s) })
			return nil
		})
	}
	file("id-key", "`PEM`: key that signs the ID block", func(g *guest.Guest, s string) { g.IDBlock.IDKey = s })
	file("author-key", "`PEM`: key that signs the ID key", func(g *guest.Guest, s string) { g.IDBlock.AuthorKey = s })
	file("id-block", "`FILE`: an ID block made elsewhere, raw or base64", func(g *guest.Guest, s string) {
		g.IDBlock.Mode, g.IDBlock.IDBlockFile = guest.IDBlockFiles, s
	})
	file("id-auth", "`FILE`: its ID auth, raw or base64", func(g *guest.Guest, s string) {
		g.IDBlock.Mode, g.IDBlock.IDAuthFile = guest.IDBlockFiles, s
	})
	fs.BoolFunc("no-id-block", "launch without an ID block", func(string) error {
		gf.changes = append(gf.changes, func(g *guest.Guest) { g.IDBlock.Mode = guest.IDBlockNone })
		return nil
	})
	fs.Func("timeout", "`DURATION`: how long the run may take, e.g. 90s", func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is not a time such as 90s or 5m", s)
		}
		gf.changes = append(gf.changes, func(g *guest.Guest) { g.Timeout = d })
		return nil
	})
}

// guest gives the description: the file's, then the flags'. fill says whether
// parts that neither names are taken from the cache: all of them when nothing
// was named, or (fillMissing) each that is missing.
func (gf *guestFlags) guest(ctx context.Context, file []string, o images.Options, fillMissing bool) (*guest.Guest, error) {
	g := guest.Default()
	if len(file) > 0 {
		var err error
		if g, err = guestyaml.Load(file[0]); err != nil {
			return nil, err
		}
	}
	for _, change := range gf.changes {
		change(&g)
	}
	if gf.given["vcpu-sig"] && (gf.given["vcpu-type"] || gf.given["cpu"]) {
		if s, err := vmsa.Lookup(g.CPU); err == nil && s != *g.CPUSig {
			return nil, usageError("--vcpu-type %s has the signature 0x%x, but --vcpu-sig says 0x%x; give one of them", g.CPU, s, *g.CPUSig)
		}
	}
	nothing := g.Firmware == "" && g.Kernel == "" && g.Initrd == ""
	if !nothing && !(fillMissing && (g.Firmware == "" || g.Kernel == "")) {
		return &g, nil
	}
	set, err := images.Find(ctx, o)
	if err != nil {
		return nil, err
	}
	missing := func(what, flag string) error {
		return fmt.Errorf("there is no %s in the cache; run `snplaunch setup`, or name one with --%s", what, flag)
	}
	if g.Firmware == "" {
		f := set.Firmware
		if !g.KernelHashes { // the AmdSev build boots no kernel without its table
			f = set.GenericFirmware
		}
		if f.Path == "" {
			return nil, missing("firmware", "ovmf")
		}
		g.Firmware = f.Path
	}
	if g.Kernel == "" && (nothing || fillMissing) {
		if set.Kernel.Path == "" {
			return nil, missing("kernel", "kernel")
		}
		if set.Initrd.Path == "" && g.Initrd == "" {
			return nil, missing("initramfs", "initrd")
		}
		g.Kernel = set.Kernel.Path
		if g.Initrd == "" {
			g.Initrd = set.Initrd.Path
		}
		if g.Append == "" && !gf.given["append"] {
			g.Append = defaultAppend
		}
	}
	return &g, nil
}

func parseOnOff(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "on", "true", "yes", "1":
		return true, nil
	case "off", "false", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off", s)
}

// hexOrBase64 reads n bytes in either form, told apart by their length.
func hexOrBase64(s string, n int) ([]byte, error) {
	if len(s) == 2*n {
		return hex.DecodeString(s)
	}
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && len(b) == n {
		return b, nil
	}
	return nil, fmt.Errorf("%q is neither %d hexadecimal digits nor base64 of %d bytes", s, 2*n, n)
}
