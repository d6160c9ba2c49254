package report_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/snplaunch/snplaunch/report"
)

func attestationOf(r *spb.Report, c report.Chain) *spb.Attestation {
	return &spb.Attestation{Report: r, CertificateChain: &spb.CertificateChain{VcekCert: c.VCEK, VlekCert: c.VLEK, AskCert: c.ASK, ArkCert: c.ARK}}
}

var (
	_ trust.HTTPSGetter        = report.HandlerGetter{}
	_ trust.ContextHTTPSGetter = report.HandlerGetter{}
	_ http.RoundTripper        = report.HandlerGetter{}
)

// Requests to AMD's service reach the handler, whole; others reach no one.
func TestHandlerGetter(t *testing.T) {
	asked := ""
	g := report.HandlerGetter{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		if strings.HasSuffix(r.URL.Path, "/none") {
			http.Error(w, "there is none", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/test")
		for _, part := range []string{"one", " two"} {
			if _, err := io.WriteString(w, part); err != nil {
				t.Error(err)
			}
		}
	})}
	const url = "https://kdsintf.amd.com/vcek/v1/Milan/crl?a=b"
	if b, err := g.Get(url); err != nil || string(b) != "one two" || asked != "GET "+url {
		t.Errorf("%q, %v, after %q", b, err, asked)
	}
	if _, err := g.Get("https://kdsintf.amd.com/none"); err == nil || !strings.Contains(err.Error(), "404 Not Found: there is none") {
		t.Errorf("404: %v", err)
	}
	asked = ""
	for _, other := range []string{"https://example.com/vcek/v1/Milan/crl", "http://kdsintf.amd.com/", "https://kdsintf.amd.com.example.com/", "https://kdsintf.amd.com:444/", "://"} {
		if _, err := g.Get(other); err == nil || asked != "" {
			t.Errorf("%s: %v, asked %q", other, err, asked)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.GetContext(ended, url); err == nil || asked != "" {
		t.Errorf("after its context: %v", err)
	}

	client := &http.Client{Transport: g}
	r, err := client.Post(url, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil || string(b) != "one two" || r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/test" || asked != "POST "+url {
		t.Errorf("by a client: %q, %v, %s, after %q", b, err, r.Status, asked)
	}
	if err := r.Body.Close(); err != nil {
		t.Error(err)
	}
}
