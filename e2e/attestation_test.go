package e2e_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/sim/psp"
	simkds "github.com/snplaunch/snplaunch/sim/psp/kds"
	"github.com/snplaunch/snplaunch/snp"
)

// attested is a report of a simulated platform with its certificates, and the service
// that issues them.
type attested struct {
	platform *psp.Platform
	raw      []byte
	chain    psp.Chain
	service  *simkds.Service
}

func attest(t testing.TB, name string, version uint32, vlek bool) *attested {
	t.Helper()
	cfg, err := psp.ParsePlatform(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ReportVersion, cfg.VLEKLoaded = version, vlek
	p, raw := simulatedReport(t, cfg, snp.ReportData{1})
	return &attested{p, raw, p.Certificates(), simkds.New(p.CA(), p)}
}

// roots are those of the simulated platform, fresh: go-sev-guest keeps revocation
// lists in them.
func (a *attested) roots(t testing.TB) report.Roots {
	t.Helper()
	c := report.Chain{ARK: a.chain.ARK, ASK: a.chain.ASK}
	block, _ := pem.Decode(a.served(t, "/vlek/v1/"+a.platform.Config().Product+"/cert_chain"))
	c.ASVK = block.Bytes
	roots, err := report.SimulatedChainRoots(c)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func (a *attested) served(t testing.TB, path string) []byte {
	t.Helper()
	b, err := report.HandlerGetter{Handler: a.service}.Get("https://kdsintf.amd.com" + path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fromTable is the attestation that a guest has from an extended report.
func (a *attested) fromTable(t testing.TB) *spb.Attestation {
	t.Helper()
	at, err := abi.ReportCertsToProto(append(bytes.Clone(a.raw), a.chain.Table()...))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// fromKDS is one without certificates, but for a VLEK, which only the provider has.
func (a *attested) fromKDS(t testing.TB) *spb.Attestation {
	t.Helper()
	r, err := abi.ReportToProto(a.raw)
	if err != nil {
		t.Fatal(err)
	}
	return &spb.Attestation{Report: r, CertificateChain: &spb.CertificateChain{VlekCert: a.chain.VLEK, Extras: map[string][]byte{}}}
}

// options verify with these roots, and with revocations and missing certificates from
// the simulated service.
func (a *attested) options(roots report.Roots) *verify.Options {
	trust.ClearProductCertCache() // go-sev-guest keeps one chain for VCEKs and VLEKs
	return &verify.Options{
		TrustedRoots: roots, Now: time.Now(), CheckRevocations: true, Getter: report.HandlerGetter{Handler: a.service},
		Product: &spb.SevProduct{Name: map[string]spb.SevProduct_SevProductName{
			"Milan": spb.SevProduct_SEV_PRODUCT_MILAN, "Genoa": spb.SevProduct_SEV_PRODUCT_GENOA,
		}[a.platform.Config().Product]},
	}
}

// each runs a test for every report version of Milan and Genoa, signed with VCEK and
// VLEK.
func each(t *testing.T, do func(t *testing.T, a *attested)) {
	t.Helper()
	for _, name := range []string{"milan", "genoa"} {
		for _, version := range []uint32{2, 3, 5} {
			for _, vlek := range []bool{false, true} {
				key := map[bool]string{false: "VCEK", true: "VLEK"}[vlek]
				t.Run(fmt.Sprintf("%s/version %d/%s", name, version, key), func(t *testing.T) { do(t, attest(t, name, version, vlek)) })
			}
		}
	}
}

// go-sev-guest verifies reports with the certificates of the table and with those of
// the served KDS, revocation lists included; AMD's own roots refuse all of them.
func TestGoSEVGuestVerifiesEveryReport(t *testing.T) {
	each(t, func(t *testing.T, a *attested) {
		for source, at := range map[string]func(testing.TB) *spb.Attestation{"table": a.fromTable, "KDS": a.fromKDS} {
			verified := at(t)
			if err := verify.SnpAttestation(verified, a.options(a.roots(t))); err != nil {
				t.Errorf("certificates from the %s: %v", source, err)
				continue
			}
			if err := validate.SnpAttestation(verified, a.expectations()); err != nil {
				t.Errorf("certificates from the %s: validate: %v", source, err)
			}
			for name, roots := range map[string]report.Roots{"AMD's roots": report.AMDRoots(), "no roots, which is AMD's": nil} {
				err := verify.SnpAttestation(at(t), a.options(roots))
				if err == nil || !strings.Contains(err.Error(), "trusted roots") {
					t.Errorf("certificates from the %s, %s: %v", source, name, err)
				}
			}
		}
		// And so does package report.
		chain, err := report.ParseCertTable(a.chain.Table())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := report.Verify(a.raw, chain, report.Options{TrustSimulated: a.platform.Fingerprint()}); err != nil {
			t.Errorf("package report: %v", err)
		}
	})
}

// expectations are what the report says, as go-sev-guest's validate takes them.
func (a *attested) expectations() *validate.Options {
	cfg, id := a.platform.Config(), a.platform.ChipID()
	nonce, host := snp.ReportData{1}, snp.HostData{5}
	return &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true}, ReportData: nonce[:], HostData: host[:], ChipID: id[:],
		PlatformInfo:   &abi.SnpPlatformInfo{SMTEnabled: true},
		MinimumVersion: 1<<8 | uint16(cfg.FirmwareVersion.Minor), MinimumBuild: cfg.FirmwareVersion.Build,
		MinimumTCB: kds.TCBParts{BlSpl: cfg.TCB.BootLoader, TeeSpl: cfg.TCB.TEE, SnpSpl: cfg.TCB.SNP, UcodeSpl: cfg.TCB.Microcode},
	}
}

// otherRoots are those of another user: the same names, other keys.
var otherRoots = sync.OnceValues(func() (*psp.CA, error) { return psp.LoadOrCreateCA(dataFolder+"-other", nil) })

// What must not verify does not, and for its own reason.
func TestGoSEVGuestRefuses(t *testing.T) {
	other, err := otherRoots()
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, a *attested) {
		product := a.platform.Config().Product
		refused := func(what, says string, at *spb.Attestation, o *verify.Options) {
			t.Helper()
			if err := verify.SnpAttestation(at, o); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want an error with %q", what, err, says)
			}
		}
		// Wrong chain: another user's roots, and another line's filed as this one's.
		theirs := map[bool]*attested{}
		p, err := psp.New(a.platform.Config(), other)
		if err != nil {
			t.Fatal(err)
		}
		theirs[true] = &attested{p, nil, p.Certificates(), simkds.New(other, p)}
		refused("another user's roots", "could not be verified by any trusted roots", a.fromTable(t), a.options(theirs[true].roots(t)))
		line := map[string]string{"Milan": "genoa", "Genoa": "milan"}[product]
		alien := attest(t, line, 3, false)
		refused("another line's roots", "could not be verified by any trusted roots", a.fromTable(t),
			a.options(report.Roots{product: alien.roots(t)[alien.platform.Config().Product]}))
		swapped := a.fromTable(t)
		swapped.CertificateChain.VcekCert, swapped.CertificateChain.VlekCert = theirs[true].chain.VCEK, theirs[true].chain.VLEK
		refused("another user's certificate", "could not be verified by any trusted roots", swapped, a.options(a.roots(t)))

		// A revoked ASK, and lists that the ARK did not sign or that are not there.
		ask, err := x509.ParseCertificate(a.chain.ASK)
		if err != nil {
			t.Fatal(err)
		}
		o := a.options(a.roots(t))
		o.Getter = report.HandlerGetter{Handler: theirs[true].service}
		refused("another root's revocation list", "CRL is not signed by ARK", a.fromTable(t), o)
		o = a.options(a.roots(t))
		o.Getter = report.HandlerGetter{Handler: http.NotFoundHandler()}
		refused("no revocation list", "could not fetch product CRL", a.fromTable(t), o)
		a.service.Revoke(ask.SerialNumber)
		refused("a revoked ASK", "ASK was revoked", a.fromTable(t), a.options(a.roots(t)))

		// Lower than asked: each part of the TCB, the firmware's version and build.
		for what, change := range map[string]func(*validate.Options){
			"boot loader": func(o *validate.Options) { o.MinimumTCB.BlSpl++ },
			"TEE":         func(o *validate.Options) { o.MinimumTCB.TeeSpl++ },
			"SNP":         func(o *validate.Options) { o.MinimumTCB.SnpSpl++ },
			"microcode":   func(o *validate.Options) { o.MinimumTCB.UcodeSpl++ },
			"launch TCB":  func(o *validate.Options) { o.MinimumLaunchTCB.SnpSpl = 100 },
			"API version": func(o *validate.Options) { o.MinimumVersion++ },
			"build":       func(o *validate.Options) { o.MinimumBuild++ },
		} {
			e := a.expectations()
			change(e)
			if err := validate.SnpAttestation(a.fromTable(t), e); err == nil {
				t.Errorf("%s lower than asked is accepted", what)
			}
		}
		// A key of an older TCB cannot pass for that of a newer one.
		if chain, err := report.ParseCertTable(a.chain.Table()); err != nil {
			t.Error(err)
		} else if chain.VCEK != nil {
			tcb := a.platform.Config().TCB
			tcb.SNP--
			if chain.VCEK, err = a.platform.VCEK(tcb); err != nil {
				t.Fatal(err)
			}
			if _, err := report.Verify(a.raw, chain, report.Options{TrustSimulated: a.platform.Fingerprint()}); err == nil {
				t.Error("the VCEK of an older TCB verifies the report")
			}
		}
	})
}

// No bit of what is signed can be changed. (TestSimulatedReportVerifies changes a bit
// of every byte of the other versions.)
func TestEveryBitIsSigned(t *testing.T) {
	a := attest(t, "milan", 5, true)
	cert, err := x509.ParseCertificate(a.chain.VLEK)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify.SnpReportSignature(a.raw, cert); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(a.raw)
	for bit := range 8 * snp.ReportSignedSize {
		changed[bit/8] ^= 1 << (bit % 8)
		if err := verify.SnpReportSignature(changed, cert); err == nil {
			t.Errorf("byte %#x, bit %d changed and still accepted", bit/8, bit%8)
		}
		changed[bit/8] ^= 1 << (bit % 8)
	}
}

// A report that no key signed is refused, and one without a chip id verifies.
func TestMaskedReports(t *testing.T) {
	cfg := psp.DefaultConfig()
	cfg.MaskChipKey = true
	p, raw := simulatedReport(t, cfg, snp.ReportData{1})
	chain := chainOf(t, p)
	if _, err := report.Verify(raw, chain, report.Options{TrustSimulated: p.Fingerprint()}); err == nil || !strings.Contains(err.Error(), "MASK_CHIP_KEY") {
		t.Errorf("not signed: %v", err)
	}
	cfg = psp.DefaultConfig()
	cfg.MaskChipID = true
	p, raw = simulatedReport(t, cfg, snp.ReportData{1})
	v, err := report.Verify(raw, chainOf(t, p), report.Options{TrustSimulated: p.Fingerprint()})
	if err != nil || v.Report.ChipID != ([64]byte{}) {
		t.Errorf("without a chip id: %v", err)
	}
}

// Turin: package report verifies with the certificates of the table and of the served
// KDS. go-sev-guest v0.15.0 cannot (report.TestTurinIsBeyondGoSEVGuest).
func TestTurinReportVerifies(t *testing.T) {
	for _, vlek := range []bool{false, true} {
		for _, version := range []uint32{3, 5} {
			a := attest(t, "turin", version, vlek)
			trusting := report.Options{TrustSimulated: a.platform.Fingerprint()}
			chain, err := report.ParseCertTable(a.chain.Table())
			if err != nil {
				t.Fatal(err)
			}
			v, err := report.Verify(a.raw, chain, trusting)
			if err != nil || v.ProductLine != "Turin" || !v.Simulated {
				t.Fatalf("version %d, VLEK %v: %+v, %v", version, vlek, v, err)
			}
			if _, err := report.Verify(a.raw, chain, report.Options{Roots: report.AMDRoots()}); err == nil {
				t.Errorf("version %d, VLEK %v: AMD's roots accept it", version, vlek)
			}
			if vlek {
				continue
			}
			tcb, id := a.platform.Config().TCB, a.platform.ChipID()
			chain.VCEK = a.served(t, fmt.Sprintf("/vcek/v1/Turin/%x?fmcSPL=%d&blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d",
				id[:8], tcb.FMC, tcb.BootLoader, tcb.TEE, tcb.SNP, tcb.Microcode))
			if _, err := report.Verify(a.raw, chain, trusting); err != nil {
				t.Errorf("version %d: with the KDS's VCEK: %v", version, err)
			}
			chain.VCEK = a.served(t, fmt.Sprintf("/vcek/v1/Turin/%x?fmcSPL=%d&blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d",
				id[:8], tcb.FMC-1, tcb.BootLoader, tcb.TEE, tcb.SNP, tcb.Microcode))
			if _, err := report.Verify(a.raw, chain, trusting); err == nil {
				t.Errorf("version %d: the VCEK of an older FMC verifies it", version)
			}
		}
	}
}

// sim root tells the root of each platform's product line.
func TestSimRootOfPlatform(t *testing.T) {
	ca, err := psp.LoadOrCreateCA(dataFolder, nil)
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"": ca.FingerprintOf("Genoa"), "--platform=milan": ca.FingerprintOf("Milan"), "--platform=genoa": ca.FingerprintOf("Genoa"), "--platform=turin": ca.FingerprintOf("Turin"),
	} {
		cmd, _ := command(t, "simroot", append([]string{"sim", "root"}, strings.Fields(args)...)...)
		out, err := cmd.Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("sim root %s: %q, %v, want %s", args, out, err, want)
		}
	}
	cmd, _ := command(t, "simroot", "sim", "root", "--platform=rome")
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !bytes.Contains(out, []byte("milan, genoa, turin")) {
		t.Errorf("sim root --platform=rome: status %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
}
