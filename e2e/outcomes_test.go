package e2e_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/u-root/mkuimage/cpio"
	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// What became of a guest is told from its end and its console, and so is how
// far it came.
func TestOutcomesOfGuestsThatDoNotAttest(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*guest.Guest)
		verdict launcher.Verdict
		outcome launcher.Outcome
		says    string
	}{
		{"kernel without a root", func(g *guest.Guest) { g.Append = "console=ttyS0 panic=-1 rdinit=/nonexistent" },
			launcher.VerdictNotAttested, launcher.OutcomePanicked, "Kernel panic - not syncing"},
		{"a kernel that stands after its panic", func(g *guest.Guest) { g.Append = "console=ttyS0 rdinit=/nonexistent" },
			launcher.VerdictNotAttested, launcher.OutcomePanicked, "Kernel panic - not syncing"},
		{"an init that spins", func(g *guest.Guest) {
			g.Append, g.Initrd, g.Timeouts.Kernel = "console=ttyS0", spinning(t), 15*time.Second
		}, launcher.VerdictTimeout, launcher.OutcomeTimedOut, "the kernel took longer than 15s; last seen: "},
		{"firmware without a kernel", func(g *guest.Guest) { g.Kernel, g.Initrd, g.Append = "", "", "" },
			launcher.VerdictNotAttested, launcher.OutcomeNotBooted, "BdsDxe: No bootable option"},
		{"no time", func(g *guest.Guest) { g.Command, g.Timeout = []string{"sleep", "1000"}, 12*time.Second },
			launcher.VerdictTimeout, launcher.OutcomeTimedOut, "longer than 12s; last seen: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := aGuest(t)
			g.IDBlock.Mode = guest.IDBlockNone
			c.change(g)
			res := launch(t, g, options(t))
			if res.Verdict != c.verdict || res.Outcome != c.outcome || res.Error == nil || !strings.Contains(res.Error.Message, c.says) {
				t.Errorf("verdict %s, outcome %s, %+v; want %s, %s, and %q said\nconsole:\n%s",
					res.Verdict, res.Outcome, res.Error, c.verdict, c.outcome, c.says, res.Console)
			}
		})
	}
}

// spinning is an initrd whose init does one thing for ever: to jump to itself, as a
// firmware does that has given up.
func spinning(t *testing.T) string {
	t.Helper()
	const base = 0x400000
	var program bytes.Buffer
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	header.Entry = base + 64 + 56
	code := []byte{0xEB, 0xFE} // jmp to itself
	size := uint64(64 + 56 + len(code))
	segment := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Filesz: size, Memsz: size, Align: 0x1000}
	for _, part := range []any{header, segment, code} {
		if err := binary.Write(&program, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "spinning.cpio")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := cpio.Newc.Writer(f)
	records := []cpio.Record{cpio.Directory("dev", 0o755), cpio.StaticFile("init", program.String(), 0o755)}
	if err := errors.Join(cpio.WriteRecords(w, records), cpio.WriteTrailer(w), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// What happens to a guest after it has attested takes nothing back of that.
func TestOutcomesOfGuestsThatHaveAttested(t *testing.T) {
	type result struct {
		outcome launcher.Outcome
		says    string
	}
	for _, c := range []struct {
		name    string
		append  string
		command string
		during  func(*testing.T, *launcher.Session)
		want    result
	}{
		{"a panic", "console=ttyS0", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", nil,
			result{launcher.OutcomePanicked, "Kernel panic - not syncing: sysrq triggered crash"}},
		{"its QEMU killed", "console=ttyS0", "echo started; sleep 1000", func(t *testing.T, s *launcher.Session) {
			if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}, result{launcher.OutcomeEnded, "QEMU was ended by signal 9 (SIGKILL), as the kernel does"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := aGuest(t)
			g.IDBlock.Mode, g.Append = guest.IDBlockNone, c.append
			ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
			defer cancel()
			s, err := launcher.Start(ctx, g, options(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Attest(ctx); err != nil {
				t.Error(err)
			}
			started := &onFirst{do: func() {
				if c.during != nil {
					c.during(t, s)
				}
			}}
			_, err = s.Command(ctx, agent.Command{Args: []string{"sh", "-c", c.command}, Stdout: started, Stderr: io.Discard})
			if err == nil || !strings.Contains(err.Error(), c.want.says) {
				t.Errorf("the command: %v; want %q said", err, c.want.says)
			}
			res, err := s.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict != launcher.VerdictMatch || !res.ReportVerified || res.Outcome != c.want.outcome || res.Error == nil ||
				!strings.Contains(res.Error.Message, c.want.says) || strings.Contains(res.Error.Advice, "agent") {
				t.Errorf("verdict %s, outcome %s, %+v; want match, %s, and %q said", res.Verdict, res.Outcome, res.Error, c.want.outcome, c.want.says)
			}
			var expect e2e.Expect
			if expect.Judge(res, nil) == "" {
				t.Error("a cell whose guest ended so would pass")
			}
		})
	}
}

// A launch whose QEMU is killed before the guest has its report is told as that.
func TestTheLaunchIsGone(t *testing.T) {
	g := aGuest(t)
	g.IDBlock.Mode = guest.IDBlockNone
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	s, err := launcher.Start(ctx, g, options(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range children(t) {
		word, rest, _ := strings.Cut(c, " ")
		if pid, err := strconv.Atoi(word); err == nil && strings.Contains(rest, "confidential-guest-support=") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	const says = "the launch is gone: QEMU was ended by signal 9 (SIGKILL)"
	// Its end is a moment away.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && len(children(t)) > 1; {
		time.Sleep(20 * time.Millisecond)
	}
	if err := s.Attest(ctx); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%v; want %q", err, says)
	}
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	res, err := s.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != launcher.VerdictNotAttested || res.Error == nil || !strings.Contains(res.Error.Message, says) || strings.Contains(res.Error.Advice, "agent") {
		t.Errorf("verdict %s, %+v", res.Verdict, res.Error)
	}
}

// onFirst does something once, when the first byte is written to it.
type onFirst struct {
	once sync.Once
	do   func()
}

func (w *onFirst) Write(p []byte) (int, error) {
	w.once.Do(w.do)
	return len(p), nil
}

// lockedDisk is an image that this process holds as a QEMU that writes to it does (QEMU
// block/file-posix.c: a byte for each permission from 100 up, for each that is not shared from 200 up).
func lockedDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 200}
	if err := errors.Join(f.Truncate(1<<20), unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)); err != nil {
		t.Fatal(err)
	}
	return path
}

// A guest whose QEMU cannot have a device of the description is a launch that failed,
// with QEMU's reason and what to do.
func TestDevicesThatCannotBeHad(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		name   string
		change func(*guest.Guest)
		says   string
		advice string
	}{
		{"a forward", func(g *guest.Guest) {
			g.Network.Mode = guest.NetworkUser
			g.QEMUArgs = []string{"-netdev", fmt.Sprintf("user,id=more,hostfwd=tcp:127.0.0.1:%d-:80", port)}
		}, "Could not set up host forwarding rule", "auto for a free one"},
		{"a disk that another has open", func(g *guest.Guest) { g.Disks = []guest.Disk{{File: lockedDisk(t), Format: "raw"}} },
			"Another process has the disk's image open", "read-only"},
		{"an argument", func(g *guest.Guest) { g.QEMUArgs = []string{"-device", "no-such-device"} }, "no-such-device", "--qemu-arg"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := aGuest(t)
			c.change(g)
			res := launch(t, g, options(t))
			if res.Verdict != launcher.VerdictLaunchFailed || res.Error == nil || res.Error.Phase != launcher.PhaseCommandLine ||
				!strings.Contains(res.Error.Message, c.says) || !strings.Contains(res.Error.Advice, c.advice) || strings.Contains(res.Error.Message, "QEMU B") {
				t.Errorf("verdict %s, %+v; want %q and %q said", res.Verdict, res.Error, c.says, c.advice)
			}
		})
	}
}
