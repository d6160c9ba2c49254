package report_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/snplaunch/snplaunch/report"
)

// forms writes one report in every form that is read; extended says which bring the
// certificates along.
func forms(t testing.TB, im *imitation, raw []byte) map[string]struct {
	data     []byte
	form     report.Form
	extended bool
} {
	t.Helper()
	certs := table(t, []tableRow{{textVCEK, 96, uint32(len(im.chain.VCEK))}, {textASK, 96 + uint32(len(im.chain.VCEK)), uint32(len(im.chain.ASK))},
		{textARK, 96 + uint32(len(im.chain.VCEK)+len(im.chain.ASK)), uint32(len(im.chain.ARK))}}, true, bytes.Join([][]byte{im.chain.VCEK, im.chain.ASK, im.chain.ARK}, nil))
	full := append(bytes.Clone(raw), certs...)
	response := append(make([]byte, 32), raw...)
	binary.LittleEndian.PutUint32(response[4:], reportBytes)
	// As go-sev-guest's `attest` makes them.
	attestation, err := abi.ReportCertsToProto(full)
	if err != nil {
		t.Fatal(err)
	}
	wire := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	text := func(m proto.Message) []byte {
		b, err := prototext.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	wrapped := []byte(base64.StdEncoding.EncodeToString(full))
	for i := 76; i < len(wrapped); i += 77 {
		wrapped = append(wrapped[:i], append([]byte("\n"), wrapped[i:]...)...)
	}
	type f = struct {
		data     []byte
		form     report.Form
		extended bool
	}
	return map[string]f{
		"raw":                    {raw, report.FormRaw, false},
		"extended":               {full, report.FormExtended, true},
		"empty table":            {append(bytes.Clone(raw), make([]byte, 24)...), report.FormExtended, false},
		"response":               {response, report.FormResponse, false},
		"kernel's buffer":        {append(bytes.Clone(response), make([]byte, 4000-len(response))...), report.FormResponse, false},
		"proto":                  {wire(attestation), report.FormProto, true},
		"proto report":           {wire(attestation.Report), report.FormProto, false},
		"textproto":              {text(attestation), report.FormTextProto, true},
		"textproto report":       {text(attestation.Report), report.FormTextProto, false},
		"textproto, other words": {[]byte(prototext.Format(attestation)), report.FormTextProto, true},
		"hex":                    {[]byte(hex.EncodeToString(raw)), report.FormHex, false},
		"HEX, 0x, newline":       {[]byte("0x" + strings.ToUpper(hex.EncodeToString(full)) + "\n"), report.FormHex, true},
		"base64":                 {[]byte(base64.StdEncoding.EncodeToString(raw) + "\n"), report.FormBase64, false},
		"base64, URL":            {[]byte(base64.RawURLEncoding.EncodeToString(full)), report.FormBase64, true},
		"base64, wrapped":        {wrapped, report.FormBase64, true},
		"base64 of proto":        {[]byte(base64.StdEncoding.EncodeToString(wire(attestation))), report.FormBase64, true},
		"base64 of response":     {[]byte(base64.StdEncoding.EncodeToString(response)), report.FormBase64, false},
	}
}

func TestReadReport(t *testing.T) {
	for line := range lines {
		im := imitate(t, line, imitateOptions{})
		for _, version := range []uint32{2, 3, 5} {
			raw := im.report(t, version, 0)
			for name, f := range forms(t, im, raw) {
				got, err := report.ReadReport(f.data)
				if err != nil {
					t.Errorf("%s, version %d, %s: %v", line, version, name, err)
					continue
				}
				if !bytes.Equal(got.Raw, raw) || got.Form != f.form {
					t.Errorf("%s, version %d, %s: form %q, report as it was: %v", line, version, name, got.Form, bytes.Equal(got.Raw, raw))
				}
				want := report.Chain{}
				if f.extended {
					want = report.Chain{ARK: im.chain.ARK, ASK: im.chain.ASK, VCEK: im.chain.VCEK}
				}
				if !bytes.Equal(got.Chain.ARK, want.ARK) || !bytes.Equal(got.Chain.ASK, want.ASK) || !bytes.Equal(got.Chain.VCEK, want.VCEK) {
					t.Errorf("%s, version %d, %s: other certificates", line, version, name)
				}
			}
		}
	}
}

// A GUEST_SVN of 1184 looks like REPORT_SIZE of a MSG_REPORT_RSP.
func TestReportWithTheSVNOfASize(t *testing.T) {
	im := imitate(t, "Genoa", imitateOptions{})
	raw := im.report(t, 3, 0)
	binary.LittleEndian.PutUint32(raw[4:], reportBytes)
	sign(t, raw, im.vcekKey)
	if got, err := report.ReadReport(raw); err != nil || got.Form != report.FormRaw || !bytes.Equal(got.Raw, raw) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReadReportRefuses(t *testing.T) {
	im := imitate(t, "Genoa", imitateOptions{})
	raw := im.report(t, 3, 0)
	response := append(make([]byte, 32), raw...)
	binary.LittleEndian.PutUint32(response[4:], reportBytes)
	short := &spb.Report{Version: 3, Measurement: make([]byte, 47)}
	shortText, err := prototext.Marshal(short)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"nothing":            {nil, "there is nothing in it"},
		"blanks":             {[]byte(" \n"), "nothing in it"},
		"a byte short":       {raw[:reportBytes-1], "but has 1183 bytes; a report has 1184"},
		"a byte long":        {append(bytes.Clone(raw), 0), "1 bytes follow the report's 1184, and they are no certificate table"},
		"short response":     {response[:1200], "but has 1200 bytes; it takes 1216"},
		"dirty response":     {append(bytes.Clone(response), 1), "something other than zeros"},
		"response of zeros":  {append(bytes.Clone(response[:32]), make([]byte, reportBytes)...), "MSG_REPORT_RSP holds something of version 0"},
		"hex of half":        {[]byte(hex.EncodeToString(raw[:500])), "as hexadecimal, it begins as a report of version 3 does, but has 500 bytes"},
		"base64 of half":     {[]byte(base64.StdEncoding.EncodeToString(raw[:500])), "as base64, it begins"},
		"certificate":        {pemOf("CERTIFICATE", im.chain.ARK), "it is a PEM file; certificates are given beside"},
		"DER":                {im.chain.ARK, "begin neither as a report"},
		"prose":              {[]byte("this is the report?"), "text that is neither hexadecimal nor base64"},
		"JSON":               {[]byte(`{"report": "a"}`), "--bundle"},
		"zeros":              {make([]byte, reportBytes), "begin neither as a report"},
		"too large":          {make([]byte, 5<<20), "more than 4194304 bytes"},
		"a proto's half":     {shortText, "go-sev-guest text"},
		"base64 over base64": {[]byte(base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(raw)))), "begin neither"},
	} {
		_, err := report.ReadReport(c.data)
		if !errors.Is(err, report.ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want ErrFormat and %q", name, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", name, err)
		}
	}
}

// Whatever is read as a report has the size of one and says so again.
func FuzzReadReport(f *testing.F) {
	im := imitate(f, "Genoa", imitateOptions{fixedKeys: true})
	for _, form := range forms(f, im, im.report(f, 3, 0)) {
		f.Add(form.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := report.ReadReport(data)
		if err != nil {
			if !errors.Is(err, report.ErrFormat) {
				t.Errorf("%v is no ErrFormat", err)
			}
			return
		}
		if len(got.Raw) != reportBytes {
			t.Fatalf("a report of %d bytes", len(got.Raw))
		}
		if again, err := report.ReadReport(got.Raw); err != nil || !bytes.Equal(again.Raw, got.Raw) {
			t.Errorf("what was read is not read again: %v", err)
		}
	})
}
