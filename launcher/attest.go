package launcher

import (
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/bundle"
	"github.com/snplaunch/snplaunch/snp"
)

// judge verifies a report and holds it against what was launched. It gives what
// does not hold, which is the result's failure too where it is the first. n is the
// report data that was asked for, over s.
func (r *run) judge(in *received, n snp.ReportData, s *bundle.Statement) error {
	invalid := func(err error) error {
		r.res.fail(VerdictReportInvalid, err.Error(), "")
		return err
	}
	if r.o.Hooks.ExpectNonce != nil {
		r.o.Hooks.ExpectNonce(&n)
	}
	r.res.ReportData, r.res.ReportVerified = &n, false
	r.res.Report, r.res.Certificates, r.res.evidence = in.raw, in.table, evidence{}
	parsed, err := snp.ParseReport(in.raw)
	if err != nil {
		return invalid(err)
	}
	r.res.Reported = &parsed.Measurement

	if in.err != nil {
		return invalid(in.err)
	}
	opts := report.Options{Roots: report.AMDRoots(), RevocationLists: in.found.Lists}
	if r.sim != nil && !r.o.Hooks.TrustAMDOnly {
		r.res.Trusted = r.sim.platform.Fingerprint()
		opts.TrustSimulated = r.res.Trusted
	}
	v, err := report.Verify(in.raw, in.found.Chain, opts)
	if err != nil {
		return invalid(in.found.Explain(err))
	}
	r.res.ReportVerified, r.res.CertificateOrigins, r.res.RevocationLists = true, in.found.Origins, v.Lists
	r.res.evidence = evidence{s, in.found.Chain, in.found.Lists, in.found.NoList, opts}
	if parsed.Measurement != r.res.Computed {
		return r.mismatch("reported", parsed.Measurement)
	}
	if r.res.Launched != nil && *r.res.Launched != r.res.Computed {
		return r.mismatch("launched", *r.res.Launched)
	}
	if err := report.Check(parsed, r.expectations(n)); err != nil {
		return invalid(err)
	}
	if r.res.Verdict == "" {
		r.res.Verdict = VerdictMatch
	}
	return nil
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
