package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/sim/supervise"
	"github.com/snplaunch/snplaunch/snp"
)

// testQEMU is a QEMU under test.
type testQEMU struct {
	name  string // "10" or "11", by its major version
	path  string
	major int
	full  string // "10.0.2"
}

func (q testQEMU) isVersion(prefix string) bool { return strings.HasPrefix(q.full, prefix) }

// qemus gives the machine's QEMU and, where it is another, the distribution's
// next one.
func qemus(t testing.TB) []testQEMU {
	t.Helper()
	paths := []string{parts(t).QEMU.Path}
	if next := nextQEMU(t); next != paths[0] {
		paths = append(paths, next)
	}
	var out []testQEMU
	for _, p := range paths {
		b, err := exec.Command(p, "--version").Output()
		var major, minor, micro int
		if err == nil {
			_, err = fmt.Sscanf(string(b), "QEMU emulator version %d.%d.%d", &major, &minor, &micro)
		}
		if err != nil {
			t.Fatalf("%s --version: %v", p, err)
		}
		q := testQEMU{fmt.Sprint(major), p, major, fmt.Sprintf("%d.%d.%d", major, minor, micro)}
		if len(out) > 0 && out[0].name == q.name {
			q.name += "-next"
		}
		out = append(out, q)
	}
	return out
}

var testCA = sync.OnceValues(func() (*psp.CA, error) { return psp.LoadOrCreateCA(dataFolder, func() {}) })

// direct is a QEMU command line, started as it is on a software host of its own.
type direct struct {
	qemu   testQEMU
	args   []string
	faults []string
	config func(*psp.Config)
	// talk, where set, is given QEMU's stdin and what it has said on stderr; its
	// guest waits in KVM_RUN until talk returns.
	talk func(stdin io.Writer, said func() string)
}

// outcome is what became of it.
type outcome struct {
	status string // "exit 0", "exit 1", "SIGABRT"
	stderr string
	digest *snp.LaunchDigest // at SNP_LAUNCH_FINISH; nil where it was not called
	pages  []kvm.Page        // that were asked for
}

// launch starts the command and waits for its end: a guest that is launched is told to
// shut down as soon as it runs. keep chooses the pages to be kept; nil keeps none.
func (d direct) launch(ctx context.Context, keep func(snp.PageType, uint64) bool) (*outcome, error) {
	ca, err := testCA()
	if err != nil {
		return nil, err
	}
	config := psp.DefaultConfig()
	if d.config != nil {
		d.config(&config)
	}
	platform, err := psp.New(config, ca)
	if err != nil {
		return nil, err
	}
	out := &outcome{}
	o := kvm.Options{Hold: d.talk != nil, KeepPages: keep != nil, Observe: func(e kvm.Event) {
		if e.Kind != kvm.EventFinish {
			return
		}
		digest := e.Guest.LaunchDigest()
		out.digest, out.pages = &digest, nil
		for _, p := range e.VM.Pages() {
			if keep != nil && keep(p.Type, p.GPA) {
				out.pages = append(out.pages, p)
			}
		}
	}}
	for _, s := range d.faults {
		f, err := kvm.ParseFault(s)
		if err != nil {
			return nil, err
		}
		o.Faults = append(o.Faults, f)
	}
	h := kvm.NewHost(platform, o)
	defer h.EndAll()
	cmd := exec.Command(d.qemu.path, d.args...)
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.WaitDelay = 2 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	p, err := supervise.Start(cmd, supervise.Config{Host: h, CBitPos: -1})
	if err != nil {
		return nil, err
	}
	if d.talk != nil {
		go func() {
			d.talk(stdin, stderr.String)
			h.EndAll()
		}()
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(2 * time.Minute):
		err = errors.New("QEMU does not end")
	}
	if err != nil {
		_ = p.Kill()
		<-p.Done()
		return nil, fmt.Errorf("%w; it said:\n%s", err, stderr.String())
	}
	out.stderr = stderr.String()
	err = p.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		out.status = "exit 0"
	case !errors.As(err, &exit):
		return nil, err
	case exit.ExitCode() >= 0:
		out.status = fmt.Sprint("exit ", exit.ExitCode())
	default:
		ws := exit.Sys().(syscall.WaitStatus)
		out.status = map[syscall.Signal]string{syscall.SIGABRT: "SIGABRT", syscall.SIGSEGV: "SIGSEGV", syscall.SIGKILL: "SIGKILL"}[ws.Signal()]
	}
	return out, nil
}

// sevObject is -object's value for a guest of this machine.
func sevObject(more ...string) string {
	return strings.Join(append([]string{fmt.Sprintf("sev-snp-guest,id=sev0,cbitpos=%d,reduced-phys-bits=1", host.CBitPos())}, more...), ",")
}

// bareArguments are what every launch here has in common.
func bareArguments() []string {
	return []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"}
}

// together runs f for each of n numbers on all processors.
func together(n, workers int, f func(int)) {
	queue := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range queue {
				f(i)
			}
		})
	}
	for i := range n {
		queue <- i
	}
	close(queue)
	wg.Wait()
}
