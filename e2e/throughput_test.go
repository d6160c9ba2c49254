package e2e_test

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// BenchmarkLaunchOnly measures how many launches a minute the harness can make of
// one vCPU with OVMF.amdsev.fd, alone and with kernel and initrd, and what each
// costs in processor time of this process and of QEMU, which says more than the
// rate on a machine that does other work as well.
func BenchmarkLaunchOnly(b *testing.B) {
	alone := aGuest(b)
	alone.Kernel, alone.Initrd, alone.Append = "", "", ""
	for _, c := range []struct {
		name string
		g    *guest.Guest
	}{{"firmware", alone}, {"kernel", aGuest(b)}} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", c.name, workers), func(b *testing.B) {
				shared := launcher.NewShared()
				defer shared.Close()
				o := options(b)
				o.LaunchOnly, o.Shared = true, shared
				launch(b, c.g, o) // makes the root and the sealed copies
				own, qemu, start := cpuTime(b), childrenTime(b), time.Now()
				work := make(chan int)
				var all sync.WaitGroup
				for range workers {
					all.Go(func() {
						for range work {
							if res := launch(b, c.g, o); res.Verdict != launcher.VerdictMatch {
								b.Error(res.Verdict, res.Error)
							}
						}
					})
				}
				n := 0
				for b.Loop() {
					work <- n
					n++
				}
				close(work)
				all.Wait()
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(n)/time.Since(start).Minutes(), "cells/min")
				b.ReportMetric(ms(cpuTime(b)-own)/float64(n), "own-cpu-ms/cell")
				b.ReportMetric(ms(childrenTime(b)-qemu)/float64(n), "qemu-cpu-ms/cell")
			})
		}
	}
}

// BenchmarkBareQEMU is the yardstick: what a QEMU of the same machine costs that is
// started and told to quit, and launches nothing.
func BenchmarkBareQEMU(b *testing.B) {
	g := aGuest(b)
	began := childrenTime(b)
	for b.Loop() {
		cmd := exec.Command(options(b).QEMU, "-machine", "q35,smm=off", "-accel", "tcg", "-nodefaults", "-display", "none", "-cpu", g.CPU,
			"-m", fmt.Sprintf("%dM", g.MemoryMiB), "-bios", g.Firmware, "-device", "virtio-serial-pci", "-S", "-qmp", "stdio")
		cmd.Stdin = strings.NewReader(`{"execute": "qmp_capabilities"}{"execute": "quit"}`)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(childrenTime(b)-began)/float64(b.N), "qemu-cpu-ms/cell")
}

// childrenTime is what children that have ended have used.
func childrenTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
