package report

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify/trust"
)

// go-sev-guest v0.15.0 looks in a revocation list for the ASK alone, and fetches
// the list by itself. Here the caller brings the list, the certificate of the chip
// or of the provider is looked for as well, and what the list's dates are is part of
// the answer.

// RevocationList is a revocation list that an accepted report's chain was looked
// for in.
type RevocationList struct {
	Issuer     string    `json:"issuer"` // "ARK-Genoa"
	Number     string    `json:"number,omitempty"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update,omitzero"` // zero where the list does not say
	Entries    int       `json:"entries"`
	// Stale says that the list promised a newer one before now: what was revoked since
	// is not on it.
	Stale bool `json:"stale"`
}

// String gives the dates of the list in words.
func (l RevocationList) String() string {
	s := fmt.Sprintf("list of %s of %s", l.Issuer, l.ThisUpdate.UTC().Format(time.RFC3339))
	switch {
	case l.NextUpdate.IsZero():
		return s + ", which does not say when the next one comes"
	case l.Stale:
		return s + ", STALE since " + l.NextUpdate.UTC().Format(time.RFC3339)
	}
	return s + ", next on " + l.NextUpdate.UTC().Format(time.RFC3339)
}

// ParseRevocationList reads a revocation list, DER or PEM. It checks no signature.
func ParseRevocationList(data []byte) (*x509.RevocationList, error) {
	der := data
	if b, rest := pem.Decode(data); b != nil {
		if b.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("%w: the PEM file holds a %q or more than one block, not a single X509 CRL", ErrRevocationList, b.Type)
		}
		der = b.Bytes
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%w: it is neither DER nor PEM of one: %w", ErrRevocationList, err)
	}
	return list, nil
}

// notRevoked looks for a report's certificate, for what issued it and for the root in
// every list. All lists have to be the root's.
func notRevoked(lists [][]byte, root *trust.AMDRootCerts, cert *x509.Certificate, key abi.ReportSigner, now time.Time) ([]RevocationList, error) {
	var out []RevocationList
	ark, issuer := root.ProductCerts.Ark, root.ProductCerts.Ask
	if key == abi.VlekReportSigner {
		issuer = root.ProductCerts.Asvk
	}
	for _, data := range lists {
		list, err := ParseRevocationList(data)
		if err != nil {
			return nil, err
		}
		if err := usable(list, ark, now); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRevocationList, err)
		}
		for _, of := range []struct {
			name string
			cert *x509.Certificate
		}{{key.String(), cert}, {issuer.Subject.CommonName, issuer}, {ark.Subject.CommonName, ark}} {
			entry, err := listed(list, of.cert)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrRevocationList, err)
			}
			if entry != nil {
				return nil, fmt.Errorf("%w: the %s certificate (serial number %d) since %s, by the list of %s of %s", ErrRevoked,
					of.name, of.cert.SerialNumber, entry.RevocationTime.UTC().Format(time.RFC3339), list.Issuer.CommonName, list.ThisUpdate.UTC().Format(time.RFC3339))
			}
		}
		l := RevocationList{Issuer: list.Issuer.CommonName, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Entries: len(list.RevokedCertificateEntries),
			Stale: !list.NextUpdate.IsZero() && now.After(list.NextUpdate)}
		if list.Number != nil {
			l.Number = list.Number.String()
		}
		out = append(out, l)
	}
	return out, nil
}

// clockSkew is how far the clock of the one who signs a list may be ahead.
const clockSkew = 5 * time.Minute

// usable says whether a list is the root's and means what is read here.
func usable(list *x509.RevocationList, ark *x509.Certificate, now time.Time) error {
	if list.Issuer.CommonName != ark.Subject.CommonName {
		return fmt.Errorf("it is the list of %q, and the report's root is %s (fetch the list of that product)", list.Issuer.CommonName, ark.Subject.CommonName)
	}
	if err := list.CheckSignatureFrom(ark); err != nil {
		return fmt.Errorf("%s did not sign it: %w", ark.Subject.CommonName, err)
	}
	if list.ThisUpdate.After(now.Add(clockSkew)) {
		return fmt.Errorf("it is dated %s, which is in the future (is this machine's clock right?)", list.ThisUpdate.UTC().Format(time.RFC3339))
	}
	for _, x := range list.Extensions {
		if x.Critical {
			return fmt.Errorf("its critical extension %s is not known here, and may say that it lists only some certificates", x.Id)
		}
	}
	return nil
}

// oidCertificateIssuer is the extension of an entry that names whose serial number it
// gives (RFC 5280, 5.3.3).
var oidCertificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}

// listed gives the entry for a certificate. Serial numbers are those of one issuer,
// but AMD's one list is for certificates of the ARK and of the ASKs below it: an entry
// counts whoever issued the certificate, unless it names somebody else. AMD gives
// every VCEK the serial number 0, so that an entry 0 revokes all of a line.
func listed(list *x509.RevocationList, cert *x509.Certificate) (*x509.RevocationListEntry, error) {
	var named []byte // an issuer stays named for the entries that follow
	for i, e := range list.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			switch {
			case x.Id.Equal(oidCertificateIssuer):
				named = x.Value
			case x.Critical:
				return nil, fmt.Errorf("the critical extension %s of its entry %d is not known here", x.Id, i)
			}
		}
		if cert.SerialNumber.Cmp(serialOf(e)) == 0 && (named == nil || bytes.Contains(named, cert.RawIssuer)) {
			return &list.RevokedCertificateEntries[i], nil
		}
	}
	return nil, nil
}

func serialOf(e x509.RevocationListEntry) *big.Int {
	if e.SerialNumber == nil {
		return new(big.Int)
	}
	return e.SerialNumber
}

// Why a chain does not count though it is whole; errors.Is tells them apart.
var (
	// ErrRevoked: a certificate of it is on a revocation list.
	ErrRevoked = errors.New("a certificate of the report's chain was revoked")
	// ErrRevocationList: a list that was given cannot be used, so that nothing is known.
	ErrRevocationList = errors.New("the revocation list cannot be used")
)
