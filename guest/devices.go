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
	Addr      netip.Addr // of the host; the zero Addr: 127.0.0.1
	HostPort  uint16     // 0: a free one, which the launcher tells
	GuestPort uint16
}

// ParseForward reads [tcp:|udp:][ADDR:]HOST:GUEST, HOST being a port or auto, e.g.
// 2222:22, auto:22, 0.0.0.0:8080:80, udp:[::1]:5353:53.
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
		text := host[:at]
		if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
			text = inner[:len(inner)-1]
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return fail(fmt.Sprintf("%q is not an address of this host", text))
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
	switch {
	case f.Addr.Is6():
		fmt.Fprintf(&b, "[%s]:", f.Addr)
	case f.Addr.IsValid():
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

// VsockAuto, as a VsockCID, asks for one that no other guest of this host has. It is
// VMADDR_CID_ANY, which no guest can have.
const VsockAuto uint32 = math.MaxUint32

// minVsockCID is the first that is a guest's: 0 is the hypervisor, 1 the machine
// itself, 2 the host (linux/vm_sockets.h).
const minVsockCID = 3

// MemoryBackend says what the guest's memory is made of on the host.
type MemoryBackend string

// Memory backends.
const (
	MemoryDefault MemoryBackend = ""      // QEMU's own
	MemoryMemfd   MemoryBackend = "memfd" // shared, as devices outside of QEMU (vhost-user) want it
)
