package guest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	multierror "github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/guest"
)

// What is not measured is refused for launching and leaves a digest.
func TestValidateDevices(t *testing.T) {
	user := func(forwards ...string) func(*guest.Guest) {
		return func(g *guest.Guest) {
			g.Network.Mode = guest.NetworkUser
			for _, s := range forwards {
				f, err := guest.ParseForward(s)
				if err != nil {
					t.Fatal(err)
				}
				g.Network.Forwards = append(g.Network.Forwards, f)
			}
		}
	}
	disks := func(d ...guest.Disk) func(*guest.Guest) { return func(g *guest.Guest) { g.Disks = d } }
	in := func(f ...guest.FileIn) func(*guest.Guest) { return func(g *guest.Guest) { g.Files.In = f } }
	out := func(f ...guest.FileOut) func(*guest.Guest) { return func(g *guest.Guest) { g.Files.Out = f } }
	args := func(a ...string) func(*guest.Guest) { return func(g *guest.Guest) { g.QEMUArgs = a } }
	for _, c := range []struct {
		field  string // "" where nothing is wrong
		says   string
		change func(*guest.Guest)
	}{
		{"", "", disks(guest.Disk{File: "a", Serial: "one"}, guest.Disk{File: "b", Format: guest.DiskQCOW2, Serial: "two"})},
		{"", "", disks(guest.Disk{File: "a", ReadOnly: true}, guest.Disk{File: "a", ReadOnly: true})},
		{"disks[0].file", "missing", disks(guest.Disk{})},
		{"disks[0].file", "NUL", disks(guest.Disk{File: "a\x00"})},
		{"disks[0].format", "qemu-img", disks(guest.Disk{File: "a", Format: "vmdk"})},
		{"disks[0].serial", "at most 20", disks(guest.Disk{File: "a", Serial: strings.Repeat("x", 21)})},
		{"disks[0].serial", "letters", disks(guest.Disk{File: "a", Serial: "a,b"})},
		{"disks[1].file", "disks[0]", disks(guest.Disk{File: "a", ReadOnly: true}, guest.Disk{File: "a"})},
		{"disks[1].serial", "disks[0]", disks(guest.Disk{File: "a", Serial: "x"}, guest.Disk{File: "b", Serial: "x"})},

		{"", "", user("2222:22", "udp:2222:22", "127.0.0.2:2222:22", "auto:1", "auto:2")},
		{"network.forwards[1]", "network.forwards[0]", user("2222:22", "127.0.0.1:2222:23")},
		{"network.forwards[0]", "port 0", func(g *guest.Guest) {
			g.Network = guest.Network{Mode: guest.NetworkUser, Forwards: []guest.Forward{{HostPort: 1}}}
		}},
		{"network.forwards", "use mode user", func(g *guest.Guest) { g.Network.Forwards = []guest.Forward{{GuestPort: 1}} }},
		{"network.restrict", "use mode user", func(g *guest.Guest) { g.Network = guest.Network{Mode: guest.NetworkNone, Restrict: true} }},
		{"network.mode", "use user", func(g *guest.Guest) { g.Network.Mode = "tap" }},

		{"", "", func(g *guest.Guest) { g.VsockCID = guest.VsockAuto }},
		{"vsock", "the host's", func(g *guest.Guest) { g.VsockCID = 2 }},
		{"", "", func(g *guest.Guest) { g.GDB = "1234" }},
		{"", "", func(g *guest.Guest) { g.GDB = "65535" }},
		{"", "", func(g *guest.Guest) { g.GDB = "./99999" }},
		{"gdb", "1 to 65535", func(g *guest.Guest) { g.GDB = "0" }},
		{"gdb", "1 to 65535", func(g *guest.Guest) { g.GDB = "65536" }},
		{"gdb", "1 to 65535", func(g *guest.Guest) { g.GDB = "99999999999999999999999" }},
		{"gdb", "1 to 65535", func(g *guest.Guest) { g.GDB = "-1" }},
		{"gdb", "107 bytes", func(g *guest.Guest) { g.GDB = "/" + strings.Repeat("x", 107) }},
		{"firmware_log", "NUL", func(g *guest.Guest) { g.FirmwareLog = "\x00" }},
		{"memory_backend", "use memfd", func(g *guest.Guest) { g.MemoryBackend = "file" }},

		{"", "", in(guest.FileIn{Host: "a", Guest: "/a", Mode: 0o755})},
		{"files.in[0].host", "missing", in(guest.FileIn{Guest: "/a"})},
		{"files.in[0].guest", "whole path", in(guest.FileIn{Host: "a", Guest: "a"})},
		{"files.in[0].guest", "whole path", in(guest.FileIn{Host: "a", Guest: "/a/../b"})},
		{"files.in[0].mode", "permission", in(guest.FileIn{Host: "a", Guest: "/a", Mode: 0o1777})},
		{"files.in[1].guest", "another file", in(guest.FileIn{Host: "a", Guest: "/a"}, guest.FileIn{Host: "b", Guest: "/a"})},
		{"files.out[0].guest", "whole path", out(guest.FileOut{Guest: "/", Host: "a"})},
		{"files.out[1].host", "another file", out(guest.FileOut{Guest: "/a", Host: "a"}, guest.FileOut{Guest: "/b", Host: "a"})},
		{"env[0]", "NAME=value", func(g *guest.Guest) { g.Env = []string{"A"} }},
		{"env.A", "twice", func(g *guest.Guest) { g.Env = []string{"A=b", "A=c"} }},
		{"timeouts.agent", "negative", func(g *guest.Guest) { g.Timeouts.Agent = -time.Second }},

		{"", "", args("-device", "virtio-rng-pci", "-global", "virtio-net-pci.romfile=", "-object", "memory-backend-memfd,id=m,size=1M", "-drive", "file=x,if=none")},
		{"qemu_args[0]", "use cpu", args("-cpu", "host")},
		{"qemu_args[0]", "use vcpus", args("--smp", "4")},
		{"qemu_args[2]", "use firmware", args("-name", "x", "-bios", "f")},
		{"qemu_args[0]", "use firmware", args("-drive", "if=pflash,file=x")},
		{"qemu_args[0]", "use append", args("-append", "x")},
		{"qemu_args[0]", "q35", args("-M", "microvm")},
		{"qemu_args[0]", "use policy", args("-object", "sev-snp-guest,id=x")},
		{"qemu_args[0]", "use policy", args("-object", "id=x,qom-type=sev-guest")},
		{"qemu_args[0]", "use policy", args("-object", `{"qom-type":"sev-snp-guest","id":"x"}`)},
		{"qemu_args[0]", "use vcpus", args("-device", "EPYC-v4-x86_64-cpu,socket-id=1")},
		{"qemu_args[0]", "measured without it", args("-device", `{"driver":"loader","cpu-num":0}`)},
		{"qemu_args[0]", "use cpu", args("-global", "EPYC-v4-x86_64-cpu.stepping=3")},
		{"qemu_args[0]", "use policy", args("-global", "driver=sev-snp-guest,property=policy,value=0")},
		{"qemu_args[0]", "use disks", args("disk.img")},
		{"qemu_args[1]", "NUL", args("-name", "\x00")},
	} {
		g := sound()
		c.change(&g)
		err := g.Validate()
		if c.field == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		var all *multierror.Error
		var first *guest.FieldError
		if !errors.As(err, &all) || len(all.Errors) != 1 || !errors.As(all.Errors[0], &first) || first.Field != c.field || !strings.Contains(first.Error(), c.says) {
			t.Errorf("want one finding about %s that says %q, got %v", c.field, c.says, err)
			continue
		}
		if obstacles, err := g.ValidateMeasure(); err != nil || len(obstacles) != 1 {
			t.Errorf("%s: measuring: %v, %v", c.field, obstacles, err)
		}
	}
}

func TestParseForward(t *testing.T) {
	for text, again := range map[string]string{
		"2222:22": "", "tcp:2222:22": "2222:22", "udp:auto:53": "", "0.0.0.0:80:8080": "", "udp:10.0.0.1:auto:1": "",
	} {
		f, err := guest.ParseForward(text)
		if again == "" {
			again = text
		}
		if err != nil || f.String() != again {
			t.Errorf("%q: %v, %v", text, f, err)
		}
	}
	f, err := guest.ParseForward("80:8080")
	if err != nil || f.HostAddr().String() != "127.0.0.1" {
		t.Errorf("%v, %v", f.HostAddr(), err)
	}
	for _, text := range []string{"", "22", ":", "22:", ":22", "0:22", "1:0", "1:65536", "-1:2", "a:1:2", "[::1]:1:2", "::1:1:2", "1:2:3:4", "sctp:1:2", "+1:2"} {
		if f, err := guest.ParseForward(text); err == nil {
			t.Errorf("%q is read as %v", text, f)
		}
	}
}

func TestParseFiles(t *testing.T) {
	for text, want := range map[string]guest.FileIn{
		"tool:/bin/tool":        {Host: "tool", Guest: "/bin/tool"},
		"/a/tool:/bin/tool":     {Host: "/a/tool", Guest: "/bin/tool"},
		"a:b/c:/bin/tool:0755":  {Host: "a:b/c", Guest: "/bin/tool", Mode: 0o755},
		"C:/x:/bin/tool:0o0640": {Host: "C:/x", Guest: "/bin/tool", Mode: 0o640},
	} {
		if got, err := guest.ParseFileIn(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "tool", "tool:bin", ":/x", "tool:/x:rwx", "tool:/x:1777"} {
		if got, err := guest.ParseFileIn(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
	if got, err := guest.ParseFileOut("/tmp/r:out:1"); err != nil || got != (guest.FileOut{Guest: "/tmp/r", Host: "out:1"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "/x", "x:y", "/x:"} {
		if got, err := guest.ParseFileOut(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}
