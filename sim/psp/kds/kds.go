// Package kds is the AMD Key Distribution Service of a software SNP host: an
// http.Handler with the paths of https://kdsintf.amd.com, as AMD 57230 and
// github.com/google/go-sev-guest/kds spell them, for verifiers whose requests can be
// led to it. Nothing listens by itself.
//
//	/vcek/v1/{product}/{chip id}?blSPL=…&teeSPL=…&snpSPL=…&ucodeSPL=…[&fmcSPL=…]   VCEK, DER
//	/vcek/v1/{product}/cert_chain      ASK and ARK, PEM
//	/vlek/v1/{product}/cert_chain      ASVK and ARK, PEM
//	/vcek/v1/{product}/crl, /vlek/v1/{product}/crl   revocation list, DER
//
// A VLEK (/vlek/v1/{product}/cert) is given to its provider only, who authenticates
// with a key of AMD's: here to no one.
package kds

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// Host is where AMD's service is.
const Host = "kdsintf.amd.com"

// Service knows the chips of some platforms and what was revoked. Its methods may
// be called by several goroutines at once.
type Service struct {
	ca    *psp.CA
	chips map[string]*psp.Platform // by product and chip id in hexadecimal

	mu      sync.Mutex
	revoked []*big.Int
}

// New makes the service of an authority that knows these chips.
func New(ca *psp.CA, chips ...*psp.Platform) *Service {
	s := &Service{ca: ca, chips: map[string]*psp.Platform{}}
	for _, p := range chips {
		id, c := p.ChipID(), p.Config()
		s.chips[c.Product+"/"+hex.EncodeToString(id[:c.ChipIDSize])] = p
	}
	return s
}

// Revoke puts the serial number of a certificate on the revocation lists that are
// served from now on.
func (s *Service) Revoke(serial *big.Int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = append(s.revoked, serial)
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are served", http.StatusMethodNotAllowed)
		return
	}
	kind, body, err := s.answer(r.URL)
	if err != nil {
		status := http.StatusInternalServerError
		var known *statusError
		if errors.As(err, &known) {
			status = known.status
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(body) // whoever hung up is not told
}

// statusError is an answer other than 200.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &statusError{status, fmt.Sprintf(format, args...)}
}

// answer gives content type and body of what a URL names.
func (s *Service) answer(u *url.URL) (string, []byte, error) {
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) != 4 || parts[0] != "vcek" && parts[0] != "vlek" || parts[1] != "v1" {
		return "", nil, refuse(http.StatusNotFound, "there is nothing at %s", u.Path)
	}
	vlek, product, what := parts[0] == "vlek", parts[2], parts[3]
	if s.ca.FingerprintOf(product) == "" {
		return "", nil, refuse(http.StatusNotFound, "there is no product %q", product)
	}
	switch what {
	case "cert_chain":
		body, err := s.ca.CertChain(product, vlek)
		return "application/x-pem-file", body, err
	case "crl":
		s.mu.Lock()
		revoked := slices.Clone(s.revoked)
		s.mu.Unlock()
		body, err := s.ca.RevocationList(product, revoked...)
		return "application/pkix-crl", body, err
	}
	if vlek {
		return "", nil, refuse(http.StatusUnauthorized, "VLEKs are given to their providers only")
	}
	chip := s.chips[product+"/"+strings.ToLower(what)]
	if chip == nil {
		return "", nil, refuse(http.StatusNotFound, "there is no %s chip with this id", product)
	}
	tcb, err := parseTCB(u.RawQuery, chip.Config().TCBLayout)
	if err != nil {
		return "", nil, err
	}
	body, err := chip.VCEK(tcb)
	return "application/pkix-cert", body, err
}

// parseTCB reads the security patch levels of a query; one that is not named is 0.
func parseTCB(query string, layout snp.TCBLayout) (snp.TCBParts, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return snp.TCBParts{}, refuse(http.StatusBadRequest, "the query cannot be read: %v", err)
	}
	var tcb snp.TCBParts
	into := map[string]*uint8{"blSPL": &tcb.BootLoader, "teeSPL": &tcb.TEE, "snpSPL": &tcb.SNP, "ucodeSPL": &tcb.Microcode}
	if layout == snp.TCBLayoutTurin {
		into["fmcSPL"] = &tcb.FMC
	}
	for name, list := range values {
		level := into[name]
		if level == nil {
			return snp.TCBParts{}, refuse(http.StatusBadRequest, "parameter %q is not known", name)
		}
		n, err := strconv.ParseUint(list[0], 10, 8)
		if err != nil || len(list) != 1 {
			return snp.TCBParts{}, refuse(http.StatusBadRequest, "parameter %s is not one number from 0 to 255", name)
		}
		*level = uint8(n)
	}
	return tcb, nil
}
