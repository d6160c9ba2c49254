package e2e_test

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/sim/supervise"
	"github.com/snplaunch/snplaunch/snp"
)

// epycs lists the EPYC models that a QEMU has, with versions and aliases.
func epycs(t *testing.T, qemu string) []string {
	t.Helper()
	out, err := exec.Command(qemu, "-cpu", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(f[0], "EPYC") {
			names = append(names, f[0])
		}
	}
	return names
}

// launched starts a QEMU without a kernel on a software host whose firmware
// takes every CPUID page, and gives what that host was told to measure.
func launched(t *testing.T, qemu, firmware, cpu string, vcpus int) (snp.LaunchDigest, []snp.Update) {
	t.Helper()
	ca, err := psp.LoadOrCreateCA(dataFolder, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := psp.DefaultConfig()
	cfg.CPUIDCheck = false
	platform, err := psp.New(cfg, ca)
	if err != nil {
		t.Fatal(err)
	}
	type measured struct {
		digest  snp.LaunchDigest
		updates []snp.Update
	}
	finished := make(chan measured, 1)
	machine := kvm.NewHost(platform, kvm.Options{Observe: func(e kvm.Event) {
		if e.Kind == kvm.EventFinish && e.Errno == 0 {
			finished <- measured{e.Guest.LaunchDigest(), e.Guest.Updates()}
		}
	}})
	p, err := supervise.StartForeign(qemu, []string{qemu, "-machine", "q35,smm=off,confidential-guest-support=sev0", "-accel", "kvm",
		"-object", "sev-snp-guest,id=sev0,cbitpos=" + strconv.Itoa(int(host.CBitPos())) + ",reduced-phys-bits=1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-cpu", cpu, "-smp", strconv.Itoa(vcpus), "-m", "64M", "-bios", firmware,
	}, supervise.Config{Host: machine, CBitPos: int(host.CBitPos())})
	if err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { p.Signal(syscall.SIGKILL) })
	defer stop.Stop()
	status, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-finished:
		return m.digest, m.updates
	default:
		t.Fatalf("%s did not launch with %s: exit status %d", qemu, cpu, status)
		return snp.LaunchDigest{}, nil
	}
}

// TestEveryModel launches QEMU with every EPYC model that it knows, and wants
// the save areas that the software host made of QEMU's registers to be the
// computed ones, page by page and in the digest.
func TestEveryModel(t *testing.T) {
	p := parts(t)
	qemus := map[string]string{"QEMU": p.QEMU.Path}
	if next, err := images.Find(context.Background(), images.Options{QEMUNext: true}); err == nil && next.QEMUNext != nil && next.QEMUNext.Path != "" {
		qemus["next QEMU"] = next.QEMUNext.Path
	}
	for name, qemu := range qemus {
		models := epycs(t, qemu)
		if len(models) < 10 {
			t.Errorf("%s lists %q, which are few", qemu, models)
		}
		// And what properties make of a model.
		models = append(models, "EPYC-v4,family=25,model=0x11,stepping=1", "EPYC-Milan,family=6,model=158,stepping=10", "EPYC,family=15")
		for _, cpu := range models {
			t.Run(name+"/"+cpu, func(t *testing.T) {
				g := guest.Default()
				g.Firmware, g.CPU, g.VCPUs, g.MemoryMiB = p.Firmware.Path, cpu, 2, 64
				in, err := g.Open()
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				r, err := measure.Measure(&g, in)
				if err != nil {
					t.Fatal(err)
				}
				digest, updates := launched(t, qemu, g.Firmware, cpu, g.VCPUs)
				want := r.Updates()
				if len(updates) != len(want) {
					t.Fatalf("QEMU launched %d pages, %d were computed", len(updates), len(want))
				}
				for i := range want {
					if updates[i].Type == snp.PageVMSA && updates[i] != want[i] {
						t.Errorf("save area %d: QEMU's %+v, computed %+v", i, updates[i], want[i])
					}
				}
				if digest != r.LaunchDigest {
					t.Errorf("launched %s, computed %s", digest, r.LaunchDigest)
				}
			})
		}
	}
}
