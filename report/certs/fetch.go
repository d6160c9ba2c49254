package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/report"
)

// vcek gives a VCEK from the cache, or else from AMD's service.
func (f *Finder) vcek(ctx context.Context, v VCEK, fits func(der []byte) error) (*candidate, error) {
	name := v.cachePath()
	if der := f.kept(name); der != nil && fits(der) == nil {
		return &candidate{"VCEK", der, fromCache}, nil
	}
	if f.Offline {
		return nil, errors.New("there is no VCEK certificate here, and with --offline AMD's KDS is not asked (--certs takes one from elsewhere)")
	}
	der, from, err := f.ask(ctx, v.URL(), name, fits, fits)
	if err != nil {
		return nil, fmt.Errorf("there is no VCEK certificate: %w", err)
	}
	return &candidate{"VCEK", der, from}, nil
}

// oldList is the age at which a list that does not say when the next one comes is asked
// for again.
const oldList = 7 * 24 * time.Hour

// lists finds the revocation list: those that were named; else the cache's, while it is
// current; else that of AMD's service; else the stale one of the cache. One that came
// with the report is the last choice: a host that hides a revocation has only to keep
// giving an old list.
func (s *search) lists() error {
	for _, path := range s.Lists {
		data, err := ReadList(path)
		if err != nil {
			return err
		}
		s.takeList(data, path)
	}
	for _, c := range s.have {
		if c.role == crlRole && c.from != fromReport && len(s.Lists) == 0 {
			s.takeList(c.der, c.from)
		}
	}
	if len(s.found.Lists) > 0 {
		return nil
	}
	data, from, why := s.fetchedList()
	if data != nil {
		s.takeList(data, from)
		return nil
	}
	for _, c := range s.have {
		if c.role == crlRole {
			s.takeList(c.der, c.from)
			return nil
		}
	}
	s.found.NoList = why
	return nil
}

func (s *search) takeList(data []byte, from string) {
	s.found.Lists = append(s.found.Lists, data)
	s.found.Origins = append(s.found.Origins, Origin{crlRole, from})
}

// fetchedList gives the list of the cache or of AMD's service, or why there is none.
func (s *search) fetchedList() (data []byte, from, why string) {
	ark, err := x509.ParseCertificate(s.found.Chain.ARK)
	if err != nil || s.line == "" {
		return nil, "", "there is no ARK certificate, whose list it would be"
	}
	if s.simulated && s.Transport == nil {
		return nil, "", "AMD has no list for a software SNP host (--crl takes one)"
	}
	if s.Cache == "" {
		return nil, "", "there is no folder to keep it in"
	}
	return s.Finder.list(s.ctx, strings.ToLower(report.SigningKey(s.report)), s.line, ark)
}

// list gives a product's list from the cache while it is current, or else from AMD's
// service, or else from the cache as it is; kind is "vcek" or "vlek".
func (f *Finder) list(ctx context.Context, kind, product string, ark *x509.Certificate) (data []byte, from, why string) {
	if kind == "" {
		return nil, "", "no key signed the report"
	}
	name := product + "/" + kind + ".crl"
	signed := func(data []byte) error {
		l, err := report.ParseRevocationList(data)
		if err != nil {
			return err
		}
		return l.CheckSignatureFrom(ark)
	}
	current := func(data []byte) error {
		if err := signed(data); err != nil {
			return err
		}
		l, err := report.ParseRevocationList(data)
		if err != nil {
			return err
		}
		until := l.NextUpdate
		if until.IsZero() {
			until = l.ThisUpdate.Add(oldList)
		}
		if time.Now().After(until) {
			return errors.New("it is stale")
		}
		return nil
	}
	kept := f.kept(name)
	if kept != nil && current(kept) == nil {
		return kept, fromCache, ""
	}
	why = "with --offline AMD's KDS is not asked for it"
	if !f.Offline {
		data, from, err := f.ask(ctx, listURL(kind, product), name, current, signed)
		if err == nil {
			return data, from, ""
		}
		why = err.Error()
	}
	if kept != nil && signed(kept) == nil {
		return kept, fromCache, ""
	}
	return nil, "", why
}
