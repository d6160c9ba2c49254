package guest

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Disk is a file that the guest has as a virtio-blk disk.
type Disk struct {
	File     string     // (file) path
	Format   DiskFormat // (format) empty: raw
	ReadOnly bool       // (read_only)
	Serial   string     // (serial) by which the guest finds it: /dev/disk/by-id/virtio-SERIAL
}

// DiskFormat is the format of a disk's file. It is never guessed: what a guest
// writes to a raw disk could otherwise make it one of another format, which names
// files of the host.
type DiskFormat string

// Formats of a disk.
const (
	DiskRaw   DiskFormat = "raw"
	DiskQCOW2 DiskFormat = "qcow2"
)

// Network is the guest's way to others.
type Network struct {
	Mode NetworkMode // (network.mode) empty: none
	// Forwards (network.forwards) lead ports of the host to ports of the guest.
	Forwards []Forward
	// Restrict (network.restrict) keeps the guest from reaching host and world; forwards
	// lead to it all the same.
	Restrict bool
}

// NetworkMode is a kind of network.
type NetworkMode string

// Modes of a network.
const (
	NetworkNone NetworkMode = "none"
	// NetworkUser is QEMU's own, which needs no privileges: the guest is 10.0.2.15,
	// its gateway, the host, 10.0.2.2.
	NetworkUser NetworkMode = "user"
)

// Forward leads a port of the host to one of the guest.
type Forward struct {
	UDP       bool       // TCP otherwise
	Addr      netip.Addr // of the host, IPv4; the zero Addr: 127.0.0.1
	HostPort  uint16     // 0: a free one, which the launcher tells
	GuestPort uint16
}

// ParseForward reads [tcp:|udp:][ADDR:]HOST:GUEST, HOST being a port or auto, e.g.
// 2222:22, auto:22, 0.0.0.0:8080:80, udp:5353:53.
func ParseForward(s string) (Forward, error) {
	fail := func(why string) (Forward, error) {
		return Forward{}, fmt.Errorf("%q is no port forward: %s (write HOSTPORT:GUESTPORT, e.g. 2222:22, auto:22 or udp:127.0.0.1:5353:53)", s, why)
	}
	var f Forward
	rest, udp := strings.CutPrefix(s, "udp:")
	if f.UDP = udp; !udp {
		rest = strings.TrimPrefix(s, "tcp:")
	}
	at := strings.LastIndexByte(rest, ':')
	if at < 0 {
		return fail("there is one port, or none")
	}
	host, guest := rest[:at], rest[at+1:]
	if at := strings.LastIndexByte(host, ':'); at >= 0 {
		addr, err := netip.ParseAddr(host[:at])
		if err != nil || !addr.Is4() { // QEMU forwards no others
			return fail(fmt.Sprintf("%q is not an IPv4 address", host[:at]))
		}
		f.Addr, host = addr, host[at+1:]
	}
	port := func(text string) (uint16, bool) {
		v, err := strconv.ParseUint(text, 10, 16)
		return uint16(v), err == nil && v > 0
	}
	var ok bool
	if f.GuestPort, ok = port(guest); !ok {
		return fail(fmt.Sprintf("%q is not a port", guest))
	}
	if host == "auto" {
		return f, nil
	}
	if f.HostPort, ok = port(host); !ok {
		return fail(fmt.Sprintf("%q is neither a port nor auto", host))
	}
	return f, nil
}

// String gives what ParseForward reads.
func (f Forward) String() string {
	var b strings.Builder
	if f.UDP {
		b.WriteString("udp:")
	}
	if f.Addr.IsValid() {
		fmt.Fprintf(&b, "%s:", f.Addr)
	}
	if f.HostPort == 0 {
		b.WriteString("auto")
	} else {
		fmt.Fprint(&b, f.HostPort)
	}
	fmt.Fprintf(&b, ":%d", f.GuestPort)
	return b.String()
}

// HostAddr is the address that is listened on.
func (f Forward) HostAddr() netip.Addr {
	if f.Addr.IsValid() {
		return f.Addr
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// VsockAuto, as a VsockCID, asks for one that no other guest of this host has. It is
// VMADDR_CID_ANY, which no guest can have.
const VsockAuto uint32 = math.MaxUint32

// minVsockCID is the first that is a guest's: 0 is the hypervisor, 1 the machine
// itself, 2 the host (linux/vm_sockets.h).
const minVsockCID = 3

// ParseVsockCID reads a context identifier or auto.
func ParseVsockCID(s string) (uint32, error) {
	if s == "auto" {
		return VsockAuto, nil
	}
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil || v < minVsockCID || uint32(v) == VsockAuto {
		return 0, fmt.Errorf("%q is no context identifier of a guest (use %d to %d, or auto)", s, minVsockCID, VsockAuto-1)
	}
	return uint32(v), nil
}

// GDBPort gives the TCP port of the GDB stub; false where there is none: GDB is
// empty, or the path of a socket.
func (g *Guest) GDBPort() (uint16, bool) {
	v, err := strconv.ParseUint(g.GDB, 10, 16)
	return uint16(v), err == nil && v > 0
}

// MemoryBackend says what the guest's memory is made of on the host.
type MemoryBackend string

// Memory backends.
const (
	MemoryDefault MemoryBackend = ""      // QEMU's own
	MemoryMemfd   MemoryBackend = "memfd" // shared, as devices outside of QEMU (vhost-user) want it
)
