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
	cpu     *cpuFlags

	// noFirmware says that something else stands for the firmware, so that
	// nothing is taken from the cache.
	noFirmware bool
	// timeout is what --timeout says of the whole run, 0 where it is not given.
	timeout time.Duration
	// note, where not nil, hears what a value stands for that does not say it itself.
	note func(string)
}

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
	set("vcpus", "`N`: number of vCPUs", func(s string) (func(*guest.Guest), error) {
		v, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q is not a decimal number", s)
		}
		return func(g *guest.Guest) { g.VCPUs = int(v) }, nil
	})
	for _, d := range []struct {
		name, of string
		field    func(*guest.Guest) **[32]byte
	}{
		{"ovmf-sha256", "the firmware", func(g *guest.Guest) **[32]byte { return &g.FirmwareSHA256 }},
		{"kernel-sha256", "the kernel", func(g *guest.Guest) **[32]byte { return &g.KernelSHA256 }},
		{"initrd-sha256", "the initrd", func(g *guest.Guest) **[32]byte { return &g.InitrdSHA256 }},
		{"append-sha256", "the command line with its NUL byte", func(g *guest.Guest) **[32]byte { return &g.AppendSHA256 }},
	} {
		usage := "`SHA256`: of " + d.of + ", in its place or to hold it against"
		if d.name == "ovmf-sha256" {
			usage = "`SHA256`: of the firmware, to hold it against"
		}
		set(d.name, usage, func(s string) (func(*guest.Guest), error) {
			sum, err := snp.ParseSHA256(s)
			return func(g *guest.Guest) { *d.field(g) = &sum }, err
		})
	}
	gf.cpu = addCPUFlags(fs)
	number("memory", "`MIB`: guest memory; not measured", 1<<30, func(g *guest.Guest, v uint64) { g.MemoryMiB = int(v) })
	set("kernel-hashes", "`on|off`: measure kernel, initrd and command line", func(s string) (func(*guest.Guest), error) {
		on, err := parseOnOff(s)
		return func(g *guest.Guest) { g.KernelHashes = on }, err
	})
	set("host-kernel", "`KERNEL`: kernel of the host, which decides SEV_FEATURES and FPU state: 6.11+ (the default), 6.12, amd-6.8, amd-6.6…, or what uname -r prints there", func(s string) (func(*guest.Guest), error) {
		_, err := vmsa.LookupHost(s)
		return func(g *guest.Guest) { g.HostKernel = s }, err
	})
	set("guest-features", "`N|NAMES`: SEV_FEATURES of the vCPUs, as the host's kernel sets them", func(s string) (func(*guest.Guest), error) {
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
		gf.timeout = d
		gf.changes = append(gf.changes, func(g *guest.Guest) { g.Timeout = d })
		return nil
	})
}

// guest gives the description: the file's, then the flags'. fill says whether
// parts that neither names are taken from the cache: all of them when nothing
// was named, or (fillMissing) each that is missing.
func (gf *guestFlags) guest(ctx context.Context, file []string, fillMissing bool) (*guest.Guest, error) {
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
	// A kernel that a flag names says which features; if a flag names those,
	// too, they must agree.
	if gf.given["host-kernel"] && !gf.given["guest-features"] {
		if err := g.SetHostKernel(g.HostKernel); err != nil {
			return nil, usageError("--host-kernel: %w", err)
		}
	}
	if gf.given["guest-features"] && !gf.given["host-kernel"] {
		if p, err := g.HostProfile(); err != nil || p.Features != g.GuestFeatures {
			g.HostKernel = "" // the file's, which the flag overrides
		}
	}
	note := gf.note
	if note == nil {
		note = func(string) {}
	}
	if err := gf.cpu.apply(&g, note); err != nil {
		return nil, err
	}
	if gf.noFirmware {
		return &g, nil
	}
	nothing := g.Firmware == "" && !g.HasKernel() && g.Initrd == ""
	if !nothing && !(fillMissing && (g.Firmware == "" || !g.HasKernel())) {
		return &g, nil
	}
	set, err := images.Find(ctx, images.Options{})
	if err != nil {
		return nil, err
	}
	if err := set.FillFirmware(&g); err != nil {
		return nil, err
	}
	if nothing || fillMissing {
		own := g.Append
		if err := set.FillKernel(&g); err != nil {
			return nil, err
		}
		if gf.given["append"] { // an empty one, too
			g.Append = own
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
