package report

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
)

// KDSHost is where AMD's Key Distribution Service is.
const KDSHost = "kdsintf.amd.com"

// HandlerGetter is a trust.HTTPSGetter for go-sev-guest, and an http.RoundTripper for
// any http.Client, that takes requests to KDSHost to a handler of this process,
// such as the service of a software SNP host. Requests to other hosts fail: nothing
// goes over the network.
type HandlerGetter struct{ Handler http.Handler }

// Get implements trust.HTTPSGetter.
func (g HandlerGetter) Get(url string) ([]byte, error) {
	return g.GetContext(context.Background(), url)
}

// GetContext implements trust.ContextHTTPSGetter.
func (g HandlerGetter) GetContext(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	a, err := g.serve(req)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %s: %s", url, a.status, http.StatusText(a.status), bytes.TrimSpace(a.body.Bytes()))
	}
	return a.body.Bytes(), nil
}

// RoundTrip implements http.RoundTripper.
func (g HandlerGetter) RoundTrip(req *http.Request) (*http.Response, error) {
	a, err := g.serve(req)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: a.header, Request: req,
		Body: body{bytes.NewReader(a.body.Bytes())}, ContentLength: int64(a.body.Len()),
	}, nil
}

func (g HandlerGetter) serve(req *http.Request) (*kept, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if req.URL.Scheme != "https" || req.URL.Host != KDSHost {
		return nil, fmt.Errorf("%s is not fetched: only https://%s is served here", req.URL, KDSHost)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	a := &kept{header: http.Header{}, status: http.StatusOK}
	g.Handler.ServeHTTP(a, req)
	return a, nil
}

// kept is an http.ResponseWriter that keeps the answer.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *kept) Header() http.Header         { return a.header }
func (a *kept) WriteHeader(status int)      { a.status = status }
func (a *kept) Write(b []byte) (int, error) { return a.body.Write(b) }

// body is that of an answer, which needs no closing.
type body struct{ *bytes.Reader }

func (body) Close() error { return nil }
