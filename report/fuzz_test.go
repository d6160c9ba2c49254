package report_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify/testdata"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// selfSigned is a certificate of some common name.
func selfSigned(t testing.TB, cn string) []byte {
	t.Helper()
	key := imitationKeys().ark
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// No table makes the parser panic, what it gives lies in the table, and where
// go-sev-guest reads a table too both find the same certificates.
func FuzzParseCertTable(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 4096))
	f.Add(table(f, []tableRow{{textARK, 72, 2}, {textVCEK, 74, 2}}, true, []byte("abcd")))
	f.Add(table(f, []tableRow{{textASK, 0xFFFFFFFF, 2}}, true, []byte("abcd")))
	im := imitate(f, "Milan", imitateOptions{})
	n := uint32(len(im.chain.ASVK))
	f.Add(table(f, []tableRow{{textASK, 72, n}, {textVLEK, 72 + n, uint32(len(im.chain.VLEK))}}, true, append(bytes.Clone(im.chain.ASVK), im.chain.VLEK...)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := report.ParseCertTable(raw)
		if err != nil {
			return
		}
		found := map[string][]byte{textARK: c.ARK, textVCEK: c.VCEK, textVLEK: c.VLEK}
		if c.ASK != nil && c.ASVK != nil {
			t.Error("ASK and ASVK of one entry")
		}
		found[textASK] = c.ASK
		if c.ASVK != nil {
			found[textASK] = c.ASVK
		}
		for guid, der := range found {
			if !bytes.Contains(raw, der) {
				t.Errorf("%s is not in the table", guid)
			}
		}
		var theirs abi.CertTable
		if theirs.Unmarshal(raw) != nil {
			return
		}
		for guid, der := range found {
			if want, err := theirs.GetByGUIDString(guid); (err == nil) != (der != nil) || !bytes.Equal(want, der) {
				t.Errorf("%s: %d bytes, go-sev-guest finds %d (%v)", guid, len(der), len(want), err)
			}
		}
	})
}

// No report and no chain make Verify panic. With AMD's roots nothing that does
// not begin with the one genuine report is accepted; with the imitation's
// roots, nothing that its keys did not sign.
func FuzzVerify(f *testing.F) {
	im := imitate(f, "Genoa", imitateOptions{fixedKeys: true})
	mark := imitate(f, "Genoa", imitateOptions{fixedKeys: true, serialNumber: snp.SimulatedMarker})
	simulated, err := report.SimulatedRoots(mark.chain.ARK, mark.chain.ASK)
	if err != nil {
		f.Fatal(err)
	}
	signed := map[string]bool{}
	for _, version := range []uint32{2, 3, 5} {
		for key := range byte(2) {
			for _, who := range []*imitation{im, mark} {
				raw := who.report(f, version, key)
				signed[string(raw[:offSigR])] = true
				f.Add(raw, who.chain.VCEK, who.chain.VLEK, who.chain.ASK, who.chain.ARK)
				f.Add(raw, who.chain.VCEK, who.chain.VLEK, []byte{}, []byte{})
			}
		}
	}
	f.Add(testdata.AttestationBytes, testdata.VcekBytes, []byte{}, []byte{}, []byte{})
	f.Add(numbered(3), im.chain.VCEK, im.chain.ARK, []byte{}, []byte(snp.SimulatedMarker))
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, []byte{})
	amd := report.AMDRoots()
	genuine := string(testdata.AttestationBytes[:offSigR])
	fingerprint := report.Fingerprint(mark.chain.ARK)
	f.Fuzz(func(t *testing.T, raw, vcek, vlek, ask, ark []byte) {
		chain := report.Chain{VCEK: vcek, VLEK: vlek, ASK: ask, ARK: ark}
		for name, c := range map[string]struct {
			o       report.Options
			allowed func(string) bool
		}{
			"AMD's roots":       {report.Options{Roots: amd}, func(s string) bool { return s == genuine }},
			"imitation's roots": {report.Options{Roots: im.roots}, func(s string) bool { return signed[s] }},
			"simulated roots":   {report.Options{Roots: simulated}, func(s string) bool { return signed[s] }},
			"fingerprint":       {report.Options{Roots: amd, TrustSimulated: fingerprint}, func(s string) bool { return signed[s] || s == genuine }},
		} {
			v, err := report.Verify(raw, chain, c.o)
			if (v == nil) == (err == nil) {
				t.Fatalf("%s: %v, %v", name, v, err)
			}
			if err == nil && !c.allowed(string(raw[:offSigR])) {
				t.Errorf("%s: a report that nobody signed is accepted", name)
			}
			if err != nil && !errors.Is(err, report.ErrSimulated) && !errors.Is(err, report.ErrFormat) && !errors.Is(err, report.ErrChain) && !errors.Is(err, report.ErrSignature) {
				t.Errorf("%s: an error of no kind: %v", name, err)
			}
		}
		if r, err := snp.ParseReport(raw); err == nil {
			if err := report.Show(io.Discard, r); err != nil {
				t.Error(err)
			}
			_ = report.Check(r, report.Expect{Measurement: &snp.LaunchDigest{1}, MinTCB: &snp.TCBParts{SNP: 9}})
		}
	})
}

// No file makes the parser panic, and what it gives are certificates of that file.
func FuzzParseCertificates(f *testing.F) {
	im := imitate(f, "Milan", imitateOptions{})
	f.Add(im.chain.ARK, pemOf("CERTIFICATE", im.chain.ASK, im.chain.VCEK))
	f.Add(pemOf("CERTIFICATE", im.chain.ASVK), im.chain.VLEK)
	f.Add(pemOf("PRIVATE KEY", im.chain.ASVK), []byte{})
	f.Add(selfSigned(f, "ARK-"), selfSigned(f, "SEV-VLEK-"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c, err := report.ParseCertificates(a, b)
		if err != nil {
			return
		}
		for _, der := range [][]byte{c.ARK, c.ASK, c.ASVK, c.VCEK, c.VLEK} {
			if der == nil {
				continue
			}
			if _, err := x509.ParseCertificate(der); err != nil {
				t.Errorf("not a certificate: %v", err)
			}
		}
	})
}
