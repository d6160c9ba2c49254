package report_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// A chain with AMD's names and other keys is refused for every product line,
// for VCEK and VLEK, whether the chain comes with the report or not, in reports
// of every version; and the very same chain is accepted by one who trusts its
// root, so that it is refused for its keys and for nothing else.
//
// go-sev-guest before v0.15.0 accepted such a chain when it was given no
// roots: https://github.com/google/go-sev-guest/releases/tag/v0.15.0
func TestImitatedChainIsRefused(t *testing.T) {
	cases := 0
	for line := range lines {
		im := imitate(t, line, imitateOptions{})
		for _, version := range []uint32{2, 3, 4, 5} {
			for signingKey, role := range []string{"VCEK", "VLEK"} {
				raw := im.report(t, version, byte(signingKey))
				for _, given := range []struct {
					name  string
					chain report.Chain
				}{
					{"whole chain", im.chain}, {"no ARK", im.with(false, true)},
					{"no ASK", im.with(true, false)}, {"endorsement alone", im.with(false, false)},
				} {
					t.Run(fmt.Sprintf("%s/v%d/%s/%s", line, version, role, given.name), func(t *testing.T) {
						cases++
						v, err := report.Verify(raw, given.chain, report.Options{Roots: report.AMDRoots()})
						if v != nil || !errors.Is(err, report.ErrChain) {
							t.Fatalf("with AMD's roots: %v, %v; want ErrChain", v, err)
						}
						// The reason: AMD's intermediate of that name was
						// found and did not make this signature.
						issuer := map[string]string{"VCEK": "SEV-" + line, "VLEK": "SEV-VLEK-" + line}[role]
						for _, want := range []string{"signed by unknown authority", "verification error", `"` + issuer + `"`} {
							if !strings.Contains(err.Error(), want) {
								t.Errorf("refused with %q, which does not say %s", err, want)
							}
						}
						for _, other := range []report.Options{
							{Roots: report.AMDRoots(), TrustSimulated: report.Fingerprint(im.chain.ARK)}, // it is not marked: no root to trust
						} {
							if v, err := report.Verify(raw, given.chain, other); v != nil || !errors.Is(err, report.ErrChain) {
								t.Errorf("with its fingerprint as simulated root: %v, %v; want ErrChain", v, err)
							}
						}
						v, err = report.Verify(raw, given.chain, report.Options{Roots: im.roots})
						if err != nil {
							t.Fatalf("with its own roots: %v", err)
						}
						if v.ProductLine != line || v.Simulated || v.Report.Version != version {
							t.Errorf("with its own roots: verified as line %s, simulated %v, version %d", v.ProductLine, v.Simulated, v.Report.Version)
						}
					})
				}
			}
		}
	}
	if want := 3 * 4 * 2 * 4; cases != want {
		t.Errorf("%d cases, want %d", cases, want)
	}
}

// A line's root says nothing about another line.
func TestRootsAreByLine(t *testing.T) {
	milan, genoa := imitate(t, "Milan", imitateOptions{}), imitate(t, "Genoa", imitateOptions{})
	for _, version := range []uint32{2, 3} {
		if _, err := report.Verify(milan.report(t, version, 0), milan.chain, report.Options{Roots: genoa.roots}); !errors.Is(err, report.ErrChain) {
			t.Errorf("version %d: Milan with roots of Genoa: %v", version, err)
		}
		// Nor does it help to file a root under another line's name.
		filed := report.Roots{"Milan": genoa.roots["Genoa"]}
		if _, err := report.Verify(milan.report(t, version, 0), milan.chain, report.Options{Roots: filed}); !errors.Is(err, report.ErrChain) {
			t.Errorf("version %d: Milan with Genoa's root filed as Milan's: %v", version, err)
		}
	}
	// A report of version 3 names its processor; a chain of another line is refused.
	raw := milan.report(t, 3, 0)
	raw[offModel] = 0x11 // Genoa
	sign(t, raw, milan.vcekKey)
	both := report.Roots{"Milan": milan.roots["Milan"], "Genoa": genoa.roots["Genoa"]}
	if _, err := report.Verify(raw, milan.chain, report.Options{Roots: both}); !errors.Is(err, report.ErrChain) {
		t.Errorf("a Genoa's report signed by a Milan's VCEK: %v", err)
	}
}

// A real report of a Milan, and the VCEK that AMD issued for it, verify with
// AMD's roots. Report and certificate are go-sev-guest's test data.
func TestGenuineReportVerifies(t *testing.T) {
	chain := report.Chain{VCEK: testdata.VcekBytes}
	for _, withChain := range []bool{false, true} {
		if withChain {
			c, err := report.ParseCertificates(trust.AskArkMilanVcekBytes)
			if err != nil {
				t.Fatal(err)
			}
			chain = c.With(chain)
		}
		v, err := report.Verify(testdata.AttestationBytes, chain, report.Options{Roots: report.AMDRoots()})
		if err != nil {
			t.Fatal(err)
		}
		if v.Simulated || v.ProductLine != "Milan" {
			t.Errorf("verified as %s, simulated %v", v.ProductLine, v.Simulated)
		}
	}
	im := imitate(t, "Milan", imitateOptions{})
	if _, err := report.Verify(testdata.AttestationBytes, chain, report.Options{Roots: im.roots}); !errors.Is(err, report.ErrChain) {
		t.Errorf("AMD's report with an imitation's roots: %v", err)
	}
	if _, err := report.Verify(testdata.AttestationBytes, im.chain, report.Options{Roots: report.AMDRoots()}); err == nil {
		t.Error("AMD's report with an imitation's VCEK is accepted")
	}
	for i := range offSigS + 72 { // reserved bytes follow, which no signature covers
		changed := bytes.Clone(testdata.AttestationBytes)
		changed[i] ^= 0x10
		if _, err := report.Verify(changed, chain, report.Options{Roots: report.AMDRoots()}); err == nil {
			t.Errorf("byte %#x changed and still accepted", i)
		}
	}
}

// AMDRoots has root, ASK and ASVK of each line, they are AMD's published ones, and
// changing a copy changes nothing for others.
func TestAMDRoots(t *testing.T) {
	roots := report.AMDRoots()
	if len(roots) != len(lines) {
		t.Errorf("%d lines, want %d", len(roots), len(lines))
	}
	for line, amd := range lines {
		ask, ark := bundle(t, amd.vcek)
		asvk, _ := bundle(t, amd.vlek)
		if len(roots[line]) != 1 {
			t.Fatalf("%s: %d roots", line, len(roots[line]))
		}
		r := roots[line][0]
		if r.ProductLine != line || !r.ProductCerts.Ark.Equal(ark) || !r.ProductCerts.Ask.Equal(ask) {
			t.Errorf("%s: not AMD's ARK and ASK", line)
		}
		if r.ProductCerts.Asvk == nil || !r.ProductCerts.Asvk.Equal(asvk) {
			t.Errorf("%s: no ASVK, so that no report signed by a VLEK can verify", line)
		}
		im := imitate(t, line, imitateOptions{})
		r.ProductCerts.Ark = mustCert(t, im.chain.ARK)
		if !report.AMDRoots()[line][0].ProductCerts.Ark.Equal(ark) {
			t.Errorf("%s: a caller can change AMD's root for everyone", line)
		}
	}
}

// marked is a chain like the software host's.
func marked(t testing.TB, line string) *imitation {
	return imitate(t, line, imitateOptions{serialNumber: snp.SimulatedMarker})
}

// The mark counts in any one certificate, before anything else is looked at.
func TestMarkIsRefused(t *testing.T) {
	for _, role := range []string{"ARK", "ASK", "ASVK", "VCEK", "VLEK"} {
		im := imitate(t, "Genoa", imitateOptions{serialNumber: snp.SimulatedMarker, marked: role})
		// Roots that verify the chain, and are not those of a software SNP host.
		roots := im.roots
		if role == "ARK" {
			roots = report.AMDRoots()
		}
		for signingKey := range byte(2) {
			for name, raw := range map[string][]byte{"report": im.report(t, 3, signingKey), "no report": []byte("no report")} {
				if _, err := report.Verify(raw, im.chain, report.Options{Roots: roots}); !errors.Is(err, report.ErrSimulated) {
					t.Errorf("%s marked, signing key %d, %s: %v, want ErrSimulated", role, signingKey, name, err)
				}
			}
		}
	}
	// Also in a certificate that cannot be parsed.
	broken := report.Chain{VCEK: append([]byte("garbage "), snp.SimulatedMarker...)}
	if _, err := report.Verify(make([]byte, reportBytes), broken, report.Options{Roots: report.AMDRoots()}); !errors.Is(err, report.ErrSimulated) {
		t.Errorf("mark in garbage: %v, want ErrSimulated", err)
	}
}

func TestTrustSimulated(t *testing.T) {
	im := marked(t, "Genoa")
	raw := im.report(t, 3, 0)
	fingerprint := report.Fingerprint(im.chain.ARK)
	simulated, err := report.SimulatedRoots(im.chain.ARK, im.chain.ASK)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]report.Options{
		"fingerprint":            {Roots: report.AMDRoots(), TrustSimulated: fingerprint},
		"fingerprint upper case": {Roots: report.AMDRoots(), TrustSimulated: strings.ToUpper(fingerprint)},
		"roots":                  {Roots: simulated},
	} {
		v, err := report.Verify(raw, im.chain, o)
		if err != nil {
			t.Fatalf("trusted by %s: %v", name, err)
		}
		if !v.Simulated || v.ProductLine != "Genoa" {
			t.Errorf("trusted by %s: verified as %s, simulated %v; want Genoa, true", name, v.ProductLine, v.Simulated)
		}
	}
	trusting := report.Options{Roots: report.AMDRoots(), TrustSimulated: fingerprint}

	other := marked(t, "Genoa") // the authorities' keys again, in another ARK certificate
	if report.Fingerprint(other.chain.ARK) == fingerprint {
		t.Fatal("two roots have one fingerprint")
	}
	change := func(f func(*report.Chain)) report.Chain {
		c := im.chain
		f(&c)
		return c
	}
	for name, c := range map[string]struct {
		chain report.Chain
		o     report.Options
		want  error
	}{
		"another simulated root, fingerprint": {other.chain, trusting, report.ErrSimulated},
		"another simulated root, roots":       {other.chain, report.Options{Roots: simulated}, report.ErrSimulated},
		"no ARK, fingerprint":                 {change(func(c *report.Chain) { c.ARK = nil }), trusting, report.ErrSimulated},
		"no ASK, fingerprint":                 {change(func(c *report.Chain) { c.ASK = nil }), trusting, report.ErrChain},
		"ASK is garbage":                      {change(func(c *report.Chain) { c.ASK = []byte("garbage") }), trusting, report.ErrChain},
		"ASK not signed by the root":          {change(func(c *report.Chain) { c.ASK = c.VCEK }), trusting, report.ErrChain},
		"no fingerprint":                      {im.chain, report.Options{Roots: report.AMDRoots()}, report.ErrSimulated},
	} {
		if v, err := report.Verify(raw, c.chain, c.o); v != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, v, err, c.want)
		}
	}
	// Roots at hand need no ARK and no ASK to come with the report.
	if _, err := report.Verify(raw, report.Chain{VCEK: im.chain.VCEK}, report.Options{Roots: simulated}); err != nil {
		t.Errorf("VCEK alone, roots at hand: %v", err)
	}
	// A VCEK that only says that it is marked: issued by someone else.
	stranger := imitate(t, "Genoa", imitateOptions{serialNumber: snp.SimulatedMarker, marked: "VCEK"})
	forged := change(func(c *report.Chain) { c.VCEK = selfIssued(t, stranger) })
	for name, o := range map[string]report.Options{"fingerprint": trusting, "roots": {Roots: simulated}} {
		if v, err := report.Verify(stranger.report(t, 3, 0), forged, o); v != nil || !errors.Is(err, report.ErrChain) {
			t.Errorf("a stranger's VCEK, %s: %v, %v; want ErrChain", name, v, err)
		}
	}
	// A real report stays real for one who trusts a simulated root too, and roots of a
	// software host are no roots for AMD's.
	genuine := report.Chain{VCEK: testdata.VcekBytes}
	if v, err := report.Verify(testdata.AttestationBytes, genuine, trusting); err != nil || v.Simulated {
		t.Errorf("a real report with a simulated root trusted: %v, %v", v, err)
	}
	if _, err := report.Verify(testdata.AttestationBytes, genuine, report.Options{Roots: simulated}); !errors.Is(err, report.ErrChain) {
		t.Errorf("a real report with a simulated root alone: %v, want ErrChain", err)
	}
}

// selfIssued is the stranger's VCEK, issued under the same names by keys that
// no one trusts.
func selfIssued(t testing.TB, stranger *imitation) []byte {
	t.Helper()
	template := mustCert(t, stranger.chain.VCEK)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{RawSubject: template.RawIssuer, SubjectKeyId: template.AuthorityKeyId, PublicKey: &key.PublicKey}
	return certify(t, &x509.Certificate{
		SerialNumber: template.SerialNumber, RawSubject: template.RawSubject, NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: append(tcbExtensions(t, stranger.product), pkix.Extension{Id: kdsOID(4), Value: stranger.hwid}),
	}, issuer, &stranger.vcekKey.PublicKey, key).Raw
}

func TestSimulatedRootsTakesOnlyMarked(t *testing.T) {
	good, bad := marked(t, "Genoa"), imitate(t, "Genoa", imitateOptions{})
	for name, c := range map[string][2][]byte{
		"not marked":     {bad.chain.ARK, bad.chain.ASK},
		"ASK not marked": {good.chain.ARK, bad.chain.ASK},
		"ARK not marked": {bad.chain.ARK, good.chain.ASK},
		"empty":          {nil, nil},
		"garbage":        {[]byte(snp.SimulatedMarker), []byte(snp.SimulatedMarker)},
		"swapped":        {good.chain.ASK, good.chain.ARK},
		"AMD's":          {report.AMDRoots()["Genoa"][0].ProductCerts.Ark.Raw, report.AMDRoots()["Genoa"][0].ProductCerts.Ask.Raw},
	} {
		if roots, err := report.SimulatedRoots(c[0], c[1]); err == nil {
			t.Errorf("%s: %v", name, roots)
		}
	}
}

// Verify says what is wrong with roots instead of falling back on others.
func TestRootsMustBeWhole(t *testing.T) {
	im := imitate(t, "Milan", imitateOptions{})
	raw := im.report(t, 3, 0)
	for name, roots := range map[string]report.Roots{
		"nil": nil, "empty": {}, "empty line": {"Milan": {}}, "nil root": {"Milan": {nil}},
		"no certificates": {"Milan": {{ProductLine: "Milan"}}},
		"no ARK":          {"Milan": {{ProductLine: "Milan", ProductCerts: &trust.ProductCerts{Ask: mustCert(t, im.chain.ASK)}}}},
	} {
		if v, err := report.Verify(raw, im.chain, report.Options{Roots: roots}); v != nil || err == nil || !strings.Contains(err.Error(), "root") {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	noASK := report.Roots{"Milan": {{ProductLine: "Milan", ProductCerts: &trust.ProductCerts{Ark: mustCert(t, im.chain.ARK)}}}}
	if v, err := report.Verify(raw, im.chain, report.Options{Roots: noASK}); v != nil || !errors.Is(err, report.ErrChain) {
		t.Errorf("no ASK: %v, %v; want ErrChain", v, err)
	}
}

// A report counts only with the certificate of its very chip and TCB.
func TestCertificateIsOfChipAndTCB(t *testing.T) {
	for line := range lines {
		im := imitate(t, line, imitateOptions{})
		for signingKey := range byte(2) {
			key := []*ecdsa.PrivateKey{im.vcekKey, im.vlekKey}[signingKey]
			for _, version := range []uint32{2, 3} {
				verify := func(f func([]byte)) error {
					raw := im.report(t, version, signingKey)
					f(raw)
					sign(t, raw, key)
					_, err := report.Verify(raw, im.chain, report.Options{Roots: im.roots})
					return err
				}
				part := map[int]string{0: "boot loader", 1: "TEE", 6: "SNP", 7: "microcode"}
				if line == "Turin" && version >= 3 {
					part = map[int]string{1: "boot loader", 2: "TEE", 3: "SNP", 7: "microcode"}
				}
				for at, name := range part {
					for _, by := range []byte{1, 0xFF} { // one more, one less
						if err := verify(func(b []byte) { b[offTCB+at] += by }); !errors.Is(err, report.ErrChain) || !strings.Contains(err.Error(), "REPORTED_TCB") {
							t.Errorf("%s, version %d, signing key %d: %s level changed: %v; want ErrChain naming REPORTED_TCB", line, version, signingKey, name, err)
						}
					}
				}
				err := verify(func(b []byte) { b[offChipID] ^= 1 })
				if signingKey == 0 && (!errors.Is(err, report.ErrChain) || !strings.Contains(err.Error(), "CHIP_ID")) {
					t.Errorf("%s, version %d: another chip: %v; want ErrChain naming CHIP_ID", line, version, err)
				}
				if signingKey == 1 && err != nil { // a VLEK is a cloud's, not a chip's
					t.Errorf("%s, version %d: another chip, VLEK: %v", line, version, err)
				}
				// MASK_CHIP_ID: the host may hide it.
				if err := verify(func(b []byte) { clear(b[offChipID : offChipID+64]) }); err != nil {
					t.Errorf("%s, version %d, signing key %d: masked chip id: %v", line, version, signingKey, err)
				}
			}
		}
	}
}

// Each refusal has its kind, so that a caller can tell them apart.
func TestErrorsAreTyped(t *testing.T) {
	im := imitate(t, "Genoa", imitateOptions{})
	good := im.report(t, 3, 0)
	own := report.Options{Roots: im.roots}
	if _, err := report.Verify(good, im.chain, own); err != nil {
		t.Fatal(err)
	}
	change := func(f func([]byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	resigned := func(f func([]byte)) []byte {
		b := change(f)
		sign(t, b, im.vcekKey)
		return b
	}
	otherKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	without := func(f func(*report.Chain)) report.Chain {
		c := im.chain
		f(&c)
		return c
	}
	kinds := []error{report.ErrSimulated, report.ErrFormat, report.ErrChain, report.ErrSignature, report.ErrExpectation}
	for name, c := range map[string]struct {
		raw   []byte
		chain report.Chain
		o     report.Options
		want  error
		says  string
	}{
		"empty":               {nil, im.chain, own, report.ErrFormat, "got 0 bytes, want 1184"},
		"one byte short":      {good[:reportBytes-1], im.chain, own, report.ErrFormat, "got 1183 bytes"},
		"one byte long":       {append(bytes.Clone(good), 0), im.chain, own, report.ErrFormat, "got 1185 bytes"},
		"version 1":           {resigned(func(b []byte) { b[offVersion] = 1 }), im.chain, own, report.ErrFormat, "version"},
		"version 6":           {resigned(func(b []byte) { b[offVersion] = 6 }), im.chain, own, report.ErrFormat, "version"},
		"reserved byte 4C":    {resigned(func(b []byte) { b[0x4C] = 1 }), im.chain, own, report.ErrFormat, ""},
		"reserved policy bit": {resigned(func(b []byte) { b[offPolicy+7] = 0x80 }), im.chain, own, report.ErrFormat, "policy"},
		"signing key 2":       {resigned(func(b []byte) { b[offFlags] = 2 << 2 }), im.chain, own, report.ErrFormat, ""},
		"no VCEK":             {good, without(func(c *report.Chain) { c.VCEK = nil }), own, report.ErrChain, "no VCEK certificate"},
		"no VLEK":             {im.report(t, 3, 1), without(func(c *report.Chain) { c.VLEK = nil }), own, report.ErrChain, "no VLEK certificate"},
		"VCEK is garbage":     {good, without(func(c *report.Chain) { c.VCEK = []byte("garbage") }), own, report.ErrChain, "VCEK"},
		"VCEK is the ASK":     {good, without(func(c *report.Chain) { c.VCEK = c.ASK }), own, report.ErrSignature, ""},
		"VLEK as VCEK":        {im.report(t, 3, 0), without(func(c *report.Chain) { c.VCEK = c.VLEK }), own, report.ErrChain, "SEV-VCEK"},
		"signature changed":   {change(func(b []byte) { b[offSigR] ^= 1 }), im.chain, own, report.ErrSignature, ""},
		"signature zero":      {change(func(b []byte) { clear(b[offSigR:]) }), im.chain, own, report.ErrSignature, ""},
		"data changed":        {change(func(b []byte) { b[offData] ^= 1 }), im.chain, own, report.ErrSignature, ""},
		"signed by another":   {func() []byte { b := bytes.Clone(good); sign(t, b, otherKey); return b }(), im.chain, own, report.ErrSignature, ""},
		"VCEK expired":        {good, im.chain, report.Options{Roots: im.roots, Now: time.Now().Add(2 * time.Hour)}, report.ErrChain, "expired"},
		"VCEK not yet valid":  {good, im.chain, report.Options{Roots: im.roots, Now: time.Now().Add(-2 * time.Hour)}, report.ErrChain, "not yet valid"},
		"algorithm 2":         {resigned(func(b []byte) { b[offSigAlgo] = 2 }), im.chain, own, report.ErrSignature, ""},
		"not signed":          {resigned(func(b []byte) { b[offFlags] = 7 << 2 }), im.chain, own, report.ErrSignature, "MASK_CHIP_KEY"},
	} {
		v, err := report.Verify(c.raw, c.chain, c.o)
		if v != nil {
			t.Errorf("%s: accepted", name)
		}
		for _, kind := range kinds {
			if is := errors.Is(err, kind); is != (kind == c.want) {
				t.Errorf("%s: %q: errors.Is(%q) is %v", name, err, kind, is)
			}
		}
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q does not say %q", name, err, c.says)
		}
	}
	for _, o := range []report.Options{{}, {Roots: report.Roots{}}, {TrustSimulated: strings.Repeat("0", 64)}} {
		if _, err := report.Verify(good, im.chain, o); err == nil || !strings.Contains(err.Error(), "trusted roots") {
			t.Errorf("without roots: %v", err)
		}
	}
}

// Every byte that the signature covers, and the signature itself.
func TestNoBitCanBeChanged(t *testing.T) {
	im := imitate(t, "Milan", imitateOptions{})
	for _, version := range []uint32{2, 5} {
		good := im.report(t, version, 1)
		for i := range offSigS + 72 {
			changed := bytes.Clone(good)
			changed[i] ^= 1 << (i % 8)
			if _, err := report.Verify(changed, im.chain, report.Options{Roots: im.roots}); err == nil {
				t.Errorf("version %d: byte %#x changed and still accepted", version, i)
			}
		}
	}
}
