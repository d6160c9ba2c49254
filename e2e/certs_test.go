package e2e_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/certs"
	"github.com/snplaunch/snplaunch/sim/psp"
)

// counted is the software host's KDS, and how often it is asked.
type counted struct {
	http.Handler
	n atomic.Int32
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.Add(1)
	c.Handler.ServeHTTP(w, r)
}

// eachPlatform runs a test for Milan, Genoa and Turin, signed with VCEK and VLEK.
func eachPlatform(t *testing.T, do func(t *testing.T, a *attested)) {
	t.Helper()
	for _, name := range psp.Platforms() {
		for _, vlek := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "/VCEK", true: "/VLEK"}[vlek], func(t *testing.T) { do(t, attest(t, name, 3, vlek)) })
		}
	}
}

func (a *attested) table(t testing.TB) report.Chain {
	t.Helper()
	c, err := report.ParseCertTable(a.chain.Table())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verify finds what a report is verified with, and verifies it.
func (a *attested) verify(t testing.TB, f *certs.Finder, came report.Chain) (*report.Verified, *certs.Found, error) {
	t.Helper()
	found, err := f.Find(context.Background(), a.raw, came)
	if err != nil {
		t.Fatal(err)
	}
	v, err := report.Verify(a.raw, found.Chain, report.Options{Roots: report.AMDRoots(), TrustSimulated: a.platform.Fingerprint(), RevocationLists: found.Lists})
	return v, found, err
}

// Certificates and revocation lists come from the service once, then from the cache; a
// certificate that is revoked meanwhile is refused when the list is fetched again.
func TestCertificatesOfEveryProduct(t *testing.T) {
	eachPlatform(t, func(t *testing.T, a *attested) {
		service := &counted{Handler: a.service}
		f := &certs.Finder{Cache: t.TempDir(), Product: a.platform.Config().Product, Transport: report.HandlerGetter{Handler: service}}
		came := a.table(t)
		if came.VLEK == nil { // a VCEK is fetched, with what stands above it from a folder
			f.Paths = []string{chainFolder(t, came.ASK, came.ARK)}
			came = report.Chain{}
		}
		requests := int32(1) // the list
		if came.VLEK == nil {
			requests++
		}
		for range 2 {
			v, found, err := a.verify(t, f, came)
			if err != nil {
				t.Fatalf("%v; missing: %q", err, found.Missing)
			}
			if len(v.Lists) != 1 || v.Lists[0].Stale || v.Lists[0].ThisUpdate.IsZero() || !v.Simulated {
				t.Errorf("%+v", v.Lists)
			}
			if n := service.n.Load(); n != requests {
				t.Errorf("the service was asked %d times, want %d", n, requests)
			}
		}
		own := a.chain.VCEK
		if came.VLEK != nil {
			own = a.chain.VLEK
		}
		cert, err := x509.ParseCertificate(own)
		if err != nil {
			t.Fatal(err)
		}
		a.service.Revoke(cert.SerialNumber)
		if _, _, err := a.verify(t, f, came); err != nil {
			t.Errorf("with the list of before: %v", err)
		}
		f.Cache = t.TempDir()
		if _, _, err := a.verify(t, f, came); !errors.Is(err, report.ErrRevoked) {
			t.Errorf("with the list of now: %v, want ErrRevoked", err)
		}
		// Named by hand it counts as well, and then nothing is asked.
		before := service.n.Load()
		f = &certs.Finder{Lists: []string{a.listFile(t, cert.SerialNumber)}, Paths: f.Paths, Offline: true, Cache: f.Cache, Product: f.Product}
		if _, _, err := a.verify(t, f, a.table(t)); !errors.Is(err, report.ErrRevoked) || service.n.Load() != before {
			t.Errorf("with a list by hand: %v, want ErrRevoked", err)
		}
	})
}

// An issuer that was revoked takes all of its certificates with it, whatever the key.
func TestRevokedIssuer(t *testing.T) {
	eachPlatform(t, func(t *testing.T, a *attested) {
		came := a.table(t)
		issuer := came.ASK
		if came.VLEK != nil {
			issuer = came.ASVK
		}
		cert, err := x509.ParseCertificate(issuer)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = a.verify(t, &certs.Finder{Lists: []string{a.listFile(t, cert.SerialNumber)}}, came)
		if !errors.Is(err, report.ErrRevoked) || !strings.Contains(err.Error(), cert.Subject.CommonName) {
			t.Errorf("%v, want ErrRevoked of %s", err, cert.Subject.CommonName)
		}
		if _, _, err := a.verify(t, &certs.Finder{Lists: []string{a.listFile(t)}}, came); err != nil {
			t.Errorf("with an empty list: %v", err)
		}
	})
}

// Nothing is asked over the network about a chip of the software host, neither where a
// certificate shows what it is nor where only the chip id does.
func TestNetworkIsNotAskedAboutSimulatedChips(t *testing.T) {
	eachPlatform(t, func(t *testing.T, a *attested) {
		for name, came := range map[string]report.Chain{"with its table": a.table(t), "alone": {}} {
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // a request would fail with this, and be reported
			f := &certs.Finder{Cache: t.TempDir(), Product: a.platform.Config().Product}
			found, err := f.Find(ctx, a.raw, came)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(append(found.Missing, found.NoList), "\n")
			if strings.Contains(said, "cannot be reached") || strings.Contains(said, "context canceled") {
				t.Errorf("%s: a request was made: %s", name, said)
			}
			if entries, err := os.ReadDir(f.Cache); err != nil || len(entries) > 0 {
				t.Errorf("%s: something was kept: %v, %v", name, entries, err)
			}
			if came.ARK == nil && a.chain.VLEK == nil && !strings.Contains(said, "chip of a software SNP host") {
				t.Errorf("%s: %s", name, said)
			}
		}
	})
}

// listFile is a revocation list of the platform's root.
func (a *attested) listFile(t testing.TB, serials ...*big.Int) string {
	t.Helper()
	list, err := a.platform.CA().RevocationList(a.platform.Config().Product, serials...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "list.crl")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func chainFolder(t testing.TB, ders ...[]byte) string {
	t.Helper()
	var b bytes.Buffer
	for _, der := range ders {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cert_chain.pem"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
