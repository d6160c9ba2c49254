package launcher

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// What the guest's devices and files need of this host is looked at before anything is
// started, and each thing that is missing is told with its place and a remedy.
func TestPreflightReach(t *testing.T) {
	dir := t.TempDir()
	firmware := filepath.Join(dir, "amdsev.fd")
	kernel := filepath.Join(dir, "vmlinuz")
	for path, content := range map[string][]byte{firmware: ovmftest.AmdSev().Build(), kernel: bzImage()} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	taken, takenUDP := uint16(tcp.Addr().(*net.TCPAddr).Port), uint16(udp.LocalAddr().(*net.UDPAddr).Port)
	forward := func(f guest.Forward) func(*guest.Guest) {
		return func(g *guest.Guest) {
			f.GuestPort = 22
			g.Network = guest.Network{Mode: guest.NetworkUser, Forwards: []guest.Forward{{GuestPort: 1}, f}}
		}
	}
	gone := filepath.Join(dir, "gone", "x")
	for _, tc := range []struct {
		name   string
		change func(*guest.Guest)
		id     string
		reason []string // empty: all is well
		remedy string
	}{
		{"disk", func(g *guest.Guest) { g.Disks = []guest.Disk{{File: kernel}} }, "launch-disks", nil, ""},
		{"no disk", func(g *guest.Guest) { g.Disks = []guest.Disk{{File: kernel}, {File: gone}} }, "launch-disks", []string{"disks[1]", gone, "no such file"}, "give the path"},
		{"file", func(g *guest.Guest) { g.Files.In = []guest.FileIn{{Host: kernel, Guest: "/x"}} }, "launch-guest-files", nil, ""},
		{"no file", func(g *guest.Guest) { g.Files.In = []guest.FileIn{{Host: gone, Guest: "/x"}} }, "launch-guest-files", []string{"files.in[0]", gone, "no such file"}, "give the path"},
		{"folder for a file", func(g *guest.Guest) { g.Files.In = []guest.FileIn{{Host: dir, Guest: "/x"}} }, "launch-guest-files", []string{"files.in[0]", dir, "not a regular file"}, "give the path"},
		{"place for a file", func(g *guest.Guest) { g.Files.Out = []guest.FileOut{{Guest: "/x", Host: filepath.Join(dir, "x")}} }, "launch-guest-files", nil, ""},
		{"no place for a file", func(g *guest.Guest) { g.Files.Out = []guest.FileOut{{Guest: "/x", Host: gone}} }, "launch-guest-files", []string{"files.out[0]", filepath.Dir(gone)}, "make it first"},
		{"free ports", forward(guest.Forward{}), "launch-forwards", nil, ""},
		{"taken port", forward(guest.Forward{HostPort: taken}), "launch-forwards", []string{"network.forwards[1]", fmt.Sprint("tcp port ", taken), "127.0.0.1", "taken"}, "another port"},
		{"taken for TCP only", forward(guest.Forward{HostPort: taken, UDP: true}), "", nil, ""},
		{"taken UDP port", forward(guest.Forward{HostPort: takenUDP, UDP: true}), "launch-forwards", []string{fmt.Sprint("udp port ", takenUDP), "taken"}, "another port"},
		{"another machine's address", forward(guest.Forward{HostPort: 2222, Addr: netip.MustParseAddr("192.0.2.1")}), "launch-forwards", []string{"192.0.2.1", "no address of this machine"}, "127.0.0.1"},
		{"GDB's port is taken", func(g *guest.Guest) { g.GDB = fmt.Sprint(taken) }, "launch-gdb", []string{"gdb", fmt.Sprint(taken), "taken"}, "another port"},
		{"GDB's socket", func(g *guest.Guest) { g.GDB = filepath.Join(dir, "gdb") }, "launch-gdb", nil, ""},
		{"GDB's socket without folder", func(g *guest.Guest) { g.GDB = gone }, "launch-gdb", []string{"gdb", filepath.Dir(gone)}, "make it first"},
		{"GDB's socket is a folder", func(g *guest.Guest) { g.GDB = dir }, "launch-gdb", []string{"gdb", dir, "is a folder"}, "file's name"},
		{"log", func(g *guest.Guest) { g.FirmwareLog = filepath.Join(dir, "log") }, "launch-firmware-log", nil, ""},
		{"log again", func(g *guest.Guest) { g.FirmwareLog = kernel }, "launch-firmware-log", nil, ""},
		{"log without folder", func(g *guest.Guest) { g.FirmwareLog = gone }, "launch-firmware-log", []string{"firmware_log", filepath.Dir(gone)}, "make it first"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := guest.Default()
			g.Firmware, g.Kernel = firmware, kernel
			tc.change(&g)
			checks := Preflight(t.Context(), &g, Options{Backend: BackendSim})
			for _, c := range checks {
				if c.Verdict == host.Obstacle && (c.ID != tc.id || tc.reason == nil) {
					t.Errorf("%+v", c)
				}
			}
			if tc.id == "" {
				return
			}
			at := slices.IndexFunc(checks, func(c host.Check) bool { return c.ID == tc.id })
			if at < 0 {
				t.Fatalf("no check %s in %+v", tc.id, checks)
			}
			for _, want := range tc.reason {
				if !strings.Contains(checks[at].Reason, want) {
					t.Errorf("got %+v, want %q", checks[at], want)
				}
			}
			if !strings.Contains(checks[at].Remedy, tc.remedy) {
				t.Errorf("got %+v, want remedy %q", checks[at], tc.remedy)
			}
		})
	}
}

// A guest with vsock needs the host's device; where the machine has it, there is nothing to say.
func TestPreflightVsock(t *testing.T) {
	g := guest.Default()
	g.VsockCID = guest.VsockAuto
	checks := reachChecks(t.Context(), &g)
	if len(checks) != 1 || checks[0].ID != "launch-vsock" {
		t.Fatalf("got %+v", checks)
	}
	f, err := os.OpenFile(vhostVsockPath, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	if c := checks[0]; (c.Verdict == host.OK) != (err == nil) || c.Verdict == host.Obstacle && (!strings.Contains(c.Reason, vhostVsockPath) || !strings.Contains(c.Remedy, "leave vsock out")) {
		t.Errorf("got %+v; opening the device: %v", c, err)
	}
}
