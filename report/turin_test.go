package report_test

import (
	"bytes"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify"

	"github.com/snplaunch/snplaunch/report"
)

// turin gives the chain of a Turin whose VCEK has what AMD's have, changed, and a
// report that goes with it.
func turin(t testing.TB, more ...pkix.Extension) (*imitation, []byte) {
	t.Helper()
	hwid := []byte{0x80, 1, 2, 3, 4, 5, 6, 7}
	im := imitate(t, "Turin", imitateOptions{extensions: append([]pkix.Extension{
		{Id: kdsOID(3, 9), Value: integer(t, 9)}, {Id: kdsOID(4), Value: hwid},
	}, more...)})
	raw := im.report(t, 5, 0)
	clear(raw[offChipID : offChipID+64])
	copy(raw[offChipID:], hwid)
	sign(t, raw, im.vcekKey)
	return im, raw
}

// A VCEK of Turin verifies under its root and no other; each part of its TCB, FMC
// included, and its chip id count.
func TestTurinCertificates(t *testing.T) {
	im, raw := turin(t)
	own := report.Options{Roots: im.roots}
	v, err := report.Verify(raw, im.chain, own)
	if err != nil || v.ProductLine != "Turin" || v.Report.Version != 5 {
		t.Fatalf("with its own roots: %+v, %v", v, err)
	}
	if _, err := report.Verify(raw, im.chain, report.Options{Roots: report.AMDRoots()}); !errors.Is(err, report.ErrChain) {
		t.Errorf("with AMD's roots: %v", err)
	}
	// Its root filed under another line is none of Turin's.
	if _, err := report.Verify(raw, im.chain, report.Options{Roots: report.Roots{"Genoa": im.roots["Turin"]}}); !errors.Is(err, report.ErrChain) {
		t.Errorf("with its root filed as Genoa's: %v", err)
	}
	for name, at := range map[string]int{"FMC": offTCB, "boot loader": offTCB + 1, "TEE": offTCB + 2, "SNP": offTCB + 3, "microcode": offTCB + 7, "chip id": offChipID + 3, "chip id, the rest": offChipID + 8} {
		changed := bytes.Clone(raw)
		changed[at]++
		if _, err := report.Verify(changed, im.chain, own); !errors.Is(err, report.ErrSignature) {
			t.Errorf("%s changed: %v, want ErrSignature", name, err)
		}
		sign(t, changed, im.vcekKey) // as other firmware would
		if _, err := report.Verify(changed, im.chain, own); !errors.Is(err, report.ErrChain) {
			t.Errorf("%s changed and signed: %v, want ErrChain", name, err)
		}
	}
	late := own
	late.Now = time.Now().Add(48 * time.Hour)
	if _, err := report.Verify(raw, im.chain, late); !errors.Is(err, report.ErrChain) {
		t.Errorf("after the VCEK has run out: %v", err)
	}
}

// A certificate that is not quite one of Turin's is refused.
func TestOddTurinCertificates(t *testing.T) {
	for says, more := range map[string][]pkix.Extension{
		"3704.1.3.9 of the VCEK certificate is no number": {{Id: kdsOID(3, 9), Value: []byte{2, 2, 1, 0}}},
		"3704.1.3.1 of the VCEK certificate is no number": {{Id: kdsOID(3, 1), Value: []byte{4, 1, 1}}},
		"chip id has neither":                             {{Id: kdsOID(4), Value: []byte{1, 2, 3}}},
		"chip id has 9 bytes":                             {{Id: kdsOID(4), Value: append([]byte{4, 9}, make([]byte, 9)...)}},
		"chip id has more than 8":                         {{Id: kdsOID(4), Value: bytes.Repeat([]byte{1}, 64)}},
		"3704.1.5 of the VCEK":                            {{Id: kdsOID(5), Value: ia5(t, "a cloud")}},
		"3704.1.3.10 of the VCEK":                         {{Id: kdsOID(3, 10), Value: integer(t, 1)}},
		"3704.1.99 of the VCEK":                           {{Id: kdsOID(99), Value: integer(t, 1)}},
	} {
		im, raw := turin(t, more...)
		_, err := report.Verify(raw, im.chain, report.Options{Roots: im.roots})
		if !errors.Is(err, report.ErrChain) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want ErrChain that says %q", err, says)
		}
	}
	// The chip id as an OCTET STRING, or filled up with zeros, is the same id.
	hwid := []byte{0x80, 1, 2, 3, 4, 5, 6, 7}
	for name, value := range map[string][]byte{"OCTET STRING": append([]byte{4, 8}, hwid...), "64 bytes": append(bytes.Clone(hwid), make([]byte, 56)...)} {
		im, raw := turin(t, pkix.Extension{Id: kdsOID(4), Value: value})
		if _, err := report.Verify(raw, im.chain, report.Options{Roots: im.roots}); err != nil {
			t.Errorf("chip id as %s: %v", name, err)
		}
	}
}

// go-sev-guest refuses what turin.go is for. When this fails, it can go.
func TestTurinIsBeyondGoSEVGuest(t *testing.T) {
	im, raw := turin(t)
	proto, err := abi.ReportToProto(raw)
	if err != nil {
		t.Fatal(err)
	}
	err = verify.SnpAttestation(attestationOf(proto, im.chain), &verify.Options{TrustedRoots: im.roots, DisableCertFetching: true, Now: time.Now()})
	if err == nil || !strings.Contains(err.Error(), "not an AMD KDS OID") {
		t.Errorf("%v, want its refusal of the FMC's extension", err)
	}
}
