package report_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/snplaunch/snplaunch/report"
)

// revocationList is one that the imitation's ARK signed.
func (im *imitation) revocationList(t testing.TB, change func(*x509.RevocationList), serials ...*big.Int) []byte {
	t.Helper()
	return listSignedBy(t, mustCert(t, im.chain.ARK), imitationKeys().ark, change, serials...)
}

func listSignedBy(t testing.TB, ark *x509.Certificate, key *rsa.PrivateKey, change func(*x509.RevocationList), serials ...*big.Int) []byte {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	l := &x509.RevocationList{SignatureAlgorithm: x509.SHA384WithRSAPSS, Number: big.NewInt(7), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	for _, n := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now.Add(-2 * time.Hour)})
	}
	if change != nil {
		change(l)
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, ark, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A revoked certificate of the chain is refused, that of the chip or of the provider
// as well as that of its issuer and the root; one of another chain is not.
func TestRevoked(t *testing.T) {
	for line := range lines {
		im := imitate(t, line, imitateOptions{})
		serial := func(der []byte) *big.Int { return mustCert(t, der).SerialNumber }
		other := big.NewInt(0x7777)
		for signing, key := range []string{"VCEK", "VLEK"} {
			raw := im.report(t, 3, byte(signing))
			verify := func(lists ...[]byte) (*report.Verified, error) {
				return report.Verify(raw, im.chain, report.Options{Roots: im.roots, RevocationLists: lists})
			}
			own, issuer := im.chain.VCEK, im.chain.ASK
			foreign := im.chain.ASVK
			if key == "VLEK" {
				own, issuer, foreign = im.chain.VLEK, im.chain.ASVK, im.chain.ASK
			}
			for name, c := range map[string]struct {
				lists [][]byte
				says  string
			}{
				"its own":           {[][]byte{im.revocationList(t, nil, other, serial(own))}, "the " + key + " certificate (serial number 0)"},
				"its issuer":        {[][]byte{im.revocationList(t, nil, serial(issuer))}, mustCert(t, issuer).Subject.CommonName},
				"the root":          {[][]byte{im.revocationList(t, nil, serial(im.chain.ARK))}, "ARK-" + line},
				"on the second":     {[][]byte{im.revocationList(t, nil), im.revocationList(t, nil, serial(own))}, key},
				"on a stale list":   {[][]byte{im.revocationList(t, stale, serial(own))}, key},
				"named issuer":      {[][]byte{im.revocationList(t, issuedBy(t, mustCert(t, own).RawIssuer), serial(own))}, key},
				"as PEM":            {[][]byte{pemOf("X509 CRL", im.revocationList(t, nil, serial(own)))}, key},
				"after the unknown": {[][]byte{im.revocationList(t, nil, other, big.NewInt(0x8888), serial(own))}, key},
			} {
				v, err := verify(c.lists...)
				if v != nil || !errors.Is(err, report.ErrRevoked) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s, %s, %s: %v, %v; want ErrRevoked and %q", line, key, name, v, err, c.says)
				}
			}
			for name, list := range map[string][]byte{
				"empty": im.revocationList(t, nil), "another": im.revocationList(t, nil, other), "the other chain's issuer": im.revocationList(t, nil, serial(foreign)),
				"same number of another issuer": im.revocationList(t, issuedBy(t, mustCert(t, foreign).RawSubject), serial(own)),
			} {
				// AMD numbers ASK and ASVK of a line apart, which this relies on.
				if bytes.Equal(serial(issuer).Bytes(), serial(foreign).Bytes()) {
					t.Fatalf("%s: ASK and ASVK have one serial number", line)
				}
				v, err := verify(list)
				if err != nil {
					t.Errorf("%s, %s, %s: %v", line, key, name, err)
					continue
				}
				l := v.Lists[0]
				if l.Issuer != "ARK-"+line || l.Number != "7" || l.Stale || l.ThisUpdate.IsZero() || !l.NextUpdate.After(l.ThisUpdate) {
					t.Errorf("%s, %s, %s: %+v", line, key, name, l)
				}
			}
			if v, err := verify(); err != nil || len(v.Lists) != 0 {
				t.Errorf("%s, %s without lists: %v, %v", line, key, v, err)
			}
		}
	}
}

func stale(l *x509.RevocationList) {
	l.ThisUpdate, l.NextUpdate = l.ThisUpdate.Add(-48*time.Hour), l.NextUpdate.Add(-24*time.Hour)
}

// issuedBy names the issuer whose serial numbers the entries give (RFC 5280, 5.3.3).
func issuedBy(t testing.TB, rawName []byte) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		directory := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: rawName}
		names, err := asn1.Marshal([]asn1.RawValue{directory})
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.RevokedCertificateEntries {
			l.RevokedCertificateEntries[i].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: names}}
		}
	}
}

func TestStaleListSaysSo(t *testing.T) {
	im := imitate(t, "Genoa", imitateOptions{})
	raw := im.report(t, 3, 0)
	v, err := report.Verify(raw, im.chain, report.Options{Roots: im.roots, RevocationLists: [][]byte{im.revocationList(t, stale)}})
	if err != nil {
		t.Fatal(err)
	}
	if l := v.Lists[0]; !l.Stale || !strings.Contains(l.String(), "STALE since ") {
		t.Errorf("%+v: %s", l, l)
	}
	// Whether it is depends on the time that the report is verified for.
	v, err = report.Verify(raw, im.chain, report.Options{Roots: im.roots, RevocationLists: [][]byte{im.revocationList(t, nil)}, Now: time.Now().Add(30 * time.Minute)})
	if err != nil || v.Lists[0].Stale {
		t.Errorf("%v, %v", v, err)
	}
}

// A list that cannot be used is an error, not an empty list.
func TestRevocationListRefused(t *testing.T) {
	im, elsewhere := imitate(t, "Genoa", imitateOptions{}), imitate(t, "Milan", imitateOptions{})
	raw := im.report(t, 3, 0)
	good := im.revocationList(t, nil)
	_, amd := bundle(t, trust.AskArkGenoaVcekBytes)
	changed := bytes.Clone(good)
	changed[len(changed)-1] ^= 1
	critical := func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}} // a delta
	}
	for name, c := range map[string]struct {
		list []byte
		says string
	}{
		"garbage":         {[]byte("garbage"), "neither DER nor PEM"},
		"a certificate":   {im.chain.ARK, "neither DER nor PEM"},
		"another PEM":     {pemOf("CERTIFICATE", im.chain.ARK), `holds a "CERTIFICATE"`},
		"two PEMs":        {pemOf("X509 CRL", good, good), "more than one block"},
		"cut off":         {good[:len(good)-1], "neither DER nor PEM"},
		"changed":         {changed, "ARK-Genoa did not sign it"},
		"another line's":  {elsewhere.revocationList(t, nil), `the list of "ARK-Milan", and the report's root is ARK-Genoa`},
		"another root's":  {listSignedBy(t, imitationRoot(t, amd), imitationKeys().ask, nil), "did not sign it"},
		"from the future": {im.revocationList(t, func(l *x509.RevocationList) { l.ThisUpdate = l.ThisUpdate.Add(90 * time.Minute) }), "in the future"},
		"a delta":         {im.revocationList(t, critical), "critical extension 2.5.29.27 is not known"},
		"odd entry": {im.revocationList(t, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, big.NewInt(99)), "critical extension 1.2.3 of its entry 0"},
	} {
		v, err := report.Verify(raw, im.chain, report.Options{Roots: im.roots, RevocationLists: [][]byte{good, c.list}})
		if v != nil || !errors.Is(err, report.ErrRevocationList) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want ErrRevocationList and %q", name, v, err, c.says)
		}
	}
}

// imitationRoot is an ARK with the names of AMD's and a key that is not the
// imitation's ARK's.
func imitationRoot(t testing.TB, amd *x509.Certificate) *x509.Certificate {
	t.Helper()
	key := imitationKeys().ask
	template := &x509.Certificate{SerialNumber: amd.SerialNumber, RawSubject: amd.RawSubject, NotBefore: amd.NotBefore, NotAfter: amd.NotAfter,
		SignatureAlgorithm: amd.SignatureAlgorithm, KeyUsage: amd.KeyUsage, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: amd.SubjectKeyId}
	return certify(t, template, template, &key.PublicKey, key)
}

// No list makes Verify panic, and none that the root did not sign is used.
func FuzzRevocationList(f *testing.F) {
	im := imitate(f, "Genoa", imitateOptions{fixedKeys: true})
	raw := im.report(f, 3, 0)
	f.Add([]byte{})
	f.Add(pemOf("X509 CRL", []byte{0x30, 0}))
	f.Add(listSignedBy(f, mustCert(f, im.chain.ARK), imitationKeys().ask, nil, big.NewInt(0)))
	f.Fuzz(func(t *testing.T, list []byte) {
		if v, err := report.Verify(raw, im.chain, report.Options{Roots: im.roots, RevocationLists: [][]byte{list}}); v != nil || !errors.Is(err, report.ErrRevocationList) {
			t.Errorf("%v, %v", v, err)
		}
	})
}
