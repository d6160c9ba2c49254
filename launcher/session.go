package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/qmp"
	"github.com/snplaunch/snplaunch/sim/guestdev"
)

// Session is a guest that was launched, for as long as its owner wants it. Every
// Session must be ended with Wait, and one that is Ready with Stop before.
// Attest, Command, Put and Get are done one after the other, whoever calls them.
type Session struct {
	r     *run
	guest *vm // that runs the guest; nil where none came to that

	ctx    context.Context // of what serves the guest in the background
	cancel context.CancelFunc
	serves sync.WaitGroup
	ready  bool

	stopOnce, joinOnce sync.Once
	stopped            chan struct{} // closed when Stop has done its work

	mu   sync.Mutex // over what follows and the result
	over bool       // nothing that happens any more is the guest's doing
	err  error      // instead of a result
	res  *Result    // set by Wait
}

// ErrNotReady is what a session gives for whose guest nobody can speak to; Wait
// tells why.
var ErrNotReady = errors.New("the guest is not there to be spoken to")

// ErrStopped is what was under way when the session was ended gives.
var ErrStopped = errors.New("the session was ended meanwhile")

// Start measures, signs, launches and boots a guest, and returns when its agent
// has said hello or it is clear that it never will; Ready tells which. The error
// is for what stops it before anything was launched: a description that cannot be
// launched, a file that cannot be read, QEMU that is not there. ctx bounds the
// start, not the session.
func Start(ctx context.Context, g *guest.Guest, o Options) (*Session, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	began, stage := o.Began, o.Hooks.Stage
	r := &run{}
	o.Began = func(name string) {
		r.stage = name
		for _, f := range []func(string){began, stage} {
			if f != nil {
				f(name)
			}
		}
	}
	r.g, r.o, r.res = g, o, &Result{
		Backend: o.Backend, Simulated: o.Backend == BackendSim, VCPUs: g.VCPUs, CPU: g.CPU,
		Policy: g.Policy.Describe(), DurationMS: map[string]int64{}, guest: g, started: time.Now(), ended: o.Ended,
	}
	if g.HostDataSet {
		r.res.HostData = &g.HostData
	}
	if err := r.prepare(ctx, true); err != nil {
		return nil, err
	}
	s := &Session{r: r, stopped: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	err := s.launchAndBoot(ctx)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		err = &interrupted{r.stage}
	case err != nil && r.res.Verdict == "" && errors.Is(err, context.DeadlineExceeded):
		s.timedOut(ctx, err)
		err = nil
	}
	if s.err = err; err != nil && r.a == nil {
		_, err := s.Wait()
		return nil, err
	}
	return s, nil
}

// launchAndBoot comes as far as the agent's hello. It gives an error for what is no
// verdict on the guest.
func (s *Session) launchAndBoot(ctx context.Context) error {
	launching, cancel := within(ctx, "launch", s.r.g.Timeouts.Launch)
	defer cancel()
	v, err := s.r.launch(launching)
	if err != nil && context.Cause(launching) != nil {
		err = context.Cause(launching)
	}
	if err != nil || v == nil {
		return err
	}
	s.guest = v
	return s.boot(ctx)
}

// interrupted is the end of a run that its caller did not want any more.
type interrupted struct{ stage string }

func (e *interrupted) Error() string {
	if e.stage == "" {
		return "interrupted"
	}
	return "interrupted in stage " + e.stage
}

// Is makes it what a context that is cancelled gives.
func (e *interrupted) Is(target error) bool { return target == context.Canceled }

// late is a stage that took longer than the description gives it.
type late struct {
	stage string
	limit time.Duration
}

func (e *late) Error() string { return fmt.Sprintf("the %s took longer than %s", e.stage, e.limit) }

// Is makes it an end of time like any other.
func (e *late) Is(target error) bool { return target == context.DeadlineExceeded }

// within bounds a stage; its end of time is a late as the cause. No limit: none.
func within(ctx context.Context, stage string, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, &late{stage, limit})
}

// timedOut is the verdict on a guest that took longer than it was given: by ctx, or
// where err is a late by that.
func (s *Session) timedOut(ctx context.Context, err error) {
	res := s.r.res
	advice := "look at the guest's console; a slow machine needs more time (--timeout; --budget of e2e run)"
	end, _ := ctx.Deadline()
	took := fmt.Sprintf("the run took longer than %s", end.Sub(res.started).Round(time.Millisecond))
	last := ""
	if s.r.stage != "" {
		last = fmt.Sprintf("; it ended in stage %s", s.r.stage)
	}
	var l *late
	if errors.As(err, &l) {
		took, last, advice = l.Error(), "", "look at the guest's console; a slow machine needs a longer timeouts."+l.stage
	}
	if s.guest != nil {
		last = fmt.Sprintf("; last seen: %s", s.guest.lookout.seen())
	}
	res.fail(VerdictTimeout, took+last, advice)
}

// boot waits for the agent in the guest.
func (s *Session) boot(ctx context.Context) error {
	r, v := s.r, s.guest
	r.o.Began("boot")
	booted := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		c   *agent.Client
		err error
	}
	greeted := make(chan outcome, 1)
	go func() {
		c, err := agent.Connect(ctx, v.agentConn)
		greeted <- outcome{c, err}
	}()
	refusal := make(chan struct{})
	firmware, kernelSeen := context.WithCancel(ctx)
	defer kernelSeen()
	if r.sim != nil {
		s.serves.Go(func() { _ = guestdev.ServeHost(s.ctx, v.sevGuest, r.sim) }) // its end shows in the conversation
		var watching sync.WaitGroup
		watching.Go(func() {
			if watchRefusal(firmware, v) != nil {
				close(refusal)
			}
		})
		defer watching.Wait()
		defer cancel()
	}
	limits := r.g.Timeouts
	left, timer := v.lookout.left, newLimit(limits.Firmware)
	defer func() { timer.stop() }()
	stage, limit := "firmware", limits.Firmware
	var got outcome
	for waiting := true; waiting; {
		waiting = false
		select {
		case <-left:
			left, waiting = nil, true
			kernelSeen() // whatever the guest does now, the firmware has let it
			timer.stop()
			stage, limit, timer = "kernel", limits.Kernel, newLimit(limits.Kernel)
		case <-timer.C:
			select {
			case got = <-greeted: // at the last moment
			default:
				return &late{stage, limit}
			}
		case <-refusal:
			select {
			case got = <-greeted: // it was only slow
			case <-v.lookout.left: // and so it was here
				refusal, waiting = nil, true
			default:
				cancel()
				if got = <-greeted; got.c != nil {
					got.c.Close()
				}
				r.refused(v.lookout.seen())
				return nil
			}
		case got = <-greeted:
		case <-v.Done():
			// What the guest said last may still be on its way.
			select {
			case got = <-greeted:
			case <-time.After(2 * time.Second):
				cancel()
				if got = <-greeted; got.err != nil {
					got.err = io.ErrUnexpectedEOF
				}
			}
		case <-v.life.stuck:
			cancel()
			if got = <-greeted; got.err != nil {
				got.err = io.ErrUnexpectedEOF
			}
		}
	}
	now := time.Now()
	if kernel := v.lookout.leftFirmware(); kernel.IsZero() {
		r.res.part("firmware", booted, now)
	} else {
		r.res.part("firmware", booted, kernel)
		r.res.part("kernel", kernel, now)
	}
	r.res.stage("boot", booted)
	if got.err == nil {
		v.agent, s.ready = got.c, true
		v.lookout.reached(stageAgent)
		return nil
	}
	if err := ctx.Err(); err != nil && !errors.Is(got.err, io.ErrUnexpectedEOF) {
		return err
	}
	r.res.fail(VerdictNotAttested, fmt.Sprintf("the guest sent no report: %v", s.why(got.err)),
		"look at the guest's console; the initrd must start snplaunch's agent")
	return nil
}

// limit is a timer that never fires where there is no limit.
type limit struct {
	C <-chan time.Time
	t *time.Timer
}

func newLimit(d time.Duration) limit {
	if d <= 0 {
		return limit{}
	}
	t := time.NewTimer(d)
	return limit{t.C, t}
}

func (l limit) stop() {
	if l.t != nil {
		l.t.Stop()
	}
}

// why tells what became of a guest that went away in the midst of a
// conversation; any other error is the reason itself.
func (s *Session) why(err error) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	s.guest.ended(time.Second) // the events that say why are on their way
	var why string
	s.r.res.Outcome, why = s.guest.life.ended(s.guest.lookout.seen(), s.guest.lookout.silent(), s.guest.killed())
	return errors.New(why)
}

// Ready says whether the guest runs and its agent has said hello.
func (s *Session) Ready() bool { return s.ready }

// Hello is what the guest's agent said of itself; zero for a session that is not
// Ready.
func (s *Session) Hello() agent.Hello {
	if !s.ready {
		return agent.Hello{}
	}
	return s.guest.agent.Hello()
}

// QMP is the connection to the QEMU that runs the guest; nil where none does.
func (s *Session) QMP() *qmp.Client {
	if s.guest == nil {
		return nil
	}
	return s.guest.qmp
}

// PID is the process of the QEMU that runs the guest; 0 where none does.
func (s *Session) PID() int {
	if s.guest == nil {
		return 0
	}
	return s.guest.PID()
}

// talk does one thing with the guest's agent. A guest that goes away meanwhile is
// a verdict on the session, where it has none that says more.
func (s *Session) talk(ctx context.Context, do func(context.Context, *agent.Client) error) error {
	if !s.ready {
		return ErrNotReady
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// After a KVM internal error the guest says nothing and QEMU stays.
	stuck := false
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-s.guest.life.stuck:
			stuck = true
			s.guest.agent.Close()
		case <-ctx.Done():
		}
	}()
	err := do(ctx, s.guest.agent)
	cancel()
	<-watched
	if err != nil && stuck {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Attest has the guest fetch a report over a fresh nonce and judges it: the
// chain, the measurement, and everything else that the description fixes. The
// error says what does not hold; it is in the result too. Each call replaces the
// report of the one before, and none takes back what an earlier one found.
func (s *Session) Attest(ctx context.Context) error {
	r := s.r
	n, statement, err := r.nonce()
	if err != nil {
		return err
	}
	r.o.Began("attest")
	since := time.Now()
	ctx, cancel := within(ctx, "agent", r.g.Timeouts.Agent)
	defer cancel()
	var sent *agent.Report
	err = s.talk(ctx, func(ctx context.Context, c *agent.Client) (err error) {
		sent, err = c.Attest(ctx, n, true)
		return err
	})
	attested := time.Now()
	var in *received
	if err == nil {
		in = r.receive(ctx, sent)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// On the software host the firmware asks A's guest context. Once the guest has its
		// report nothing needs A any more.
		if killed := r.a.killed(); killed != "" && s.guest != r.a {
			err = errors.New("the launch is gone: " + killed)
		}
		return s.failed(ctx, "the guest sent no report", err)
	}
	r.res.part("attest", since, attested)
	failure := r.judge(in, n, statement)
	r.res.stage("verify", attested)
	if failure != nil {
		return failure
	}
	return nil
}

// failed judges what ended a conversation with the guest, and gives the error for
// the caller. It is the guest's failure only where neither side of the session
// wanted it to end.
func (s *Session) failed(ctx context.Context, what string, err error) error {
	switch {
	case errors.Is(err, ErrNotReady):
		return err
	case s.over:
		return fmt.Errorf("%s: %w", what, ErrStopped)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	res := s.r.res
	err = fmt.Errorf("%s: %w", what, s.why(err))
	const advice = "look at the guest's console and at what QEMU said"
	switch attested := res.Verdict == VerdictMatch && res.ReportVerified; {
	case !attested:
		res.fail(VerdictNotAttested, err.Error(), advice)
	case res.Error == nil: // the verdict stays: nothing takes a good report back
		res.Error = &Failure{Message: err.Error(), Advice: advice}
	}
	return err
}

// Command runs a command in the guest and gives its exit code, 128 plus the
// signal's number where one ended it. The error is for a command that could not
// be run to its end.
func (s *Session) Command(ctx context.Context, cmd agent.Command) (exit int, err error) {
	r := s.r
	since := time.Now()
	ctx, cancel := within(ctx, "command", r.g.Timeouts.Command)
	defer cancel()
	var e agent.Exit
	err = s.talk(ctx, func(ctx context.Context, c *agent.Client) (err error) {
		s.guest.lookout.reached(stageCommand)
		e, err = c.Run(ctx, cmd)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	var told *agent.Error
	switch {
	case errors.As(err, &told): // the guest could not, and says why
		return 0, err
	case err != nil:
		return 0, s.failed(ctx, fmt.Sprintf("the guest did not get to the end of its command %q", cmd.Args[0]), err)
	}
	r.res.stage("command", since)
	code := e.Status()
	r.res.GuestExit = &code
	return code, nil
}

// Put gives the guest a file: what src gives, up to its end, with the permission
// bits of mode. It is there whole or not at all.
func (s *Session) Put(ctx context.Context, path string, mode fs.FileMode, src io.Reader) error {
	return s.talk(ctx, func(ctx context.Context, c *agent.Client) error { return c.Put(ctx, path, mode, src) })
}

// Get writes a file of the guest to w. Where it fails, w may have got a part of it.
func (s *Session) Get(ctx context.Context, path string, w io.Writer) error {
	return s.talk(ctx, func(ctx context.Context, c *agent.Client) error {
		_, err := c.Get(ctx, path, w)
		return err
	})
}

// powerOffPatience is how long a guest has to power itself off.
const powerOffPatience = 3 * time.Second

// Stop ends the guest, politely and, where that takes too long or ctx ends,
// firmly: the agent is asked to power off, QEMU to quit, and then both QEMUs are
// ended. Wait gives the result.
func (s *Session) Stop(ctx context.Context) error {
	var err error
	s.stopOnce.Do(func() {
		defer close(s.stopped)
		since := time.Now()
		if s.ready && !s.guest.ended(0) {
			ctx, cancel := context.WithTimeout(ctx, powerOffPatience)
			if s.guest.agent.Bye(ctx) == nil {
				select {
				case <-s.guest.Done():
				case <-ctx.Done():
				}
			}
			cancel()
		}
		err = s.join(since)
	})
	return err
}

// join ends everything that the session has started, once.
func (s *Session) join(since time.Time) (err error) {
	s.joinOnce.Do(func() {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.cancel()
		err = errors.Join(s.r.close(), s.r.inputs.Close())
		s.serves.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.r.res.stage("stop", since)
		if err != nil && s.err == nil {
			s.err = err
		}
	})
	return err
}

// Wait waits until the guest has ended, by itself or by Stop, and with it
// everything that the session started, and gives the result. A session that is not
// Ready is ended by it.
func (s *Session) Wait() (*Result, error) {
	if s.ready {
		select {
		case <-s.stopped:
		case <-s.guest.Done():
		case <-s.guest.life.stuck:
		}
	}
	_ = s.join(time.Now()) // is in s.err
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if s.res == nil {
		s.r.res.settle(s.r.o.LaunchOnly)
		s.r.res.stage("total", s.r.res.started)
		s.res = s.r.res
	}
	return s.res, nil
}

// launch takes the guest to where it runs, and gives the QEMU that runs it: nil
// where the launch failed, or was all that was wanted.
func (r *run) launch(ctx context.Context) (*vm, error) {
	since := time.Now()
	if err := r.startA(); err != nil {
		return nil, err
	}
	// B is got ready beside A; it is let go only when A has finished.
	var memory *os.File
	if r.sim != nil && !r.o.LaunchOnly {
		var err error
		if memory, err = r.startB(); err != nil {
			return nil, err
		}
		defer memory.Close()
	}
	if done, err := r.finishLaunch(ctx); done || err != nil {
		return nil, err
	}
	r.res.stage("launch", since)
	if r.o.LaunchOnly {
		if r.sim != nil && *r.res.Launched != r.res.Computed {
			_ = r.mismatch("launched", *r.res.Launched) // is the result's failure
			return nil, nil
		}
		r.res.Verdict = VerdictMatch
		return nil, nil
	}
	if r.sim == nil {
		return r.a, r.tellWays(ctx, r.a)
	}
	switch err := r.letBGo(ctx, memory); {
	case errors.Is(err, errNotStarted):
		r.notStarted()
		return nil, nil
	case err != nil:
		return nil, err
	}
	return r.b, r.tellWays(ctx, r.b)
}
