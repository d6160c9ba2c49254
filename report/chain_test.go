package report_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/testing/data"
	"github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// An imitation is a chain that says of itself all that AMD's says: its ARK,
// ASK and ASVK are AMD's own published certificates (names byte for byte,
// serial numbers, dates, key identifiers) with other keys put in, and below
// them stand a VCEK and a VLEK. It carries no snp.SimulatedMarker.
type imitation struct {
	line                  string
	chain                 report.Chain
	vcekKey, vlekKey      *ecdsa.PrivateKey
	roots                 report.Roots
	family, model         byte
	hwid                  []byte
	product, productNoRev string
}

// lines are AMD's published bundles (ASK and ARK; ASVK and ARK), and the family
// and model that reports of version 3 give.
var lines = map[string]struct {
	vcek, vlek    []byte
	family, model byte
}{
	"Milan": {trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes, 0x19, 0x01},
	"Genoa": {trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes, 0x19, 0x11},
	"Turin": {trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes, 0x1A, 0x02},
}

// imitationKeys are made once for a run of the tests. AMD's have 4096 bits; no
// verifier looks at that, as the accepting half of the tests shows.
var imitationKeys = sync.OnceValue(func() (k struct{ ark, ask, asvk *rsa.PrivateKey }) {
	for _, p := range []**rsa.PrivateKey{&k.ark, &k.ask, &k.asvk} {
		var err error
		if *p, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return k
})

// bundle reads the two certificates of one of AMD's published bundles.
func bundle(t testing.TB, published []byte) (intermediate, ark *x509.Certificate) {
	t.Helper()
	var out [2]*x509.Certificate
	for i := range out {
		var b *pem.Block
		if b, published = pem.Decode(published); b == nil {
			t.Fatalf("AMD's bundle has no certificate %d", i)
		}
		var err error
		if out[i], err = x509.ParseCertificate(b.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	return out[0], out[1]
}

// options of imitate.
type imitateOptions struct {
	serialNumber string           // in the Subject of all certificates below and including the ARK, when set
	marked       string           // puts serialNumber in that certificate alone: "ARK", "ASK", "ASVK", "VCEK", "VLEK"
	extensions   []pkix.Extension // further ones, or other values, of VCEK and VLEK
	fixedKeys    bool             // those of go-sev-guest's tests, the same in every process of a fuzzing run
}

func imitate(t testing.TB, line string, o imitateOptions) *imitation {
	t.Helper()
	amd, have := lines[line]
	if !have {
		t.Fatalf("no line %s", line)
	}
	realASK, realARK := bundle(t, amd.vcek)
	realASVK, _ := bundle(t, amd.vlek)
	keys := imitationKeys()
	if o.fixedKeys {
		keys.ark, keys.ask, keys.asvk = data.ARKPrivateKey, data.ASKPrivateKey, data.ASVKPrivateKey
	}
	name := func(role string, raw []byte) []byte {
		if o.serialNumber == "" || o.marked != "" && o.marked != role {
			return raw
		}
		var rdn pkix.RDNSequence
		if _, err := asn1.Unmarshal(raw, &rdn); err != nil {
			t.Fatal(err)
		}
		rdn = append(rdn, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 5}, Value: o.serialNumber}})
		out, err := asn1.Marshal(rdn)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	authority := func(role string, genuine, parent *x509.Certificate, pub *rsa.PublicKey) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: genuine.SerialNumber, RawSubject: name(role, genuine.RawSubject),
			NotBefore: genuine.NotBefore, NotAfter: genuine.NotAfter, SignatureAlgorithm: genuine.SignatureAlgorithm,
			KeyUsage: genuine.KeyUsage, BasicConstraintsValid: true, IsCA: true,
			MaxPathLen: genuine.MaxPathLen, MaxPathLenZero: genuine.MaxPathLenZero,
			SubjectKeyId: genuine.SubjectKeyId, AuthorityKeyId: genuine.AuthorityKeyId,
			CRLDistributionPoints: genuine.CRLDistributionPoints,
		}
		if parent == nil {
			parent = template
		}
		return certify(t, template, parent, pub, keys.ark)
	}
	im := &imitation{line: line, family: amd.family, model: amd.model, product: line + "-B0", productNoRev: line, hwid: make([]byte, 64)}
	for i := range im.hwid {
		im.hwid[i] = byte(0x80 + i)
	}
	ark := authority("ARK", realARK, nil, &keys.ark.PublicKey)
	ask := authority("ASK", realASK, ark, &keys.ask.PublicKey)
	asvk := authority("ASVK", realASVK, ark, &keys.asvk.PublicKey)

	// AMD's subject of a VCEK; a VLEK's differs in one letter of its CN.
	vcekName := mustCert(t, testdata.VcekBytes).RawSubject
	vlekName := bytes.Replace(vcekName, []byte("SEV-VCEK"), []byte("SEV-VLEK"), 1)
	if bytes.Equal(vcekName, vlekName) {
		t.Fatal("AMD's VCEK is not named SEV-VCEK")
	}
	endorsement := func(role string, subject []byte, parent *x509.Certificate, signer *rsa.PrivateKey, extensions []pkix.Extension) (*ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if o.fixedKeys {
			key = map[string]*ecdsa.PrivateKey{"VCEK": data.VCEKPrivateKey, "VLEK": data.VLEKPrivateKey}[role]
		}
		for _, e := range o.extensions {
			extensions = replaceExtension(extensions, e)
		}
		return key, certify(t, &x509.Certificate{
			SerialNumber: new(big.Int), RawSubject: name(role, subject), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: extensions,
		}, parent, &key.PublicKey, signer).Raw
	}
	var vcek, vlek []byte
	im.vcekKey, vcek = endorsement("VCEK", vcekName, ask, keys.ask, append(tcbExtensions(t, im.product), pkix.Extension{Id: kdsOID(4), Value: im.hwid}))
	im.vlekKey, vlek = endorsement("VLEK", vlekName, asvk, keys.asvk, append(tcbExtensions(t, im.productNoRev), pkix.Extension{Id: kdsOID(5), Value: ia5(t, "a cloud")}))
	im.chain = report.Chain{ARK: ark.Raw, ASK: ask.Raw, ASVK: asvk.Raw, VCEK: vcek, VLEK: vlek}
	im.roots = report.Roots{line: {{ProductLine: line, ProductCerts: &trust.ProductCerts{Ark: ark, Ask: ask, Asvk: asvk}}}}
	return im
}

func certify(t testing.TB, template, parent *x509.Certificate, pub any, signer *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	return mustCert(t, der)
}

func mustCert(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kdsOID is an extension of AMD 57230.
func kdsOID(arc ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
}

func ia5(t testing.TB, s string) []byte {
	t.Helper()
	der, err := asn1.MarshalWithParams(s, "ia5")
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func integer(t testing.TB, n int) []byte {
	t.Helper()
	der, err := asn1.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// tcbExtensions are those that VCEK and VLEK share.
func tcbExtensions(t testing.TB, product string) []pkix.Extension {
	out := []pkix.Extension{{Id: kdsOID(1), Value: integer(t, 1)}, {Id: kdsOID(2), Value: ia5(t, product)}}
	for i := 1; i <= 8; i++ {
		out = append(out, pkix.Extension{Id: kdsOID(3, i), Value: integer(t, i)})
	}
	return out
}

func replaceExtension(list []pkix.Extension, e pkix.Extension) []pkix.Extension {
	out := append([]pkix.Extension(nil), list...)
	for i := range out {
		if out[i].Id.Equal(e.Id) {
			out[i] = e
			return out
		}
	}
	return append(out, e)
}

// Offsets of a report (AMD 56860, ATTESTATION_REPORT), written out here on
// their own.
const (
	offVersion  = 0x000
	offPolicy   = 0x008
	offVMPL     = 0x030
	offSigAlgo  = 0x034
	offFlags    = 0x048
	offData     = 0x050
	offTCB      = 0x180
	offFamily   = 0x188
	offModel    = 0x189
	offChipID   = 0x1A0
	offSigR     = 0x2A0
	offSigS     = 0x2E8
	reportBytes = 0x4A0
)

// report makes a signed report of a version; signing key 0 is the VCEK, 1 the VLEK.
func (im *imitation) report(t testing.TB, version uint32, signingKey byte) []byte {
	t.Helper()
	b := make([]byte, reportBytes)
	le := binary.LittleEndian
	le.PutUint32(b[offVersion:], version)
	le.PutUint64(b[offPolicy:], 0x30000)
	le.PutUint32(b[offSigAlgo:], 1)
	b[offFlags] = signingKey << 2
	for i := range 64 {
		b[offData+i] = byte(i)
	}
	// REPORTED_TCB as in the certificates: boot loader 1, TEE 2, SNP 3, microcode 8.
	b[offTCB], b[offTCB+1], b[offTCB+6], b[offTCB+7] = 1, 2, 3, 8
	if version >= 3 {
		b[offFamily], b[offModel] = im.family, im.model
		if im.line == "Turin" { // FMC 9 comes first, and SNP stands elsewhere
			copy(b[offTCB:], []byte{9, 1, 2, 3, 0, 0, 0, 8})
		}
	}
	copy(b[offChipID:], im.hwid)
	key := im.vcekKey
	if signingKey == 1 {
		key = im.vlekKey
	}
	sign(t, b, key)
	return b
}

// sign puts an ECDSA signature over the first 0x2A0 bytes into a report, r and
// s little-endian.
func sign(t testing.TB, b []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	digest := sha512.Sum384(b[:offSigR])
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		at int
		n  *big.Int
	}{{offSigR, r}, {offSigS, s}} {
		be := v.n.FillBytes(make([]byte, 72))
		for i := range be {
			b[v.at+i] = be[len(be)-1-i]
		}
	}
}

// with gives only part of the chain.
func (im *imitation) with(ark, ask bool) report.Chain {
	c := report.Chain{VCEK: im.chain.VCEK, VLEK: im.chain.VLEK}
	if ark {
		c.ARK = im.chain.ARK
	}
	if ask {
		c.ASK, c.ASVK = im.chain.ASK, im.chain.ASVK
	}
	return c
}

// The imitation is a good one: the names are AMD's to the byte and nothing in it
// is marked.
func TestImitationIsFaithful(t *testing.T) {
	for line, amd := range lines {
		im := imitate(t, line, imitateOptions{})
		ask, ark := bundle(t, amd.vcek)
		asvk, ark2 := bundle(t, amd.vlek)
		if !ark.Equal(ark2) {
			t.Errorf("%s: AMD's two bundles have two ARKs", line)
		}
		for role, p := range map[string]struct {
			genuine *x509.Certificate
			ours    []byte
		}{"ARK": {ark, im.chain.ARK}, "ASK": {ask, im.chain.ASK}, "ASVK": {asvk, im.chain.ASVK}} {
			c := mustCert(t, p.ours)
			if !bytes.Equal(c.RawSubject, p.genuine.RawSubject) || !bytes.Equal(c.RawIssuer, p.genuine.RawIssuer) ||
				!bytes.Equal(c.SubjectKeyId, p.genuine.SubjectKeyId) || c.SerialNumber.Cmp(p.genuine.SerialNumber) != 0 {
				t.Errorf("%s %s: the imitation is named otherwise than AMD's", line, role)
			}
			if bytes.Equal(c.RawSubjectPublicKeyInfo, p.genuine.RawSubjectPublicKeyInfo) {
				t.Errorf("%s %s: has AMD's own key", line, role)
			}
		}
		for _, der := range [][]byte{im.chain.ARK, im.chain.ASK, im.chain.ASVK, im.chain.VCEK, im.chain.VLEK} {
			if bytes.Contains(der, []byte(snp.SimulatedMarker)) {
				t.Errorf("%s: the imitation is marked", line)
			}
		}
		if got := mustCert(t, im.chain.VCEK).Issuer.CommonName; got != "SEV-"+line {
			t.Errorf("%s: VCEK issued by %q", line, got)
		}
		if got := mustCert(t, im.chain.VLEK).Issuer.CommonName; got != "SEV-VLEK-"+line {
			t.Errorf("%s: VLEK issued by %q", line, got)
		}
	}
}
