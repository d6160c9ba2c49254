package guestagent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/snplaunch/snplaunch/agent"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Each sign alone must do: a guest that SEV-SNP protects never gets the
// simulated device.
func TestSNPActive(t *testing.T) {
	const plain = "processor\t: 0\nflags\t\t: fpu sev sev_es svm\n\nprocessor\t: 1\nflags\t\t: fpu\n"
	for _, c := range []struct {
		name    string
		file    string
		cpuinfo string
		log     string
		want    bool
	}{
		{"an ordinary guest", "", plain, "<6>[    0.1] smp: Bringing up\n", false},
		{"nothing can be read", "", "", "", false},
		{"SEV-ES alone", "", plain, "<6>[    0.09] Memory Encryption Features active: AMD SEV SEV-ES\n", false},
		{"another line about SEV-SNP", "", plain, "<6>[    0.09] Command line: SEV-SNP\n", false},
		{"the platform device", "sys/bus/platform/devices/sev-guest", plain, "", true},
		{"the folder of the VMPL", "sys/devices/system/cpu/sev/vmpl", plain, "", true},
		{"the CPU flag", "", "flags\t\t: fpu sev sev_es sev_snp\n", "", true},
		{"the kernel's log", "", plain, "<6>[    0.09] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "proc/cpuinfo"), c.cpuinfo)
			if c.file != "" {
				write(t, filepath.Join(root, c.file), "0\n")
			}
			if got := snpActiveIn(root, c.log); got != c.want {
				t.Errorf("SEV-SNP active: %v, want %v", got, c.want)
			}
		})
	}
}

func TestFindPort(t *testing.T) {
	class := t.TempDir()
	write(t, filepath.Join(class, "vport1p1", "name"), "org.example.other\n")
	write(t, filepath.Join(class, "vport2p3", "name"), agent.PortName+"\n")
	if got, err := findPort(class, agent.PortName); err != nil || got != "vport2p3" {
		t.Errorf("port %q, %v; want vport2p3", got, err)
	}
	if _, err := findPort(class, "org.example.none"); !errors.Is(err, errNoPort) {
		t.Errorf("error %v, want errNoPort", err)
	}
}

// A process that is the first of a container is not the init of a machine.
func TestIsInit(t *testing.T) {
	if IsInit() {
		t.Error("this test takes itself for init")
	}
}

// talk gives a host's client of a guest's session that has no virtio-serial port.
func talk(t *testing.T) *agent.Client {
	t.Helper()
	host, guest := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- hold(guest, []string{"a note"}) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := agent.Connect(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.Err() == nil {
			if err := c.Bye(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("the guest's side: %v", err)
			}
		}
		c.Close()
	})
	return c
}

func TestCommand(t *testing.T) {
	c := talk(t)
	if h := c.Hello(); len(h.Notes) == 0 || h.Notes[0] != "a note" || h.Kernel == "" {
		t.Errorf("hello %+v", h)
	}
	for _, x := range []struct {
		name           string
		cmd            agent.Command
		stdout, stderr string
		exit           agent.Exit
	}{
		{"both streams and the code", agent.Command{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}, "out\n", "err\n", agent.Exit{Code: 7}},
		{"a signal", agent.Command{Args: []string{"sh", "-c", "kill -9 $$"}}, "", "", agent.Exit{Signal: 9}},
		{"environment and folder", agent.Command{Args: []string{"sh", "-c", "echo $X; pwd"}, Env: []string{"X=y"}, Dir: "/usr"}, "y\n/usr\n", "", agent.Exit{}},
		{"an environment over the agent's own", agent.Command{Args: []string{"/usr/bin/env", "sh", "-c", `env | grep -c "^HOME="; echo $HOME $TERM`}, Env: []string{"HOME=/a", "TERM=b", "HOME=/c"}}, "1\n/c b\n", "", agent.Exit{}},
		{"nothing to read", agent.Command{Args: []string{"cat"}}, "", "", agent.Exit{}},
		{"something to read", agent.Command{Args: []string{"cat"}, Stdin: strings.NewReader(strings.Repeat("abc", 500000))}, strings.Repeat("abc", 500000), "", agent.Exit{}},
		{"more to read than it wants", agent.Command{Args: []string{"head", "-c", "3"}, Stdin: strings.NewReader(strings.Repeat("abc", 500000))}, "abc", "", agent.Exit{}},
		{"what it does not read", agent.Command{Args: []string{"true"}, Stdin: strings.NewReader("abc")}, "", "", agent.Exit{}},
		{"more than a pipe holds", agent.Command{Args: []string{"head", "-c", "300000", "/dev/zero"}}, strings.Repeat("\x00", 300000), "", agent.Exit{}},
	} {
		t.Run(x.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			x.cmd.Stdout, x.cmd.Stderr = &stdout, &stderr
			exit, err := c.Run(t.Context(), x.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if stdout.String() != x.stdout || stderr.String() != x.stderr || exit != x.exit {
				t.Errorf("stdout %.40q, stderr %.40q, exit %+v", stdout.String(), stderr.String(), exit)
			}
		})
	}
}

// A command that nobody waits for any more is killed with its children, also
// when it has not read what was sent to it.
func TestCommandThatIsCancelled(t *testing.T) {
	c := talk(t)
	for _, stdin := range []io.Reader{nil, strings.NewReader(strings.Repeat("x", 1<<20))} {
		mark := filepath.Join(t.TempDir(), "alive")
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Run(ctx, agent.Command{
			Args:  []string{"sh", "-c", "sh -c 'echo go; sleep 1000; touch " + mark + "'; touch " + mark},
			Stdin: stdin,
			Stdout: writerFunc(func(p []byte) (int, error) {
				cancel()
				return len(p), nil
			}),
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if exists(mark) {
			t.Error("a part of the command lived on")
		}
	}
	if exit, err := c.Run(t.Context(), agent.Command{Args: []string{"true"}}); err != nil || exit.Status() != 0 {
		t.Errorf("the next command: %+v, %v", exit, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A process that outlives the command and holds its output open holds nothing up.
func TestCommandThatLeavesAProcessBehind(t *testing.T) {
	c := talk(t)
	var stdout bytes.Buffer
	left, err := c.Run(t.Context(), agent.Command{Args: []string{"sh", "-c", "sleep 1000 & echo $!"}, Stdout: &stdout})
	if err != nil || left.Code != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(stdout.String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what it left behind had ended: %v", err)
	}
}

func TestCommandThatDoesNotExist(t *testing.T) {
	c := talk(t)
	for _, stdin := range []io.Reader{nil, strings.NewReader("x")} {
		_, err := c.Run(t.Context(), agent.Command{Args: []string{"no-such-command-here"}, Stdin: stdin})
		var e *agent.Error
		if !errors.As(err, &e) || e.Stage != agent.StageCommand || !strings.Contains(e.Message, "no-such-command-here") {
			t.Errorf("error %v", err)
		}
	}
}

// Files go in and come out as they are, with folders on the way and their mode,
// and leave nothing else behind.
func TestFiles(t *testing.T) {
	c := talk(t)
	dir := t.TempDir()
	for n, size := range []int{0, 1, agent.ChunkSize, 3*agent.ChunkSize + 7} {
		contents := bytes.Repeat([]byte{byte(n), 0xA5, 0}, size)[:size]
		path := filepath.Join(dir, "a", "b", "file")
		if err := c.Put(t.Context(), path, 0o751, bytes.NewReader(contents)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, contents) {
			t.Errorf("%d bytes put: %d there, %v", size, len(got), err)
		}
		var out bytes.Buffer
		if mode, err := c.Get(t.Context(), path, &out); err != nil || mode != 0o751 || !bytes.Equal(out.Bytes(), contents) {
			t.Errorf("%d bytes back: %d, mode %v, %v", size, out.Len(), mode, err)
		}
	}
	var out bytes.Buffer
	if _, err := c.Get(t.Context(), "/proc/self/status", &out); err != nil || !strings.HasPrefix(out.String(), "Name:") {
		t.Errorf("a file that says it has no bytes: %q, %v", &out, err)
	}
	alone(t, filepath.Join(dir, "a", "b"), "file")
}

// alone fails the test where a folder has other files than those.
func alone(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s has %q, want %q", dir, names, want)
	}
}

// What cannot be written or read is refused in a sentence, what was there stays,
// no part is left, and the conversation goes on.
func TestFilesThatFail(t *testing.T) {
	c := talk(t)
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	write(t, kept, "before")
	write(t, filepath.Join(dir, "sub", "x"), "")
	refused := func(what string, err error, want string) {
		t.Helper()
		var e *agent.Error
		if !errors.As(err, &e) || e.Stage != agent.StageFile || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v, want a refusal about %q", what, err, want)
		}
	}
	much := func() io.Reader { return bytes.NewReader(make([]byte, 10*agent.ChunkSize)) }
	refused("a file over a folder", c.Put(t.Context(), filepath.Join(dir, "sub"), 0o600, much()), "sub")
	refused("a folder", c.Put(t.Context(), dir+"/", 0o600, much()), "names a folder")
	refused("a relative path", c.Put(t.Context(), "x", 0o600, much()), "not an absolute path")
	refused("below a file", c.Put(t.Context(), kept+"/x", 0o600, much()), "kept")
	_, err := c.Get(t.Context(), filepath.Join(dir, "none"), io.Discard)
	refused("what is not there", err, "no such file")
	_, err = c.Get(t.Context(), dir, io.Discard)
	refused("a folder", err, "not a regular file")
	_, err = c.Get(t.Context(), "x", io.Discard)
	refused("a relative path", err, "not an absolute path")

	broken := errors.New("the disk here is broken")
	if err := c.Put(t.Context(), kept, 0o600, io.MultiReader(much(), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.Get(ctx, "/dev/../proc/self/exe", writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })); !errors.Is(err, context.Canceled) {
		t.Errorf("a file that is given up: %v", err)
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "before" {
		t.Errorf("what was there: %q, %v", b, err)
	}
	alone(t, dir, "kept", "sub")
}

// A host that goes away in the midst of a file leaves no part of it, and ends
// the command that it was running.
func TestHostThatGoesAway(t *testing.T) {
	dir := t.TempDir()
	for _, request := range []agent.Message{
		{Put: &agent.Put{Path: filepath.Join(dir, "file"), Mode: 0o600}},
		{Run: &agent.Run{Args: []string{"sleep", "1000"}}},
	} {
		host, guest := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- hold(guest, nil) }()
		if _, err := agent.ReadMessage(host); err != nil {
			t.Fatal(err)
		}
		if err := agent.WriteMessage(host, &request); err != nil {
			t.Fatal(err)
		}
		if request.Put != nil {
			if err := agent.WriteMessage(host, &agent.Message{Chunk: &agent.Chunk{Bytes: []byte("part")}}); err != nil {
				t.Fatal(err)
			}
		}
		host.Close()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("no error")
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the guest's side does not end")
		}
	}
	alone(t, dir)
}

// Without any device a report cannot be had, and the host hears why.
func TestNoDevice(t *testing.T) {
	if exists(devicePath) {
		t.Skip("this machine has a " + devicePath)
	}
	c := talk(t)
	_, err := c.Attest(t.Context(), [64]byte{}, false)
	var e *agent.Error
	if !errors.As(err, &e) || e.Stage != agent.StageDevice || c.Hello().Device != agent.DeviceNone {
		t.Errorf("hello %+v, error %v", c.Hello(), err)
	}
}

func TestLoadModules(t *testing.T) {
	dir := t.TempDir()
	if err := loadModules(dir, "absent"); err != nil {
		t.Errorf("a module that the initrd does not bring: %v", err)
	}
	write(t, filepath.Join(dir, "broken", "00-broken.ko"), "no module")
	if err := loadModules(dir, "broken"); err == nil || !strings.Contains(err.Error(), "00-broken.ko") {
		t.Errorf("error %v, want one that names the file", err)
	}
}
