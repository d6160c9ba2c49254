package e2e_test

import (
	"bufio"
	"fmt"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/sim/supervise"
)

// qemuSNP is a QEMU command line for an SNP guest on the firmware alone.
func qemuSNP(t testing.TB, vcpus int, more ...string) []string {
	p := parts(t)
	return append([]string{p.QEMU.Path, "-nodefaults", "-display", "none", "-no-reboot", "-smp", strconv.Itoa(vcpus), "-m", "512M",
		"-machine", "q35,accel=kvm,confidential-guest-support=sev0,memory-backend=ram0",
		"-object", "memory-backend-memfd,id=ram0,size=512M,share=true", "-cpu", "EPYC-v4",
		"-object", fmt.Sprintf("sev-snp-guest,id=sev0,cbitpos=%d,reduced-phys-bits=1", host.CBitPos()),
		"-bios", p.Firmware.Path}, more...)
}

// cpuTime is what this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// firstAnswer starts QEMU under tcg and measures until it has answered over QMP.
func firstAnswer(b *testing.B, vcpus int) time.Duration {
	b.Helper()
	p := parts(b)
	cmd := exec.Command(p.QEMU.Path, "-nodefaults", "-display", "none", "-no-reboot", "-S", "-smp", strconv.Itoa(vcpus), "-m", "512M",
		"-machine", "q35,accel=tcg,memory-backend=ram0", "-object", "memory-backend-memfd,id=ram0,size=512M,share=true", "-cpu", "EPYC-v4",
		"-bios", p.Firmware.Path, "-qmp", "stdio")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	fmt.Fprintln(in, `{"execute":"qmp_capabilities"}`)
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), `"return"`) {
	}
	took := time.Since(start)
	fmt.Fprintln(in, `{"execute":"quit"}`)
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return took
}

// median sorts its argument.
func median(d []time.Duration) time.Duration {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	return d[len(d)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkLaunch measures what supervision costs where it matters: from
// QEMU's start to SNP_LAUNCH_FINISH, beside what the same QEMU needs under tcg from
// its start to its first QMP answer, in turn. launch/tcg is the ratio of the medians;
// cpu-ms is the processor time of this process for one launch.
func BenchmarkLaunch(b *testing.B) {
	for _, vcpus := range []int{1, 8} {
		b.Run(fmt.Sprintf("vcpus=%d", vcpus), func(b *testing.B) {
			ca, err := psp.LoadOrCreateCA(dataFolder, nil)
			if err != nil {
				b.Fatal(err)
			}
			var launches, tcg, cpu []time.Duration
			for b.Loop() {
				tcg = append(tcg, firstAnswer(b, vcpus))
				platform, err := psp.New(psp.DefaultConfig(), ca)
				if err != nil {
					b.Fatal(err)
				}
				var start time.Time
				finished := make(chan time.Duration, 1)
				machine := kvm.NewHost(platform, kvm.Options{Observe: func(e kvm.Event) {
					if e.Kind == kvm.EventFinish && e.Errno == 0 {
						finished <- time.Since(start)
					}
				}})
				args := qemuSNP(b, vcpus)
				before := cpuTime(b)
				start = time.Now()
				p, err := supervise.Start(exec.Command(args[0], args[1:]...), supervise.Config{Host: machine, CBitPos: -1, Logf: b.Logf})
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Wait(); err != nil {
					b.Fatal(err)
				}
				cpu = append(cpu, cpuTime(b)-before)
				select {
				case d := <-finished:
					launches = append(launches, d)
				default:
					b.Fatal("QEMU ended without SNP_LAUNCH_FINISH")
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(median(launches)), "launch-ms")
			b.ReportMetric(ms(median(tcg)), "tcg-ms")
			b.ReportMetric(float64(median(launches))/float64(median(tcg)), "launch/tcg")
			b.ReportMetric(ms(median(cpu)), "cpu-ms")
		})
	}
}
