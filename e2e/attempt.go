package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// attempt is one try at a cell.
type attempt struct {
	status  results.Status
	message string
	advice  string
	// mayRepeat says that the attempt failed for what another one might not: time,
	// a guest that went away. That something wrong passed, or that a digest is
	// another, is no such thing.
	mayRepeat bool
	err       error // the run was interrupted, or cannot go on

	inputs    []results.Input
	res       *launcher.Result // nil: nothing was launched
	steps     []results.Step
	took      time.Duration
	artefacts string // relative to the file of results
	simulated bool

	stdout, stderr limited // of the guest's command, where there are no steps
}

// into puts an attempt into its cell.
func (a *attempt) into(c *results.Cell) {
	c.Status, c.Message, c.Advice = a.status, a.message, a.advice
	c.QEMU, c.Inputs, c.Steps, c.Artefacts, c.DurationMS, c.Simulated = "", a.inputs, a.steps, a.artefacts, a.took.Milliseconds(), a.simulated
	c.Stages = nil
	c.Verdict, c.Outcome, c.Computed, c.Launched, c.Reported, c.FWError, c.FWStatus, c.Diagnosis = "", "", nil, nil, nil, 0, "", ""
	res := a.res
	if res == nil {
		return
	}
	c.Verdict, c.Outcome = string(res.Verdict), string(res.Outcome)
	c.Computed, c.Launched, c.Reported = &res.Computed, res.Launched, res.Reported
	if res.QEMUVersion != "" {
		c.QEMU = res.QEMUVersion
	}
	if res.Error != nil {
		c.FWError, c.FWStatus = res.Error.FWError, res.Error.FWStatus
	}
	if res.Diagnosis != nil && a.status != results.Passed {
		c.Diagnosis = res.Diagnosis.Sentence
	}
	for _, s := range res.Stages {
		c.Stages = append(c.Stages, results.Stage{Name: s.Name, StartMS: s.StartMS, EndMS: s.EndMS})
	}
}

// attempt tries a cell once.
func (r *runner) attempt(ctx context.Context, c *Cell, n int, say func(string)) *attempt {
	a := &attempt{status: results.Passed, simulated: c.setting.backend == launcher.BackendSim}
	began := time.Now()
	defer func() { a.took = time.Since(began) }()
	fails := func(status results.Status, format string, args ...any) *attempt {
		a.status, a.message = status, fmt.Sprintf(format, args...)
		return a
	}

	g, err := r.guest(c)
	if err != nil {
		return fails(results.Errored, "%v", err)
	}
	o := r.o.Launch
	o.Backend, o.Shared, o.LaunchOnly = c.setting.backend, r.shared, c.Depth() == results.LaunchOnly
	o.Began = say
	o.NoDiagnosis = o.NoDiagnosis || !c.Expect.isGood() // what was made wrong is known
	// What is to be refused later must not be refused before.
	o.Force = o.Force || !c.Expect.isGood() && c.Expect.kind != expectRefused
	word := o.QEMU
	if word == "" || c.setting.qemu != "" {
		word = c.setting.qemu
	}
	if o.QEMU, err = r.parts.qemu(word); err != nil {
		return fails(results.Errored, "%v", err)
	}
	if a.inputs, err = r.sums.inputs(g, o.QEMU); err != nil {
		return fails(results.Errored, "%v", err)
	}
	if c.Tamper != nil {
		t := &tampering{guest: g, hooks: &o.Hooks, flipped: r.made.flipped}
		if err := c.Tamper.apply(t); err != nil {
			return fails(results.Errored, "tampering: %v", err)
		}
	}
	budget := r.o.Budget
	if budget == 0 {
		budget = c.budget(r.m)
	}
	if budget == 0 {
		if budget = g.Timeout; budget == 0 {
			budget = launcher.DefaultTimeout
		}
	}
	g.Timeout = budget

	dir, name := r.folder(c, n)
	switch {
	case len(c.Group.Steps) > 0:
		limited, cancel := context.WithTimeout(ctx, budget)
		defer cancel()
		// A run that was killed may have left some.
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, name)), os.MkdirAll(filepath.Join(dir, name), 0o700)); err != nil {
			return fails(results.Errored, "%v", err)
		}
		matrix, err := filepath.Abs(filepath.Dir(r.m.Path))
		if err != nil {
			return fails(results.Errored, "%v", err)
		}
		a.steps, a.res, a.message = runSteps(limited, &stepRun{matrix: matrix, steps: c.Group.Steps, guest: *g, options: o, dir: filepath.Join(dir, name), began: began, say: say})
	case c.Tamper != nil && c.Tamper.Name == tamperReplayed:
		a.res, err = attestTwice(ctx, g, o, budget)
	default:
		o.Stdout, o.Stderr = &a.stdout, &a.stderr
		a.res, err = launcher.Run(ctx, g, o)
	}
	if ctx.Err() != nil {
		a.err = ctx.Err()
		return a
	}
	if len(c.Group.Steps) == 0 {
		a.message = c.Expect.Judge(a.res, err)
	}
	if a.message != "" {
		if a.res != nil && a.res.GuestExit != nil && len(c.Group.Steps) == 0 {
			a.message += lastLine(&a.stderr)
		}
		a.status = results.Failed
		a.mayRepeat = c.Tamper == nil && c.Expect.isGood() && transient(a.res, err)
		if a.res != nil && a.res.Error != nil {
			a.advice = a.res.Error.Advice
		}
		if errors.Is(err, os.ErrNotExist) {
			a.status = results.Errored
		}
	}
	r.keep(c, a, dir, name)
	return a
}

// isGood says whether the launch is expected to go well.
func (e *Expect) isGood() bool {
	return e.kind == "" || e.kind == expectLaunches || e.kind == expectMatches
}

// transient says whether a launch failed for what may be otherwise the next time.
func transient(res *launcher.Result, err error) bool {
	if res == nil {
		return err != nil
	}
	switch res.Verdict {
	case launcher.VerdictTimeout, launcher.VerdictNotAttested:
		return true
	case launcher.VerdictLaunchFailed: // KVM or QEMU did, not the firmware
		return res.Error != nil && res.Error.FWError == 0
	}
	return false
}

// attestTwice has a guest attest twice, for a tampering that needs an earlier report.
func attestTwice(ctx context.Context, g *guest.Guest, o launcher.Options, budget time.Duration) (*launcher.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	s, err := launcher.Start(ctx, g, o)
	if err != nil {
		return nil, err
	}
	if s.Ready() {
		if err = s.Attest(ctx); err == nil {
			err = s.Attest(ctx)
		}
		err = errors.Join(err, s.Stop(ctx))
	}
	res, waitErr := s.Wait()
	if res != nil && res.Verdict != "" {
		return res, waitErr
	}
	return res, errors.Join(err, waitErr)
}

// guest is the cell's, with its files.
func (r *runner) guest(c *Cell) (*guest.Guest, error) {
	g := c.setting.guest
	if err := r.parts.fill(&g, c.setting.firmware, c.Group.Parts); err != nil {
		return nil, err
	}
	var err error
	if c.setting.idKey && g.IDBlock.IDKey == "" {
		if g.IDBlock.IDKey, err = r.made.key("id"); err != nil {
			return nil, err
		}
	}
	if c.setting.authorKey && g.IDBlock.AuthorKey == "" {
		if g.IDBlock.AuthorKey, err = r.made.key("author"); err != nil {
			return nil, err
		}
	}
	return &g, nil
}

// folder is where a cell's artefacts go: a parent and a name in it.
func (r *runner) folder(c *Cell, n int) (parent, name string) {
	name = strings.ReplaceAll(c.ID, "/", "__")
	if len(name) > 180 { // longer names than file systems take: 255 bytes
		sum := sha256.Sum256([]byte(c.ID))
		name = fmt.Sprintf("%s-%x", name[:150], sum[:8])
	}
	if n > 0 {
		name = fmt.Sprintf("%s__attempt-%d", name, n+1)
	}
	return artefactsOf(r.o.Results), name
}

// keep leaves the cell's folder and its evidence. That these cannot be kept is told,
// and does not change what became of the cell, but for evidence that was asked for.
func (r *runner) keep(c *Cell, a *attempt, parent, name string) {
	dir := filepath.Join(parent, name)
	wanted := r.o.Keep == KeepAlways || r.o.Keep != KeepNever && a.status != results.Passed
	again := ""
	if r.o.Reproduce != nil {
		again = r.o.Reproduce(c.ID)
	}
	switch {
	case !wanted && len(c.Group.Steps) > 0:
		_ = os.RemoveAll(dir)
	case wanted && len(c.Group.Steps) > 0:
		a.artefacts = filepath.Join(filepath.Base(parent), name)
		if a.res == nil {
			break
		}
		if _, err := a.res.Save(dir, "last-launch", again); err != nil {
			a.message = strings.TrimPrefix(a.message+"; "+err.Error(), "; ")
		}
	case wanted && a.res != nil:
		_ = os.RemoveAll(dir) // of a run that was killed while it wrote the cell
		if _, err := a.res.Save(parent, name, again); err != nil {
			a.message = strings.TrimPrefix(a.message+"; "+err.Error(), "; ")
			break
		}
		a.artefacts = filepath.Join(filepath.Base(parent), name)
		for stream, said := range map[string]*limited{"command.stdout": &a.stdout, "command.stderr": &a.stderr} {
			if said.Len() == 0 {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, stream), said.Bytes(), 0o600); err != nil {
				a.message = strings.TrimPrefix(a.message+"; "+err.Error(), "; ")
			}
		}
	}
	if r.o.Evidence == "" || a.status != results.Passed || c.Tamper != nil || c.Depth() != results.Full || a.res == nil {
		return
	}
	if err := r.evidence(a.res, name); err != nil && !errors.Is(err, launcher.ErrNoEvidence) {
		a.status, a.message = results.Errored, err.Error()
	}
}

// evidence writes the bundle of a cell that passed: whole, or not at all.
func (r *runner) evidence(res *launcher.Result, name string) error {
	b, err := res.Bundle()
	if err != nil {
		return err
	}
	text, err := b.Bytes()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.o.Evidence, 0o700); err != nil {
		return fmt.Errorf("writing evidence: %w", err)
	}
	tmp, err := os.CreateTemp(r.o.Evidence, ".bundle-*")
	if err != nil {
		return fmt.Errorf("writing evidence: %w", err)
	}
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(r.o.Evidence, name+".json"))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing evidence: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}
