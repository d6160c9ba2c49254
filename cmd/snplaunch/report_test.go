package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/verify/testdata"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// withKDS runs a command line whose requests to AMD's service a handler answers.
func withKDS(h http.Handler, stdin []byte, args ...string) typed {
	var stdout, stderr bytes.Buffer
	code := dispatch(&env{ctx: context.Background(), stdin: bytes.NewReader(stdin), stdout: &stdout, stderr: &stderr, kds: report.HandlerGetter{Handler: h}}, args)
	return typed{code, stdout.String(), stderr.String()}
}

// amd gives the VCEK of go-sev-guest's genuine report, and has no revocation list.
func amd(asked *int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		if strings.HasSuffix(r.URL.Path, "/crl") {
			http.Error(w, "not today", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(testdata.VcekBytes)
	})
}

// A genuine report is verified with a certificate that is fetched once; the answer says
// where everything is from and that revocations were not looked at.
func TestReportVerify(t *testing.T) {
	t.Setenv("SNPLAUNCH_CACHE", t.TempDir())
	inFolder(t, map[string]string{"r.bin": string(testdata.AttestationBytes), "r.b64": base64.StdEncoding.EncodeToString(testdata.AttestationBytes), "vcek.der": string(testdata.VcekBytes)})
	asked := 0
	ask := func(args ...string) typed { return withKDS(amd(&asked), testdata.AttestationBytes, args...) }
	r := ask("report", "verify", "r.bin", "--product", "milan")
	for _, want := range []string{"good: signature and chain (Milan)", "VCEK from AMD's KDS", "revocation: not checked: AMD's KDS answers 503"} {
		if r.code != exitOK || !strings.Contains(r.stdout, want) {
			t.Errorf("%+v; want %q", r, want)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want for the certificate and for the list", asked)
	}
	asked = 0
	for _, args := range [][]string{{"r.b64"}, {"-"}, {"r.bin"}} {
		r = ask(append([]string{"report", "verify", "--offline", "--product", "Milan"}, args...)...)
		if r.code != exitOK || !strings.Contains(r.stdout, "VCEK from the cache") || asked != 0 {
			t.Errorf("%v: asked %d times, %+v", args, asked, r)
		}
	}
	// The certificate says which product it is for.
	r = ask("report", "verify", "r.bin", "--offline", "--certs", "vcek.der", "--json")
	var out reportOutput
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if !out.Verified || *out.Simulated || out.ProductLine != "Milan" || out.Revocation.Checked || len(out.Certificates) != 3 || out.Certificates[0].From != "vcek.der" || len(out.Fields) < 20 {
		t.Errorf("%+v", out)
	}
	for says, args := range map[string][]string{
		"--require-crl: the report is good, but there is no revocation list": {"--require-crl"},
		"REPORT_DATA is ": {"--nonce", "00"},
		"POLICY is ":      {"--policy", "0x30000"},
	} {
		r = ask(append([]string{"report", "verify", "r.bin", "--product", "Milan"}, args...)...)
		if r.code != exitNo || !strings.Contains(r.stderr, says) || r.stdout != "" {
			t.Errorf("%v: %+v; want %q", args, r, says)
		}
	}
	if r = ask("report", "verify", "r.bin", "--product", "Mailand"); r.code != exitUsage || !strings.Contains(r.stderr, "Milan") {
		t.Errorf("%+v", r)
	}
}

// What is missing, and what the service said, is part of the verdict.
func TestReportVerifySaysWhatIsMissing(t *testing.T) {
	t.Setenv("SNPLAUNCH_CACHE", t.TempDir())
	inFolder(t, map[string]string{"r.bin": string(testdata.AttestationBytes)})
	busy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "40")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	for _, want := range []string{"limits how often it is asked (HTTP 429), until ", "was not asked again, until "} {
		r := withKDS(busy, nil, "report", "verify", "r.bin", "--product", "Milan")
		if r.code != exitNo || !strings.Contains(r.stderr, "there is no VCEK certificate") || !strings.Contains(r.stderr, want) {
			t.Errorf("%+v; want %q", r, want)
		}
	}
	r := withKDS(busy, nil, "report", "verify", "r.bin")
	if r.code != exitNo || !strings.Contains(r.stderr, "--product Milan|Genoa|Turin") {
		t.Errorf("%+v", r)
	}
}

func TestReportShow(t *testing.T) {
	inFolder(t, map[string]string{"r.bin": string(testdata.AttestationBytes), "short": string(testdata.AttestationBytes[:99])})
	if out := good(t, "report", "show", "r.bin"); !strings.Contains(out, "MEASUREMENT ") || !strings.Contains(out, "says nothing by itself") {
		t.Error(out)
	}
	var out reportOutput
	if err := json.Unmarshal([]byte(good(t, "report", "show", "--json", "r.bin")), &out); err != nil || out.Form != report.FormRaw || out.Verified || out.Inputs != nil {
		t.Errorf("%v, %+v", err, out)
	}
	bad(t, exitNo, "short: this is no attestation report: it begins as a report of version 2 does, but has 99 bytes; a report has 1184", "report", "show", "short")
	bad(t, exitNo, "no such file", "report", "show", "nothing")
	bad(t, exitUsage, "name the report", "report", "show")
	bad(t, exitUsage, `"shwo" is none of its verbs (did you mean show?)`, "report", "shwo")
}

// What certs fetch writes is what --certs reads.
func TestCertsFetch(t *testing.T) {
	t.Setenv("SNPLAUNCH_CACHE", t.TempDir())
	inFolder(t, map[string]string{"r.bin": string(testdata.AttestationBytes)})
	asked := 0
	for _, format := range []string{"pem", "der"} {
		r := withKDS(amd(&asked), nil, "certs", "fetch", "--report", "r.bin", "--product", "Milan", "--out", format, "--format", format)
		want := []string{filepath.Join(format, "vcek."+format), filepath.Join(format, "ask."+format), filepath.Join(format, "ark."+format)}
		if r.code != exitOK || strings.TrimSpace(r.stdout) != strings.Join(want, "\n") {
			t.Fatalf("%+v", r)
		}
		if r = withKDS(nil, nil, "report", "verify", "r.bin", "--offline", "--certs", format); r.code != exitOK || !strings.Contains(r.stdout, "ARK from "+want[2]) {
			t.Errorf("%+v", r)
		}
	}
	// By chip id and TCB it is the same certificate, which is in the cache by now.
	asked = 0
	chip := strings.Repeat("00", 64)
	for _, f := range mustShow(t, "r.bin") {
		if f.Name == "CHIP_ID" {
			chip = f.Value
		}
	}
	r := withKDS(amd(&asked), nil, "certs", "fetch", "--chip-id", chip, "--tcb", "0x4405000000000002", "--product", "Milan", "--out", "again", "--format", "der", "--offline")
	got, err := os.ReadFile(filepath.Join("again", "vcek.der"))
	if r.code != exitOK || asked != 0 || err != nil || !bytes.Equal(got, testdata.VcekBytes) {
		t.Errorf("asked %d times, %v, %+v", asked, err, r)
	}
	for says, args := range map[string][]string{
		"give --report FILE, or --chip-id": {"--out", "x"},
		"say where to with --out":          {"--report", "r.bin"},
		"is not 64 bytes":                  {"--chip-id", "00", "--tcb", "1", "--product", "Genoa", "--out", "x"},
		"is no number of 64 bits":          {"--chip-id", chip, "--tcb", "new", "--product", "Milan", "--out", "x"},
		"say which product":                {"--chip-id", chip, "--tcb", "1", "--out", "x"},
		"did you mean pem":                 {"--report", "r.bin", "--out", "x", "--format", "perm"},
	} {
		if r := withKDS(amd(&asked), nil, append([]string{"certs", "fetch"}, args...)...); r.code != exitUsage || !strings.Contains(r.stderr, says) {
			t.Errorf("%v: %+v; want %q", args, r, says)
		}
	}
}

func mustShow(t *testing.T, file string) []report.Field {
	t.Helper()
	var out reportOutput
	if err := json.Unmarshal([]byte(good(t, "report", "show", "--json", file)), &out); err != nil {
		t.Fatal(err)
	}
	return out.Fields
}

// What is doubtful about a report that a guest is to be known by is told.
func TestLearnedFrom(t *testing.T) {
	for want, r := range map[string]snp.Report{
		"":                        {Policy: snp.PolicyDefault},
		"could read and change":   {Policy: snp.PolicyDefault | snp.PolicyDebug},
		"a migration agent":       {Policy: snp.PolicyDefault | snp.PolicyMigrateMA},
		"asked for at VMPL 2":     {Policy: snp.PolicyDefault, VMPL: 2},
		"with an ID block":        {Policy: snp.PolicyDefault, IDKeyDigest: snp.KeyDigest{1}},
		"bit 17 is clear":         {Policy: snp.PolicySMT},
		"bits 0x4000000 are rese": {Policy: snp.PolicyDefault | 1<<26},
	} {
		got := strings.Join(learnedFrom(&r), "; ")
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}
