package qmp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qemu"

	"github.com/snplaunch/snplaunch/internal/lacks"
)

// startQEMU runs a real QEMU with its monitor on an inherited socket, as the
// launcher does, and returns it with the test's end of the socket.
func startQEMU(t *testing.T, args ...string) (*exec.Cmd, net.Conn) {
	t.Helper()
	const name = "qemu-system-x86_64"
	path, err := exec.LookPath(name)
	if err != nil {
		lacks.End(t, name+" is not installed: on Debian and Ubuntu, apt-get install qemu-system-x86")
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp of QEMU")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })

	cmd := exec.Command(path, append([]string{"-nographic", "-nodefaults", "-S",
		"-chardev", "socket,id=q,fd=3", "-mon", "chardev=q,mode=control"}, args...)...)
	cmd.ExtraFiles = []*os.File{theirs}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("QEMU's standard error: %s", stderr.String())
		}
	})
	return cmd, conn
}

func dialQEMU(t *testing.T, args ...string) (*exec.Cmd, *Client) {
	t.Helper()
	cmd, conn := startQEMU(t, args...)
	c, err := Dial(testContext(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return cmd, c
}

// go-qemu's Domain does all its work through this package's connection.
func TestQEMUDomain(t *testing.T) {
	_, c := dialQEMU(t, "-M", "none")
	dom, err := qemu.NewDomain(c, "guest")
	if err != nil {
		t.Fatal(err)
	}
	events, done, err := dom.Events()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := dom.Status(); err != nil || s != qemu.StatusPreLaunch {
		t.Errorf("Status: %v, %v; want prelaunch", s, err)
	}
	cmds, err := dom.Commands()
	if err != nil || !slices.Contains(cmds, "query-sev") {
		t.Errorf("Commands: %d of them, query-sev missing, %v", len(cmds), err)
	}
	if ok, err := dom.Supported("no-such-command"); err != nil || ok {
		t.Errorf("Supported(no-such-command): %v, %v", ok, err)
	}
	if v, err := dom.Version(); err != nil || v != c.Version().String() {
		t.Errorf("Version: %q, %v; the greeting says %s", v, err, c.Version())
	}
	if v, err := dom.PackageVersion(); err != nil || v != c.Version().Package {
		t.Errorf("PackageVersion: %q, %v; the greeting says %q", v, err, c.Version().Package)
	}
	if devs, err := dom.PCIDevices(); err != nil || len(devs) != 0 {
		t.Errorf("PCIDevices of no machine: %v, %v", devs, err)
	}
	if _, err := dom.BlockDevices(); err != nil {
		t.Errorf("BlockDevices: %v", err)
	}
	// Removed in QEMU 6.0; the class survives go-qemu.
	_, err = dom.CPUs()
	mustBe(t, err, CommandNotFound)

	if err := c.Cont(testContext(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-events:
		if ev.Event != "RESUME" || ev.Timestamp.Seconds == 0 {
			t.Errorf("got event %+v, want RESUME", ev)
		}
	case <-time.After(20 * time.Second):
		t.Error("no RESUME event")
	}
	close(done)
	if err := dom.Close(); err != nil {
		t.Error(err)
	}
	mustBe(t, c.Err(), ErrClosed)
}

// The reply that is larger than go-qemu's own monitor can read; and the
// members of query-sev's answer are those of SEVInfo.
func TestQEMUSchema(t *testing.T) {
	_, c := dialQEMU(t, "-M", "none")
	type entity struct {
		Name     string
		MetaType string `json:"meta-type"`
		RetType  string `json:"ret-type"`
		Members  []struct{ Name, Type string }
		Variants []struct{ Case, Type string }
	}
	var schema []entity
	if err := c.Execute(testContext(t), "query-qmp-schema", nil, &schema); err != nil {
		t.Fatal(err)
	}
	find := func(name string) entity {
		for _, e := range schema {
			if e.Name == name {
				return e
			}
		}
		t.Fatalf("the schema has no %q", name)
		return entity{}
	}
	info := find(find("query-sev").RetType)
	var members []string
	for _, m := range info.Members {
		members = append(members, m.Name)
	}
	for _, v := range info.Variants {
		for _, m := range find(v.Type).Members {
			members = append(members, v.Case+":"+m.Name)
		}
	}
	slices.Sort(members)
	want := "api-major api-minor build-id enabled sev-snp:snp-policy sev-type sev:handle sev:policy state"
	if got := strings.Join(members, " "); got != want {
		t.Errorf("query-sev answers %s\nSEVInfo has      %s", got, want)
	}
}

func TestQEMUHelpers(t *testing.T) {
	_, c := dialQEMU(t, "-M", "q35", "-accel", "tcg", "-smp", "2")
	ctx := testContext(t)
	if s, err := c.QueryStatus(ctx); err != nil || s != (Status{Running: false, Status: "prelaunch"}) {
		t.Errorf("QueryStatus: %+v, %v", s, err)
	}
	if s, err := c.QuerySEV(ctx); err != nil || s != (SEVInfo{State: "uninit", Type: "sev"}) {
		t.Errorf("QuerySEV without SEV: %+v, %v", s, err)
	}
	// x86 starts at FFFF:FFF0; only the boot processor is not halted.
	for vcpu, want := range []Registers{{RIP: 0xfff0}, {RIP: 0xfff0, Halted: true}} {
		if r, err := c.Registers(ctx, vcpu); err != nil || r != want {
			t.Errorf("Registers of vCPU %d: %+v, %v; want %+v", vcpu, r, err, want)
		}
	}
	_, err := c.Registers(ctx, 2)
	mustBe(t, err, GenericError)
	threads, err := c.VCPUThreads(ctx)
	if err != nil || len(threads) != 2 || threads[0] == threads[1] {
		t.Errorf("the threads of two vCPUs are %d, %v", threads, err)
	}
	for _, tid := range threads {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/stat", tid)); err != nil {
			t.Errorf("the thread of a vCPU: %v", err)
		}
	}
	if out, err := c.HumanMonitor(ctx, "info status"); err != nil || !strings.Contains(out, "prelaunch") {
		t.Errorf("HumanMonitor: %q, %v", out, err)
	}

	// The last 16 bytes below 4 GiB are the firmware's reset vector: a jump,
	// far (EA) in SeaBIOS. The same bytes end SeaBIOS's file, which the alias
	// below 1 MiB repeats.
	dir := t.TempDir()
	for name, addr := range map[string]uint64{"top": 1<<32 - 16, "alias": 1<<20 - 16} {
		if err := c.PMemSave(ctx, addr, 16, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	top, _ := os.ReadFile(filepath.Join(dir, "top"))
	alias, _ := os.ReadFile(filepath.Join(dir, "alias"))
	if len(top) != 16 || top[0] != 0xea || !bytes.Equal(top, alias) {
		t.Errorf("pmemsave wrote % x and % x", top, alias)
	}
	err = c.PMemSave(ctx, 0, 1, filepath.Join(dir, "no", "folder"))
	mustBe(t, err, GenericError)

	sub := c.Subscribe(64)
	for _, step := range []struct {
		do     func(context.Context) error
		status Status
	}{
		{c.Cont, Status{true, "running"}},
		{c.Stop, Status{false, "paused"}},
	} {
		if err := step.do(ctx); err != nil {
			t.Fatal(err)
		}
		if s, err := c.QueryStatus(ctx); err != nil || s != step.status {
			t.Errorf("status %+v, %v; want %+v", s, err, step.status)
		}
	}
	if err := c.Quit(ctx); err != nil {
		t.Fatal(err)
	}
	var names []string
	for ev := range sub.C() {
		names = append(names, ev.Event)
		if ev.Event == "SHUTDOWN" && ev.Data["reason"] != "host-qmp-quit" {
			t.Errorf("SHUTDOWN because of %v", ev.Data["reason"])
		}
	}
	if got := strings.Join(names, " "); got != "RESUME STOP SHUTDOWN" {
		t.Errorf("events %s", got)
	}
	mustBe(t, c.Err(), ErrPeerClosed)
}

// A stopped QEMU answers nothing; a killed one closes the connection.
func TestQEMUHangsAndDies(t *testing.T) {
	cmd, c := dialQEMU(t, "-M", "none")
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := c.QueryStatus(ctx)
	mustBe(t, err, context.DeadlineExceeded)

	done := start(testContext(t), c, "query-status", nil)
	cmd.Process.Kill()
	mustBe(t, <-done, ErrPeerClosed)
	<-c.Done()
}

// A QEMU that refuses its command line dies before the greeting, as it does
// when KVM_SEV_INIT2 or SNP_LAUNCH_START fails.
func TestQEMUDiesBeforeGreeting(t *testing.T) {
	_, conn := startQEMU(t, "-M", "none", "-object", "sev-snp-guest,id=sev0,no-such=1")
	_, err := Dial(testContext(t), conn)
	if !errors.Is(err, ErrPeerClosed) || !strings.Contains(err.Error(), "greeting") {
		t.Errorf("got %v", err)
	}
}
