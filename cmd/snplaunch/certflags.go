package main

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/certs"
)

// certFlags say where certificates and revocation lists come from.
type certFlags struct {
	paths, lists []string
	offline      bool
	product      string
	requireList  bool
}

func addCertFlags(fs *flag.FlagSet) *certFlags {
	c := &certFlags{}
	several := func(name, usage string, into *[]string) {
		fs.Func(name, usage, func(s string) error {
			*into = append(*into, s)
			return nil
		})
	}
	several("certs", "`DIR|FILE`: certificates, after those that came with the report: a folder as snphost and snpguest fill it, or a file (PEM, DER or a certificate table); may be given several times", &c.paths)
	several("crl", "`FILE`: revocation list (DER or PEM) instead of the cache's and AMD's; may be given several times", &c.lists)
	fs.BoolVar(&c.offline, "offline", false, "never ask AMD's Key Distribution Service: only what came with the report, --certs, --crl and the cache")
	fs.BoolVar(&c.requireList, "require-crl", false, "fail without a current revocation list")
	fs.Func("product", "`Milan|Genoa|Turin`: where a report of version 2 is from, which does not say it", func(s string) error {
		for _, p := range certs.Products() {
			if strings.EqualFold(p, s) {
				c.product = p
				return nil
			}
		}
		return fmt.Errorf("%q is not known (%s)", s, suggest.Remedy(s, certs.Products()))
	})
	return c
}

// finder looks where the flags say.
func (c *certFlags) finder(e *env) (*certs.Finder, error) {
	cache, err := images.DefaultCacheDir()
	if err != nil {
		return nil, err
	}
	f := &certs.Finder{Paths: c.paths, Lists: c.lists, Cache: filepath.Join(cache, "certs"), Offline: c.offline, Product: c.product, Transport: e.kds}
	return f, f.Check()
}

// verified is a report that was accepted, and what it was verified with.
type verified struct {
	*report.Verified
	found *certs.Found
}

// verify finds certificates and verifies a report with AMD's roots, or with the simulated
// one of that fingerprint.
func (c *certFlags) verify(e *env, r *report.Received, trustSimulated string) (*verified, error) {
	f, err := c.finder(e)
	if err != nil {
		return nil, err
	}
	found, err := f.Find(e.ctx, r.Raw, r.Chain)
	if err != nil {
		return nil, err
	}
	v, err := report.Verify(r.Raw, found.Chain, report.Options{Roots: report.AMDRoots(), TrustSimulated: trustSimulated, RevocationLists: found.Lists})
	if err != nil {
		return nil, found.Explain(err)
	}
	out := &verified{v, found}
	return out, c.checkLists(out)
}

// checkLists is --require-crl.
func (c *certFlags) checkLists(v *verified) error { return c.current(v.Lists, ": "+v.found.NoList) }

// checkRun is --require-crl of a run whose report was verified.
func (c *certFlags) checkRun(res *launcher.Result) error {
	if !res.ReportVerified {
		return nil
	}
	return c.current(res.RevocationLists, "")
}

func (c *certFlags) current(lists []report.RevocationList, why string) error {
	if !c.requireList {
		return nil
	}
	if len(lists) == 0 {
		return fmt.Errorf("--require-crl: the report is good, but there is no revocation list%s", why)
	}
	for _, l := range lists {
		if !l.Stale {
			return nil
		}
	}
	return fmt.Errorf("--require-crl: the report is good, but the revocation list is not current: %s", lists[0])
}

// revocationOutput is what is known about revocations.
type revocationOutput struct {
	Checked bool                    `json:"checked"`
	Lists   []report.RevocationList `json:"lists"`
	Reason  string                  `json:"reason,omitempty"` // why it was not checked
}

func (v *verified) revocation() revocationOutput {
	out := revocationOutput{Checked: len(v.Lists) > 0, Lists: v.Lists}
	if !out.Checked {
		out.Lists, out.Reason = []report.RevocationList{}, v.found.NoList
	}
	return out
}

// print says what the verdict rests on.
func (v *verified) print(w io.Writer) {
	if v.Simulated {
		fmt.Fprintln(w, "SIMULATED by the software SNP host: this says nothing about any AMD hardware")
	}
	fmt.Fprintf(w, "good: signature and chain (%s)\nmeasurement %s\n", v.ProductLine, v.Report.Measurement)
	var from []string
	for _, o := range v.found.Origins {
		from = append(from, o.Name+" from "+o.From)
	}
	fmt.Fprintf(w, "certificates: %s\n", strings.Join(from, ", "))
	for _, l := range v.Lists {
		fmt.Fprintf(w, "revocation: nothing revoked, by the %s\n", l)
	}
	if len(v.Lists) == 0 {
		fmt.Fprintf(w, "revocation: not checked: %s\n", v.found.NoList)
	}
}

// words are the flags as they were given.
func (c *certFlags) words() []string {
	var words []string
	for _, p := range c.paths {
		words = append(words, "--certs", p)
	}
	for _, l := range c.lists {
		words = append(words, "--crl", l)
	}
	if c.offline {
		words = append(words, "--offline")
	}
	if c.product != "" {
		words = append(words, "--product", c.product)
	}
	return words
}
