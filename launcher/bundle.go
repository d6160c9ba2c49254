package launcher

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/bundle"
	"github.com/snplaunch/snplaunch/snp"
)

// evidence is what a bundle is made of, of the last report that the guest was asked for.
type evidence struct {
	statement *bundle.Statement
	chain     report.Chain
	lists     [][]byte
	noList    string // why there is no revocation list
	roots     report.Options
}

// nonce makes REPORT_DATA that no earlier report can hold: the SHA-512 of all that is
// known of this launch and of 32 random bytes. So the report is evidence of it, too.
func (r *run) nonce() (snp.ReportData, *bundle.Statement, error) {
	s, err := bundle.NewStatement(r.g, r.inputs, r.measured)
	if err != nil {
		return snp.ReportData{}, nil, err
	}
	s.Tool, s.QEMU, s.Backend, s.Simulated = r.o.Tool, r.res.QEMUVersion, r.res.Backend, r.res.Simulated
	if s.Tool == "" {
		s.Tool = "snplaunch " + moduleVersion()
	}
	if r.id != nil {
		s.IDBlock, s.IDAuth, s.AuthorKeyEnabled = r.id.block, r.id.auth, r.id.authorKeyEnabled
	}
	if r.res.Launched != nil {
		s.Heard = &bundle.Heard{LaunchDigest: *r.res.Launched, Updates: len(r.res.launched)}
	}
	for _, v := range []*vm{r.a, r.b} {
		if v != nil {
			s.Commands = append(s.Commands, bundle.Command{Name: v.started.Name, Args: v.started.Args})
		}
	}
	data, err := s.ReportData()
	return data, s, err
}

// moduleVersion is what the build says of the module that this package is part of.
func moduleVersion() string {
	const module = "github.com/snplaunch/snplaunch"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == module && info.Main.Version != "" {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return "devel"
}

// ErrNoEvidence: there is no bundle for a run that was no match, or whose guest did not
// attest.
var ErrNoEvidence = errors.New("there is no evidence for an evidence bundle")

// Bundle gives the evidence of a run that ended in a match: one file, to be verified
// later and elsewhere. It has been verified when it is given out. The description within
// has the environment of the guest's command, so that it is as secret as that.
func (r *Result) Bundle() (*bundle.Bundle, error) {
	switch {
	case r.Verdict != VerdictMatch:
		return nil, fmt.Errorf("%w: the verdict is %s", ErrNoEvidence, r.Verdict)
	case r.evidence.statement == nil:
		return nil, fmt.Errorf("%w: nothing was booted, so that no guest attested", ErrNoEvidence)
	}
	b, err := bundle.New(r.evidence.statement, r.Report, r.evidence.chain, r.evidence.lists)
	if err != nil {
		return nil, err
	}
	if _, err := b.Verify(r.evidence.roots); err != nil {
		return nil, fmt.Errorf("the evidence of this run does not hold: %w", err)
	}
	return b, nil
}
