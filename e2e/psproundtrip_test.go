package e2e_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

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
