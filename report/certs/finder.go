package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// Finder looks for certificates in this order: what came with the report, Paths, Cache,
// AMD's service, and for ASK, ASVK and ARK those of AMD that are part of this program.
// The zero Finder looks only at the first and the last.
type Finder struct {
	Paths []string // files and folders, see Read
	Lists []string // files with revocation lists; with any, no other list is looked for
	// Cache is a folder that is made when there is something to keep; empty: nothing is
	// kept, and then nothing is fetched, since the service would be asked every time.
	Cache   string
	Offline bool // never ask AMD's service
	// Product ("Milan", "Genoa", "Turin") of reports of version 2, which do not name it.
	Product string
	// Transport takes the requests to AMD's service; nil: the network, over which
	// nothing is asked about a simulated chip.
	Transport http.RoundTripper
}

// Found is what there is for a report.
type Found struct {
	Chain   report.Chain
	Lists   [][]byte // revocation lists, DER or PEM
	Origins []Origin
	// Missing are sentences on what was not found, and why.
	Missing []string
	// NoList says why there is no revocation list; empty where there is one.
	NoList string
}

// Explain adds what is missing to a verdict that may be for that, a line each.
func (f *Found) Explain(err error) error {
	if !errors.Is(err, report.ErrChain) {
		return err
	}
	for _, m := range f.Missing {
		err = fmt.Errorf("%w\n%s", err, m)
	}
	return err
}

// Origin is where a certificate is from.
type Origin struct {
	Name string `json:"name"` // "VCEK", "ASK", "CRL"…
	From string `json:"from"` // in words: "the extended report", a path, "the cache", "AMD's KDS"
}

// Where things are from, but for paths.
const (
	fromReport   = "the extended report"
	fromCache    = "the cache"
	fromKDS      = "AMD's KDS"
	fromEmbedded = "AMD's certificates in this program"
)

// candidate is a certificate that may be the one.
type candidate struct {
	role string
	der  []byte
	from string
}

// roles name the certificates of a chain.
func roles(c *report.Chain) []struct {
	name string
	der  *[]byte
} {
	return []struct {
		name string
		der  *[]byte
	}{{"VCEK", &c.VCEK}, {"VLEK", &c.VLEK}, {"ASK", &c.ASK}, {"ASVK", &c.ASVK}, {"ARK", &c.ARK}, {crlRole, &c.CRL}}
}

const crlRole = "CRL"

func candidates(c report.Chain, from string) (out []candidate) {
	for _, r := range roles(&c) {
		if len(*r.der) > 0 {
			out = append(out, candidate{r.name, *r.der, from})
		}
	}
	return out
}

// search is one Find under way.
type search struct {
	*Finder
	ctx       context.Context
	report    *snp.Report
	have      []candidate
	line      string // product line, empty where not known
	simulated bool
	found     *Found
}

// Find looks for what a report (snp.ReportSize bytes) is verified with. came is what came
// with it. The error is for files that were named and cannot be read; that something
// is found nowhere is in the result.
func (f *Finder) Find(ctx context.Context, raw []byte, came report.Chain) (*Found, error) {
	r, err := snp.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	s := &search{Finder: f, ctx: ctx, report: r, have: candidates(came, fromReport), found: &Found{}}
	for _, path := range f.Paths {
		more, err := readPath(path)
		if err != nil {
			return nil, err
		}
		s.have = append(s.have, more...)
	}
	s.settleProduct()
	if key := report.SigningKey(r); key != "" {
		s.endorsement(key)
	} else {
		s.missing("the report says that no key signed it (MASK_CHIP_KEY on the host), so that there is no certificate for it")
	}
	if err := s.lists(); err != nil {
		return nil, err
	}
	return s.found, nil
}

// Check says whether the files that are named can be read, as Find will read them.
func (f *Finder) Check() error {
	for _, path := range f.Paths {
		if _, err := readPath(path); err != nil {
			return err
		}
	}
	for _, path := range f.Lists {
		if _, err := ReadList(path); err != nil {
			return err
		}
	}
	return nil
}

func (s *search) missing(format string, args ...any) {
	s.found.Missing = append(s.found.Missing, fmt.Sprintf(format, args...))
}

// take puts a certificate into the result.
func (s *search) take(c candidate) {
	for _, r := range roles(&s.found.Chain) {
		if r.name == c.role {
			*r.der = c.der
		}
	}
	s.found.Origins = append(s.found.Origins, Origin{c.role, c.from})
}

// settleProduct says which product line the report is from, and whether a software SNP
// host made it.
func (s *search) settleProduct() {
	s.line = report.ProductLine(s.report)
	for _, c := range s.have {
		if s.line == "" {
			s.line = lineOf(c)
		}
	}
	if s.line == "" {
		s.line = s.Product
	}
	s.simulated = snp.SimulatedChip(s.report.ChipID)
	for _, c := range s.have {
		var chain report.Chain
		chain.VCEK = c.der
		s.simulated = s.simulated || chain.Simulated()
	}
}

// lineOf is the product line of a certificate, by its name or its issuer's.
func lineOf(c candidate) string {
	cert, err := x509.ParseCertificate(c.der)
	if err != nil {
		return ""
	}
	name := cert.Subject.CommonName
	if c.role == "VCEK" || c.role == "VLEK" {
		name = cert.Issuer.CommonName
	}
	for _, prefix := range []string{"ARK-", "SEV-VLEK-", "SEV-"} {
		if line, ok := strings.CutPrefix(name, prefix); ok && slices.Contains(Products(), line) {
			return line
		}
	}
	return ""
}

// endorsement finds the certificate of the key that signed, then those above it.
func (s *search) endorsement(key string) {
	var unfit []candidate
	for _, c := range s.have {
		if c.role != key {
			continue
		}
		err := report.Endorses(s.report, c.der)
		if err == nil {
			s.take(c)
			s.authorities(key, c)
			return
		}
		unfit = append(unfit, c)
		s.missing("the %s of %s is passed over: %v", key, c.from, err)
	}
	c, err := s.endorsementElsewhere(key)
	if err == nil {
		s.take(*c)
		s.authorities(key, *c)
		return
	}
	s.missing("%s", err)
	if len(unfit) > 0 { // so that the verdict says what is wrong with it
		s.take(unfit[0])
		s.authorities(key, unfit[0])
		return
	}
	s.authorities(key, candidate{})
}

// endorsementElsewhere looks in the cache and asks the service.
func (s *search) endorsementElsewhere(key string) (*candidate, error) {
	if key == "VLEK" {
		return nil, errors.New("there is no VLEK certificate: a provider's comes with the extended report or from the provider (--certs); AMD's KDS gives it to nobody else")
	}
	if err := s.askable(); err != nil {
		return nil, fmt.Errorf("there is no VCEK certificate: %w", err)
	}
	if s.report.ChipID == ([64]byte{}) {
		return nil, errors.New("there is no VCEK certificate, and without the chip's id, which the host masks in its reports (MASK_CHIP_ID), there is nothing to ask for; it has to come from the host (--certs)")
	}
	vcek := VCEK{Product: s.line, ChipID: s.report.ChipID, TCB: report.ReportedTCB(s.report)}
	return s.vcek(s.ctx, vcek, func(der []byte) error { return report.Endorses(s.report, der) })
}

// askable says whether anything outside of this process and its files can know the chip.
func (s *search) askable() error {
	switch {
	case s.simulated && s.Transport == nil:
		return errors.New("AMD knows nothing of this chip of a software SNP host (its certificates come with the extended report, or with --certs)")
	case s.line == "":
		return errors.New("the report does not say which product it is from, as those of version 2 do not (say so with --product Milan|Genoa|Turin, or give the certificates with --certs)")
	case s.Cache == "":
		return errors.New("it did not come with the report, and there is no folder to keep it in, without which AMD's KDS is not asked")
	}
	return nil
}

// authorities finds ASK or ASVK and the ARK: those that issued the certificate, else any.
func (s *search) authorities(key string, below candidate) {
	role := map[string]string{"VCEK": "ASK", "VLEK": "ASVK"}[key]
	issued, err := x509.ParseCertificate(below.der)
	if err != nil {
		issued = nil
	}
	embedded := embeddedIn(s.line)
	for _, role := range []string{role, "ARK"} {
		var best *candidate
		for _, c := range slices.Concat(s.have, embedded) {
			if c.role != role {
				continue
			}
			cert, err := x509.ParseCertificate(c.der)
			if err == nil && issued != nil && issued.CheckSignatureFrom(cert) == nil {
				best, issued = &c, cert
				break
			}
			// AMD's certificate that did not issue it would only look like help.
			if best == nil && (c.from != fromEmbedded || len(below.der) == 0) {
				best = &c
			}
		}
		if best == nil {
			if len(below.der) > 0 {
				s.missing("there is no %s certificate that issued the %s", role, key)
			}
			continue
		}
		s.take(*best)
	}
}

// embeddedIn are AMD's certificates of a product line.
func embeddedIn(line string) (out []candidate) {
	for _, root := range report.AMDRoots()[line] {
		for _, c := range []struct {
			role string
			cert *x509.Certificate
		}{{"ASK", root.ProductCerts.Ask}, {"ASVK", root.ProductCerts.Asvk}, {"ARK", root.ProductCerts.Ark}} {
			if c.cert != nil {
				out = append(out, candidate{c.role, c.cert.Raw, fromEmbedded})
			}
		}
	}
	return out
}

// FindChip looks for the certificates of a chip for a TCB, as Find does for a report that
// it signed.
func (f *Finder) FindChip(ctx context.Context, v VCEK) (*Found, error) {
	layout := snp.TCBLayoutMilan
	r := &snp.Report{Version: 2, ChipID: v.ChipID, SigningKey: snp.SigningKeyVCEK}
	if v.Product == turin {
		layout = snp.TCBLayoutTurin
		r.CPUFamily = report.FamilyTurin
	}
	r.ReportedTCB = layout.Pack(v.TCB)
	known := *f
	known.Product = v.Product
	return known.Find(ctx, r.Bytes(), report.Chain{})
}
