package bundle_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/bundle"
	"github.com/snplaunch/snplaunch/snp"
)

// example is a bundle in form alone: no report and no certificate is in it. What makes
// evidence of one is tested in package e2e, where there is a chip to sign it.
func example() *bundle.Bundle {
	eip := uint32(0x80B004)
	return &bundle.Bundle{
		Format: bundle.Format, Version: bundle.Version,
		Statement: bundle.Statement{
			Nonce: bundle.Sum{1}, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Tool: "snplaunch <1> & \"2\"\u2028", QEMU: "10.0.2", Backend: "sim", Simulated: true,
			Description: "firmware: f\n", Inputs: []bundle.Input{{Name: "firmware", Size: 4096, SHA256: bundle.Sum{2}}},
			Firmware: bundle.Metadata{Metadata: &measure.Metadata{Sections: []ovmf.Section{{GPA: 0x800000, Size: 0x1000, Type: ovmf.SNPSecMem}}, ResetEIP: &eip, FirmwareSize: 4096}},
			Pages: []measure.Page{
				{Update: snp.Update{Type: snp.PageNormal, GPA: 0xFFFFF000, Length: 4096, Contents: snp.ContentDigest{3}}, Source: "firmware"},
				{Update: snp.Update{Type: snp.PageVMSA, GPA: snp.VMSAGPA, Length: 4096}, Source: "vCPU 0 VMSA"},
			},
			Heard: &bundle.Heard{Updates: 2}, IDBlock: []byte{1}, IDAuth: []byte{2}, AuthorKeyEnabled: true, Commands: []bundle.Command{{Name: "QEMU", Args: []string{"qemu"}}},
		},
		Report: make([]byte, snp.ReportSize), Certificates: bundle.Certificates{VCEK: []byte{4}, ASK: []byte{5}, ARK: []byte{6}}, RevocationLists: [][]byte{{7}},
	}
}

func bytesOf(t testing.TB, b *bundle.Bundle) []byte {
	t.Helper()
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReadIsExact(t *testing.T) {
	data := bytesOf(t, example())
	again, err := bundle.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytesOf(t, again), data) {
		t.Error("what was read is written otherwise")
	}
	if again.Statement.Time != example().Statement.Time || again.Statement.Tool != example().Statement.Tool || *again.Statement.Firmware.ResetEIP != 0x80B004 {
		t.Errorf("%+v", again.Statement)
	}
	for name, c := range map[string]struct{ old, new, says string }{
		"not JSON":         {"{", "", "it is not whole JSON"},
		"another format":   {bundle.Format, "evidence", `its format is "evidence"`},
		"a later version":  {`"version": 1`, `"version": 2`, "it has version 2, and versions up to 1 are read"},
		"an earlier one":   {`"version": 1`, `"version": 0`, "it has version 0"},
		"unknown key":      {`"nonce"`, `"nonsense"`, `unknown field "nonsense"`},
		"another case":     {`"nonce"`, `"Nonce"`, "from byte "},
		"a key twice":      {`"backend": "sim",`, `"backend": "sim", "backend": "sim",`, "from byte "},
		"a blank":          {`"qemu": `, `"qemu":  `, "from byte "},
		"an escape":        {`"10.0.2"`, `"10.0.\u0032"`, "from byte "},
		"another time":     {"03:04:05Z", "03:04:05+00:00", "from byte "},
		"capital digits":   {`"nonce": "01`, `"nonce": "0A`, "from byte "},
		"a short nonce":    {`"nonce": "01`, `"nonce": "`, "got 62 characters, want 64"},
		"a page type":      {`"VMSA"`, `"VMSB"`, `page type "VMSB"`},
		"loose base64":     {`"ark": "Bg=="`, `"ark": "Bh=="`, "from byte "},
		"number as text":   {`"size": 4096`, `"size": "4096"`, "cannot unmarshal"},
		"exponent":         {`"updates": 2`, `"updates": 2e0`, "cannot unmarshal"},
		"fraction":         {`"updates": 2`, `"updates": 2.0`, "cannot unmarshal"},
		"null":             {`"commands": [`, `"heard": null, "commands": [`, "from byte "},
		"end of file":      {"\n}\n", "\n}", "from byte "},
		"something behind": {"\n}\n", "\n}\n{}\n", "not whole JSON"},
	} {
		changed := strings.Replace(string(data), c.old, c.new, 1)
		if changed == string(data) {
			t.Fatalf("%s: %q is not there", name, c.old)
		}
		if _, err := bundle.Read([]byte(changed)); !errors.Is(err, bundle.ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want ErrFormat and %q", name, err, c.says)
		}
	}
	if _, err := bundle.Read(make([]byte, 17<<20)); !errors.Is(err, bundle.ErrFormat) {
		t.Errorf("too large: %v", err)
	}
}

// The report data is the SHA-512 of the statement as it stands in the file, without the
// blanks: what jq -cj .statement FILE | sha512sum gives.
func TestReportData(t *testing.T) {
	b := example()
	var file struct {
		Statement json.RawMessage `json:"statement"`
	}
	if err := json.Unmarshal(bytesOf(t, b), &file); err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, file.Statement); err != nil {
		t.Fatal(err)
	}
	got, err := b.Statement.ReportData()
	if want := sha512.Sum512(compact.Bytes()); err != nil || got != want {
		t.Errorf("%s, %v; want %x", got, err, want)
	}
	before := got
	b.Statement.Nonce[31]++
	if got, err := b.Statement.ReportData(); err != nil || got == before {
		t.Errorf("the nonce changes nothing: %s, %v", got, err)
	}
}

// A bundle without a report is none that verifies, and says so.
func TestVerifyNeedsAReport(t *testing.T) {
	if v, err := example().Verify(report.Options{Roots: report.AMDRoots()}); v != nil || !errors.Is(err, report.ErrFormat) {
		t.Errorf("%v, %v", v, err)
	}
}

// Whatever is read is written back to the byte, and verifying it does not panic.
func FuzzRead(f *testing.F) {
	data := bytesOf(f, example())
	f.Add(data)
	f.Add(bytes.Replace(data, []byte(`"version": 1`), []byte(`"version": 2`), 1))
	f.Add(bytes.Replace(data, []byte(`"heard"`), []byte(`"heart"`), 1))
	f.Add([]byte(`{"format":"snplaunch evidence bundle","version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := bundle.Read(data)
		if err != nil {
			if !errors.Is(err, bundle.ErrFormat) {
				t.Errorf("%v is no ErrFormat", err)
			}
			return
		}
		if !bytes.Equal(bytesOf(t, b), data) {
			t.Error("what was read is written otherwise")
		}
		if v, err := b.Verify(report.Options{Roots: report.AMDRoots()}); err == nil || v != nil {
			t.Errorf("%v is accepted", v)
		}
	})
}
