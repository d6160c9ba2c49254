package launcher

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
)

// forwarded gives the guest's port forwards with the host's ports that QEMU has
// chosen.
func forwarded(ctx context.Context, v *vm, n guest.Network) ([]guest.Forward, error) {
	chosen := false
	for _, f := range n.Forwards {
		chosen = chosen || f.HostPort == 0
	}
	if !chosen {
		return n.Forwards, nil
	}
	text, err := v.qmp.HumanMonitor(ctx, "info usernet")
	if err != nil {
		return nil, fmt.Errorf("asking for forwarded ports: %w", err)
	}
	return matchForwards(n.Forwards, parseUsernet(text))
}

// parseUsernet reads the forwards in the table that QEMU's "info usernet" prints:
// protocol and state, descriptor, the host's address and port, the guest's.
func parseUsernet(text string) []guest.Forward {
	var out []guest.Forward
	for line := range strings.Lines(text) {
		protocol, state, ok := strings.Cut(strings.TrimSpace(line), "[HOST_FORWARD]")
		words := strings.Fields(state)
		if !ok || len(words) < 5 || protocol != "TCP" && protocol != "UDP" {
			continue
		}
		f := guest.Forward{UDP: protocol == "UDP"}
		f.Addr = netip.IPv4Unspecified() // which QEMU writes as *
		if words[1] != "*" {
			addr, err := netip.ParseAddr(words[1])
			if err != nil {
				continue
			}
			f.Addr = addr
		}
		from, err := strconv.ParseUint(words[2], 10, 16)
		if err != nil {
			continue
		}
		to, err := strconv.ParseUint(words[4], 10, 16)
		if err != nil {
			continue
		}
		f.HostPort, f.GuestPort = uint16(from), uint16(to)
		out = append(out, f)
	}
	return out
}

// matchForwards puts ports into the forwards that have none. QEMU lists forwards in
// no order that it promises; those that differ only in the host's port are alike.
func matchForwards(wanted, got []guest.Forward) ([]guest.Forward, error) {
	used := make([]bool, len(got))
	for _, w := range wanted {
		for i, g := range got {
			if !used[i] && w.HostPort != 0 && w.HostPort == g.HostPort && w.UDP == g.UDP && w.HostAddr() == g.HostAddr() {
				used[i] = true
				break
			}
		}
	}
	out := make([]guest.Forward, len(wanted))
	for n, w := range wanted {
		out[n] = w
		for i, g := range got {
			if w.HostPort == 0 && !used[i] && w.UDP == g.UDP && w.GuestPort == g.GuestPort && w.HostAddr() == g.HostAddr() {
				used[i], out[n].HostPort = true, g.HostPort
				break
			}
		}
		if out[n].HostPort == 0 {
			return nil, fmt.Errorf("QEMU does not say which port it has chosen for the forward %s", w)
		}
	}
	return out, nil
}
