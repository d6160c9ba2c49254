package launcher

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/diagnose"
	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/qmp"
	"github.com/snplaunch/snplaunch/sim/supervise"
	"github.com/snplaunch/snplaunch/snp"
)

var errQEMUEnded = errors.New("QEMU ended")

// run is one launch under way.
type run struct {
	g        *guest.Guest
	o        Options
	stage    string          // that began last; empty before the first
	inputs   *guest.Inputs   // sealed, as they were measured
	launched given           // what A is given
	booted   given           // what B is given
	instead  []*guest.Inputs // of hooks that tamper
	measured *measure.Result
	id       *signedBlock
	sim      *simulated // nil on hardware
	trace    *os.File   // what QEMU writes of the launch; nil on the software host, which knows more
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

// prepare does everything that needs no QEMU: validate, measure, sign. For a
// launch the inputs are sealed first, so that what is hashed is what is launched.
func (r *run) prepare(ctx context.Context, launch bool) error {
	since := time.Now()
	if err := r.g.Validate(); err != nil {
		return err
	}
	if err := r.checkHost(); err != nil {
		return err
	}
	if launch {
		if err := r.checkFiles(); err != nil {
			return err
		}
		if err := checkDisks(r.g.Disks); err != nil {
			return err
		}
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
		if err := r.preflight(ctx); err != nil {
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
	var err error
	if r.launched, err = r.give(r.o.Hooks.Launched); err != nil {
		return err
	}
	if r.sim == nil {
		if r.trace, err = memoryFile("snplaunch-trace", nil); err != nil {
			return err
		}
	}
	r.o.Began("launch")
	// On hardware A's own console is the guest's; on the software host nothing
	// runs in A.
	var port serial
	if r.sim == nil {
		port = serial{r.o.Console, r.o.Keyboard}
	}
	r.a, err = startVM("QEMU", r.o.QEMU, config, false, port, func(s *starter, p plumbing) ([]string, error) {
		g, err := handedOver(s, r.launched)
		if err != nil {
			return nil, err
		}
		p.simPort, p.idle = r.sim != nil, r.sim != nil
		if err := r.giveDevices(s, g, &p); err != nil {
			return nil, err
		}
		args := snpArguments(g, r.id, r.o.CBitPos, p)
		if r.trace != nil {
			shared, err := duplicate(r.trace)
			if err != nil {
				return nil, err
			}
			args = append(args, "-trace", "kvm_sev*", "-D", inherited(s.inherit(shared)))
		}
		return args, nil
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
		err = agrees(ctx, r.a.qmp, r.launched.guest)
	}
	if err == nil {
		err = r.a.qmp.Cont(ctx)
	}
	if err == nil && r.sim != nil {
		err = r.sim.waitFinished(ctx, r.a.Done())
	}
	if r.sim != nil {
		r.res.Launched, r.res.launched = r.sim.heard()
	}
	if err == nil {
		// A guest that has run and ended meanwhile was launched all the same.
		if err = sevAgrees(ctx, r.a.qmp, r.launched.guest, sevRunning); errors.Is(err, qmp.ErrPeerClosed) {
			err = nil
		}
	}
	if err == nil {
		return false, nil
	}
	var differs *disagreement
	if errors.As(err, &differs) {
		r.res.fail(VerdictLaunchFailed, err.Error(), "use a QEMU that does; the launch was ended")
		return true, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if !r.a.ended(2 * time.Second) {
		r.res.fail(VerdictLaunchFailed, fmt.Sprintf("QEMU runs, but does not answer on its QMP channel: %v", err),
			"use another QEMU; what it wrote to stderr may say more")
		return true, nil
	}
	r.launchFailed()
	return true, nil
}

// lastWords is the failure of a QEMU that has ended: what it said of the cause, where that
// is known as a finding, or else what ended it or the end of what it said.
func lastWords(v *vm) (*Failure, *diagnose.Failure) {
	f := diagnose.ParseQEMU(v.stderr.String())
	if f == nil {
		return &Failure{Message: cmp.Or(v.killed(), v.stderr.lines(3), "QEMU ended without a word")}, nil
	}
	e := &Failure{Command: f.Command, Ret: f.Ret, FWError: f.FWError, Message: f.Message, Advice: f.Advice}
	if f.Cause != "" {
		e.Message += "\n" + f.Cause
	}
	return e, f
}

// launchFailed puts QEMU's last words into the result.
func (r *run) launchFailed() {
	r.res.Verdict, r.res.Stderr = VerdictLaunchFailed, r.a.stderr.String()
	var f *diagnose.Failure
	r.res.Error, f = lastWords(r.a)
	defer func() {
		e := r.res.Error
		if e.Phase, e.Page = r.phaseOf(e.Command); e.Phase != "" && e.Phase != PhaseCommandLine {
			e.Message += fmt.Sprintf("\nIt failed in phase %s", e.Phase)
			if e.Page != nil {
				e.Message += ": the " + e.Page.String()
			}
			e.Message += "."
		}
	}()
	if f != nil && f.FWAsked && f.FWError != 0 {
		r.res.Error.FWStatus = f.FWStatus.String()
		if f.Proven != "" {
			r.res.Error.Message += "\nAlready found right: " + f.Proven
		}
		r.res.Error.Message += r.whatTheBlockSays(f.FWStatus)
		r.diagnoseRefusal(f.FWStatus)
	}
}

// notStarted is the verdict on a guest that was launched, but whose QEMU could not be
// started on the software host: that one alone has the devices.
func (r *run) notStarted() {
	r.res.Verdict, r.res.Stderr = VerdictLaunchFailed, r.b.stderr.String()
	r.res.Error, _ = lastWords(r.b)
	r.res.Error.Phase = PhaseCommandLine
	if r.res.Error.Advice == "" {
		r.res.Error.Advice = "look at the arguments that QEMU names: devices, disks, forwards and --qemu-arg are the description's"
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
	if r.trace != nil {
		r.res.trace = r.traced()
		if err := r.trace.Close(); err != nil {
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
		if r.res.Stderr == "" {
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
