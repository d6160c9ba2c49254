package launcher

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/diagnose"
	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/sim/supervise"
	"github.com/snplaunch/snplaunch/snp"
)

var errQEMUEnded = errors.New("QEMU ended")

// run is one launch under way.
type run struct {
	g        *guest.Guest
	o        Options
	inputs   *guest.Inputs   // sealed, as they were measured
	booted   given           // what B is given
	instead  []*guest.Inputs // of hooks that tamper
	measured *measure.Result
	id       *signedBlock
	sim      *simulated // nil on hardware
	res      *Result
	a, b     *vm
}

// Run measures, signs, launches, attests, compares, and runs the description's
// command in a guest that has attested. The error is for what stops it before
// anything was launched: a description that cannot be launched, a file that
// cannot be read, QEMU that is not there. Everything after that is in the result,
// whose verdict says what became of it. When Run returns, every process that it
// started has ended.
func Run(ctx context.Context, g *guest.Guest, o Options) (*Result, error) {
	timeout := g.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := Start(ctx, g, o)
	if err != nil {
		return nil, err
	}
	if s.Ready() {
		s.work(ctx)
	}
	_ = s.Stop(ctx) // Wait gives the error
	return s.Wait()
}

// work is what Run does with a guest that is ready.
func (s *Session) work(ctx context.Context) {
	err := s.Attest(ctx)
	if g := s.r.g; err == nil && len(g.Command) > 0 {
		_, err = s.Command(ctx, agent.Command{Args: g.Command, Stdout: s.r.o.Stdout, Stderr: s.r.o.Stderr})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var told *agent.Error
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		s.err = fmt.Errorf("interrupted: %w", context.Canceled)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		s.timedOut(ctx, err)
	case errors.As(err, &told) && s.r.res.Error == nil:
		s.r.res.Outcome = OutcomeGuestFailed
		s.r.res.Error = &Failure{Message: err.Error()}
	}
}

// prepare does everything that needs no QEMU: validate, measure, sign. For a
// launch the inputs are sealed first, so that what is hashed is what is launched.
func (r *run) prepare(launch bool) error {
	since := time.Now()
	if err := r.g.Validate(); err != nil {
		return err
	}
	if err := r.checkHost(); err != nil {
		return err
	}
	inputs, err := r.o.Shared.open(r.g, launch)
	if err != nil {
		return err
	}
	r.inputs = inputs
	if r.measured, err = measure.Measure(r.g, inputs); err != nil {
		inputs.Close()
		return err
	}
	if r.id, err = makeIDBlock(r.g, r.measured.LaunchDigest, r.o); err != nil {
		inputs.Close()
		return err
	}
	if launch {
		if err := r.preflight(); err != nil {
			inputs.Close()
			return err
		}
	}
	r.res.Computed, r.res.computed = r.measured.LaunchDigest, r.measured.Updates()
	sum, err := inputs.Firmware.SHA256()
	if err != nil {
		inputs.Close()
		return err
	}
	r.res.FirmwareSHA256 = hex.EncodeToString(sum[:])
	if r.id != nil {
		r.res.IDKeyDigest = &r.id.idKey
		if r.id.authorKeyEnabled {
			r.res.AuthorDigest = &r.id.authorKey
		}
	}
	r.res.stage("measure", since)
	return nil
}

// startA starts the QEMU that goes through the launch.
func (r *run) startA() error {
	var config *supervise.Config
	if r.o.Backend == BackendSim {
		sim, err := newSimulated(r.o)
		if err != nil {
			return err
		}
		r.sim = sim
		config = &supervise.Config{Host: sim.host, CBitPos: -1, Logf: func(format string, args ...any) { r.o.Progress(fmt.Sprintf(format, args...)) }}
	}
	launched, err := r.give(r.o.Hooks.Launched)
	if err != nil {
		return err
	}
	r.o.Hooks.Stage("launch")
	// On hardware A's own console is the guest's; on the software host nothing
	// runs in A.
	consoleA := r.o.Console
	if r.sim != nil {
		consoleA = nil
	}
	r.a, err = startVM("QEMU", r.o.QEMU, config, false, consoleA, func(s *starter, p plumbing) ([]string, error) {
		g, err := handedOver(s, launched)
		if err != nil {
			return nil, err
		}
		p.simPort = r.sim != nil
		return snpArguments(g, r.id, r.o.CBitPos, p), nil
	})
	if err != nil {
		return err
	}
	r.a.launchOnly = r.o.LaunchOnly
	return nil
}

// finishLaunch takes A through LAUNCH_UPDATE and LAUNCH_FINISH. done says that
// the launch failed and the result tells why.
func (r *run) finishLaunch(ctx context.Context) (done bool, err error) {
	err = r.a.connect(ctx)
	if err == nil {
		r.res.QEMUVersion = qemuVersion(r.a)
		err = r.a.qmp.Cont(ctx)
	}
	if err == nil && r.sim != nil {
		err = r.sim.waitFinished(ctx, r.a.Done())
	}
	if r.sim != nil {
		r.res.Launched, r.res.launched = r.sim.heard()
	}
	if err == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, err
	}
	if !r.a.ended(5 * time.Second) {
		return false, fmt.Errorf("QEMU does not answer on its QMP channel: %w", err)
	}
	r.launchFailed()
	return true, nil
}

// launchFailed puts QEMU's last words into the result.
func (r *run) launchFailed() {
	stderr := r.a.stderr.String()
	r.res.Verdict, r.res.Stderr = VerdictLaunchFailed, stderr
	f := diagnose.ParseQEMU(stderr)
	if f == nil {
		message := r.a.stderr.lines(3)
		if message == "" {
			message = "QEMU ended without a word"
		}
		r.res.Error = &Failure{Message: message}
		return
	}
	r.res.Error = &Failure{Command: f.Command, Ret: f.Ret, FWError: f.FWError, Message: f.Message, Advice: f.Advice}
	if f.Cause != "" {
		r.res.Error.Message = f.Message + "\n" + f.Cause
	}
	if f.FWAsked && f.FWError != 0 {
		r.res.Error.FWStatus = f.FWStatus.String()
		r.res.Error.Message += r.whatTheBlockSays(f.FWStatus)
		r.diagnoseRefusal(f.FWStatus)
	}
}

// whatTheBlockSays puts what the ID block holds beside what is launched, where
// the firmware compared the two and they differ.
func (r *run) whatTheBlockSays(status snp.Status) string {
	if r.id == nil {
		return ""
	}
	block, err := snp.ParseIDBlock(r.id.block)
	if err != nil {
		return ""
	}
	switch {
	case status == snp.StatusBadMeasurement && block.LD != r.res.Computed:
		return fmt.Sprintf("\nThe ID block was made for %s; this launch is %s.", block.LD, r.res.Computed)
	case status == snp.StatusPolicyFailure && block.Policy != r.g.Policy:
		return fmt.Sprintf("\nThe ID block was made for policy %s; this launch has %s.", block.Policy.Describe(), r.g.Policy.Describe())
	}
	return ""
}

// mismatch sets the verdict for a measurement that is not the computed one.
func (r *run) mismatch(who string, got snp.LaunchDigest) error {
	err := fmt.Errorf("the %s measurement %s is not the computed one %s", who, got, r.res.Computed)
	r.res.fail(VerdictMismatch, err.Error(),
		"compare the description with what was launched: firmware, kernel, initrd, command line, vCPU count, CPU model")
	r.diagnose(got, map[string]solve.Source{"reported": solve.Report, "launched": solve.Launched}[who])
	return err
}

// close ends both QEMUs, B first: its report needs A's guest context.
func (r *run) close() error {
	var errs *multierror.Error
	for _, in := range r.instead {
		if err := in.Close(); err != nil {
			errs = multierror.Append(errs, err)
		}
	}
	for _, v := range []*vm{r.b, r.a} {
		if v == nil {
			continue
		}
		if err := v.close(); err != nil {
			errs = multierror.Append(errs, err)
		}
		r.res.QEMU = append(r.res.QEMU, v.started)
		if r.res.Stderr == "" && r.res.Verdict != VerdictMatch {
			r.res.Stderr = v.stderr.String()
		}
		if s := v.screen.String(); s != "" {
			r.res.Console = s
			r.res.LastSeen = v.lookout.seen().String()
		}
	}
	return errs.ErrorOrNil()
}

func qemuVersion(v *vm) string {
	q := v.qmp.Version()
	return q.String()
}
