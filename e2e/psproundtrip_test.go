package e2e_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// simulatedReport launches an empty guest on a Secure Processor and asks for a
// report.
func simulatedReport(t testing.TB, cfg psp.Config, data snp.ReportData) (*psp.Platform, []byte) {
	t.Helper()
	ca, err := psp.LoadOrCreateCA(dataFolder, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := psp.New(cfg, ca)
	if err != nil {
		t.Fatal(err)
	}
	g := p.CreateContext()
	for _, st := range []snp.Status{
		g.LaunchStart(snp.PolicyDefault, [16]byte{}), g.Activate(1),
		g.LaunchUpdate(snp.PageNormal, 0xFFFFF000, make([]byte, snp.PageSize)),
		g.LaunchFinish(psp.FinishParams{HostData: snp.HostData{5}}),
	} {
		if st != snp.StatusSuccess {
			t.Fatalf("launching: %s", st)
		}
	}
	req := make([]byte, 96)
	copy(req, data[:])
	_, rsp, st := g.GuestRequest(psp.MsgReportRequest, 1, req)
	if st != snp.StatusSuccess || len(rsp) != 0x20+snp.ReportSize {
		t.Fatalf("report request: %s, %d bytes", st, len(rsp))
	}
	return p, rsp[0x20:]
}

func chainOf(t testing.TB, p *psp.Platform) report.Chain {
	t.Helper()
	chain, err := report.ParseCertTable(p.Certificates().Table())
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// A report of the software host verifies for one who trusts its root, for no
// one else, and no bit of it can be changed.
func TestSimulatedReportVerifies(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		cfg := psp.DefaultConfig()
		cfg.ReportVersion = version
		p, raw := simulatedReport(t, cfg, snp.ReportData{1, 2, 3})
		chain := chainOf(t, p)
		trusting := report.Options{Roots: report.AMDRoots(), TrustSimulated: p.CA().Fingerprint()}
		v, err := report.Verify(raw, chain, trusting)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if !v.Simulated || v.ProductLine != "Genoa" || v.Report.ReportData != (snp.ReportData{1, 2, 3}) || v.Report.HostData != (snp.HostData{5}) {
			t.Errorf("version %d: verified as %+v", version, v)
		}

		if _, err := report.Verify(raw, chain, report.Options{Roots: report.AMDRoots()}); !errors.Is(err, report.ErrSimulated) {
			t.Errorf("version %d: without trusting simulated roots: %v", version, err)
		}
		other := trusting
		other.TrustSimulated = strings.Repeat("0", 64)
		if _, err := report.Verify(raw, chain, other); !errors.Is(err, report.ErrSimulated) {
			t.Errorf("version %d: trusting another simulated root: %v", version, err)
		}
		// The mark counts in any of the certificates.
		for name, c := range map[string]report.Chain{
			"VCEK only": {VCEK: chain.VCEK}, "ARK missing": {ASK: chain.ASK, VCEK: chain.VCEK},
		} {
			if _, err := report.Verify(raw, c, report.Options{Roots: report.AMDRoots()}); !errors.Is(err, report.ErrSimulated) {
				t.Errorf("version %d: %s: %v", version, name, err)
			}
		}
		bits := 0
		for i := range snp.ReportSignedSize + 2*snp.ECDSACoordSize {
			changed := bytes.Clone(raw)
			changed[i] ^= 1 << (i % 8)
			if _, err := report.Verify(changed, chain, trusting); err == nil {
				t.Errorf("version %d: byte %#x changed and still accepted", version, i)
			}
			bits++
		}
		t.Logf("version %d: %d changed reports refused", version, bits)
	}
}

// go-sev-guest keeps four of the eight bits of the stepping when it reads a
// report, and verifies what it kept; here every bit of the bytes that name the
// processor counts.
func TestProcessorBytesCount(t *testing.T) {
	p, raw := simulatedReport(t, psp.DefaultConfig(), snp.ReportData{})
	chain := chainOf(t, p)
	trusting := report.Options{TrustSimulated: p.CA().Fingerprint()}
	if _, err := report.Verify(raw, chain, trusting); err != nil {
		t.Fatal(err)
	}
	for at := 0x188; at <= 0x18A; at++ {
		for bit := range 8 {
			changed := bytes.Clone(raw)
			changed[at] ^= 1 << bit
			if _, err := report.Verify(changed, chain, trusting); err == nil {
				t.Errorf("byte %#x, bit %d changed and still accepted", at, bit)
			}
		}
	}
}

// A genuine report over another nonce does not answer this one.
func TestOtherNonceIsRefused(t *testing.T) {
	p, raw := simulatedReport(t, psp.DefaultConfig(), snp.ReportData{1})
	v, err := report.Verify(raw, chainOf(t, p), report.Options{TrustSimulated: p.CA().Fingerprint()})
	if err != nil {
		t.Fatal(err)
	}
	asked, other := snp.ReportData{1}, snp.ReportData{2}
	if err := report.Check(v.Report, report.Expect{ReportData: &asked}); err != nil {
		t.Errorf("the nonce that was asked for: %v", err)
	}
	err = report.Check(v.Report, report.Expect{ReportData: &other})
	var field *report.FieldError
	if !errors.Is(err, report.ErrExpectation) || !errors.As(err, &field) || field.Field != "REPORT_DATA" {
		t.Errorf("another nonce: %v, want ErrExpectation naming REPORT_DATA", err)
	}
}

// go-sev-guest itself, as other verifiers use it, accepts report and table
// with the simulated roots, and refuses them with AMD's.
func TestGoSEVGuestVerifies(t *testing.T) {
	for _, version := range []uint32{2, 3, 5} {
		cfg := psp.DefaultConfig()
		cfg.ReportVersion = version
		p, raw := simulatedReport(t, cfg, snp.ReportData{9})
		chain := p.Certificates()
		attestation, err := abi.ReportCertsToProto(append(bytes.Clone(raw), chain.Table()...))
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		roots, err := report.SimulatedRoots(chain.ARK, chain.ASK)
		if err != nil {
			t.Fatal(err)
		}
		options := func(r report.Roots) *verify.Options {
			return &verify.Options{TrustedRoots: r, DisableCertFetching: true, Now: time.Now()}
		}
		if err := verify.SnpAttestation(attestation, options(roots)); err != nil {
			t.Errorf("version %d: with the simulated roots: %v", version, err)
		}
		for name, r := range map[string]report.Roots{"AMD's roots": report.AMDRoots(), "no roots": nil} {
			if err := verify.SnpAttestation(attestation, options(r)); err == nil {
				t.Errorf("version %d: accepted with %s", version, name)
			}
		}
		nonce := snp.ReportData{9}
		chip := p.ChipID()
		if err := validate.SnpAttestation(attestation, &validate.Options{
			GuestPolicy: abi.SnpPolicy{SMT: true}, ReportData: nonce[:], ChipID: chip[:],
			PlatformInfo: &abi.SnpPlatformInfo{SMTEnabled: true}, MinimumVersion: 1<<8 | 55, MinimumBuild: 25,
		}); err != nil {
			t.Errorf("version %d: validate: %v", version, err)
		}
	}
}
