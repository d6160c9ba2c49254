package guestagent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/agent"
)

// resolvConf is where the guest's programs look for name servers.
const resolvConf = "/etc/resolv.conf"

// startNetwork brings up the loopback, and every interface whose hardware address says
// which address it has (agent.NetworkMAC). It gives a note for each that failed.
func startNetwork() (notes []string) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return []string{fmt.Sprintf("network: %v", err)}
	}
	for _, i := range interfaces {
		switch addr, ok := agent.MACAddress(i.HardwareAddr); {
		case i.Flags&net.FlagLoopback != 0:
			err = setFlags(i.Name)
		case ok:
			err = configure(i.Name, addr)
		default:
			continue
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("network: %s: %v", i.Name, err))
		}
	}
	return notes
}

// configure gives an interface its address in a network of 24 bits, with the second
// address of that network as gateway and the third as name server, as QEMU's user
// network has them.
func configure(name string, addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	own := addr.As4()
	for _, set := range []struct {
		request uint
		addr    [4]byte
	}{{unix.SIOCSIFADDR, own}, {unix.SIOCSIFNETMASK, [4]byte{255, 255, 255, 0}}} {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(set.addr[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, set.request, r); err != nil {
			return fmt.Errorf("setting %s: %w", netip.AddrFrom4(set.addr), err)
		}
	}
	if err := setFlags(name); err != nil {
		return err
	}
	own[3] = 2
	if err := defaultRoute(fd, own); err != nil {
		return fmt.Errorf("setting the route: %w", err)
	}
	own[3] = 3
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	return os.WriteFile(resolvConf, fmt.Appendf(nil, "nameserver %s\n", netip.AddrFrom4(own)), 0o644)
}

// setFlags brings an interface up.
func setFlags(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		return err
	}
	r.SetUint16(r.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// route is struct rtentry (Linux include/uapi/linux/route.h) on 64-bit machines.
type route struct {
	_           uint64
	destination unix.RawSockaddrInet4
	gateway     unix.RawSockaddrInet4
	mask        unix.RawSockaddrInet4
	flags       uint16
	_           int16
	_           [2]uint64
	metric      int16
	_           [6]byte
	device      *byte
	_           [3]uint64
}

func defaultRoute(fd int, gateway [4]byte) error {
	any := unix.RawSockaddrInet4{Family: unix.AF_INET}
	r := &route{destination: any, mask: any, gateway: unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: gateway}, flags: unix.RTF_UP | unix.RTF_GATEWAY}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(r)))
	runtime.KeepAlive(r)
	if errno != 0 && errno != unix.EEXIST {
		return errno
	}
	return nil
}
