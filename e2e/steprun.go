package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/internal/childgroup"
	"github.com/snplaunch/snplaunch/launcher"
)

// maxOutput bounds what of a command's output is looked at, in bytes; the rest is
// dropped, and said to be.
const maxOutput = 4 << 20

// stepRun is what the steps of a cell need.
type stepRun struct {
	matrix  string // absolute path of the folder of the matrix
	steps   []*Step
	guest   guest.Guest
	options launcher.Options
	dir     string // collected files and outputs go here
	began   time.Time
	say     func(name string)

	session *launcher.Session // nil: no guest runs
	last    *launcher.Result  // of the last guest that has ended
}

// runSteps does the steps one after the other, to the first that fails: those after it
// are skipped, but for the end of a guest that runs, which always comes. It gives what
// became of each, the result of the last launch, and a sentence on what failed.
func runSteps(ctx context.Context, x *stepRun) (done []results.Step, last *launcher.Result, failed string) {
	for i, s := range x.steps {
		r := results.Step{Name: s.Name, Status: results.Skipped, StartMS: x.since()}
		if failed == "" {
			x.say(s.Name)
			message, output := x.step(ctx, i, s)
			r.Status = results.Passed
			if message != "" {
				r.Status, r.Message, r.Hint = results.Failed, message, s.hint(message+"\n"+output)
				if s.Info { // told, and counted for nothing
					r.Status = results.Skipped
				} else {
					failed = fmt.Sprintf("step %d, %s: %s", i+1, s.Name, message)
				}
			}
		}
		r.EndMS = x.since()
		done = append(done, r)
	}
	if err := x.stop(ctx); err != nil && failed == "" {
		failed = err.Error()
	}
	// A command that failed as expected is no failure of the guest.
	if x.last != nil && failed == "" && x.last.Outcome == launcher.OutcomeGuestFailed {
		x.last.Outcome = launcher.OutcomePassed
	}
	return done, x.last, failed
}

func (x *stepRun) since() int64 { return time.Since(x.began).Milliseconds() }

// hint is the first that a text is a case of.
func (s *Step) hint(text string) string {
	for _, h := range s.Hints {
		if regexp.MustCompile(h.When).MatchString(text) {
			return h.Say
		}
	}
	return ""
}

// step does one step: an empty string, or a sentence on what is not as expected, and
// what the step put out.
func (x *stepRun) step(ctx context.Context, i int, s *Step) (message, output string) {
	if s.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Limit)
		defer cancel()
	}
	if x.session == nil && slices.Contains([]string{stepAttest, stepGuest, stepPut, stepFetch}, s.action) {
		return "no guest runs, as the launch before did not go well", ""
	}
	var err error
	switch s.action {
	case stepLaunch:
		message, err = x.launch(ctx, s)
	case stepAttest:
		if err = x.session.Attest(ctx); err == nil {
			err = x.writeReport()
		}
	case stepStop:
		err = x.stop(ctx)
	case stepGuest, stepHost:
		return x.command(ctx, i, s)
	case stepPut:
		err = x.put(ctx, s)
	case stepFetch:
		err = x.fetch(ctx, s)
	case stepCheck:
		var b []byte
		if b, err = x.collected(s.from); err == nil {
			return s.expect.says(s.from, b), string(b)
		}
	case stepEqual, stepDiffer:
		var a, b []byte
		if a, err = x.collected(s.from); err == nil {
			b, err = x.collected(s.to)
		}
		if same := bytes.Equal(a, b); err == nil && same != (s.action == stepEqual) {
			message = fmt.Sprintf("%s and %s are %s", s.from, s.to, map[bool]string{true: "the same", false: "not the same"}[same])
		}
	}
	if err != nil {
		message = err.Error()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && s.Limit > 0 {
			message = fmt.Sprintf("it took longer than %s (%v)", s.Limit, err)
		}
	}
	return message, ""
}

// launch starts the guest, has it attest where that is expected to go well, and
// holds what became of it against the expectation.
func (x *stepRun) launch(ctx context.Context, s *Step) (string, error) {
	g := x.guest
	s.launch(&g)
	o := x.options
	o.Force = o.Force || !s.expect.launch.isGood() && s.expect.launch.kind != expectRefused
	for _, old := range []string{"report.bin", "certs.bin"} { // of the launch before
		if err := os.Remove(filepath.Join(x.dir, old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	b, err := guestyaml.Marshal(&g)
	if err == nil {
		err = os.WriteFile(filepath.Join(x.dir, "guest.yaml"), b, 0o600)
	}
	if err != nil {
		return "", err
	}
	session, err := launcher.Start(ctx, &g, o)
	if err != nil {
		return s.expect.launch.Judge(nil, err), nil
	}
	x.session = session
	if !session.Ready() {
		err := x.stop(ctx)
		return s.expect.launch.Judge(x.last, err), nil
	}
	attested := session.Attest(ctx)
	if err := x.writeReport(); err != nil {
		return "", err
	}
	if d := s.expect.launch.digest; d != nil && session.Computed() != *d {
		return fmt.Sprintf("the computed digest is %s, pinned is %s", session.Computed(), d), nil
	}
	// Launched is launched, whatever the report is worth.
	if s.expect.launch.kind == expectLaunches || attested == nil && s.expect.launch.isGood() {
		return "", nil
	}
	// It is another end than it should be, or one that the result tells.
	if err := x.stop(ctx); err != nil {
		return "", err
	}
	return s.expect.launch.Judge(x.last, nil), nil
}

// writeReport puts the last report where steps on the host find it.
func (x *stepRun) writeReport() error {
	raw, table := x.session.Report()
	for name, b := range map[string][]byte{"report.bin": raw, "certs.bin": table} {
		if len(b) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(x.dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the guest that runs, if one does.
func (x *stepRun) stop(ctx context.Context) error {
	if x.session == nil {
		return nil
	}
	s := x.session
	x.session = nil
	// A cell whose time is over still ends its guest.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var err error
	if s.Ready() {
		err = s.Stop(ctx)
	}
	res, waitErr := s.Wait()
	x.last = res
	return errors.Join(err, waitErr)
}

// command runs one in the guest or here, keeps its output, and holds it against what is
// expected.
func (x *stepRun) command(ctx context.Context, i int, s *Step) (message, output string) {
	var out, errs limited
	exit, err := 0, error(nil)
	if s.action == stepGuest {
		exit, err = x.session.Command(ctx, agent.Command{Args: s.args, Env: x.guest.Env, Stdout: &out, Stderr: &errs})
	} else {
		exit, err = x.host(ctx, s, &out, &errs)
	}
	for name, b := range map[string]*limited{"stdout": &out, "stderr": &errs} {
		if werr := os.WriteFile(filepath.Join(x.dir, fmt.Sprintf("%02d-%s.%s", i+1, s.action, name)), b.Bytes(), 0o600); werr != nil && err == nil {
			err = werr
		}
	}
	output = out.String() + errs.String()
	if err != nil {
		if ctx.Err() != nil && s.Limit > 0 {
			err = fmt.Errorf("it took longer than %s", s.Limit)
		}
		return err.Error(), output
	}
	want := 0
	if s.expect.exit != nil {
		want = *s.expect.exit
	}
	if exit != want {
		return fmt.Sprintf("exit code %d, expected %d%s", exit, want, lastLine(&errs)), output
	}
	return s.expect.says("its output", out.Bytes()), output
}

// host runs a command on this machine. It and what it starts in its process group end
// with the step and with this process.
func (x *stepRun) host(ctx context.Context, s *Step, out, errs *limited) (int, error) {
	own, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := filepath.Abs(x.dir)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, s.args[0], s.args[1:]...)
	// The pipes are ours, not exec's, so that what the command leaves in the background
	// does not hold the step up.
	stdout, endOut, err := drain(out)
	if err != nil {
		return 0, err
	}
	defer endOut()
	stderr, endErr, err := drain(errs)
	if err != nil {
		return 0, err
	}
	defer endErr()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, stdout, stderr
	// Root of the software host, for report verify --trust-simulated.
	cmd.Env = append(os.Environ(), "SNPLAUNCH="+own, "SNPLAUNCH_CELL_DIR="+dir, "SNPLAUNCH_MATRIX_DIR="+x.matrix, "SNPLAUNCH_TRUSTED="+x.trusted())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	childgroup.Of(cmd)
	// The parent-death signal comes when the thread ends that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if cmd.Process != nil {
		_ = childgroup.Kill(cmd) // what it left in the background; often nothing
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ctx.Err() != nil {
		return 0, err
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil // as a shell has it
	}
	return ended.ExitCode(), nil
}

// drain gives a pipe whose other end is read into a buffer until end is called. What has
// been written by then is read.
func drain(into *limited) (w *os.File, end func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(into, r) // ends at the deadline, or when nobody holds the other end
	}()
	return w, func() {
		w.Close()
		_ = r.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // of one that left the group
		<-read
		r.Close()
	}, nil
}

func (x *stepRun) trusted() string {
	switch {
	case x.session != nil:
		return x.session.Trusted()
	case x.last != nil:
		return x.last.Trusted
	}
	return ""
}

func (x *stepRun) put(ctx context.Context, s *Step) error {
	f, err := os.Open(s.from)
	if err != nil {
		return err
	}
	defer f.Close()
	mode := fs.FileMode(s.mode)
	if mode == 0 {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		mode = st.Mode().Perm()
	}
	return x.session.Put(ctx, s.to, mode, f)
}

func (x *stepRun) fetch(ctx context.Context, s *Step) error {
	f, err := os.OpenFile(filepath.Join(x.dir, s.to), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(x.session.Get(ctx, s.from, f), f.Close())
}

// collected reads a file of the cell's folder.
func (x *stepRun) collected(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(x.dir, name))
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return nil, err
	}
	var there []string
	for _, e := range entries {
		there = append(there, e.Name())
	}
	return nil, fmt.Errorf("nothing called %s was collected (there are %s)", name, strings.Join(slices.Sorted(slices.Values(there)), ", "))
}

// says holds a text against the patterns.
func (e *stepExpect) says(what string, text []byte) string {
	if e.output != nil && !e.output.Match(text) {
		return fmt.Sprintf("%s has nothing that matches %s", what, strings.TrimPrefix(e.output.String(), "(?m)"))
	}
	if e.not != nil {
		if found := e.not.Find(text); found != nil {
			return fmt.Sprintf("%s has %q, which matches %s", what, found, strings.TrimPrefix(e.not.String(), "(?m)"))
		}
	}
	return ""
}

// limited keeps the first maxOutput bytes of what is written.
type limited struct {
	bytes.Buffer
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	n := len(p)
	if room := maxOutput - l.Len(); room < n {
		p = p[:max(room, 0)]
	}
	l.Buffer.Write(p)
	return n, nil
}

// lastLine is what a command said last, for a message.
func lastLine(errs *limited) string {
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return fmt.Sprintf(" (%s)", last)
	}
	return ""
}
