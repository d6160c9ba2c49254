package guest

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits of QEMU and Linux.
const (
	maxSerialBytes = 20  // VIRTIO_BLK_ID_BYTES
	maxSocketPath  = 107 // sun_path, with its NUL byte 108
)

// validateDevices looks at what is not measured, so that nothing it finds keeps a guest
// from being measured.
func (g *Guest) validateDevices(f *findings) {
	noNUL := func(field, value string) bool {
		if strings.IndexByte(value, 0) < 0 {
			return true
		}
		f.launch(field, quote(value), "it has a NUL byte, which no path and no program argument can carry", "remove it")
		return false
	}
	g.validateDisks(f, noNUL)
	g.validateNetwork(f)
	if g.VsockCID != 0 && g.VsockCID < minVsockCID {
		f.launch("vsock", fmt.Sprint(g.VsockCID), "context identifiers below 3 are the host's", "use 3 or more, or auto")
	}
	g.validateGDB(f, noNUL)
	noNUL("firmware_log", g.FirmwareLog)
	if g.MemoryBackend != MemoryDefault && g.MemoryBackend != MemoryMemfd {
		f.launch("memory_backend", quote(string(g.MemoryBackend)), "it is not memfd", "use memfd, or leave it out for QEMU's own")
	}
	validateQEMUArgs(f, g.QEMUArgs)
	g.validateFiles(f, noNUL)
	g.validateEnv(f, noNUL)
	for _, t := range []struct {
		stage string
		limit time.Duration
	}{
		{"launch", g.Timeouts.Launch}, {"firmware", g.Timeouts.Firmware}, {"kernel", g.Timeouts.Kernel},
		{"agent", g.Timeouts.Agent}, {"command", g.Timeouts.Command},
	} {
		if t.limit < 0 {
			f.launch("timeouts."+t.stage, t.limit.String(), "it is negative", "use e.g. 60s, or 0 for as long as the whole run")
		}
	}
}

// validateGDB takes what looks like a number for a port: nobody means a socket by it.
func (g *Guest) validateGDB(f *findings, noNUL func(field, value string) bool) {
	_, port := g.GDBPort()
	switch {
	case port || g.GDB == "" || !noNUL("gdb", g.GDB):
	case strings.Trim(g.GDB, "0123456789+-") == "":
		f.launch("gdb", quote(g.GDB), "it is no TCP port", "use 1 to 65535, or the path of a socket (./"+g.GDB+" where that is its name)")
	case len(g.GDB) > maxSocketPath:
		f.launch("gdb", quote(g.GDB), fmt.Sprintf("a socket's path has at most %d bytes", maxSocketPath), "use a shorter path, or a port")
	}
}

func (g *Guest) validateDisks(f *findings, noNUL func(field, value string) bool) {
	for i, d := range g.Disks {
		field := fmt.Sprintf("disks[%d].", i)
		if d.File == "" {
			f.launch(field+"file", "missing", "a disk is a file", "give its path")
		}
		noNUL(field+"file", d.File)
		switch d.Format {
		case "", DiskRaw, DiskQCOW2:
		default:
			f.launch(field+"format", quote(string(d.Format)), "it is neither raw nor qcow2", "convert the file with qemu-img, or give the disk by qemu_args")
		}
		if len(d.Serial) > maxSerialBytes || strings.Trim(d.Serial, nameChars) != "" {
			f.launch(field+"serial", quote(d.Serial), "it cannot be the serial number of a virtio-blk disk", fmt.Sprintf("use at most %d letters, digits, '.', '_' and '-'", maxSerialBytes))
		}
		for j, other := range g.Disks[:i] {
			if d.File != "" && d.File == other.File && !(d.ReadOnly && other.ReadOnly) {
				f.launch(field+"file", quote(d.File), fmt.Sprintf("it is that of disks[%d], too, and one of the two writes to it", j), "give each its own, or make both read_only")
			}
			if d.Serial != "" && d.Serial == other.Serial {
				f.launch(field+"serial", quote(d.Serial), fmt.Sprintf("it is that of disks[%d], too", j), "give each its own")
			}
		}
	}
}

func (g *Guest) validateNetwork(f *findings) {
	n := g.Network
	switch n.Mode {
	case NetworkUser:
	case "", NetworkNone:
		if len(n.Forwards) > 0 {
			f.launch("network.forwards", n.Forwards[0].String(), "there is no network that it could lead into", "use mode user, or leave it out")
		}
		if n.Restrict {
			f.launch("network.restrict", "true", "there is no network to restrict", "use mode user, or leave it out")
		}
	default:
		f.launch("network.mode", quote(string(n.Mode)), "it is neither user nor none", "use user")
	}
	for i, forward := range n.Forwards {
		field := fmt.Sprintf("network.forwards[%d]", i)
		if forward.GuestPort == 0 {
			f.launch(field, forward.String(), "port 0 of the guest is none", "use 1 to 65535")
		}
		if forward.Addr.IsValid() && !forward.Addr.Is4() {
			f.launch(field, forward.String(), "QEMU forwards ports of IPv4 only", "use an address such as 127.0.0.1")
		}
		for j, other := range n.Forwards[:i] {
			if forward.HostPort != 0 && forward.HostPort == other.HostPort && forward.UDP == other.UDP && forward.HostAddr() == other.HostAddr() {
				f.launch(field, forward.String(), fmt.Sprintf("network.forwards[%d] has this port of the host already", j), "use another, or auto")
			}
		}
	}
}

func (g *Guest) validateFiles(f *findings, noNUL func(field, value string) bool) {
	inGuest := func(field, value string) {
		if !path.IsAbs(value) || path.Clean(value) != value || value == "/" {
			f.launch(field, quote(value), "it is not the whole path of a file in the guest", "use e.g. /tmp/file, without '.', '..' and a slash at its end")
		}
		noNUL(field, value)
	}
	onHost := func(field, value string) {
		if value == "" {
			f.launch(field, "missing", "the file on the host has no name", "give its path")
		}
		noNUL(field, value)
	}
	for i, in := range g.Files.In {
		field := fmt.Sprintf("files.in[%d].", i)
		onHost(field+"host", in.Host)
		inGuest(field+"guest", in.Guest)
		if in.Mode&^0o777 != 0 {
			f.launch(field+"mode", fmt.Sprintf("%#o", uint32(in.Mode)), "it has more than permission bits", "use e.g. 0755")
		}
		if slices.ContainsFunc(g.Files.In[:i], func(other FileIn) bool { return other.Guest == in.Guest }) {
			f.launch(field+"guest", quote(in.Guest), "another file goes there, too", "give each its own path")
		}
	}
	for i, out := range g.Files.Out {
		field := fmt.Sprintf("files.out[%d].", i)
		inGuest(field+"guest", out.Guest)
		onHost(field+"host", out.Host)
		if slices.ContainsFunc(g.Files.Out[:i], func(other FileOut) bool { return other.Host == out.Host }) {
			f.launch(field+"host", quote(out.Host), "another file goes there, too", "give each its own path")
		}
	}
}

func (g *Guest) validateEnv(f *findings, noNUL func(field, value string) bool) {
	seen := map[string]bool{}
	for i, pair := range g.Env {
		name, _, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			f.launch(fmt.Sprintf("env[%d]", i), quote(pair), "it is not of the form NAME=value", "give each variable a name and a value")
			continue
		}
		if noNUL("env."+name, pair) && seen[name] {
			f.launch("env."+name, quote(pair), "it is given twice", "give it once")
		}
		seen[name] = true
	}
}
