package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
)

// reachChecks look at what of this host the guest's devices reach, so that it is not
// QEMU that finds out, each in its own words: vsock, ports, sockets, logs. What is
// taken for the look is given back at once, so another may take it before QEMU does.
func reachChecks(ctx context.Context, g *guest.Guest) []host.Check {
	var checks []host.Check
	add := func(id, name, reason string, err error) {
		checks = append(checks, checkOf(id, name, reason, err))
	}
	if g.VsockCID != 0 {
		add("launch-vsock", "vsock", "the guest can have one", checkVsock(g.VsockCID))
	}
	if len(g.Network.Forwards) > 0 {
		var errs []error
		for i, f := range g.Network.Forwards {
			if err := checkForward(ctx, f); err != nil {
				errs = append(errs, fmt.Errorf("network.forwards[%d]: %w", i, err))
			}
		}
		add("launch-forwards", "forwarded ports", "are free", errors.Join(errs...))
	}
	if port, ok := g.GDBPort(); ok {
		err := checkPort(ctx, false, netip.AddrPortFrom(loopback, port))
		if err != nil {
			err = fmt.Errorf("gdb: %w", err)
		}
		add("launch-gdb", "GDB stub", "its port is free", err)
	} else if g.GDB != "" {
		add("launch-gdb", "GDB stub", "its socket can be made", checkMakes("gdb", g.GDB, true))
	}
	if g.FirmwareLog != "" {
		add("launch-firmware-log", "firmware's log", "can be written", checkMakes("firmware_log", g.FirmwareLog, false))
	}
	return checks
}

// checkOf is a check of the launch: reason where err is nil, and an obstacle otherwise.
func checkOf(id, name, reason string, err error) host.Check {
	c := host.Check{ID: id, Category: host.Launch, Name: name, Verdict: host.OK, Reason: reason}
	if err != nil {
		c.Verdict = host.Obstacle
		c.Reason, c.Remedy = splitRemedy(err.Error())
	}
	return c
}

func checkVsock(cid uint32) error {
	f, _, err := openVsock(cid)
	if err != nil {
		return err
	}
	return f.Close()
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func checkForward(ctx context.Context, f guest.Forward) error {
	if f.HostPort == 0 {
		return nil
	}
	return checkPort(ctx, f.UDP, netip.AddrPortFrom(f.HostAddr(), f.HostPort))
}

// checkPort binds a port of this host, as QEMU will.
func checkPort(ctx context.Context, udp bool, at netip.AddrPort) error {
	var listen net.ListenConfig
	var err error
	network := "tcp4"
	if udp {
		network = "udp4"
		var c net.PacketConn
		if c, err = listen.ListenPacket(ctx, network, at.String()); err == nil {
			return c.Close()
		}
	} else {
		var l net.Listener
		if l, err = listen.Listen(ctx, network, at.String()); err == nil {
			return l.Close()
		}
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s port %d of %s is taken (end what has it, or use another port)", network[:3], at.Port(), at.Addr())
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s port %d of %s may not be had by this user (use a port from 1024 up)", network[:3], at.Port(), at.Addr())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this machine (use 127.0.0.1, or 0.0.0.0 for all of its addresses)", at.Addr())
	}
	return fmt.Errorf("%s port %d of %s: %w (use another port)", network[:3], at.Port(), at.Addr(), err)
}

// checkMakes sees whether QEMU can make a file, or a socket in whose place nothing
// else may lie. key is the description's.
func checkMakes(key, path string, socket bool) error {
	dir := filepath.Dir(path)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("%s: there is no folder %s for %s (make it first)", key, dir, filepath.Base(path))
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%s: %s: %w (use another path)", key, path, cause(err))
	case st.IsDir():
		return fmt.Errorf("%s: %s is a folder (give a file's name in it)", key, path)
	case !socket:
		if unix.Access(path, unix.W_OK) != nil {
			return fmt.Errorf("%s: %s may not be written (make it writable for you, or use another path)", key, path)
		}
		return nil
	}
	// QEMU unlinks what is in a socket's place before it binds it.
	if unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
		return fmt.Errorf("%s: nothing can be made in the folder %s (make it writable for you, or use another path)", key, dir)
	}
	return nil
}
