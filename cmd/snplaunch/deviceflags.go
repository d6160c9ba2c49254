package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/guest"
)

// addDeviceFlags adds those for what is not measured. One that can be given several
// times adds to the description's list; given as "" it empties the list first.
func (gf *guestFlags) addDeviceFlags(fs *flag.FlagSet) {
	one := func(name, usage string, parse func(string) (func(*guest.Guest), error)) {
		fs.Func(name, usage, func(s string) error {
			change, err := parse(s)
			if err == nil {
				gf.changes = append(gf.changes, change)
			}
			return err
		})
	}
	several := func(name, usage string, empty func(*guest.Guest), parse func(string) (func(*guest.Guest), error)) {
		one(name, usage+"; several add up, \"\" drops the description's", func(s string) (func(*guest.Guest), error) {
			if s == "" {
				return empty, nil
			}
			return parse(s)
		})
	}
	several("disk", "`FILE[,format=raw|qcow2][,read-only][,serial=S]`: a virtio-blk disk", func(g *guest.Guest) { g.Disks = nil }, func(s string) (func(*guest.Guest), error) {
		d, err := parseDisk(s)
		return func(g *guest.Guest) { g.Disks = append(g.Disks, d) }, err
	})
	one("net", "`user|none`: the guest's network; user is QEMU's own, which needs no privileges", func(s string) (func(*guest.Guest), error) {
		mode := guest.NetworkMode(s)
		if mode != guest.NetworkUser && mode != guest.NetworkNone {
			return nil, fmt.Errorf("%q is neither user nor none", s)
		}
		return func(g *guest.Guest) {
			if g.Network.Mode = mode; mode == guest.NetworkNone {
				g.Network = guest.Network{Mode: mode}
			}
		}, nil
	})
	several("forward", "`[udp:][ADDR:]HOST:GUEST`: a port of the host (auto: a free one) that leads to one of the guest; brings --net user", func(g *guest.Guest) { g.Network.Forwards = nil }, func(s string) (func(*guest.Guest), error) {
		f, err := guest.ParseForward(s)
		return func(g *guest.Guest) {
			g.Network.Mode, g.Network.Forwards = guest.NetworkUser, append(g.Network.Forwards, f)
		}, err
	})
	one("restrict-net", "`on|off`: keep the guest from reaching host and world", func(s string) (func(*guest.Guest), error) {
		on, err := parseOnOff(s)
		return func(g *guest.Guest) { g.Network.Restrict = on }, err
	})
	one("vsock", "`CID|auto|none`: context identifier of the guest's vsock", func(s string) (func(*guest.Guest), error) {
		if s == "none" {
			return func(g *guest.Guest) { g.VsockCID = 0 }, nil
		}
		cid, err := guest.ParseVsockCID(s)
		return func(g *guest.Guest) { g.VsockCID = cid }, err
	})
	one("gdb", "`PORT|PATH`: where QEMU's GDB stub listens", func(s string) (func(*guest.Guest), error) {
		return func(g *guest.Guest) { g.GDB = s }, nil
	})
	one("firmware-log", "`FILE`: what the firmware's debug console is written to", func(s string) (func(*guest.Guest), error) {
		return func(g *guest.Guest) { g.FirmwareLog = s }, nil
	})
	one("memory-backend", "`memfd`: shared memory, as devices outside of QEMU want it", func(s string) (func(*guest.Guest), error) {
		return func(g *guest.Guest) { g.MemoryBackend = guest.MemoryBackend(s) }, nil
	})
	several("qemu-arg", "`ARGUMENT`: one more argument for the QEMU that runs the guest", func(g *guest.Guest) { g.QEMUArgs = nil }, func(s string) (func(*guest.Guest), error) {
		return func(g *guest.Guest) { g.QEMUArgs = append(g.QEMUArgs, s) }, nil
	})
	several("put", "`HOST:GUEST[:MODE]`: a file that is copied into the guest before its command is run", func(g *guest.Guest) { g.Files.In = nil }, func(s string) (func(*guest.Guest), error) {
		f, err := guest.ParseFileIn(s)
		return func(g *guest.Guest) { g.Files.In = append(g.Files.In, f) }, err
	})
	several("get", "`GUEST:HOST`: a file that is copied out of the guest when its command has ended", func(g *guest.Guest) { g.Files.Out = nil }, func(s string) (func(*guest.Guest), error) {
		f, err := guest.ParseFileOut(s)
		return func(g *guest.Guest) { g.Files.Out = append(g.Files.Out, f) }, err
	})
	several("env", "`NAME[=VALUE]`: environment of the guest's command, without a value that of snplaunch itself", func(g *guest.Guest) { g.Env = nil }, func(s string) (func(*guest.Guest), error) {
		name, value, given := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("%q has no name", s)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				return nil, fmt.Errorf("snplaunch's own environment has no %s", name)
			}
		}
		return func(g *guest.Guest) {
			g.Env = slices.DeleteFunc(slices.Clone(g.Env), func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
			g.Env = append(g.Env, name+"="+value)
		}, nil
	})
	one("stage-timeout", "`STAGE=DURATION`: how long launch, firmware, kernel, agent or command may take; several add up", parseStageTimeout)
}

// parseDisk reads FILE[,format=F][,read-only][,serial=S].
func parseDisk(s string) (guest.Disk, error) {
	file, rest, _ := strings.Cut(s, ",")
	d := guest.Disk{File: file}
	for rest != "" {
		var option string
		option, rest, _ = strings.Cut(rest, ",")
		switch name, value, _ := strings.Cut(option, "="); {
		case option == "read-only":
			d.ReadOnly = true
		case name == "format":
			d.Format = guest.DiskFormat(value)
		case name == "serial":
			d.Serial = value
		default:
			return d, fmt.Errorf("%q is none of format=, read-only, serial= (a file whose name has a comma goes into guest.yaml)", option)
		}
	}
	return d, nil
}

// parseStageTimeout reads STAGE=DURATION.
func parseStageTimeout(s string) (func(*guest.Guest), error) {
	stage, text, _ := strings.Cut(s, "=")
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return nil, fmt.Errorf("%q is not of the form STAGE=DURATION, e.g. kernel=90s", s)
	}
	fields := map[string]func(*guest.Timeouts) *time.Duration{
		"launch":   func(t *guest.Timeouts) *time.Duration { return &t.Launch },
		"firmware": func(t *guest.Timeouts) *time.Duration { return &t.Firmware },
		"kernel":   func(t *guest.Timeouts) *time.Duration { return &t.Kernel },
		"agent":    func(t *guest.Timeouts) *time.Duration { return &t.Agent },
		"command":  func(t *guest.Timeouts) *time.Duration { return &t.Command },
	}
	field, ok := fields[stage]
	if !ok {
		return nil, fmt.Errorf("%q is none of the stages launch, firmware, kernel, agent, command", stage)
	}
	return func(g *guest.Guest) { *field(&g.Timeouts) = d }, nil
}
