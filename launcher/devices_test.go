package launcher

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/guest"
)

func deviceGuest() *guest.Guest {
	g := guest.Default()
	g.Firmware, g.Kernel = "/f", "/k"
	g.Disks = []guest.Disk{{File: `/d/a,"b`, Serial: "one"}, {File: "/d/c", Format: guest.DiskQCOW2, ReadOnly: true}}
	g.Network = guest.Network{Mode: guest.NetworkUser, Restrict: true, Forwards: []guest.Forward{{HostPort: 2222, GuestPort: 22}, {UDP: true, GuestPort: 53}}}
	g.VsockCID, g.GDB, g.FirmwareLog = 42, "/run/g,db", "/l,og"
	g.MemoryBackend, g.QEMUArgs = guest.MemoryMemfd, []string{"-device", "virtio-rng-pci"}
	return &g
}

func TestDeviceArguments(t *testing.T) {
	g := deviceGuest()
	want := []string{
		"-blockdev", `{"driver":"raw","node-name":"disk0","file":{"driver":"file","filename":"/d/a,\"b"}}`,
		"-device", "virtio-blk-pci,drive=disk0,disable-legacy=on,iommu_platform=on,serial=one",
		"-blockdev", `{"driver":"qcow2","node-name":"disk1","read-only":true,"file":{"driver":"file","read-only":true,"filename":"/d/c"}}`,
		"-device", "virtio-blk-pci,drive=disk1,disable-legacy=on,iommu_platform=on",
		"-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp:127.0.0.1:0-:53",
		"-device", "virtio-net-pci,netdev=net0,mac=06:00:0a:00:02:0f,romfile=,disable-legacy=on,iommu_platform=on",
		"-chardev", "file,id=firmware-log,path=/l,,og", "-device", "isa-debugcon,iobase=0x402,chardev=firmware-log",
		"-device", "vhost-vsock-pci,guest-cid=42,disable-legacy=on,iommu_platform=on,vhostfd=9",
		"-gdb", "unix:/run/g,,db,server=on,wait=off",
		"-device", "virtio-rng-pci",
	}
	if got := deviceArguments(g, plumbing{vsock: 9}); !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	g.GDB, g.Kernel = "1234", ""
	got := strings.Join(deviceArguments(g, plumbing{}), " ")
	for _, part := range []string{"serial=one,bootindex=0", "iommu_platform=on,bootindex=1", "-gdb tcp:127.0.0.1:1234", "guest-cid=42,disable-legacy=on,iommu_platform=on -gdb"} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	// Idle: the same devices, nothing behind them.
	got = strings.Join(deviceArguments(g, plumbing{idle: true, vsock: 9}), " ")
	for _, path := range []string{"/d/", "hostfwd", "/l", "gdb", "vsock", "rng"} {
		if strings.Contains(got, path) {
			t.Errorf("an idle QEMU reaches for %s: %s", path, got)
		}
	}
	for _, part := range []string{`"null-co","node-name":"disk1","read-only":true,"size":1048576`, "drive=disk0", "user,id=net0,restrict=on -device virtio-net-pci", "-chardev null,id=firmware-log"} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	for _, args := range [][]string{snpArguments(g, nil, 51, plumbing{}), tcgArguments(g, 0, 0, plumbing{})} {
		got := strings.Join(args, " ")
		if !strings.Contains(got, ",memory-backend=ram0 -accel") || !strings.Contains(got, "-object memory-backend-memfd,id=ram0,size=512M,share=on") {
			t.Errorf("no memory backend in %s", got)
		}
	}
	plain := guest.Default()
	if got := deviceArguments(&plain, plumbing{}); len(got) > 0 {
		t.Errorf("a guest without devices has %q", got)
	}
}

// The table is what QEMU 10.0.2 printed.
func TestForwarded(t *testing.T) {
	const table = "Hub -1 (net0):\r\n" +
		"  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n" +
		"  TCP[HOST_FORWARD]   9       127.0.0.1 46323       10.0.2.15    22     0     0\r\n" +
		"  TCP[ESTABLISHED]   12       127.0.0.1 46399       10.0.2.15    22     0     0\r\n" +
		"  TCP[HOST_FORWARD]   8               *    80       10.0.2.15    22     0     0\r\n" +
		"  TCP[HOST_FORWARD]   8               *  4567       10.0.2.15    22     0     0\r\n" +
		"  UDP[236 sec]       11       127.0.0.1 46399       10.0.2.15    53     0     0\r\n" +
		"  UDP[HOST_FORWARD]   7       127.0.0.1  5353       10.0.2.15    53     0     0\r\n"
	var wanted []guest.Forward
	for _, s := range []string{"udp:auto:53", "0.0.0.0:80:22", "auto:22", "0.0.0.0:auto:22"} {
		f, err := guest.ParseForward(s)
		if err != nil {
			t.Fatal(err)
		}
		wanted = append(wanted, f)
	}
	got, err := matchForwards(wanted, parseUsernet(table))
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, f := range got {
		text = append(text, f.String())
	}
	if want := []string{"udp:5353:53", "0.0.0.0:80:22", "46323:22", "0.0.0.0:4567:22"}; !slices.Equal(text, want) {
		t.Errorf("got %q, want %q", text, want)
	}
	if _, err := matchForwards(append(wanted, guest.Forward{GuestPort: 22}), parseUsernet(table)); err == nil || !strings.Contains(err.Error(), "auto:22") {
		t.Errorf("one forward too many: %v", err)
	}
}

func FuzzParseUsernet(f *testing.F) {
	f.Add("  TCP[HOST_FORWARD]   9       127.0.0.1 46323       10.0.2.15    22     0     0\n")
	f.Add("UDP[HOST_FORWARD] * * * *\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, f := range parseUsernet(text) {
			if !f.Addr.IsValid() {
				t.Errorf("%q: a forward without address", text)
			}
		}
	})
}

func TestClaimCID(t *testing.T) {
	taken := map[uint64]bool{}
	set := func(cid uint64) error {
		if taken[cid] {
			return unix.EADDRINUSE
		}
		taken[cid] = true
		return nil
	}
	for range 100 { // the same seed each time: all want the same number first
		cid, err := claimCID(guest.VsockAuto, 1, set)
		if err != nil || cid < firstAutoCID || cid == guest.VsockAuto {
			t.Fatalf("%d, %v", cid, err)
		}
	}
	if len(taken) != 100 {
		t.Errorf("%d numbers for 100 guests", len(taken))
	}
	if cid, err := claimCID(42, 1, set); err != nil || cid != 42 {
		t.Errorf("%d, %v", cid, err)
	}
	if _, err := claimCID(42, 1, set); err == nil || !strings.Contains(err.Error(), "42 is another guest's (use auto)") {
		t.Error(err)
	}
	if _, err := claimCID(guest.VsockAuto, 1, func(uint64) error { return unix.EADDRINUSE }); err == nil || !strings.Contains(err.Error(), "in a row are taken") {
		t.Error(err)
	}
	if _, err := claimCID(guest.VsockAuto, 1, func(uint64) error { return unix.ENOTTY }); !errors.Is(err, unix.ENOTTY) {
		t.Error(err)
	}
}

func TestCheckDisks(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw, empty, qcow := write("raw", "something", 0o600), write("empty", "", 0o600), write("qcow", "QFI\xfb and more", 0o600)
	for _, c := range []struct {
		disk guest.Disk
		says string // "" where nothing is wrong
	}{
		{guest.Disk{File: raw}, ""},
		{guest.Disk{File: empty}, ""},
		{guest.Disk{File: qcow, Format: guest.DiskQCOW2}, ""},
		{guest.Disk{File: qcow, Format: guest.DiskRaw}, ""},
		{guest.Disk{File: qcow}, "give format: qcow2"},
		{guest.Disk{File: raw, Format: guest.DiskQCOW2}, "give format: raw"},
		{guest.Disk{File: dir}, "not a regular file"},
		{guest.Disk{File: filepath.Join(dir, "none")}, "no such file"},
	} {
		err := checkDisks([]guest.Disk{c.disk})
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "disks[0].file: "+c.disk.File+": ")) {
			t.Errorf("%+v: %v, want %q", c.disk, err, c.says)
		}
	}
	if os.Geteuid() != 0 {
		locked := write("locked", "x", 0o400)
		if err := checkDisks([]guest.Disk{{File: locked}}); err == nil || !strings.Contains(err.Error(), "give read_only") {
			t.Error(err)
		}
	}
}

// Where the machine has vhost-vsock, two guests get different numbers, and a given one
// only once. Elsewhere the message says how it is had.
func TestOpenVsock(t *testing.T) {
	if _, err := os.Stat(vhostVsockPath); err != nil {
		if _, _, err := openVsock(guest.VsockAuto); err == nil || !strings.Contains(err.Error(), "vhost_vsock") {
			t.Errorf("%v", err)
		}
		return
	}
	a, first, err := openVsock(guest.VsockAuto)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, second, err := openVsock(guest.VsockAuto)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if first == second {
		t.Errorf("two guests have the number %d", first)
	}
	if f, _, err := openVsock(first); err == nil {
		f.Close()
		t.Errorf("the number %d was given twice", first)
	}
}
