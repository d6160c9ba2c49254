package guestagent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
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

// ask plays the host for a session that has no virtio-serial port.
func ask(t *testing.T, req agent.Request) (res *agent.Result, stdout, stderr string, err error) {
	t.Helper()
	host, guest := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- hold(guest, []string{"a note"}) }()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err = agent.Dialogue(ctx, host, req, agent.Handlers{Output: func(s agent.Stream, b []byte) {
		if s == agent.Stdout {
			out.Write(b)
		} else {
			errs.Write(b)
		}
	}})
	host.Close()
	<-ended
	return res, out.String(), errs.String(), err
}

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		name           string
		req            agent.Request
		stdout, stderr string
		code           int
	}{
		{"both streams and the code", agent.Request{Command: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}, "out\n", "err\n", 7},
		{"a signal", agent.Request{Command: []string{"sh", "-c", "kill -9 $$"}}, "", "", 137},
		{"environment and folder", agent.Request{Command: []string{"sh", "-c", "echo $X; pwd"}, Env: []string{"X=y"}, Dir: "/usr"}, "y\n/usr\n", "", 0},
		{"nothing to read", agent.Request{Command: []string{"cat"}}, "", "", 0},
		{"more than a pipe holds", agent.Request{Command: []string{"head", "-c", "300000", "/dev/zero"}}, strings.Repeat("\x00", 300000), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.req.NoReport = true
			res, stdout, stderr, err := ask(t, c.req)
			if err != nil {
				t.Fatal(err)
			}
			if stdout != c.stdout || stderr != c.stderr || res.ExitCode == nil || *res.ExitCode != c.code {
				t.Errorf("stdout %.40q, stderr %.40q, code %v", stdout, stderr, res.ExitCode)
			}
			if len(res.Hello.Notes) == 0 || res.Hello.Notes[0] != "a note" || res.Hello.Kernel == "" {
				t.Errorf("hello %+v", res.Hello)
			}
		})
	}
}

// A process that outlives the command and holds its output open holds nothing up.
func TestCommandThatLeavesAProcessBehind(t *testing.T) {
	start := time.Now()
	_, stdout, _, err := ask(t, agent.Request{NoReport: true, Command: []string{"sh", "-c", "sleep 15 & echo done"}})
	if err != nil || stdout != "done\n" || time.Since(start) > 10*time.Second {
		t.Errorf("stdout %q, %v after %v", stdout, err, time.Since(start))
	}
}

func TestCommandThatDoesNotExist(t *testing.T) {
	_, _, _, err := ask(t, agent.Request{NoReport: true, Command: []string{"no-such-command-here"}})
	var e *agent.Error
	if !errors.As(err, &e) || e.Stage != agent.StageCommand || !strings.Contains(e.Message, "no-such-command-here") {
		t.Errorf("error %v", err)
	}
}

// Without any device a report cannot be had, and the host hears why.
func TestNoDevice(t *testing.T) {
	if exists(devicePath) {
		t.Skip("this machine has a " + devicePath)
	}
	res, _, _, err := ask(t, agent.Request{Nonce: make([]byte, 64)})
	var e *agent.Error
	if !errors.As(err, &e) || e.Stage != agent.StageDevice || res.Hello.Device != agent.DeviceNone {
		t.Errorf("hello %+v, error %v", res.Hello, err)
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
