package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
)

// Whatever way a program looks for the host, it is there.
func TestTheHostIsSeen(t *testing.T) { under(t, kvm.Options{}, "look") }

// A file is ours by what it is, not by its number.
func TestFilesAreTold(t *testing.T) { under(t, kvm.Options{}, "files") }

func TestKicks(t *testing.T) { under(t, kvm.Options{Hold: true}, "kicks") }

// With the process that made it, a VM ends, whoever holds its files.
func TestAGuestEndsWithItsProcess(t *testing.T) {
	for _, v := range views(t) {
		t.Run(string(v), func(t *testing.T) {
			h, p := machine(t, kvm.Options{})
			ready := filepath.Join(t.TempDir(), "ready")
			f, _ := start(t, h, v, "/bin/sh", "-c", fmt.Sprintf("'%s' %s guest %s & sleep 60 & wait", self(t), helperWord, ready))
			eventually(t, "the guest is launched", func() bool {
				_, err := os.Stat(ready)
				return err == nil
			})
			if n := p.Status().GuestCount; n != 1 {
				t.Errorf("%d guests, want 1", n)
			}
			for _, pid := range descendants(f.PID(), nil) {
				if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(b), helperWord) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			eventually(t, "the guest has gone", func() bool { return p.Status().GuestCount == 0 })
			f.Kill()
			if status := wait(t, f); status != 128+9 {
				t.Errorf("status %d of a command that was killed", status)
			}
		})
	}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("it does not come about that %s", what)
}

// cbitpos is put right whoever starts the program, and wherever the argument
// stands.
func TestArgumentsAreFitted(t *testing.T) {
	for _, v := range views(t) {
		for _, kind := range []string{"heap", "literal"} {
			t.Run(string(v)+"/"+kind, func(t *testing.T) {
				h, _ := machine(t, kvm.Options{})
				out := filepath.Join(t.TempDir(), "argument")
				f, said := start(t, h, v, self(t), helperWord, "exec", kind, out)
				if status := wait(t, f); status != 0 {
					t.Fatalf("status %d\n%s", status, said)
				}
				if b, err := os.ReadFile(out); err != nil || string(b) != "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1" {
					t.Errorf("the program was started with %q (%v)\n%s", b, err, said)
				}
				if !strings.Contains(said.String(), `QEMU is started with "cbitpos=51"`) {
					t.Errorf("it is not told:\n%s", said)
				}
			})
		}
	}
}

// The status is the command's; the end is that of all that it started.
func TestTheEndIsThatOfTheLast(t *testing.T) {
	for _, v := range views(t) {
		t.Run(string(v), func(t *testing.T) {
			h, _ := machine(t, kvm.Options{})
			f, said := start(t, h, v, self(t), helperWord, "survivor", "1.5")
			<-f.Ended()
			left := descendants(f.guard.Process.Pid, nil)
			if len(left) != 1 {
				t.Errorf("%d processes are left, want the sleeper", len(left))
			}
			if status := wait(t, f); status != 7 {
				t.Errorf("status %d, want 7", status)
			}
			for _, pid := range left {
				if syscall.Kill(pid, 0) == nil {
					t.Errorf("process %d still lives", pid)
				}
			}
			if !strings.Contains(said.String(), "waiting for what it has left running: "+strconv.Itoa(left[0])+" sleep") {
				t.Errorf("it is not told who lives on:\n%s", said)
			}
		})
	}
}

// With the guard, all ends; what belongs to others does not.
func TestTheGuardIsKilled(t *testing.T) {
	bystander := exec.Command("/bin/sleep", "60")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	machine2, _ := machine(t, kvm.Options{})
	other := exec.Command("/bin/sleep", "60")
	supervised, err := Start(other, Config{Host: machine2, CBitPos: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = supervised.Kill(); _ = supervised.Wait() }()
	for _, v := range views(t) {
		h, _ := machine(t, kvm.Options{})
		f, _ := start(t, h, v, "/bin/sh", "-c", "(setsid sleep 60 &) ; sleep 60 & exec sleep 60")
		var left []int
		eventually(t, "three processes run", func() bool {
			left = descendants(f.guard.Process.Pid, nil)
			return len(left) == 3
		})
		_ = f.guard.Process.Kill()
		if _, err := f.Wait(); err == nil || !strings.Contains(err.Error(), "the guard process has ended before the command had") {
			t.Errorf("error %v", err)
		}
		for _, pid := range left {
			if syscall.Kill(pid, 0) == nil {
				t.Errorf("%s: process %d still lives", v, pid)
			}
		}
	}
	if syscall.Kill(bystander.Process.Pid, 0) != nil {
		t.Error("a process that has nothing to do with it was killed")
	}
	if syscall.Kill(other.Process.Pid, 0) != nil {
		t.Error("another supervised process was killed")
	}
}

// Supervisors in one process do not get into each other's way.
func TestManyAtOnce(t *testing.T) {
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			h, _ := machine(t, kvm.Options{})
			f, said := start(t, h, ViewTrapped, self(t), helperWord, "files")
			if status := wait(t, f); status != 0 {
				t.Errorf("status %d\n%s", status, said)
			}
		})
	}
}

func TestViewNames(t *testing.T) {
	if _, err := StartForeign("/bin/true", []string{"true"}, Config{View: "public"}); err == nil || !strings.Contains(err.Error(), `private or trapped, not "public"`) {
		t.Errorf("error %v", err)
	}
}

func TestStartingWhatIsNotThere(t *testing.T) {
	for _, v := range views(t) {
		h, _ := machine(t, kvm.Options{})
		_, err := StartForeign("/nonexistent", []string{"nonexistent"}, Config{Host: h, View: v})
		if err == nil || !strings.Contains(err.Error(), "cannot start /nonexistent: no such file") {
			t.Errorf("%s: error %v", v, err)
		}
	}
}

// Where something is not allowed, one sentence says what, and what helps.
func TestObstacles(t *testing.T) {
	if _, err := rootsOnce(); err != nil {
		t.Fatal(err)
	}
	number := func(n int) string { return strconv.Itoa(n) }
	for _, c := range []struct {
		name string
		args []string // of the helper, after the file for the result
		says []string
	}{
		{"a second supervisor", []string{"nested"}, []string{"already under a seccomp supervisor", "run the command outside of it"}},
		{"a profile without seccomp", []string{"denied", number(int(unix.EPERM)), number(unix.SYS_SECCOMP), "--", "/bin/true"},
			[]string{"seccomp(2) is not allowed here (operation not permitted)", "--security-opt seccomp=unconfined"}},
		{"a kernel without seccomp", []string{"denied", number(int(unix.ENOSYS)), number(unix.SYS_SECCOMP), "--", "/bin/true"},
			[]string{"no seccomp user notification here (function not implemented)", "Linux 5.9"}},
		{"a profile without process_vm_readv", []string{"denied", number(int(unix.EPERM)), number(unix.SYS_PROCESS_VM_READV), "--", "/bin/true"},
			[]string{"process_vm_readv(2) is not allowed here (operation not permitted)", "--cap-add SYS_PTRACE"}},
		{"a kernel without process_vm_readv", []string{"denied", number(int(unix.ENOSYS)), number(unix.SYS_PROCESS_VM_READV), "--", "/bin/true"},
			[]string{"process_vm_readv(2) is not allowed here (function not implemented)", "CONFIG_CROSS_MEMORY_ATTACH"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := helperResult(t, c.args[0] == "nested", c.args...)
			for _, s := range c.says {
				if !strings.Contains(got, s) {
					t.Errorf("it says %q; want %q", got, s)
				}
			}
		})
	}
}

// helperResult runs a helper, supervised or not, and gives what it wrote to
// the file that it is given after its name.
func helperResult(t *testing.T, supervised bool, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "result")
	line := append([]string{self(t), helperWord, args[0], out}, args[1:]...)
	if supervised {
		h, _ := machine(t, kvm.Options{})
		f, said := start(t, h, ViewTrapped, line...)
		if status := wait(t, f); status != 0 {
			t.Fatalf("status %d\n%s", status, said)
		}
	} else {
		cmd := exec.Command(line[0], line[1:]...)
		cmd.Env = append(os.Environ(), "SUPERVISE_ROOTS="+folder)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Root without the right to mount, as in a container, gets the other view, and
// is told.
func TestNoPrivateView(t *testing.T) {
	if !hasCapability(unix.CAP_SYS_ADMIN) {
		t.Skip("only root is offered mounts in the first place")
	}
	if _, err := rootsOnce(); err != nil {
		t.Fatal(err)
	}
	got := helperResult(t, false, "denied", strconv.Itoa(int(unix.EPERM)), strconv.Itoa(unix.SYS_MOUNT), "--", "/bin/sh", "-c", "test -c /dev/sev")
	for _, want := range []string{"no private /dev can be had here", "status 0, <nil>, view trapped"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

func TestYama(t *testing.T) {
	for _, c := range []struct {
		scope      string
		privileged bool
		says       string
	}{
		{"0", false, ""}, {"1", false, ""}, {"1", true, ""}, {"2", true, ""},
		{"2", false, "kernel.yama.ptrace_scope=1"},
		{"3", true, "until the next boot"}, {"3", false, "until the next boot"},
	} {
		err := checkYama(c.scope, c.privileged)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("scope %s, privileged %v: %v; want %q", c.scope, c.privileged, err, c.says)
		}
	}
}

// nobody runs a helper of a copy of this program as another user, with a
// folder that the user may write to.
func nobody(t *testing.T, args func(result string) []string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	if _, err := rootsOnce(); err != nil {
		t.Fatal(err)
	}
	const uid = 65534
	dir, err := os.MkdirTemp("", "snplaunch-nobody-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	roots, err := filepath.Glob(filepath.Join(folder, "*.pem"))
	if err != nil || len(roots) == 0 {
		t.Fatalf("%v %v", roots, err)
	}
	for _, name := range roots {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, filepath.Base(name)), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(dir, "result")
	line := args(result)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SUPERVISE_ROOTS="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	b, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// userNamespaces says whether this kernel lets another user mount in a namespace
// of their own, asking util-linux rather than the code under test.
func userNamespaces() bool {
	cmd := exec.Command("unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd.Run() == nil
}

// A user without any privilege sees the host as root does, and gets no
// privilege by it.
func TestOrdinaryUser(t *testing.T) {
	program := others(t, 0o755)
	for _, v := range []View{ViewAuto, ViewTrapped, ViewPrivate} {
		t.Run("view "+string(v), func(t *testing.T) {
			got := nobody(t, func(result string) []string {
				return []string{program, helperWord, "supervise", result, string(v), "/bin/sh", "-c",
					program + " " + helperWord + " look && " + program + " " + helperWord + " files && grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status && [ $(id -u) = 65534 ]"}
			})
			want := v
			if v == ViewAuto {
				want = ViewTrapped
			}
			if v == ViewPrivate && !userNamespaces() {
				t.Skip("this kernel gives ordinary users no namespaces, so there is no private view for them")
			}
			if got != "status 0, <nil>, view "+string(want) {
				t.Errorf("%s", got)
			}
		})
	}
}

// A program that may be executed but not read has memory that its own user may
// not read; that it is not on the software host, and why, is told.
func TestUnreadableProgram(t *testing.T) {
	unreadable, program := others(t, 0o711), others(t, 0o755)
	got := nobody(t, func(result string) []string {
		return []string{program, helperWord, "supervise", result, string(ViewTrapped), unreadable, helperWord, "open"}
	})
	for _, want := range []string{"(helper) cannot be read (operation not permitted)", "may be executed by this user but not read", "chmod a+r", "status 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q; want %q", got, want)
		}
	}
	if n := strings.Count(got, "cannot be read"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}
