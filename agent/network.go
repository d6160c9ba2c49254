package agent

import (
	"net"
	"net/netip"
)

// macPrefix begins the hardware addresses that say which IPv4 address their interface
// has; its second lowest bit makes them locally administered.
const macPrefix = "\x06\x00"

// NetworkMAC is the hardware address of an interface that is to have an IPv4 address.
// The agent has no other word on networks: whoever makes the interface says it so,
// and no server is asked. The address is in a network of 24 bits, whose gateway is its
// second and whose name server its third address.
func NetworkMAC(addr netip.Addr) net.HardwareAddr {
	b := addr.As4()
	return append(net.HardwareAddr(macPrefix), b[:]...)
}

// MACAddress is the inverse of NetworkMAC; false where a hardware address says nothing.
func MACAddress(mac net.HardwareAddr) (netip.Addr, bool) {
	if len(mac) != 6 || string(mac[:2]) != macPrefix {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(mac[2:])), true
}
