package psp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// everyPlatform runs a test on a platform of each name, with a VLEK.
func everyPlatform(t *testing.T, do func(t *testing.T, p *Platform)) {
	t.Helper()
	for _, name := range Platforms() {
		t.Run(name, func(t *testing.T) {
			cfg, err := ParsePlatform(name)
			if err != nil {
				t.Fatal(err)
			}
			cfg.VLEKLoaded, cfg.CSPID = true, "cloud.example"
			p, err := New(cfg, testCA(t))
			if err != nil {
				t.Fatal(err)
			}
			do(t, p)
		})
	}
}

// The chains are ones that say what AMD's say, with the mark in every Subject.
func TestCertificates(t *testing.T) {
	everyPlatform(t, func(t *testing.T, p *Platform) {
		chain, line := p.Certificates(), p.cfg.Product
		ark, ask, asvk := mustParse(t, chain.ARK), mustParse(t, chain.ASK), mustParse(t, chain.ASVK)
		vcek, vlek := mustParse(t, chain.VCEK), mustParse(t, chain.VLEK)
		for _, c := range []struct {
			cert   *x509.Certificate
			cn, by string
		}{
			{ark, "ARK-" + line, "ARK-" + line}, {ask, "SEV-" + line, "ARK-" + line}, {asvk, "SEV-VLEK-" + line, "ARK-" + line},
			{vcek, "SEV-VCEK", "SEV-" + line}, {vlek, "SEV-VLEK", "SEV-VLEK-" + line},
		} {
			for _, n := range []struct{ got, cn string }{{c.cert.Subject.String(), c.cn}, {c.cert.Issuer.String(), c.by}} {
				// RFC 2253 writes the comma in the mark as "\,".
				want := "SERIALNUMBER=" + strings.ReplaceAll(snp.SimulatedMarker, ",", `\,`) + ",CN=" + n.cn +
					",OU=Engineering,O=Advanced Micro Devices,L=Santa Clara,ST=CA,C=US"
				if n.got != want {
					t.Errorf("name\n got %s\nwant %s", n.got, want)
				}
			}
			if c.cert.Version != 3 || c.cert.SignatureAlgorithm != x509.SHA384WithRSAPSS {
				t.Errorf("%s: version %d, %s; want 3, SHA384-RSAPSS", c.cn, c.cert.Version, c.cert.SignatureAlgorithm)
			}
		}
		for c, service := range map[*x509.Certificate]string{ark: "vcek", ask: "vcek", asvk: "vlek"} {
			if k, ok := c.PublicKey.(*rsa.PublicKey); !ok || k.N.BitLen() != 4096 {
				t.Errorf("%s: no RSA key of 4096 bits", c.Subject.CommonName)
			}
			if want := "https://kdsintf.amd.com/" + service + "/v1/" + line + "/crl"; len(c.CRLDistributionPoints) != 1 || c.CRLDistributionPoints[0] != want {
				t.Errorf("%s: CRL distribution points %v, want %s", c.Subject.CommonName, c.CRLDistributionPoints, want)
			}
			if !c.IsCA {
				t.Errorf("%s is no CA", c.Subject.CommonName)
			}
		}
		roots := x509.NewCertPool()
		roots.AddCert(ark)
		for leaf, by := range map[*x509.Certificate]*x509.Certificate{vcek: ask, vlek: asvk} {
			if k, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve.Params().Name != "P-384" {
				t.Errorf("%s is no P-384 key", leaf.Subject.CommonName)
			}
			inter := x509.NewCertPool()
			inter.AddCert(by)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter}); err != nil {
				t.Errorf("%s: the chain does not verify: %v", leaf.Subject.CommonName, err)
			}
		}
	})
}

// Extensions of AMD 57230 and no others but the authority's key identifier:
// keyUsage and the like are what go-sev-guest refuses. Turin's FMC has its own.
func TestCertificateExtensions(t *testing.T) {
	everyPlatform(t, func(t *testing.T, p *Platform) {
		tcb, line, id := p.cfg.TCB, p.cfg.Product, p.ChipID()
		ia5 := func(s string) []byte { return append([]byte{0x16, byte(len(s))}, s...) }
		number := func(n uint8) []byte {
			if n > 127 {
				return []byte{2, 2, 0, n}
			}
			return []byte{2, 1, n}
		}
		both := map[string][]byte{"1": {2, 1, 1}, "3.1": number(tcb.BootLoader), "3.2": number(tcb.TEE), "3.3": number(tcb.SNP),
			"3.4": {2, 1, 0}, "3.5": {2, 1, 0}, "3.6": {2, 1, 0}, "3.7": {2, 1, 0}, "3.8": number(tcb.Microcode)}
		if line == "Turin" {
			both["3.9"] = number(tcb.FMC)
		}
		for _, c := range []struct {
			name string
			der  []byte
			own  map[string][]byte
		}{
			{"VCEK", p.Certificates().VCEK, map[string][]byte{"2": ia5(line + "-B1"), "4": id[:p.cfg.ChipIDSize]}},
			{"VLEK", p.Certificates().VLEK, map[string][]byte{"2": ia5(line), "5": ia5("cloud.example")}},
		} {
			want := map[string][]byte{}
			for _, m := range []map[string][]byte{both, c.own} {
				for k, v := range m {
					want[k] = v
				}
			}
			for _, e := range mustParse(t, c.der).Extensions {
				if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 35}) {
					continue
				}
				arc, amd := strings.CutPrefix(e.Id.String(), "1.3.6.1.4.1.3704.1.")
				if v, known := want[arc]; !amd || !known || !bytes.Equal(v, e.Value) || e.Critical {
					t.Errorf("%s: extension %s: % x, want % x", c.name, e.Id, e.Value, v)
				}
				delete(want, arc)
			}
			if len(want) != 0 {
				t.Errorf("%s: extensions are missing: %v", c.name, want)
			}
		}
		if id[0] == 2 || id[0] == 4 {
			t.Errorf("chip id begins with %#x, which reads as DER", id[0])
		}
	})
}

// The table of an extended report, read by its layout (AMD 56421): the chain of
// the key that signs when a guest does not choose.
func TestTable(t *testing.T) {
	const vcek, vlek, ask, ark = "63da758de6644564adc5f4b93be8accd", "a8074bc2a25a483eaae639c045a0b8a1",
		"4ab7b379bbac4fe4a02f05aef327c782", "c0b406a4a803495297433fb6014cd0ae"
	read := func(table []byte) map[string]string {
		got := map[string]string{}
		at, length := 0, 0
		for ; !zero(table[at : at+24]); at += 24 {
			o, n := le.Uint32(table[at+16:]), le.Uint32(table[at+20:])
			got[hex.EncodeToString(table[at:at+16])] = string(table[o : o+n])
			length += int(n)
		}
		if len(table) != at+24+length {
			t.Errorf("the table has %d bytes, want %d", len(table), at+24+length)
		}
		return got
	}
	for _, loaded := range []bool{false, true} {
		c := platform(t, func(c *Config) { c.VLEKLoaded = loaded }).Certificates()
		want := map[string][]byte{vcek: c.VCEK, ask: c.ASK, ark: c.ARK}
		if loaded {
			want = map[string][]byte{vlek: c.VLEK, ask: c.ASVK, ark: c.ARK}
		}
		got := read(c.Table())
		if len(got) != len(want) {
			t.Errorf("VLEK loaded %v: %d entries, want %d", loaded, len(got), len(want))
		}
		for guid, der := range want {
			if len(der) == 0 || got[guid] != string(der) {
				t.Errorf("VLEK loaded %v: entry %s is another certificate", loaded, guid)
			}
		}
		if (c.VLEK != nil) != loaded || (c.ASVK != nil) != loaded {
			t.Errorf("VLEK loaded %v, but its certificates are %d and %d bytes", loaded, len(c.VLEK), len(c.ASVK))
		}
	}
}

// The VLEK belongs to provider, TCB and product, and to no chip.
func TestVLEKFollowsFromProvider(t *testing.T) {
	key := func(change func(*Config)) string {
		p := platform(t, func(c *Config) {
			c.VLEKLoaded = true
			change(c)
		})
		b, err := p.vlek.key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	base := key(func(*Config) {})
	if base != key(func(c *Config) { c.ChipID = [64]byte{1} }) {
		t.Error("another chip of the provider has another VLEK")
	}
	if base == key(func(c *Config) { c.TCB.SNP++ }) {
		t.Error("another TCB has the same VLEK")
	}
	if base == key(func(c *Config) { c.CSPID = "another" }) {
		t.Error("another provider has the same VLEK")
	}
}
