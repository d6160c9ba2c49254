package certs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// genuine is go-sev-guest's test data: a report of a Milan (version 2, so that it does
// not name its product) and the VCEK that AMD issued for it.
var genuine = testdata.AttestationBytes

// service answers as AMD's does and counts what it is asked.
type service struct {
	mu     sync.Mutex
	asked  []string
	answer func(w http.ResponseWriter, r *http.Request)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.String())
	answer := s.answer
	s.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case strings.HasSuffix(r.URL.Path, "/crl"):
		http.Error(w, "none today", http.StatusServiceUnavailable)
	default:
		_, _ = w.Write(testdata.VcekBytes)
	}
}

// vceks counts the requests for VCEKs.
func (s *service) vceks() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.asked {
		if !strings.HasSuffix(u, "/crl") {
			n++
		}
	}
	return n
}

func (s *service) finder(t testing.TB) *Finder {
	t.Helper()
	return &Finder{Cache: filepath.Join(t.TempDir(), "certs"), Product: "Milan", Transport: report.HandlerGetter{Handler: s}}
}

func find(t testing.TB, f *Finder, raw []byte, came report.Chain) *Found {
	t.Helper()
	got, err := f.Find(context.Background(), raw, came)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// good sees that what was found verifies with AMD's roots, and where it is from.
func good(t testing.TB, got *Found, origins ...string) {
	t.Helper()
	if _, err := report.Verify(genuine, got.Chain, report.Options{Roots: report.AMDRoots()}); err != nil {
		t.Errorf("what was found does not verify: %v (%v)", err, got.Missing)
	}
	for _, o := range got.Origins {
		if o.Name == "VCEK" && !slices.Contains(origins, o.From) {
			t.Errorf("VCEK from %s, want %s", o.From, origins)
		}
	}
	if got.Chain.ASK == nil || got.Chain.ARK == nil {
		t.Error("ASK or ARK is missing, which are part of this program")
	}
}

func amdBundle(t testing.TB) (ask, ark []byte) {
	t.Helper()
	a, rest := pem.Decode(trust.AskArkMilanVcekBytes)
	b, _ := pem.Decode(rest)
	return a.Bytes, b.Bytes
}

// The sources, in their order: the report's own, named files, the cache, the service.
func TestOrder(t *testing.T) {
	s := &service{}
	f := s.finder(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "vcek.der")
	if err := os.WriteFile(file, testdata.VcekBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Paths = []string{dir}
	good(t, find(t, f, genuine, report.Chain{VCEK: testdata.VcekBytes}), fromReport)
	good(t, find(t, f, genuine, report.Chain{}), file)
	if n := s.vceks(); n != 0 {
		t.Fatalf("asked %d times with the certificate at hand", n)
	}
	f.Paths = nil
	good(t, find(t, f, genuine, report.Chain{}), fromKDS)
	good(t, find(t, f, genuine, report.Chain{}), fromCache)
	if n := s.vceks(); n != 1 {
		t.Errorf("asked %d times for one chip and TCB", n)
	}
	f.Offline = true
	good(t, find(t, f, genuine, report.Chain{}), fromCache)
}

// The request is what go-sev-guest's own function makes of the report.
func TestURL(t *testing.T) {
	r, err := snp.ParseReport(genuine)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{}
	find(t, s.finder(t), genuine, report.Chain{})
	want := kds.VCEKCertURL("Milan", r.ChipID[:], kds.TCBVersion(r.ReportedTCB))
	asked, err := kds.ParseVCEKCertURL(s.asked[0])
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := kds.ParseVCEKCertURL(want)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(asked) != fmt.Sprint(theirs) {
		t.Errorf("asked for %s, go-sev-guest asks for %s", s.asked[0], want)
	}
	// A Turin's chip id has 8 bytes, and its FMC a patch level.
	v := VCEK{Product: "Turin", ChipID: [64]byte{0xAB, 7: 0xCD}, TCB: snp.TCBParts{FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 81}}
	if got := v.URL(); got != "https://kdsintf.amd.com/vcek/v1/Turin/ab000000000000cd?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=81" {
		t.Error(got)
	}
}

// A host's table with the certificate of another TCB does not end the search, and says
// what was wrong with it.
func TestUnfitCertificateIsPassedOver(t *testing.T) {
	s := &service{}
	raw := bytes.Clone(genuine)
	raw[0x180]++ // REPORTED_TCB, boot loader: as after an update of the firmware
	f := s.finder(t)
	got := find(t, f, raw, report.Chain{VCEK: testdata.VcekBytes})
	if len(got.Missing) == 0 || !strings.Contains(got.Missing[0], "of the extended report is passed over: REPORTED_TCB is boot loader") {
		t.Errorf("%q", got.Missing)
	}
	// The service gives a certificate that does not fit either: it is not kept, and the
	// verdict is about the first.
	if got.Chain.VCEK == nil || s.vceks() != 1 || len(got.Missing) != 2 || !strings.Contains(got.Missing[1], "with something else: REPORTED_TCB") {
		t.Errorf("asked %d times; %q", s.vceks(), got.Missing)
	}
	find(t, f, raw, report.Chain{})
	if n := s.vceks(); n != 2 {
		t.Errorf("asked %d times: what did not fit was kept", n)
	}
}

// What the service says is told, and nothing is asked twice while it asks to wait.
func TestServiceRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		says   string
	}{
		"not found":   {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "HTTP 404"},
		"server's":    {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "maintenance", 503) }, `503 Service Unavailable for https://kdsintf.amd.com/vcek/v1/Milan/`},
		"its words":   {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "maintenance", 503) }, `"maintenance"`},
		"redirect":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "https://example.org/", 302) }, "302 Found"},
		"garbage":     {func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("hello")) }, "with something else"},
		"too large":   {func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, maxAnswer+1)) }, "more than"},
		"another ASK": {func(w http.ResponseWriter, r *http.Request) { ask, _ := amdBundle(t); _, _ = w.Write(ask) }, `it is the certificate of "SEV-Milan", not of a VCEK`},
	} {
		s := &service{answer: c.answer}
		got := find(t, s.finder(t), genuine, report.Chain{})
		if got.Chain.VCEK != nil || len(got.Missing) != 1 || !strings.Contains(got.Missing[0], c.says) {
			t.Errorf("%s: %q; want %q", name, got.Missing, c.says)
		}
	}
}

func TestRateLimit(t *testing.T) {
	s := &service{answer: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTooManyRequests)
	}}
	f := s.finder(t)
	v := VCEK{Product: "Milan"}
	never := func([]byte) error { return errors.New("no") }
	var limited *RateLimitError
	_, err := f.vcek(context.Background(), v, never)
	if !errors.As(err, &limited) || !limited.Asked || time.Until(limited.Until) > 2*time.Minute || time.Until(limited.Until) < time.Minute {
		t.Fatalf("%v", err)
	}
	for _, other := range []VCEK{v, {Product: "Genoa"}} {
		_, err = f.vcek(context.Background(), other, never)
		if !errors.As(err, &limited) || limited.Asked || !strings.Contains(err.Error(), "was not asked again, until ") {
			t.Errorf("%v", err)
		}
	}
	if n := s.vceks(); n != 1 {
		t.Errorf("asked %d times, though it asked to wait", n)
	}
	// When the time has come it is asked again.
	if err := f.wait(waitFile, time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err = f.vcek(context.Background(), v, never); !errors.As(err, &limited) || !limited.Asked {
		t.Errorf("%v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": defaultWait, "30": 30 * time.Second, "0": 0, "-1": defaultWait, "soon": defaultWait, "999999999": maxWait,
		now.Add(10 * time.Minute).Format(http.TimeFormat): 10 * time.Minute, now.Add(24 * time.Hour).Format(http.TimeFormat): maxWait,
	} {
		if got := retryAfter(header, now).Sub(now); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// However many ask at once, the service is asked once.
func TestOneRequest(t *testing.T) {
	s := &service{}
	shared := s.finder(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			f := *shared // as other processes have it: nothing but the folder in common
			good(t, find(t, &f, genuine, report.Chain{}), fromKDS, fromCache)
		})
	}
	wg.Wait()
	if n := s.vceks(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// What is not asked for, and why.
func TestNotAsked(t *testing.T) {
	simulated, masked, vlek, unsigned := bytes.Clone(genuine), bytes.Clone(genuine), bytes.Clone(genuine), bytes.Clone(genuine)
	var id [64]byte
	snp.MarkSimulatedChip(&id)
	copy(simulated[0x1A0:], id[:])
	copy(masked[0x1A0:], make([]byte, 64))
	vlek[0x48], unsigned[0x48] = 1<<2, 7<<2
	for name, c := range map[string]struct {
		raw    []byte
		change func(*Finder)
		says   string
	}{
		"offline":       {genuine, func(f *Finder) { f.Offline = true }, "with --offline AMD's KDS is not asked"},
		"no folder":     {genuine, func(f *Finder) { f.Cache = "" }, "there is no folder to keep it in"},
		"no product":    {genuine, func(f *Finder) { f.Product = "" }, "--product Milan|Genoa|Turin"},
		"masked chip":   {masked, nil, "MASK_CHIP_ID"},
		"VLEK":          {vlek, nil, "AMD's KDS gives it to nobody else"},
		"unsigned":      {unsigned, nil, "MASK_CHIP_KEY"},
		"simulated":     {simulated, func(f *Finder) { f.Transport = nil }, "AMD knows nothing of this chip of a software SNP host"},
		"folder is not": {genuine, func(f *Finder) { f.Cache = "/dev/null/x" }, "cannot be made"},
	} {
		s := &service{}
		f := s.finder(t)
		if c.change != nil {
			c.change(f)
		}
		got := find(t, f, c.raw, report.Chain{})
		if s.vceks() != 0 || len(got.Missing) == 0 || !strings.Contains(strings.Join(got.Missing, "\n"), c.says) {
			t.Errorf("%s: asked %d times; %q; want %q", name, s.vceks(), got.Missing, c.says)
		}
	}
	// A mark in any certificate does it, too.
	f := &Finder{Cache: t.TempDir(), Product: "Milan"}
	got := find(t, f, genuine, report.Chain{ARK: []byte(snp.SimulatedMarker)})
	if !strings.Contains(strings.Join(got.Missing, "\n"), "software SNP host") || !strings.Contains(got.NoList, "software SNP host") && !strings.Contains(got.NoList, "no ARK") {
		t.Errorf("%q, %q", got.Missing, got.NoList)
	}
}

// A table with the VCEK alone is completed with AMD's certificates, and one with all
// keeps its own.
func TestPartialTable(t *testing.T) {
	ask, ark := amdBundle(t)
	for name, c := range map[string]struct {
		came report.Chain
		from []string // ASK, ARK
	}{
		"VCEK":          {report.Chain{VCEK: testdata.VcekBytes}, []string{fromEmbedded, fromEmbedded}},
		"VCEK and ASK":  {report.Chain{VCEK: testdata.VcekBytes, ASK: ask}, []string{fromReport, fromEmbedded}},
		"VCEK and ARK":  {report.Chain{VCEK: testdata.VcekBytes, ARK: ark}, []string{fromEmbedded, fromReport}},
		"all":           {report.Chain{VCEK: testdata.VcekBytes, ASK: ask, ARK: ark}, []string{fromReport, fromReport}},
		"a wrong ASK":   {report.Chain{VCEK: testdata.VcekBytes, ASK: ark}, []string{fromEmbedded, fromEmbedded}},
		"garbage above": {report.Chain{VCEK: testdata.VcekBytes, ASK: []byte("x"), ARK: []byte("y")}, []string{fromEmbedded, fromEmbedded}},
	} {
		got := find(t, &Finder{Product: "Milan"}, genuine, c.came)
		good(t, got, fromReport)
		var from []string
		for _, o := range got.Origins {
			if o.Name == "ASK" || o.Name == "ARK" {
				from = append(from, o.From)
			}
		}
		if fmt.Sprint(from) != fmt.Sprint(c.from) {
			t.Errorf("%s: from %q, want %q", name, from, c.from)
		}
	}
}

// Folders as snphost and snpguest fill them, and files as AMD's service serves them.
func TestFolders(t *testing.T) {
	ask, ark := amdBundle(t)
	asPEM := func(ders ...[]byte) []byte {
		var out []byte
		for _, der := range ders {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		return out
	}
	for name, files := range map[string]map[string][]byte{
		"snpguest, PEM": {"ark.pem": asPEM(ark), "ask.pem": asPEM(ask), "vcek.pem": asPEM(testdata.VcekBytes)},
		"snpguest, DER": {"ark.der": ark, "ask.der": ask, "vcek.der": testdata.VcekBytes},
		"as served":     {"cert_chain": asPEM(ask, ark), "vcek": testdata.VcekBytes},
		"one file":      {"cert_chain.pem": asPEM(testdata.VcekBytes, ask, ark)},
		"capitals":      {"VCEK.CRT": testdata.VcekBytes},
		"among others":  {"vcek.der": testdata.VcekBytes, "README": []byte("the certificates of host 7"), "report.bin": genuine},
	} {
		dir := t.TempDir()
		for file, data := range files {
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := find(t, &Finder{Paths: []string{dir}, Product: "Milan"}, genuine, report.Chain{})
		if _, err := report.Verify(genuine, got.Chain, report.Options{Roots: report.AMDRoots()}); err != nil {
			t.Errorf("%s: %v, %q", name, err, got.Missing)
		}
	}
	empty, dir := t.TempDir(), t.TempDir()
	for file, data := range map[string]string{"ark.pem": "not a certificate", "empty.pem": ""} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, says := range map[string]string{
		empty:                             "holds no certificates (files like ark.pem",
		dir:                               "ark.pem: certificate file 1 holds neither PEM nor DER",
		filepath.Join(dir, "empty.pem"):   "is empty",
		filepath.Join(dir, "nothere.der"): "reading certificates: stat",
	} {
		if _, err := (&Finder{Paths: []string{path}}).Find(context.Background(), genuine, report.Chain{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", path, err, says)
		}
	}
}

// silent never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A service that does not answer holds nobody for longer than their own time.
func TestNoAnswer(t *testing.T) {
	f := &Finder{Cache: t.TempDir(), Product: "Milan", Transport: silent{}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	got, err := f.Find(ctx, genuine, report.Chain{})
	if err != nil || len(got.Missing) != 1 || !strings.Contains(got.Missing[0], "no time left for AMD's KDS to answer") {
		t.Errorf("%v, %+v", err, got)
	}
}

// unplugged is no network.
type unplugged struct{ n int }

func (u *unplugged) RoundTrip(*http.Request) (*http.Response, error) {
	u.n++
	return nil, errors.New("network is unreachable")
}

// A service that cannot be reached is not tried for every launch.
func TestUnreachable(t *testing.T) {
	u := &unplugged{}
	f := &Finder{Cache: t.TempDir(), Product: "Milan", Transport: u}
	for _, says := range []string{"network is unreachable (--offline", "a moment ago and is not tried again until "} {
		if got := find(t, f, genuine, report.Chain{}); len(got.Missing) != 1 || !strings.Contains(got.Missing[0], says) {
			t.Errorf("%+v; want %q", got, says)
		}
	}
	if u.n != 1 {
		t.Errorf("tried %d times", u.n)
	}
	if err := f.wait(unreachableFile, time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if find(t, f, genuine, report.Chain{}); u.n != 2 {
		t.Errorf("tried %d times, want once more a minute later", u.n)
	}
}

// What is named and cannot be read is told before anything is looked for.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "vcek.der")
	if err := os.WriteFile(file, testdata.VcekBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Finder{Paths: []string{dir, file}}).Check(); err != nil {
		t.Error(err)
	}
	for _, f := range []*Finder{{Paths: []string{dir, dir + "/nothing"}}, {Lists: []string{file}}, {Lists: []string{dir + "/nothing"}}} {
		if err := f.Check(); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
}

// An interrupted caller does not wait for others.
func TestLockHeedsContext(t *testing.T) {
	s := &service{}
	f := s.finder(t)
	unlock, err := f.lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.lock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// authority is an ARK of its own, which signs lists.
type authority struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ARK-Genoa"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// list is one that was signed before now and names the next one after it.
func (a *authority) list(t testing.TB, before, after time.Duration) []byte {
	t.Helper()
	now := time.Now()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-before), NextUpdate: now.Add(after)}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The cache's list is used while it is current; then the service is asked, and where that
// has none, or must not be asked, the stale one is better than nothing.
func TestRevocationLists(t *testing.T) {
	ark, other := newAuthority(t), newAuthority(t)
	current, stale, newer := ark.list(t, time.Hour, time.Hour), ark.list(t, 48*time.Hour, -24*time.Hour), ark.list(t, time.Minute, time.Hour)
	for name, c := range map[string]struct {
		kept    []byte
		serves  []byte // nil: an error
		offline bool
		want    []byte
		from    string
		asked   int
		why     string
	}{
		"nothing kept":        {nil, newer, false, newer, fromKDS, 1, ""},
		"current":             {current, newer, false, current, fromCache, 0, ""},
		"stale":               {stale, newer, false, newer, fromKDS, 1, ""},
		"stale, offline":      {stale, newer, true, stale, fromCache, 0, ""},
		"stale, no answer":    {stale, nil, false, stale, fromCache, 1, ""},
		"stale served":        {nil, stale, false, stale, fromKDS, 1, ""},
		"garbage kept":        {[]byte("x"), newer, false, newer, fromKDS, 1, ""},
		"another's kept":      {other.list(t, time.Hour, time.Hour), newer, false, newer, fromKDS, 1, ""},
		"another's, offline":  {other.list(t, time.Hour, time.Hour), newer, true, nil, "", 0, "with --offline"},
		"another's is served": {nil, other.list(t, time.Hour, time.Hour), false, nil, "", 1, "with something else"},
		"nothing anywhere":    {nil, nil, false, nil, "", 1, "503"},
	} {
		asked := 0
		f := (&service{}).finder(t)
		f.Offline = c.offline
		f.Transport = report.HandlerGetter{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			if r.URL.Path != "/vlek/v1/Genoa/crl" {
				t.Errorf("%s: asked for %s", name, r.URL)
			}
			if c.serves == nil {
				http.Error(w, "no", http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write(c.serves)
		})}
		if c.kept != nil {
			if err := f.keep("Genoa/vlek.crl", c.kept); err != nil {
				t.Fatal(err)
			}
		}
		data, from, why := f.list(context.Background(), "vlek", "Genoa", ark.cert)
		if !bytes.Equal(data, c.want) || from != c.from || asked != c.asked || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %d bytes from %q, asked %d times, %q; want %+v", name, len(data), from, asked, why, c)
		}
		if from == fromKDS && !bytes.Equal(f.kept("Genoa/vlek.crl"), c.serves) {
			t.Errorf("%s: what was served is not kept", name)
		}
	}
}
