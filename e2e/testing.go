package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/internal/lacks"
	"github.com/snplaunch/snplaunch/launcher"
)

// Running is a guest that was booted, has attested, and runs for as long as its test.
// Its methods fail the test where what they ask for cannot be had; a command's own
// exit code is for the test to judge.
type Running struct {
	t       testing.TB
	ctx     context.Context
	session *launcher.Session

	mu      sync.Mutex
	console bytes.Buffer
}

// Option changes how Run launches.
type Option func(*launcher.Options)

// WithQEMU launches with another QEMU than the machine's.
func WithQEMU(path string) Option { return func(o *launcher.Options) { o.QEMU = path } }

// WithBackend launches on host.SNP or host.Sim, whatever the machine is.
func WithBackend(backend string) Option { return func(o *launcher.Options) { o.Backend = backend } }

// WithOptions changes any option of the launch.
func WithOptions(change func(*launcher.Options)) Option { return change }

// Run launches a guest for a test, sees that computed, launched and reported
// measurement agree and that the report holds, and gives the running guest; anything else
// fails the test. The guest is ended when the test is. A nil guest is the default one;
// files that it does not name are those that `snplaunch setup` has fetched.
//
// In short mode, and where QEMU or those files are missing, the test is skipped, with
// the remedy; SNPLAUNCH_REQUIRE_ALL=1 turns that into a failure. A test that fails leaves the description, the console and
// the command that launches the guest again in a folder that it names.
func Run(t testing.TB, g *guest.Guest, options ...Option) *Running {
	t.Helper()
	if testing.Short() {
		t.Skip("a guest takes seconds to boot, and the tests are -short")
	}
	if g == nil {
		d := guest.Default()
		g = &d
	}
	own := *g
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	p := &parts{ctx: ctx}
	if err := p.fill(&own, "", PartsAll); err != nil {
		lacks.End(t, err.Error())
	}
	machine := host.Probe(ctx, host.Root{})
	backend, _, err := host.Choose(host.Auto, machine)
	if err != nil {
		lacks.End(t, err.Error())
	}
	r := &Running{t: t, ctx: ctx}
	o := launcher.Options{Backend: backend, CBitPos: int(host.CBitPos()), Conditions: machine.Conditions(), DataDir: testData(t), Console: consoleOf{r}}
	for _, change := range options {
		change(&o)
	}
	if o.QEMU == "" {
		if o.QEMU, err = p.qemu(qemuInstalled); err != nil {
			lacks.End(t, err.Error())
		}
	}
	t.Cleanup(func() { r.ended(&own) })
	timeout := own.Timeout
	if timeout == 0 {
		timeout = launcher.DefaultTimeout
	}
	starting, over := context.WithTimeout(ctx, timeout)
	defer over()
	if r.session, err = launcher.Start(starting, &own, o); err != nil {
		t.Fatalf("launching: %v", err)
	}
	if r.session.Ready() {
		if err := r.session.Attest(starting); err != nil {
			t.Errorf("attesting: %v", err)
		}
	}
	if t.Failed() || !r.session.Ready() {
		if r.session.Ready() {
			_ = r.session.Stop(starting)
		}
		res, err := r.session.Wait()
		if err != nil {
			t.Fatalf("launching: %v", err)
		}
		t.Fatalf("the verdict is %s: %s", res.Verdict, said(res))
	}
	return r
}

func said(res *launcher.Result) string {
	if res.Error == nil {
		return string(res.Outcome)
	}
	return res.Error.Message
}

// testData is where the software host's root is: the user's own, as `snplaunch run`
// has it, so that it is made once.
func testData(t testing.TB) string {
	t.Helper()
	dir, err := launcher.DefaultDataDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// consoleOf takes what the guest's serial port writes.
type consoleOf struct{ r *Running }

// Write implements io.Writer.
func (c consoleOf) Write(p []byte) (int, error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if room := maxOutput - c.r.console.Len(); room < len(p) {
		c.r.console.Next(len(p) - room) // its end is what one wants to see
	}
	return c.r.console.Write(p)
}

// Console is what the guest has written to its serial port: the last 4 MiB.
func (r *Running) Console() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.console.String()
}

// Session is the guest itself, for what is not here.
func (r *Running) Session() *launcher.Session { return r.session }

// Output is what a command has written, and how it ended.
type Output struct {
	Stdout, Stderr string
	Exit           int
}

// Command runs a command in the guest.
func (r *Running) Command(args ...string) Output {
	r.t.Helper()
	var out, errs bytes.Buffer
	exit, err := r.session.Command(r.ctx, agent.Command{Args: args, Stdout: &out, Stderr: &errs})
	if err != nil {
		r.t.Fatalf("%q in the guest: %v", args, err)
	}
	return Output{out.String(), errs.String(), exit}
}

// Put writes a file in the guest.
func (r *Running) Put(path string, mode fs.FileMode, contents io.Reader) {
	r.t.Helper()
	if err := r.session.Put(r.ctx, path, mode, contents); err != nil {
		r.t.Fatalf("writing %s in the guest: %v", path, err)
	}
}

// Get reads a file of the guest.
func (r *Running) Get(path string) []byte {
	r.t.Helper()
	var b bytes.Buffer
	if err := r.session.Get(r.ctx, path, &b); err != nil {
		r.t.Fatalf("reading %s in the guest: %v", path, err)
	}
	return b.Bytes()
}

// Attest has the guest attest once more, over another nonce.
func (r *Running) Attest() {
	r.t.Helper()
	if err := r.session.Attest(r.ctx); err != nil {
		r.t.Fatalf("attesting: %v", err)
	}
}

// Stop ends the guest before its test has, and gives what the run found.
func (r *Running) Stop() *launcher.Result {
	r.t.Helper()
	err := r.session.Stop(r.ctx)
	res, waitErr := r.session.Wait()
	if err := errors.Join(err, waitErr); err != nil {
		r.t.Fatalf("ending the guest: %v", err)
	}
	return res
}

// ended is the end of the test.
func (r *Running) ended(g *guest.Guest) {
	if r.session != nil {
		if r.session.Ready() {
			_ = r.session.Stop(r.ctx) // what it was is the test's to say
		}
		if _, err := r.session.Wait(); err != nil {
			r.t.Errorf("ending the guest: %v", err)
		}
	}
	if !r.t.Failed() {
		return
	}
	dir, err := os.MkdirTemp("", "snplaunch-failed-*")
	if err == nil {
		err = r.leave(dir, g)
	}
	if err != nil {
		r.t.Logf("nothing was left to look into: %v", err)
		return
	}
	r.t.Logf("to launch this guest again: snplaunch run %s (its console: %s)", filepath.Join(dir, "guest.yaml"), filepath.Join(dir, "console.log"))
}

// leave writes what one looks into after a failure.
func (r *Running) leave(dir string, g *guest.Guest) error {
	b, err := guestyaml.Marshal(g)
	if err != nil {
		return fmt.Errorf("the description: %w", err)
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "guest.yaml"), b, 0o600),
		os.WriteFile(filepath.Join(dir, "console.log"), []byte(r.Console()), 0o600))
}
