package report_test

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/uuid"

	"github.com/snplaunch/snplaunch/report"
)

// GUIDs as AMD writes them; in the table they stand in the order of the text
// (GHCB specification 56421, go-sev-guest, virtee/sev).
const (
	textVCEK = "63da758d-e664-4564-adc5-f4b93be8accd"
	textVLEK = "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
	textASK  = "4ab7b379-bbac-4fe4-a02f-05aef327c782"
	textARK  = "c0b406a4-a803-4952-9743-3fb6014cd0ae"
	textCRL  = "92f81bc3-5811-4d3d-97ff-d19f88dc67ea"
)

// tableRow is one entry of a certificate table.
type tableRow struct {
	guid           string
	offset, length uint32
}

// table makes a certificate table of rows, a zero entry when end is set, and a body.
func table(t testing.TB, rows []tableRow, end bool, body []byte) []byte {
	t.Helper()
	var out []byte
	for _, r := range rows {
		guid, err := hex.DecodeString(strings.ReplaceAll(r.guid, "-", ""))
		if err != nil || len(guid) != 16 {
			t.Fatalf("GUID %q: %v", r.guid, err)
		}
		out = append(out, guid...)
		for _, n := range []uint32{r.offset, r.length} {
			out = append(out, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		}
	}
	if end {
		out = append(out, make([]byte, 24)...)
	}
	return append(out, body...)
}

func TestParseCertTable(t *testing.T) {
	const zero = "00000000-0000-0000-0000-000000000000"
	four := []byte("abcdefghij")
	at := func(rows int) uint32 { return uint32(24 * (rows + 1)) }
	for name, c := range map[string]struct {
		table []byte
		want  report.Chain
		fails string
	}{
		"no bytes":  {nil, report.Chain{}, ""},
		"zero page": {make([]byte, 4096), report.Chain{}, ""}, // KVM without certificates
		"end alone": {table(t, nil, true, nil), report.Chain{}, ""},
		"all kinds": {
			table(t, []tableRow{{textARK, at(5), 1}, {textASK, at(5) + 1, 2}, {textVCEK, at(5) + 3, 3}, {textVLEK, at(5) + 6, 4}, {textCRL, at(5), 10}}, true, four),
			report.Chain{ARK: []byte("a"), ASK: []byte("bc"), VCEK: []byte("def"), VLEK: []byte("ghij"), CRL: four}, "",
		},
		"unknown kind": {table(t, []tableRow{{"11111111-2222-3333-4444-555555555555", at(1), 3}}, true, four), report.Chain{}, ""},
		// Certificates may lie over one another or over the entries: what is
		// read is what lies there.
		"overlapping":      {table(t, []tableRow{{textARK, at(2), 10}, {textASK, at(2) + 5, 5}}, true, four), report.Chain{ARK: []byte("abcdefghij"), ASK: []byte("fghij")}, ""},
		"over the entries": {table(t, []tableRow{{textVCEK, 0, 2}}, true, nil), report.Chain{VCEK: []byte{0x63, 0xda}}, ""},
		"empty at the end": {table(t, []tableRow{{textVCEK, at(1) + 10, 0}}, true, four), report.Chain{VCEK: []byte{}}, ""},
		"ends exactly":     {table(t, []tableRow{{textVCEK, at(1), 10}}, true, four), report.Chain{VCEK: four}, ""},

		"no end":               {table(t, []tableRow{{textVCEK, 0, 24}}, false, nil), report.Chain{}, "hold no end of its 1 entries"},
		"entry cut off":        {table(t, []tableRow{{textVCEK, 0, 24}}, true, nil)[:47], report.Chain{}, "hold no end of its 1 entries"},
		"one byte":             {[]byte{0}, report.Chain{}, "hold no end of its 0 entries"},
		"one byte too long":    {table(t, []tableRow{{textVCEK, at(1), 11}}, true, four), report.Chain{}, "entry 0"},
		"offset at the end":    {table(t, []tableRow{{textVCEK, at(1) + 11, 0}}, true, four), report.Chain{}, "entry 0"},
		"sum overflows 32 bit": {table(t, []tableRow{{textVCEK, at(1), 1}, {textARK, math.MaxUint32, 2}}, true, four), report.Chain{}, "entry 1 lies at 4294967295+2, beyond its 82 bytes"},
		"both at their most":   {table(t, []tableRow{{textVCEK, math.MaxUint32, math.MaxUint32}}, true, four), report.Chain{}, "entry 0"},
		"length at its most":   {table(t, []tableRow{{textVCEK, 48, math.MaxUint32 - 47}}, true, four), report.Chain{}, "entry 0"},
		"unknown kind beyond":  {table(t, []tableRow{{textCRL, at(1), 11}}, true, four), report.Chain{}, "entry 0"},
		"zero GUID, no end":    {table(t, []tableRow{{zero, 0, 99}}, true, four), report.Chain{}, "entry 0"},
		"twice":                {table(t, []tableRow{{textVCEK, at(2), 1}, {textVCEK, at(2), 1}}, true, four), report.Chain{}, "repeats"},
		"twice, empty first":   {table(t, []tableRow{{textVLEK, at(2), 0}, {textVLEK, at(2), 1}}, true, four), report.Chain{}, "repeats"},
	} {
		got, err := report.ParseCertTable(c.table)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) || !strings.HasPrefix(err.Error(), "certificate table") {
				t.Errorf("%s: %v; want an error about the certificate table that says %q", name, err, c.fails)
			}
			if fmt.Sprint(got) != fmt.Sprint(report.Chain{}) {
				t.Errorf("%s: fails and gives %v", name, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for role, p := range map[string][2][]byte{
			"ARK": {got.ARK, c.want.ARK}, "ASK": {got.ASK, c.want.ASK}, "ASVK": {got.ASVK, c.want.ASVK}, "VCEK": {got.VCEK, c.want.VCEK}, "VLEK": {got.VLEK, c.want.VLEK}, "CRL": {got.CRL, c.want.CRL},
		} {
			if !bytes.Equal(p[0], p[1]) {
				t.Errorf("%s: %s is %q, want %q", name, role, p[0], p[1])
			}
		}
	}
}

// What is read stays, whatever becomes of the buffer that the host shares.
func TestParseCertTableCopies(t *testing.T) {
	raw := table(t, []tableRow{{textVCEK, 72, 4}, {textARK, 72, 4}}, true, []byte("cert"))
	c, err := report.ParseCertTable(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	c.ARK[0] = 'X'
	if string(c.VCEK) != "cert" {
		t.Errorf("VCEK became %q", c.VCEK)
	}
}

// A table that go-sev-guest wrote is read the same; AMD's ASVK stands under
// the ASK's GUID.
func TestParseCertTableOfGoSEVGuest(t *testing.T) {
	im := imitate(t, "Milan", imitateOptions{})
	for name, ask := range map[string][]byte{"ASK": im.chain.ASK, "ASVK": im.chain.ASVK} {
		var ct abi.CertTable
		for guid, der := range map[string][]byte{textARK: im.chain.ARK, textASK: ask, textVCEK: im.chain.VCEK, textVLEK: im.chain.VLEK} {
			ct.Entries = append(ct.Entries, abi.CertTableEntry{GUID: uuid.MustParse(guid), RawCert: der})
		}
		got, err := report.ParseCertTable(ct.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		into, other := got.ASK, got.ASVK
		if name == "ASVK" {
			into, other = other, into
		}
		if !bytes.Equal(got.ARK, im.chain.ARK) || !bytes.Equal(into, ask) || other != nil || !bytes.Equal(got.VCEK, im.chain.VCEK) || !bytes.Equal(got.VLEK, im.chain.VLEK) {
			t.Errorf("%s: read otherwise than written", name)
		}
		if _, err := report.Verify(im.report(t, 3, 1), got, report.Options{Roots: im.roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func pemOf(typ string, ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})...)
	}
	return out
}

func TestParseCertificates(t *testing.T) {
	im := imitate(t, "Turin", imitateOptions{})
	c := im.chain
	same := func(a, b report.Chain) bool {
		return bytes.Equal(a.ARK, b.ARK) && bytes.Equal(a.ASK, b.ASK) && bytes.Equal(a.ASVK, b.ASVK) && bytes.Equal(a.VCEK, b.VCEK) && bytes.Equal(a.VLEK, b.VLEK)
	}
	for name, p := range map[string]struct {
		files [][]byte
		want  report.Chain
	}{
		"none":           {nil, report.Chain{}},
		"all in one PEM": {[][]byte{pemOf("CERTIFICATE", c.VLEK, c.ARK, c.VCEK, c.ASVK, c.ASK)}, c},
		"one DER each":   {[][]byte{c.ARK, c.ASK, c.ASVK, c.VCEK, c.VLEK}, c},
		"mixed":          {[][]byte{pemOf("CERTIFICATE", c.ASK, c.ARK), c.VCEK}, report.Chain{ARK: c.ARK, ASK: c.ASK, VCEK: c.VCEK}},
		"words around":   {[][]byte{append([]byte("the VCEK:\n"), append(pemOf("CERTIFICATE", c.VCEK), "\r\n\r\n"...)...)}, report.Chain{VCEK: c.VCEK}},
		"AMD's own (Turin's)": {[][]byte{lines["Turin"].vlek}, func() report.Chain {
			asvk, ark := bundle(t, lines["Turin"].vlek)
			return report.Chain{ARK: ark.Raw, ASVK: asvk.Raw}
		}()},
	} {
		got, err := report.ParseCertificates(p.files...)
		if err != nil || !same(got, p.want) {
			t.Errorf("%s: %v, or read otherwise than given", name, err)
		}
	}
	other := mustCert(t, selfSigned(t, "someone"))
	for name, p := range map[string]struct {
		files [][]byte
		says  string
	}{
		"empty file":      {[][]byte{nil}, "file 1"},
		"garbage second":  {[][]byte{c.ARK, []byte("garbage")}, "file 2"},
		"PEM of garbage":  {[][]byte{pemOf("CERTIFICATE", []byte("garbage"))}, "file 1"},
		"a private key":   {[][]byte{pemOf("PRIVATE KEY", c.ARK)}, "PRIVATE KEY"},
		"key after certs": {[][]byte{append(pemOf("CERTIFICATE", c.ARK), pemOf("EC PRIVATE KEY", []byte{1})...)}, "EC PRIVATE KEY"},
		"someone else's":  {[][]byte{other.Raw}, `"someone"`},
		"trailing data":   {[][]byte{append(bytes.Clone(c.ARK), 0)}, "file 1"},
	} {
		if got, err := report.ParseCertificates(p.files...); err == nil || !strings.Contains(err.Error(), p.says) {
			t.Errorf("%s: %v, %v; want an error that says %q", name, got, err, p.says)
		}
	}
	for _, cn := range []string{"ARK", "SEV", "ark-Milan", "", "XSEV-VCEK"} {
		if _, err := report.ParseCertificates(selfSigned(t, cn)); err == nil {
			t.Errorf("a certificate of %q is taken", cn)
		}
	}
}

func TestChainWith(t *testing.T) {
	a := report.Chain{ARK: []byte("1"), ASK: []byte("2"), VCEK: []byte("3")}
	b := report.Chain{ASK: []byte("4"), ASVK: []byte("5"), VLEK: []byte("6"), VCEK: []byte{}}
	got := a.With(b)
	if string(got.ARK) != "1" || string(got.ASK) != "4" || string(got.ASVK) != "5" || string(got.VCEK) != "3" || string(got.VLEK) != "6" {
		t.Errorf("got %q", got)
	}
	if string(a.ASK) != "2" {
		t.Error("With changes the chain it is called on")
	}
}

func TestFingerprint(t *testing.T) {
	// printf abc | sha256sum (FIPS 180-2, B.1)
	if got, want := report.Fingerprint([]byte("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
