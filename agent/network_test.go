package agent_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/snplaunch/snplaunch/agent"
)

func TestNetworkMAC(t *testing.T) {
	addr := netip.MustParseAddr("10.0.2.15")
	mac := agent.NetworkMAC(addr)
	if mac.String() != "06:00:0a:00:02:0f" {
		t.Errorf("hardware address %s", mac)
	}
	if got, ok := agent.MACAddress(mac); !ok || got != addr {
		t.Errorf("%s, %v", got, ok)
	}
	for _, other := range []net.HardwareAddr{nil, {0x52, 0x54, 0, 0x12, 0x34, 0x56}, {6, 0, 1, 2, 3}, {6, 0, 1, 2, 3, 4, 5, 6}} {
		if got, ok := agent.MACAddress(other); ok {
			t.Errorf("%s is read as %s", other, got)
		}
	}
}
