package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/sim/kvm"
)

// A description's files are in the guest before its command is, its command has the
// environment, and what the command leaves comes out although it failed.
func TestRunWithFilesAndEnvironment(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	contents := bytes.Repeat([]byte{0, 1, 2, 0xFF}, 100000)
	if err := os.WriteFile(in, contents, 0o644); err != nil {
		t.Fatal(err)
	}
	g := aGuest(t)
	g.Files.In = []guest.FileIn{{Host: in, Guest: "/srv/a/b", Mode: 0o600}}
	g.Files.Out = []guest.FileOut{{Guest: "/tmp/result", Host: out}}
	g.Env = []string{"GREETING=hello there"}
	g.Command = []string{"sh", "-c", `echo "$GREETING"; ls -l /srv/a/b; cat /srv/a/b > /tmp/result; dd if=/dev/zero of=/dev/ttyS0 bs=65536 count=16; exit 9`}
	g.Timeouts.Command = time.Minute
	var stdout lockedBuffer
	o := options(t)
	o.Stdout = &stdout
	var console int
	o.Console = writerFunc(func(p []byte) (int, error) { console += len(p); return len(p), nil })
	res := launch(t, g, o)
	if res.Verdict != launcher.VerdictMatch || res.GuestExit == nil || *res.GuestExit != 9 || res.Outcome != launcher.OutcomeGuestFailed {
		t.Fatalf("verdict %s, outcome %s, exit %v, %+v", res.Verdict, res.Outcome, res.GuestExit, res.Error)
	}
	if s := stdout.String(); !strings.HasPrefix(s, "hello there\n-rw-------") {
		t.Errorf("the command said %q", s)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, contents) {
		t.Errorf("%d bytes came out, %v; want %d", len(got), err, len(contents))
	}
	// A mebibyte over the slow serial port.
	if console < 1<<20 || len(res.Console) > 64<<10 {
		t.Errorf("%d bytes came over the serial port, of which %d are kept", console, len(res.Console))
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("more than the two files are in the folder: %v", entries)
	}
}

// What cannot be copied is refused before anything is launched.
func TestFilesThatCannotBeCopied(t *testing.T) {
	for _, change := range []func(*guest.Guest){
		func(g *guest.Guest) { g.Files.In = []guest.FileIn{{Host: "/nowhere/file", Guest: "/x"}} },
		func(g *guest.Guest) { g.Files.In = []guest.FileIn{{Host: t.TempDir(), Guest: "/x"}} },
		func(g *guest.Guest) { g.Files.Out = []guest.FileOut{{Guest: "/x", Host: "/nowhere/file"}} },
	} {
		g := aGuest(t)
		change(g)
		if _, err := launcher.Run(t.Context(), g, options(t)); err == nil || !strings.Contains(err.Error(), "files.") {
			t.Errorf("%+v: %v", g.Files, err)
		}
	}
}

// Each stage has its own limit, and says what was seen last.
func TestStageTimeouts(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits guest.Timeouts
		says   string
	}{
		{"launch", guest.Timeouts{Launch: time.Millisecond}, "the launch took longer than 1ms"},
		{"firmware", guest.Timeouts{Firmware: time.Millisecond}, "the firmware took longer than 1ms; last seen: firmware"},
		{"kernel", guest.Timeouts{Kernel: time.Millisecond}, "the kernel took longer than 1ms; last seen: the kernel's EFI stub"},
		{"command", guest.Timeouts{Command: 100 * time.Millisecond}, "the command took longer than 100ms; last seen: command"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := aGuest(t)
			g.Command = []string{"sleep", "1000"}
			g.Timeouts = c.limits
			res := launch(t, g, options(t))
			if res.Verdict != launcher.VerdictTimeout || res.Outcome != launcher.OutcomeTimedOut || !strings.Contains(res.Error.Message, c.says) ||
				!strings.Contains(res.Error.Advice, "timeouts."+c.name) {
				t.Errorf("verdict %s, outcome %s, %+v; want %q said", res.Verdict, res.Outcome, res.Error, c.says)
			}
		})
	}
}

// The backend for hardware goes all the way to the running VM where /dev/sev and
// /dev/kvm are simulated by somebody else, and says soon that nothing ran there.
func TestHardwareBackendUnderSimExec(t *testing.T) {
	for _, view := range simViews() {
		for _, c := range []struct {
			name    string
			exec    []string
			verdict string
			phase   string
			source  string
		}{
			{"launches", nil, "not-attested", "", ""},
			{"refused at a page", []string{"--fault", "SNP_LAUNCH_UPDATE:5=INVALID_PAGE_STATE"}, "launch-failed", "UPDATE", "metadata 3: CPUID"},
			{"refused at the start", []string{"--fault", "SNP_LAUNCH_START=POLICY_FAILURE"}, "launch-failed", "START", ""},
			{"refused at the end", []string{"--fault", "SNP_LAUNCH_FINISH=BAD_MEASUREMENT"}, "launch-failed", "FINISH", ""},
		} {
			t.Run(view+"/"+c.name, func(t *testing.T) {
				args := append([]string{"sim", "exec", "--view", view}, c.exec...)
				p := parts(t)
				cmd, _ := command(t, "hardware", append(args, "--", snplaunch(t), "run", "--backend", "snp", "--keep", "never", "--json", "--timeout", "2m",
					"--ovmf", p.Firmware.Path, "--kernel", p.Kernel.Path, "--qemu", p.QEMU.Path)...)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				err := cmd.Run()
				var res struct {
					Verdict, Backend string
					Computed         string
					Error            launcher.Failure
				}
				if jsonErr := json.Unmarshal(stdout.Bytes(), &res); jsonErr != nil {
					t.Fatalf("%v, %v\n%s", err, jsonErr, &stderr)
				}
				source := ""
				if res.Error.Page != nil {
					source = res.Error.Page.Source
				}
				if cmd.ProcessState.ExitCode() != 1 || res.Backend != "snp" || res.Verdict != c.verdict || string(res.Error.Phase) != c.phase || source != c.source {
					t.Errorf("exit %v, %+v, page %v; want %s, phase %q, page %q", err, res, res.Error.Page, c.verdict, c.phase, c.source)
				}
				if c.phase == "" && !strings.Contains(stderr.String(), "launch digest "+res.Computed+" (SIMULATED)") {
					t.Errorf("the outer supervisor heard another digest than %s:\n%s", res.Computed, &stderr)
				}
			})
		}
	}
}

// A phase is known from the software host's own record too.
func TestPhasesOnTheSoftwareHost(t *testing.T) {
	for fault, want := range map[string]string{
		"SNP_LAUNCH_START=POLICY_FAILURE":        "START",
		"SNP_LAUNCH_UPDATE:2=INVALID_PAGE_STATE": "UPDATE ZERO page at guest address 0x800000 (metadata 0: SNP_SEC_MEM)",
		"SNP_LAUNCH_UPDATE:8=INVALID_PAGE_STATE": "UPDATE NORMAL page at guest address 0x810000 (kernel hashes)",
		"SNP_LAUNCH_FINISH=BAD_MEASUREMENT":      "FINISH",
	} {
		g := aGuest(t)
		o := options(t)
		o.LaunchOnly = true
		f, err := kvm.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		o.Simulation.Faults = []kvm.Fault{f}
		res := launch(t, g, o)
		got := ""
		if res.Error != nil {
			got = string(res.Error.Phase)
			if res.Error.Page != nil {
				got += " " + res.Error.Page.String()
			}
		}
		if res.Verdict != launcher.VerdictLaunchFailed || got != want {
			t.Errorf("%s: verdict %s, %q; want %q", fault, res.Verdict, got, want)
		}
	}
}

// pty makes a terminal: the side of the person, and that of the program.
func pty(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	var unlock int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock))); errno != 0 {
		t.Fatal(errno)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// A person at a terminal has the guest's console, a shell on it, and a key to leave
// it by; the terminal is then what it was.
func TestInteractive(t *testing.T) {
	person, program := pty(t)
	before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	p := parts(t)
	cmd, _ := command(t, "interactive", "run", "--interactive", "--keep", "never", "--ovmf", p.Firmware.Path, "--kernel", p.Kernel.Path, "--initrd", p.Initrd.Path, "--append", "console=ttyS0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var screen lockedBuffer
	go func() { _, _ = io.Copy(&screen, person) }()
	see := func(what string) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !strings.Contains(screen.String(), what); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) || cmd.ProcessState != nil {
				_ = cmd.Process.Kill()
				t.Fatalf("%q is not to be seen:\n%s", what, screen.String())
			}
		}
	}
	typed := func(s string) {
		if _, err := person.WriteString(s); err != nil {
			t.Error(err)
		}
	}
	see("Linux version")
	see("$ ") // of the shell
	during, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || during.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the terminal is not raw: %+v, %v", during, err)
	}
	typed("echo $((40+2))-answers\r")
	see("42-answers")
	// Ctrl-C ends the program that runs there, not the shell, and does not reach us.
	typed("echo $((1+1))-begins; sleep 1000; echo $((50+2))-answers\r")
	see("2-begins")
	for end := time.Now().Add(time.Minute); !strings.Contains(screen.String(), "52-answers") && time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		typed("\x03") // again, where it came before the program was there
	}
	see("52-answers")
	typed("\x1d?")
	see("end the guest")
	typed("\x1dq")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v\n%s", err, screen.String())
		}
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatalf("it does not end:\n%s", screen.String())
	}
	after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is %+v, was %+v, %v", after, before, err)
	}
	see("verdict     match")
	if l := gone(t, "interactive"); l != nil {
		t.Errorf("processes are left: %q", l)
	}
	// Without a terminal there is nothing to be interactive with.
	other, _ := command(t, "interactive", "run", "--interactive")
	if out, err := other.CombinedOutput(); other.ProcessState.ExitCode() != 2 || !bytes.Contains(out, []byte("needs a terminal")) {
		t.Errorf("without a terminal: %v, %s", err, out)
	}
}
