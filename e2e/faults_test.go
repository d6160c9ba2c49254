package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/launcher"
)

// fakeOptions launches this test's binary instead of QEMU.
func fakeOptions(t testing.TB, mode string) launcher.Options {
	t.Helper()
	o := options(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Backend, o.QEMU, o.LaunchOnly, o.Force = launcher.BackendSNP, self, true, true
	if err := os.Setenv(fakeQEMUVariable, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Unsetenv(fakeQEMUVariable) })
	return o
}

func bareGuest(t testing.TB) *guest.Guest {
	g := aGuest(t)
	g.Kernel, g.Initrd, g.Append, g.Command = "", "", "", nil
	g.IDBlock.Mode = guest.IDBlockNone
	return g
}

// Whatever QEMU does wrong, the run ends with a sentence that says it, and
// nothing is left of it.
func TestQEMUsThatDoWrong(t *testing.T) {
	before := openFiles(t)
	for _, c := range []struct {
		mode    string
		timeout time.Duration // 0: it ends by itself
		verdict launcher.Verdict
		phase   launcher.Phase
		says    string
	}{
		{"nothing", 0, launcher.VerdictMatch, "", ""},
		{"slow", 0, launcher.VerdictMatch, "", ""},
		{"ends for ever", 0, launcher.VerdictMatch, "", ""}, // launched it was, and its guest has ended
		{"too old", 0, launcher.VerdictLaunchFailed, launcher.PhaseCommandLine, "sev-snp-guest"},
		{"half a greeting", 0, launcher.VerdictLaunchFailed, launcher.PhaseCommandLine, "without a word"},
		{"killed", 0, launcher.VerdictLaunchFailed, launcher.PhaseCommandLine, "QEMU was ended by signal 9 (SIGKILL)"},
		{"dies in cont", 0, launcher.VerdictLaunchFailed, launcher.PhaseFinish, "phase FINISH"},
		{"half an answer", 0, launcher.VerdictLaunchFailed, "", "killed"},
		{"another policy", 0, launcher.VerdictLaunchFailed, "", "the policy is 0xb0000, and should be 0x30000"},
		{"another vCPU count", 0, launcher.VerdictLaunchFailed, "", "the number of vCPUs is 2, and should be 1"},
		{"another processor", 0, launcher.VerdictLaunchFailed, "", "the signature of vCPU 0 is 0x800f22, and should be 0x800f12, that of EPYC-v4"},
		{"never launched", 0, launcher.VerdictLaunchFailed, "", "the state of the launch is launch-update, and should be running"},
		{"garbage", 0, launcher.VerdictLaunchFailed, "", "does not speak QMP"},
		{"an endless message", 0, launcher.VerdictLaunchFailed, "", "one message is longer than"},
		{"monitor gone", 0, launcher.VerdictLaunchFailed, "", "QEMU closed the QMP connection"},
		{"never greets", time.Second, launcher.VerdictTimeout, "", "the launch took longer than 1s"},
		{"deaf in cont", time.Second, launcher.VerdictTimeout, "", "the launch took longer than 1s"},
		{"deaf to everything", time.Second, launcher.VerdictTimeout, "", "the launch took longer than 1s"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			o := fakeOptions(t, c.mode)
			g := bareGuest(t)
			g.Timeouts.Launch = c.timeout
			res := launch(t, g, o)
			var phase launcher.Phase
			message := ""
			if res.Error != nil {
				phase, message = res.Error.Phase, res.Error.Message
			}
			if res.Verdict != c.verdict || phase != c.phase || !strings.Contains(message, c.says) {
				t.Errorf("verdict %s, phase %q, %q; want %s, %q, and %q said", res.Verdict, phase, message, c.verdict, c.phase, c.says)
			}
			if l := left(t); l != nil {
				t.Errorf("processes are left: %q", l)
			}
		})
	}
	o := fakeOptions(t, "nothing")
	o.QEMU = filepath.Join(t.TempDir(), "no-qemu-here")
	if _, err := launcher.Run(t.Context(), bareGuest(t), o); err == nil || !strings.Contains(err.Error(), "no-qemu-here") {
		t.Errorf("a QEMU that is not there: %v", err)
	}
	if after := openFiles(t); after["socket"] > before["socket"] || after["/memfd"] > before["/memfd"] || after["pipe"] > before["pipe"] {
		t.Errorf("open files: %v before, %v after", before, after)
	}
}

// A person who loses patience is not held up by a QEMU that answers nothing.
func TestInterruptedLaunch(t *testing.T) {
	for _, mode := range []string{"never greets", "deaf in cont"} {
		o := fakeOptions(t, mode)
		ctx, cancel := context.WithCancel(t.Context())
		o.Ended = func(s launcher.Stage) {
			if s.Name == "measure" {
				time.AfterFunc(200*time.Millisecond, cancel)
			}
		}
		if _, err := launcher.Run(ctx, bareGuest(t), o); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", mode, err)
		}
		if l := left(t); l != nil {
			t.Errorf("%s: processes are left: %q", mode, l)
		}
	}
}

// A guest that writes a gibibyte to its console costs no memory.
func TestConsoleFlood(t *testing.T) {
	o := fakeOptions(t, "console flood")
	o.LaunchOnly = false
	var n int64
	var most uint64
	o.Console = writerFunc(func(p []byte) (int, error) {
		if n += int64(len(p)); n>>26 != (n-int64(len(p)))>>26 { // every 64 MiB
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		return len(p), nil
	})
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	res := launch(t, bareGuest(t), o)
	if n < floodSize {
		t.Errorf("%d bytes arrived, want at least %d", n, floodSize)
	}
	if grown := int64(most) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if len(res.Console) > 64<<10 || !strings.Contains(res.Console, "much to say") {
		t.Errorf("%d bytes of the console are kept", len(res.Console))
	}
}

// cycles launches many times and compares what this process has before and after.
func cycles(t *testing.T, n int, g *guest.Guest, o launcher.Options) {
	t.Helper()
	shared := launcher.NewShared()
	defer shared.Close()
	o.Shared = shared
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	one := func() {
		res := launch(t, g, o)
		if res.Verdict != launcher.VerdictMatch {
			t.Fatalf("verdict %s: %+v\n%s", res.Verdict, res.Error, res.Stderr)
		}
	}
	one() // what is made once
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range n {
		one()
	}
	if l := left(t); l != nil {
		t.Errorf("processes are left: %q", l)
	}
	var now map[string]int
	more := func() bool {
		for kind, n := range now {
			if n > files[kind] {
				return true
			}
		}
		return runtime.NumGoroutine() > goroutines
	}
	for range 40 { // what ends takes a moment
		if now = openFiles(t); !more() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if more() {
		t.Errorf("after %d launches: open files %v, before %v; %d goroutines, before %d", n, now, files, runtime.NumGoroutine(), goroutines)
	}
	if entries, err := os.ReadDir(tmp); err != nil || len(entries) > 0 {
		t.Errorf("files are left: %v, %v", entries, err)
	}
}

// Five hundred launches of a scripted QEMU leave nothing, and neither do some of
// the real one; SNPLAUNCH_TEST_CYCLES=500 makes those five hundred too.
func TestCyclesLeaveNothing(t *testing.T) {
	t.Run("scripted", func(t *testing.T) { cycles(t, 500, bareGuest(t), fakeOptions(t, "nothing")) })
	t.Run("real", func(t *testing.T) {
		n := 30
		if os.Getenv("SNPLAUNCH_TEST_CYCLES") != "" {
			n = 500
		}
		o := options(t)
		o.LaunchOnly = true
		cycles(t, n, bareGuest(t), o)
	})
}

// What is secret is nowhere but where its owner keeps it: not on a command line,
// in no log, in no artefact.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	const password = "correct-horse-battery-staple"
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	key, err := idblock.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "id.pem")
	if err := idblock.WriteEncryptedKey(keyFile, key, []byte(password)); err != nil {
		t.Fatal(err)
	}
	scalar := key.D.FillBytes(make([]byte, 48))
	secrets := map[string][]byte{
		"the password": []byte(password), "the key": scalar,
		"the key in hexadecimal": []byte(hex.EncodeToString(scalar)), "the key in base64": []byte(base64.StdEncoding.EncodeToString(scalar)[:60]),
	}
	g := bareGuest(t)
	g.IDBlock = guest.IDBlock{Mode: guest.IDBlockSign, IDKey: keyFile}
	o := options(t)
	o.LaunchOnly = true
	o.KeyPassword = func(string) ([]byte, error) { return []byte(password), nil }
	var said bytes.Buffer
	o.Progress = func(s string) { said.WriteString(s + "\n") }
	o.Ended = func(s launcher.Stage) {
		if s.Name != "launch" {
			return
		}
		cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range append(cmdlines, "/proc/self/environ") {
			b, _ := os.ReadFile(name) // processes come and go
			said.Write(b)
		}
	}
	res := launch(t, g, o)
	if res.Verdict != launcher.VerdictMatch {
		t.Fatalf("verdict %s: %+v", res.Verdict, res.Error)
	}
	if _, err := res.Save(filepath.Join(dir, "runs"), "one", "snplaunch run"); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, info.Mode())
		}
		b, err := os.ReadFile(path)
		said.Write(b)
		files++
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files of the run, %v", files, err)
	}
	for name, secret := range secrets {
		if bytes.Contains(said.Bytes(), secret) {
			t.Errorf("%s is among what was said and written", name)
		}
	}
	if !strings.Contains(said.String(), "sev-snp-guest") {
		t.Error("the command line was not looked at")
	}
}

// fullDiskVariable names a folder on a disk of 32 KiB to the part of the next test
// that runs where there is one.
const fullDiskVariable = "SNPLAUNCH_TEST_FULL_DISK"

// A disk without room for the artefacts costs them, and leaves no part.
func TestNoRoomForArtefacts(t *testing.T) {
	full := os.Getenv(fullDiskVariable)
	if full == "" {
		// Root may mount; an ordinary user needs a namespace in which they are root.
		unshare := "-m"
		if os.Getuid() != 0 {
			unshare = "-Urm"
		}
		if out, err := exec.Command("unshare", unshare, "mount", "-t", "tmpfs", "none", "/tmp").CombinedOutput(); err != nil {
			t.Skipf("this machine lets this user mount nothing, not even in a namespace: %s", out)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("unshare", unshare, "sh", "-c", `mount -t tmpfs -o size=32k none "$1" && exec "$0" -test.run "^$2\$" -test.v`, self, t.TempDir(), t.Name())
		cmd.Env = append(os.Environ(), fullDiskVariable+"="+cmd.Args[len(cmd.Args)-2])
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	res := launch(t, bareGuest(t), fakeOptions(t, "dies in cont"))
	if _, err := res.Save(full, "one", "snplaunch run"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("saving to a full disk: %v", err)
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) > 0 {
		t.Errorf("of the artefacts %v is left, %v", entries, err)
	}
}
