package kds

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

var folder string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "snplaunch-kds-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	folder = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var roots = sync.OnceValues(func() (*psp.CA, error) { return psp.LoadOrCreateCA(folder, nil) })

// service gives one with a chip of each product.
func service(t testing.TB) (*Service, map[string]*psp.Platform) {
	t.Helper()
	ca, err := roots()
	if err != nil {
		t.Fatal(err)
	}
	chips := map[string]*psp.Platform{}
	var list []*psp.Platform
	for _, name := range psp.Platforms() {
		cfg, err := psp.ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := psp.New(cfg, ca)
		if err != nil {
			t.Fatal(err)
		}
		chips[cfg.Product] = p
		list = append(list, p)
	}
	return New(ca, list...), chips
}

func get(s *Service, path string) *http.Response {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://"+Host+path, nil))
	return w.Result()
}

func body(t testing.TB, s *Service, path, kind string) []byte {
	t.Helper()
	r := get(s, path)
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != kind {
		t.Fatalf("%s: %v, %s, %s: %s", path, err, r.Status, r.Header.Get("Content-Type"), b)
	}
	return b
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every certificate that the service gives verifies under the root that it gives.
func TestServed(t *testing.T) {
	s, chips := service(t)
	for product, p := range chips {
		for _, service := range []string{"vcek", "vlek"} {
			chain := body(t, s, "/"+service+"/v1/"+product+"/cert_chain", "application/x-pem-file")
			authority, rest := pem.Decode(chain)
			root, rest := pem.Decode(rest)
			if len(rest) != 0 {
				t.Errorf("%s: something follows the %s chain", product, service)
			}
			ark, ask := parse(t, root.Bytes), parse(t, authority.Bytes)
			if want := map[string]string{"vcek": "SEV-" + product, "vlek": "SEV-VLEK-" + product}[service]; ask.Subject.CommonName != want || ark.Subject.CommonName != "ARK-"+product {
				t.Errorf("%s chain of %s: %s under %s", service, product, ask.Subject.CommonName, ark.Subject.CommonName)
			}
			if err := ask.CheckSignatureFrom(ark); err != nil {
				t.Errorf("%s chain of %s: %v", service, product, err)
			}
			crl, err := x509.ParseRevocationList(body(t, s, "/"+service+"/v1/"+product+"/crl", "application/pkix-crl"))
			if err != nil {
				t.Fatal(err)
			}
			if err := crl.CheckSignatureFrom(ark); err != nil || len(crl.RevokedCertificateEntries) != 0 {
				t.Errorf("%s list of %s: %v, %d entries", service, product, err, len(crl.RevokedCertificateEntries))
			}
		}
		cfg, id := p.Config(), p.ChipID()
		path := fmt.Sprintf("/vcek/v1/%s/%s?blSPL=%02d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", product, strings.ToUpper(hex.EncodeToString(id[:cfg.ChipIDSize])),
			cfg.TCB.BootLoader, cfg.TCB.TEE, cfg.TCB.SNP, cfg.TCB.Microcode)
		if cfg.TCBLayout == snp.TCBLayoutTurin {
			path += fmt.Sprintf("&fmcSPL=%d", cfg.TCB.FMC)
		}
		served, brought := parse(t, body(t, s, path, "application/pkix-cert")), parse(t, p.Certificates().VCEK)
		if !served.Equal(brought) {
			t.Errorf("%s: the service gives another VCEK than the chip's own", product)
		}
		older := parse(t, body(t, s, path[:strings.Index(path, "&snpSPL")], "application/pkix-cert")) // SNP and microcode 0
		if older.SerialNumber.Cmp(served.SerialNumber) == 0 || fmt.Sprint(older.PublicKey) == fmt.Sprint(served.PublicKey) {
			t.Errorf("%s: another TCB has the same VCEK", product)
		}
	}
}

func TestRevoked(t *testing.T) {
	s, chips := service(t)
	ask := parse(t, chips["Milan"].Certificates().ASK)
	s.Revoke(ask.SerialNumber)
	s.Revoke(big.NewInt(7))
	crl, err := x509.ParseRevocationList(body(t, s, "/vcek/v1/Milan/crl", "application/pkix-crl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := crl.RevokedCertificateEntries; len(n) != 2 || n[0].SerialNumber.Cmp(ask.SerialNumber) != 0 {
		t.Errorf("%d entries", len(n))
	}
}

func TestNotServed(t *testing.T) {
	s, chips := service(t)
	id := chips["Genoa"].ChipID()
	chip := hex.EncodeToString(id[:])
	for path, want := range map[string]int{
		"/":                         404,
		"/vcek/v1/Genoa":            404,
		"/vcek/v2/Genoa/cert_chain": 404,
		"/vdek/v1/Genoa/cert_chain": 404,
		"/vcek/v1/Rome/cert_chain":  404,
		"/vcek/v1/Genoa/" + strings.Repeat("00", 64):  404,
		"/vcek/v1/Milan/" + chip:                      404, // it is no Milan
		"/vcek/v1/Genoa/" + chip + "/":                404,
		"/vcek/v1/Genoa/" + chip + "?blSPL=256":       400,
		"/vcek/v1/Genoa/" + chip + "?blSPL=-1":        400,
		"/vcek/v1/Genoa/" + chip + "?blSPL=":          400,
		"/vcek/v1/Genoa/" + chip + "?blSPL=1&blSPL=2": 400,
		"/vcek/v1/Genoa/" + chip + "?fmcSPL=1":        400, // Turin has it
		"/vcek/v1/Genoa/" + chip + "?blSPL=%zz":       400,
		"/vlek/v1/Genoa/cert?blSPL=1":                 401,
		"/vlek/v1/Genoa/" + chip:                      401,
	} {
		u, err := url.Parse("https://" + Host + path)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: u})
		if w.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "https://"+Host+"/vcek/v1/Genoa/cert_chain", nil))
	if w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("POST: %d", w.Code)
	}
}

// FuzzURL asks for anything: it never panics, and what is served can be parsed.
func FuzzURL(f *testing.F) {
	s, chips := service(f)
	id := chips["Turin"].ChipID()
	f.Add("/vcek/v1/Turin/"+hex.EncodeToString(id[:8]), "blSPL=1&fmcSPL=2")
	f.Add("/vlek/v1/Milan/crl", "")
	f.Add("/vcek/v1/Genoa/cert_chain", "x=;")
	f.Add("//vcek/v1", "%")
	f.Fuzz(func(t *testing.T, path, query string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}})
		if w.Code != http.StatusOK {
			if w.Code < 400 || w.Code >= 500 {
				t.Fatalf("%d", w.Code)
			}
			return
		}
		switch kind := w.Header().Get("Content-Type"); kind {
		case "application/pkix-cert":
			parse(t, w.Body.Bytes())
		case "application/pkix-crl":
			if _, err := x509.ParseRevocationList(w.Body.Bytes()); err != nil {
				t.Fatal(err)
			}
		case "application/x-pem-file":
			if b, _ := pem.Decode(w.Body.Bytes()); b == nil {
				t.Fatal("no PEM")
			}
		default:
			t.Fatalf("content type %q", kind)
		}
	})
}
