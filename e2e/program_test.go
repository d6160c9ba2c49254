package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/host"
)

// program builds snplaunch once, as scripts/setup does.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(filepath.Dir(dataFolder)), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "../cmd/snplaunch")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, os.Chmod(filepath.Dir(path), 0o755) // for the test that runs it as another user
})

func snplaunch(t testing.TB) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// marker is an environment variable that everything which a program starts
// inherits; it finds what outlived its owner.
const marker = "SNPLAUNCH_TEST_MARK"

// marked lists the processes that carry a mark.
func marked(t testing.TB, mark string) []string {
	t.Helper()
	var out []string
	envs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range envs {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(append([]byte{0}, b...), []byte("\x00"+marker+"="+mark+"\x00")) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		out = append(out, filepath.Base(filepath.Dir(name))+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return out
}

// gone waits until no process carries the mark.
func gone(t testing.TB, mark string) []string {
	t.Helper()
	var still []string
	for range 60 {
		if still = marked(t, mark); len(still) == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return still
}

// command prepares a run of the program with its own data and temporary folder.
func command(t testing.TB, mark string, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	cmd = exec.Command(snplaunch(t), args...)
	cmd.Env = append(os.Environ(), marker+"="+mark, "XDG_DATA_HOME="+filepath.Dir(dataFolder), "XDG_STATE_HOME="+filepath.Join(filepath.Dir(dataFolder), "state"), "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, tmp
}

// waiting gives a channel that is closed when a command that was started has ended.
func waiting(cmd *exec.Cmd) <-chan struct{} {
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	return ended
}

// endsWithin says whether a command ends in time; it is ended where it does not.
func endsWithin(ended <-chan struct{}, cmd *exec.Cmd, limit time.Duration) bool {
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		_ = cmd.Process.Kill()
		<-ended
		return false
	}
}

// A command line that was written for hardware, cbitpos=51 in it, runs under sim exec as
// it is, directly, from a script, and in JSON; stderr tells the digest that
// measure gives, and the exit status is the command's.
func TestSimExec(t *testing.T) {
	p := parts(t)
	measured, _ := command(t, "simexec", "measure", "--ovmf", p.Firmware.Path, "--kernel", p.Kernel.Path, "--append", "console=ttyS0", "--vcpus", "2", "--vcpu-type", "EPYC-v4")
	want, err := measured.Output()
	if err != nil {
		t.Fatal(err)
	}
	qemu := func(object string) []string {
		return []string{p.QEMU.Path, "-nodefaults", "-display", "none", "-enable-kvm", "-cpu", "EPYC-v4", "-smp", "2", "-m", "512M",
			"-machine", "q35,confidential-guest-support=sev0", "-object", object, "-bios", p.Firmware.Path,
			"-kernel", p.Kernel.Path, "-append", "console=ttyS0"}
	}
	quoted := func(args []string) string { return "'" + strings.Join(args, "' '") + "'" }
	plain := qemu("sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,kernel-hashes=on")
	asJSON := qemu(`{"qom-type":"sev-snp-guest","id":"sev0","cbitpos":51,"reduced-phys-bits":1,"kernel-hashes":true}`)
	for name, args := range map[string][]string{
		"directly":                plain,
		"JSON":                    asJSON,
		"from a script":           {"sh", "-c", quoted(plain) + "; exit $?"},
		"in the background":       {"sh", "-c", quoted(plain) + " & wait $!"},
		"as one part of a series": {"sh", "-c", "true | " + quoted(plain) + " | cat"},
	} {
		t.Run(name, func(t *testing.T) {
			mark := "simexec-" + strings.ReplaceAll(name, " ", "-")
			cmd, _ := command(t, mark, append([]string{"sim", "exec", "--"}, args...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			if line := "launch digest " + strings.TrimSpace(string(want)); !contains(stderr.String(), line) {
				t.Errorf("stderr has no %q:\n%s", line, stderr.String())
			}
			if host.CBitPos() != 51 && !contains(stderr.String(), "cbitpos") {
				t.Errorf("stderr does not say that cbitpos was put right:\n%s", stderr.String())
			}
			if l := gone(t, mark); l != nil {
				t.Errorf("processes are left: %q", l)
			}
		})
	}
}

// The exit status is the command's; 125 is for sim exec's own failures.
func TestSimExecStatus(t *testing.T) {
	parts(t)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15},
		{[]string{"true"}, 0},
		{[]string{"/nonexistent/program"}, 125},
	} {
		cmd, _ := command(t, "simexecstatus", append([]string{"sim", "exec", "--"}, c.args...)...)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.want {
			t.Errorf("sim exec %q: exit status %d (%v), want %d\n%s", c.args, got, err, c.want, out)
		}
	}
	// One inside another cannot work, and says why.
	cmd, _ := command(t, "simexecstatus", "sim", "exec", "--", snplaunch(t), "sim", "exec", "--", "true")
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 125 || !contains(string(out), "already under a seccomp supervisor") {
		t.Errorf("sim exec within sim exec: status %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
}

// Whatever ends a run, at whatever moment, nothing of it stays: no process, no
// socket (there is none with a name), no file.
func TestKillingARunLeavesNothing(t *testing.T) {
	parts(t)
	delays := []time.Duration{20, 60, 120, 200, 300, 450, 700, 1200, 2500, 4000}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			for _, ms := range delays {
				mark := fmt.Sprintf("kill-%d-%d", sig, ms)
				cmd, tmp := command(t, mark, "run", "--backend", "sim", "--", "sleep", "30")
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(ms * time.Millisecond)
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatalf("%v after %d ms: %v\n%s", sig, ms, err, out.String())
				}
				if !endsWithin(waiting(cmd), cmd, 10*time.Second) {
					t.Fatalf("%v after %d ms: the program does not end\n%s", sig, ms, out.String())
				}
				if l := gone(t, mark); l != nil {
					t.Errorf("%v after %d ms: processes are left: %q", sig, ms, l)
				}
				if entries, err := os.ReadDir(tmp); err != nil || len(entries) > 0 {
					t.Errorf("%v after %d ms: files are left: %v %v", sig, ms, entries, err)
				}
			}
		})
	}
}

// sleepers is a command that starts others, one of them in a session of its own.
var sleepers = []string{"sh", "-c", "(setsid sleep 60 &) ; sleep 60 & exec sleep 60"}

// killSleepers starts a program that runs sleepers, kills it, and sees that nothing is left.
func killSleepers(t *testing.T, cmd *exec.Cmd, mark string, sig syscall.Signal) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if len(marked(t, mark)) >= 5 { // the program, its guard, three sleepers
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if l := marked(t, mark); len(l) < 5 {
		t.Fatalf("it has not come up: %q", l)
	}
	_ = cmd.Process.Signal(sig)
	if sig == syscall.SIGTERM { // passed on to the command; the others end with the second signal
		time.Sleep(200 * time.Millisecond)
		_ = cmd.Process.Kill()
	}
	_ = cmd.Wait()
	if l := gone(t, mark); l != nil {
		t.Errorf("%v: processes are left: %q", sig, l)
	}
}

// A killed sim exec takes everything with it that its command has started.
func TestKillingSimExecLeavesNothing(t *testing.T) {
	parts(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		mark := fmt.Sprintf("killexec-%d", sig)
		cmd, _ := command(t, mark, append([]string{"sim", "exec", "--"}, sleepers...)...)
		killSleepers(t, cmd, mark, sig)
	}
}

// run --json, its exit code and its console.
func TestRunJSON(t *testing.T) {
	parts(t)
	cmd, _ := command(t, "json", "run", "--backend", "sim", "--json", "--vcpus", "2", "--", "false")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1, as the guest's command failed\n%s", code, stderr.String())
	}
	var got map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatalf("stdout is not JSON: %v\n%s\n%s", err, stdout.String(), stderr.String())
	}
	if got["verdict"] != "match" || got["simulated"] != true || got["backend"] != "sim" || got["guest_exit"] != 1.0 ||
		got["computed"] != got["launched"] || got["computed"] != got["reported"] || got["report_verified"] != true {
		t.Errorf("result %s", stdout.String())
	}
	for _, key := range []string{"qemu_version", "firmware_sha256", "vcpus", "cpu", "duration_ms"} {
		if got[key] == nil {
			t.Errorf("the result has no %s", key)
		}
	}
}

// What --dry-run prints works when pasted.
func TestDryRunWorksWhenPasted(t *testing.T) {
	parts(t)
	cmd, _ := command(t, "dry", "run", "--backend", "sim", "--dry-run", "--append", `console=ttyS0 quoted="a b" it's`)
	line, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	paste := strings.Replace(string(line), "snplaunch sim exec --hold", snplaunch(t)+" sim exec", 1)
	pasted, _ := command(t, "dry")
	pasted.Path, pasted.Args = "/bin/sh", []string{"sh", "-c", paste}
	out, err := pasted.CombinedOutput()
	if err != nil || !contains(string(out), "launch digest ") {
		t.Errorf("%s\n%v\n%s", paste, err, out)
	}
}
