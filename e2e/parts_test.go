package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/internal/lacks"
	"github.com/snplaunch/snplaunch/launcher"
)

var findParts = sync.OnceValues(func() (*images.Set, error) {
	return images.Find(context.Background(), images.Options{})
})

// parts gives QEMU, firmware, kernel and initramfs. Without them a test is
// skipped on a developer's machine; where lacks.Variable is set, as in
// scripts/test, it fails.
func parts(t testing.TB) *images.Set {
	t.Helper()
	set, err := findParts()
	if err != nil {
		t.Fatal(err)
	}
	if missing := set.Missing(); len(missing) > 0 {
		lacks.End(t, "parts are missing, run ./scripts/setup: "+strings.Join(missing, "; "))
	}
	return set
}

var findExtras = sync.OnceValues(func() (*images.Set, error) {
	return images.Find(context.Background(), images.Options{QEMUNext: true, PlainFirmware: true, Libvirt: true})
})

// extras gives what only some tests want, each of which may be nil.
func extras(t testing.TB) *images.Set {
	t.Helper()
	set, err := findExtras()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// nextQEMU is the distribution's QEMU beside the machine's own:
// $SNPLAUNCH_QEMU_NEXT or the cache's.
func nextQEMU(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("SNPLAUNCH_QEMU_NEXT"); path != "" {
		return path
	}
	q := extras(t).QEMUNext
	if q == nil {
		lacks.End(t, "the distribution's next QEMU is missing, run ./scripts/setup --qemu-next")
	}
	return q.Path
}

// plainFirmware is an OVMF without SNP metadata.
func plainFirmware(t testing.TB) string {
	t.Helper()
	a := extras(t).PlainFirmware
	if a == nil {
		lacks.End(t, "an OVMF without SNP metadata is missing, run ./scripts/setup --plain-firmware")
	}
	return a.Path
}

// libvirtUsr is the folder usr of an unpacked libvirt.
func libvirtUsr(t testing.TB) string {
	t.Helper()
	a := extras(t).Libvirt
	if a == nil {
		lacks.End(t, "libvirt is missing, run ./scripts/setup --libvirt")
	}
	return filepath.Dir(filepath.Dir(a.Path))
}

// aGuest is the default guest on the parts of this machine.
func aGuest(t testing.TB) *guest.Guest {
	t.Helper()
	p := parts(t)
	g := guest.Default()
	g.Firmware, g.Kernel, g.Initrd = p.Firmware.Path, p.Kernel.Path, p.Initrd.Path
	g.Append = "console=ttyS0 panic=-1"
	return &g
}

// withoutHashes switches kernel hashes off, which only the generic firmware boots.
func withoutHashes(t testing.TB, g *guest.Guest) {
	g.KernelHashes, g.Firmware = false, parts(t).GenericFirmware.Path
}

var dataFolder string

// TestMain keeps one simulated root key for all tests: making one takes seconds.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "snplaunch-e2e-*")
	if err != nil {
		panic(err)
	}
	dataFolder = filepath.Join(dir, "data", "snplaunch")
	// What is ignored here, as in the background of a script or under nohup, would be in
	// the programs that are tested, too. A signal with a handler has its default there.
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func options(t testing.TB) launcher.Options {
	return launcher.Options{
		Backend: launcher.BackendSim, QEMU: parts(t).QEMU.Path, CBitPos: int(host.CBitPos()), DataDir: dataFolder,
		Progress: func(string) {},
		// What must fail is to be refused by QEMU, KVM and the firmware here.
		Force: true,
	}
}

// launch runs a guest and sees that nothing is left of it.
func launch(t testing.TB, g *guest.Guest, o launcher.Options) *launcher.Result {
	t.Helper()
	res, err := launcher.Run(context.Background(), g, o)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return res
}

// left lists what a launch has left behind: child processes of this one. Tests that
// use it must not run beside others.
func left(t testing.TB) []string {
	t.Helper()
	var out []string
	for range 20 { // a killed process takes a moment to go
		if out = children(t); len(out) == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return out
}

// children lists the processes that this one has started: number and command line.
func children(t testing.TB) []string {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for _, pid := range strings.Fields(string(b)) {
			cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if len(cmdline) > 0 {
				out = append(out, pid+" "+string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
			}
		}
	}
	return out
}

// openFiles counts this process's descriptors by what they refer to.
func openFiles(t testing.TB) map[string]int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue
		}
		kind, _, _ := strings.Cut(target, ":")
		out[kind]++
	}
	return out
}
