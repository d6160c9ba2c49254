package certs

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// VCEK names the certificate of a chip for a TCB.
type VCEK struct {
	Product string // "Genoa"
	ChipID  [64]byte
	TCB     snp.TCBParts // FMC only of a Turin
}

// Products are the lines that AMD's service knows.
func Products() []string { return []string{"Milan", "Genoa", turin} }

const turin = "Turin"

// id is the chip id as the service takes it: a Turin's has 8 bytes.
func (v VCEK) id() string {
	if v.Product == turin {
		return hex.EncodeToString(v.ChipID[:8])
	}
	return hex.EncodeToString(v.ChipID[:])
}

// URL is where AMD serves the certificate (AMD 57230).
func (v VCEK) URL() string {
	q := fmt.Sprintf("blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", v.TCB.BootLoader, v.TCB.TEE, v.TCB.SNP, v.TCB.Microcode)
	if v.Product == turin {
		q = fmt.Sprintf("fmcSPL=%02d&%s", v.TCB.FMC, q)
	}
	return fmt.Sprintf("https://%s/vcek/v1/%s/%s?%s", report.KDSHost, url.PathEscape(v.Product), v.id(), q)
}

// listURL is where AMD serves a product's revocation list; kind is "vcek" or "vlek".
func listURL(kind, product string) string {
	return fmt.Sprintf("https://%s/%s/v1/%s/crl", report.KDSHost, kind, url.PathEscape(product))
}

// RateLimitError says that AMD's service wants to be left alone.
type RateLimitError struct {
	Until time.Time // when it may be asked again; zero: it did not say
	Asked bool      // whether it was asked just now, or has said so before
}

// Error says what to do.
func (e *RateLimitError) Error() string {
	s := "AMD's KDS limits how often it is asked (HTTP 429)"
	if !e.Asked {
		s = "AMD's KDS has asked to wait (HTTP 429), so that it was not asked again"
	}
	if !e.Until.IsZero() {
		s += ", until " + e.Until.UTC().Format(time.RFC3339)
	}
	return s + "; a certificate that was fetched once is kept and not asked for again, and --certs takes those that you have"
}

// UnreachableError says that AMD's service could not be spoken to.
type UnreachableError struct {
	Err   error     // nil where it was not tried
	Until time.Time // when it is tried again
}

// Error says what to do.
func (e *UnreachableError) Error() string {
	const todo = " (--offline does not try; --certs takes certificates from elsewhere)"
	if e.Err == nil {
		return "AMD's KDS could not be reached a moment ago and is not tried again until " + e.Until.UTC().Format(time.RFC3339) + todo
	}
	return fmt.Sprintf("AMD's KDS cannot be reached: %v%s", e.Err, todo)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

const (
	kdsTimeout = 20 * time.Second
	maxAnswer  = 16 << 20 // bytes; lists grow
	// A service that wants to be left alone for longer than this is asked all the
	// same: rather a mistake of a clock.
	maxWait     = time.Hour
	defaultWait = time.Minute
	// On a machine that drops what goes out every launch would wait for the timeout.
	unreachableWait = time.Minute
)

// get asks AMD's service once.
func (f *Finder) get(caller context.Context, where string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(caller, kdsTimeout)
	defer cancel()
	client := &http.Client{Transport: f.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "snplaunch")
	resp, err := client.Do(req)
	if err != nil {
		switch {
		case caller.Err() != nil:
			return nil, fmt.Errorf("there was no time left for AMD's KDS to answer: %w", caller.Err())
		case ctx.Err() != nil:
			err = fmt.Errorf("it did not answer within %s (%s)", kdsTimeout, where)
		}
		return nil, &UnreachableError{Err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return nil, &RateLimitError{Until: retryAfter(resp.Header.Get("Retry-After"), time.Now()), Asked: true}
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("AMD's KDS knows nothing of it (HTTP 404 for %s): is it that product, and a chip of AMD's?", where)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("AMD's KDS answers %s for %s%s", resp.Status, where, firstLine(body))
	case err != nil:
		return nil, fmt.Errorf("AMD's KDS broke off its answer to %s: %w", where, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("AMD's KDS answers %s with more than %d bytes", where, maxAnswer)
	}
	return body, nil
}

// firstLine quotes what a service has to say about its refusal.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if line == "" {
		return ""
	}
	return fmt.Sprintf(": %.120q", line)
}

// retryAfter reads the header's two forms: seconds, or a date. Where there is neither
// the service is left alone for defaultWait.
func retryAfter(header string, now time.Time) time.Time {
	until := now.Add(defaultWait)
	if n, err := strconv.ParseUint(header, 10, 31); err == nil {
		until = now.Add(time.Duration(n) * time.Second)
	} else if date, err := http.ParseTime(header); err == nil {
		until = date
	}
	if until.After(now.Add(maxWait)) {
		until = now.Add(maxWait)
	}
	return until.Truncate(time.Second)
}
