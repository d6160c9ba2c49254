package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/supervise"
)

// supervised runs a command to its end and to the end of all that it has
// started, and gives the command's exit status.
//
// The terminal's signals reach the command by themselves; a SIGTERM or SIGHUP
// that was meant for it is passed on. Once the command has ended, or when asked a
// second time, each of them ends what is left.
func supervised(path string, command []string, cfg supervise.Config) (status int, stats supervise.Stats, err error) {
	defer hold()()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	p, err := supervise.StartForeign(path, command, cfg)
	if err != nil {
		return 0, stats, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		asked := false
		for {
			var s os.Signal
			select {
			case s = <-signals:
			case <-done:
				return
			}
			passOn := s == syscall.SIGTERM || s == syscall.SIGHUP
			select {
			case <-p.Ended():
				p.Kill()
			default:
				if passOn && asked {
					p.Kill()
				} else if passOn {
					asked = true
					p.Signal(s.(syscall.Signal))
				}
			}
		}
	}()
	status, err = p.Wait()
	return status, p.Stats(), err
}

// printStats says what supervision has cost.
func printStats(w io.Writer, s supervise.Stats) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "calls\tanswered\ttotal ms\tmean µs\tmax µs\t  call\n")
	line := func(count, ours int, total, longest time.Duration, name string) {
		fmt.Fprintf(t, "%d\t%d\t%.2f\t%.1f\t%.0f\t  %s\n", count, ours, float64(total.Microseconds())/1000,
			float64(total.Nanoseconds())/1000/float64(max(count, 1)), float64(longest.Nanoseconds())/1000, name)
	}
	var ours int
	var longest time.Duration
	for _, c := range s.Calls {
		line(c.Count, c.Ours, c.Time, c.Max, callName(c.Call))
		ours += c.Ours
		longest = max(longest, c.Max)
	}
	count, total := s.Total()
	line(count, ours, total, longest, "all")
	t.Flush()
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) == nil {
		fmt.Fprintf(w, "processor time of this process %.1f ms, of which answering %.1f ms; memory at most %.1f MiB\n",
			float64(own.Utime.Nano()+own.Stime.Nano())/1e6, float64(s.CPU.Nanoseconds())/1e6, float64(peakMemory())/1024)
	}
}

// peakMemory is the most memory that this process has had, in KiB (VmHWM of
// proc_pid_status(5)); 0 where it is not told. ru_maxrss is not used: it starts
// with the memory of the process that started this one.
func peakMemory() (kib uint64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_, _ = fmt.Sscan(rest, &kib)
		}
	}
	return kib
}

// callName names a held system call.
func callName(c supervise.Call) string {
	if c.NR == unix.SYS_IOCTL {
		return kvm.IoctlName(c.Request)
	}
	return map[int32]string{
		unix.SYS_OPEN: "open", unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2",
		unix.SYS_STAT: "stat", unix.SYS_LSTAT: "lstat", unix.SYS_NEWFSTATAT: "newfstatat", unix.SYS_STATX: "statx",
		unix.SYS_ACCESS: "access", unix.SYS_FACCESSAT: "faccessat", unix.SYS_FACCESSAT2: "faccessat2",
		unix.SYS_EXECVE: "execve", unix.SYS_EXECVEAT: "execveat",
		unix.SYS_WRITE: "write", unix.SYS_WRITEV: "writev", unix.SYS_EXIT_GROUP: "exit_group",
	}[c.NR]
}
