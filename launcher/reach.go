package launcher

import (
	"context"
	"fmt"
	"os"

	"github.com/snplaunch/snplaunch/guest"
)

// giveDevices opens what the QEMU that runs the guest inherits for its devices, and
// settles what the description leaves to the launcher.
func (r *run) giveDevices(s *starter, g *guest.Guest, p *plumbing) error {
	if p.idle || g.VsockCID == 0 {
		return nil
	}
	f, cid, err := openVsock(g.VsockCID)
	if err != nil {
		return err
	}
	p.vsock, g.VsockCID, r.res.VsockCID = s.inherit(f), cid, cid
	return nil
}

// tellWays finds out how the guest is reached from the host, and says so.
func (r *run) tellWays(ctx context.Context, v *vm) error {
	forwards, err := forwarded(ctx, v, r.g.Network)
	if err != nil {
		return err
	}
	for _, f := range forwards {
		f.Addr = f.HostAddr()
		r.res.Forwards = append(r.res.Forwards, f.String())
		r.o.Progress(fmt.Sprintf("port %d of %s leads to port %d of the guest", f.HostPort, f.Addr, f.GuestPort))
	}
	if r.res.VsockCID != 0 && r.g.VsockCID == guest.VsockAuto {
		r.o.Progress(fmt.Sprintf("the guest's vsock has the context identifier %d", r.res.VsockCID))
	}
	return nil
}

// withVsock gives the guest the context identifier that a command line is to have. On a
// machine without vhost-vsock, for which no command need be meant, any will do.
func withVsock(g *guest.Guest) (*guest.Guest, error) {
	if g.VsockCID != guest.VsockAuto {
		return g, nil
	}
	settled := *g
	if _, err := os.Stat(vhostVsockPath); err != nil {
		settled.VsockCID, err = claimCID(guest.VsockAuto, os.Getpid(), func(uint64) error { return nil })
		return &settled, err
	}
	f, cid, err := openVsock(guest.VsockAuto)
	if err != nil {
		return nil, err
	}
	settled.VsockCID = cid
	return &settled, f.Close()
}
