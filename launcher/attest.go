package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/sim/guestdev"
	"github.com/snplaunch/snplaunch/snp"
)

// attest has the guest fetch a report over a fresh nonce and run its command,
// and judges what it sent.
func (r *run) attest(ctx context.Context, v *vm) error {
	r.o.Hooks.Stage("boot")
	booted := time.Now()
	n, err := nonce()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type outcome struct {
		said *agent.Result
		err  error
	}
	talked := make(chan outcome, 1)
	greeted := make(chan struct{})
	go func() {
		said, err := agent.Dialogue(ctx, v.agent, agent.Request{Nonce: n[:], ExtendedReport: true, Command: r.g.Command}, agent.Handlers{
			Hello: func(agent.Hello) {
				v.lookout.reached(stageAgent)
				close(greeted)
			},
			Report: func(agent.Report) {
				if len(r.g.Command) > 0 {
					v.lookout.reached(stageCommand)
				}
			},
			Output: func(s agent.Stream, b []byte) {
				w := r.o.Stdout
				if s == agent.Stderr {
					w = r.o.Stderr
				}
				if w != nil {
					_, _ = w.Write(b) // a reader that went away does not stop the guest
				}
			},
		})
		talked <- outcome{said, err}
	}()
	refusal := make(chan error, 1)
	if r.sim != nil {
		go func() { _ = guestdev.ServeHost(ctx, v.sevGuest, r.sim) }() // its end shows in the dialogue
		watch, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			select {
			case <-greeted:
				stop()
			case <-watch.Done():
			}
		}()
		go func() {
			if err := watchRefusal(watch, v); err != nil {
				refusal <- err
			}
		}()
	}
	var got outcome
	hello := greeted
	for waiting := true; waiting; {
		select {
		case <-refusal:
			select {
			case <-greeted: // it was only slow
				continue
			default:
			}
			r.refused(v.lookout.seen())
			return nil
		case <-hello:
			hello = nil
			r.o.Hooks.Stage("attest")
			r.res.stage("boot", booted)
		case got = <-talked:
			waiting = false
		case <-v.Done():
			// What the guest said last may still be on its way.
			select {
			case got = <-talked:
			case <-time.After(2 * time.Second):
				got = outcome{&agent.Result{}, io.ErrUnexpectedEOF}
			}
			waiting = false
		case <-v.life.stuck:
			got = outcome{&agent.Result{}, io.ErrUnexpectedEOF}
			waiting = false
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.res.GuestExit = got.said.ExitCode
	silent := errors.Is(got.err, io.ErrUnexpectedEOF) || errors.Is(got.err, io.EOF)
	if silent {
		v.ended(time.Second) // the events that say why are on their way
		var why string
		r.res.Outcome, why = v.life.ended(v.lookout.seen())
		got.err = errors.New(why)
	}
	if got.said.Report == nil {
		r.res.fail(VerdictNotAttested, fmt.Sprintf("the guest sent no report: %v", got.err),
			"look at the guest's console; the initrd must start snplaunch's agent")
		return nil
	}
	since := time.Now()
	r.judge(got.said.Report, n)
	r.res.stage("verify", since)
	if got.err != nil {
		r.res.fail(VerdictNotAttested, fmt.Sprintf("the guest attested, but did not get to the end: %v", got.err), "look at the guest's console")
	}
	// The guest powers itself off now; one that does not is ended by close.
	v.ended(3 * time.Second)
	return nil
}

// judge verifies a report and holds it against what was launched.
func (r *run) judge(sent *agent.Report, n snp.ReportData) {
	raw := append([]byte(nil), sent.Raw...)
	if r.o.Hooks.Report != nil {
		r.o.Hooks.Report(raw)
	}
	if r.o.Hooks.ExpectNonce != nil {
		r.o.Hooks.ExpectNonce(&n)
	}
	certificates := append([]byte(nil), sent.Certs...)
	if r.o.Hooks.Certificates != nil {
		r.o.Hooks.Certificates(certificates)
	}
	r.res.Report, r.res.Certificates = raw, certificates
	parsed, err := snp.ParseReport(raw)
	if err != nil {
		r.res.fail(VerdictReportInvalid, err.Error(), "")
		return
	}
	r.res.Reported = &parsed.Measurement

	chain, err := report.ParseCertTable(certificates)
	if err != nil {
		r.res.fail(VerdictReportInvalid, err.Error(), "")
		return
	}
	opts := report.Options{Roots: report.AMDRoots()}
	if r.sim != nil && !r.o.Hooks.TrustAMDOnly {
		r.res.Trusted = r.sim.platform.Fingerprint()
		opts.TrustSimulated = r.res.Trusted
	}
	if _, err := report.Verify(raw, chain, opts); err != nil {
		r.res.fail(VerdictReportInvalid, err.Error(), "")
		return
	}
	r.res.ReportVerified = true
	if parsed.Measurement != r.res.Computed {
		r.mismatch("reported", parsed.Measurement)
		return
	}
	if r.res.Launched != nil && *r.res.Launched != r.res.Computed {
		r.mismatch("launched", *r.res.Launched)
		return
	}
	if err := report.Check(parsed, r.expectations(n)); err != nil {
		r.res.fail(VerdictReportInvalid, err.Error(), "")
		return
	}
	if r.res.Verdict == "" {
		r.res.Verdict = VerdictMatch
	}
}

// expectations is everything that the description fixes in the report.
func (r *run) expectations(n snp.ReportData) report.Expect {
	e := report.Expect{Measurement: &r.res.Computed, ReportData: &n, HostData: &r.g.HostData, Policy: &r.g.Policy}
	var none snp.KeyDigest
	e.IDKeyDigest, e.AuthorKeyDigest = &none, &none
	if r.id != nil {
		e.IDKeyDigest = &r.id.idKey
		if r.id.authorKeyEnabled {
			e.AuthorKeyDigest = &r.id.authorKey
		}
		if block, err := snp.ParseIDBlock(r.id.block); err == nil {
			e.FamilyID, e.ImageID, e.GuestSVN = &block.FamilyID, &block.ImageID, &block.GuestSVN
		}
	}
	if r.o.Hooks.Expect != nil {
		r.o.Hooks.Expect(&e)
	}
	return e
}
