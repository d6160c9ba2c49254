package launcher

import (
	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// judge verifies a report and holds it against what was launched. It gives what
// does not hold, which is the result's failure too where it is the first.
func (r *run) judge(sent *agent.Report, n snp.ReportData) error {
	invalid := func(err error) error {
		r.res.fail(VerdictReportInvalid, err.Error(), "")
		return err
	}
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
		return invalid(err)
	}
	r.res.Reported = &parsed.Measurement

	chain, err := report.ParseCertTable(certificates)
	if err != nil {
		return invalid(err)
	}
	opts := report.Options{Roots: report.AMDRoots()}
	if r.sim != nil && !r.o.Hooks.TrustAMDOnly {
		r.res.Trusted = r.sim.platform.Fingerprint()
		opts.TrustSimulated = r.res.Trusted
	}
	if _, err := report.Verify(raw, chain, opts); err != nil {
		return invalid(err)
	}
	r.res.ReportVerified = true
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
