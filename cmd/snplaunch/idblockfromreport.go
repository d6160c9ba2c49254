package main

import (
	"flag"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// fromReportFlags make an ID block for what a report says was launched: for who cannot
// compute the digest, but has launched the guest without an ID block and has seen it
// attest.
type fromReportFlags struct {
	file, trust string
	unverified  bool
	want        report.Expect
	certs       *certFlags
}

func addFromReportFlags(fs *flag.FlagSet) *fromReportFlags {
	f := &fromReportFlags{certs: addCertFlags(fs)}
	fs.StringVar(&f.file, "from-report", "", "`FILE|-`: sign the measurement and the policy of this report, which has to verify and to have been asked with --nonce")
	fs.BoolVar(&f.unverified, "unverified", false, "take the report of --from-report as it is, whoever made it")
	fs.StringVar(&f.trust, "trust-simulated", "", "`FINGERPRINT`: of the simulated root, for reports of the software SNP host")
	for _, name := range []string{"nonce", "report-data"} {
		fs.Func(name, "`HEX`: report data that the report of --from-report was asked with", func(s string) error {
			d, err := parseReportData(s)
			f.want.ReportData = &d
			return err
		})
	}
	return f
}

// digest gives the measurement of the report, and takes the policy from it unless the
// description or a flag names one, which must be the same.
func (f *fromReportFlags) digest(e *env, g *guest.Guest, policyGiven bool) (snp.LaunchDigest, error) {
	r, err := f.accepted(e)
	if err != nil {
		return snp.LaunchDigest{}, err
	}
	if policyGiven && g.Policy != r.Policy {
		return r.Measurement, fmt.Errorf("the report is of a launch with policy %s, and the ID block would be for %s: the firmware would refuse one of the two launches (leave the policy out to take the report's)", r.Policy.Describe(), g.Policy.Describe())
	}
	g.Policy = r.Policy
	if !g.HostDataSet && r.HostData != (snp.HostData{}) {
		g.HostData, g.HostDataSet = r.HostData, true
	}
	for _, w := range learnedFrom(r) {
		fmt.Fprintln(e.stderr, "snplaunch: warning: "+w)
	}
	return r.Measurement, nil
}

// accepted gives the report when it may be used.
func (f *fromReportFlags) accepted(e *env) (*snp.Report, error) {
	received, err := readReport(e, f.file)
	if err != nil {
		return nil, err
	}
	if f.unverified {
		if f.want.ReportData != nil || f.trust != "" {
			return nil, usageError("--unverified takes any report; leave out --nonce and --trust-simulated, or --unverified")
		}
		fmt.Fprintln(e.stderr, "snplaunch: warning: --unverified: nothing says that a chip made this report, nor when; whoever could change it chose what the ID block allows")
		return snp.ParseReport(received.Raw)
	}
	if f.want.ReportData == nil {
		return nil, usageError("--from-report: say with --nonce HEX which report data it was asked with, as otherwise any old report would do (--unverified takes it as it is)")
	}
	v, err := f.certs.verify(e, received, f.trust)
	if err != nil {
		return nil, err
	}
	if err := report.Check(v.Report, f.want); err != nil {
		return nil, err
	}
	if v.Simulated {
		fmt.Fprintln(e.stderr, "snplaunch: the report is SIMULATED: it was the software SNP host that launched this guest")
	}
	for _, l := range v.Lists {
		fmt.Fprintf(e.stderr, "snplaunch: nothing revoked, by the %s\n", l)
	}
	if len(v.Lists) == 0 {
		fmt.Fprintf(e.stderr, "snplaunch: revocation not checked: %s\n", v.found.NoList)
	}
	return v.Report, nil
}

// learnedFrom says what is doubtful about a report that a guest is to be known by.
func learnedFrom(r *snp.Report) (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if r.Policy&snp.PolicyDebug != 0 {
		add("the policy is %s: the host could read and change this guest's memory, before it attested too", r.Policy.Describe())
	}
	if r.Policy&snp.PolicyMigrateMA != 0 {
		add("the policy is %s: a migration agent can bring another guest's memory in", r.Policy.Describe())
	}
	if r.VMPL != 0 {
		add("the report was asked for at VMPL %d: what runs at VMPL 0 (an SVSM) decides what the guest is, and REPORT_DATA is not its word", r.VMPL)
	}
	if r.IDKeyDigest != (snp.KeyDigest{}) {
		add("the guest was launched with an ID block already, of the ID key %s; its ids and SVN are not carried over", r.IDKeyDigest)
	}
	if g := (guest.Guest{Policy: r.Policy}); r.Policy&snp.PolicyMigrateMA == 0 {
		out = append(out, g.PolicyRemarks()...)
	}
	return out
}
