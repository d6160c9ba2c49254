package report

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/snplaunch/snplaunch/snp"
)

// Received is a report as somebody has it, and what came with it.
type Received struct {
	Raw   []byte // snp.ReportSize bytes
	Chain Chain  // of an extended report; else empty
	Form  Form
}

// Form is how a report was written, in words.
type Form string

// Forms of a report. Text in hexadecimal or base64 may be of any of the binary ones.
const (
	FormRaw       Form = "raw"                // the structure: configfs-tsm's outblob, snpguest's attestation-report.bin
	FormExtended  Form = "extended report"    // with a certificate table behind it, as go-sev-guest's raw quote
	FormResponse  Form = "MSG_REPORT_RSP"     // with the 32 bytes that the firmware puts before it, /dev/sev-guest's answer
	FormProto     Form = "go-sev-guest proto" // Report or Attestation, wire format
	FormTextProto Form = "go-sev-guest text"  // the same as text
	FormHex       Form = "hexadecimal"        // any of the binary ones
	FormBase64    Form = "base64"             // any of the binary ones
)

const (
	maxVersion     = 0xFF    // versions of reports are small: there have been 2, 3 and 5
	responseHeader = 0x20    // STATUS u32, REPORT_SIZE u32, reserved (56860, MSG_REPORT_RSP)
	maxReceived    = 4 << 20 // bytes; more than any form has
	expectReport   = "a report has 1184 bytes"
)

// ReadReport reads a report in any of the forms that tools write it in: raw, with its
// certificate table, in hexadecimal, in base64, as go-sev-guest's protobuf or its text,
// or as the firmware's whole answer. Errors are one sentence that wraps ErrFormat.
func ReadReport(data []byte) (*Received, error) {
	r, err := readReport(data)
	if err == nil && !isVersion(binary.LittleEndian.Uint32(r.Raw)) {
		err = fmt.Errorf("%s holds something of version %d, and there is no such report", r.Form, binary.LittleEndian.Uint32(r.Raw))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return r, nil
}

// isVersion says whether a report can be of this version.
func isVersion(n uint32) bool { return n >= 1 && n <= maxVersion }

func readReport(data []byte) (*Received, error) {
	switch {
	case len(data) == 0:
		return nil, errors.New("there is nothing in it; " + expectReport)
	case len(data) > maxReceived:
		return nil, fmt.Errorf("it has more than %d bytes; %s, with its certificates some thousands", maxReceived, expectReport)
	}
	if !isText(data) {
		return readBinary(data)
	}
	text := string(bytes.TrimSpace(data))
	if strings.HasPrefix(text, "-----BEGIN ") {
		return nil, errors.New("it is a PEM file; certificates are given beside the report, with --certs")
	}
	joined := strings.Join(strings.Fields(text), "")
	if raw, err := hex.DecodeString(strings.TrimPrefix(joined, "0x")); err == nil {
		return within(FormHex, raw)
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if raw, err := enc.Strict().DecodeString(joined); err == nil {
			return within(FormBase64, raw)
		}
	}
	var at spb.Attestation
	if err := prototext.Unmarshal(data, &at); err == nil && at.Report != nil {
		return fromProto(FormTextProto, &at)
	}
	var rep spb.Report
	if err := prototext.Unmarshal(data, &rep); err == nil && rep.Version != 0 {
		return fromProto(FormTextProto, &spb.Attestation{Report: &rep})
	}
	if strings.HasPrefix(text, "{") {
		return nil, errors.New("it is JSON, which no tool writes a report in (an evidence bundle is verified with --bundle)")
	}
	return nil, errors.New("it is text that is neither hexadecimal nor base64 nor go-sev-guest's textproto")
}

// within reads what text of some form holds.
func within(form Form, raw []byte) (*Received, error) {
	if len(raw) == 0 {
		return nil, errors.New("there is nothing in it; " + expectReport)
	}
	r, err := readBinary(raw)
	if err != nil {
		return nil, fmt.Errorf("as %s, %w", form, err)
	}
	r.Form = form
	return r, nil
}

func readBinary(data []byte) (*Received, error) {
	le := binary.LittleEndian
	switch {
	case len(data) >= 4 && isVersion(le.Uint32(data)):
		if len(data) < snp.ReportSize {
			return nil, fmt.Errorf("it begins as a report of version %d does, but has %d bytes; %s", le.Uint32(data), len(data), expectReport)
		}
		return extended(data)
	case len(data) >= 8 && le.Uint32(data) == 0 && le.Uint32(data[4:]) == snp.ReportSize:
		if len(data) < responseHeader+snp.ReportSize {
			return nil, fmt.Errorf("it begins as a MSG_REPORT_RSP does, but has %d bytes; it takes %d", len(data), responseHeader+snp.ReportSize)
		}
		// The kernel's buffer for the answer is longer than what the firmware puts there.
		if len(bytes.Trim(data[responseHeader+snp.ReportSize:], "\x00")) > 0 {
			return nil, errors.New("it is a MSG_REPORT_RSP with something other than zeros behind the report")
		}
		return &Received{Raw: bytes.Clone(data[responseHeader : responseHeader+snp.ReportSize]), Form: FormResponse}, nil
	}
	var at spb.Attestation
	if err := proto.Unmarshal(data, &at); err == nil && at.Report != nil && at.Report.Version != 0 {
		return fromProto(FormProto, &at)
	}
	var rep spb.Report
	if err := proto.Unmarshal(data, &rep); err == nil && rep.Version != 0 && len(rep.Measurement) > 0 {
		return fromProto(FormProto, &spb.Attestation{Report: &rep})
	}
	return nil, fmt.Errorf("its %d bytes begin neither as a report nor as any of the forms that tools put one in; %s", len(data), expectReport)
}

// extended reads a report and the table that may follow it.
func extended(data []byte) (*Received, error) {
	r := &Received{Raw: bytes.Clone(data[:snp.ReportSize]), Form: FormRaw}
	rest := data[snp.ReportSize:]
	if len(rest) == 0 {
		return r, nil
	}
	chain, err := ParseCertTable(rest)
	if err != nil {
		return nil, fmt.Errorf("%d bytes follow the report's %d, and they are no certificate table: %w", len(rest), snp.ReportSize, err)
	}
	r.Chain, r.Form = chain, FormExtended
	return r, nil
}

// fromProto gives the bytes of a report that go-sev-guest has taken apart.
func fromProto(form Form, at *spb.Attestation) (*Received, error) {
	raw, err := abi.ReportToAbiBytes(at.Report)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", form, err)
	}
	c := at.GetCertificateChain()
	r := &Received{Raw: raw, Form: form, Chain: Chain{ARK: c.GetArkCert(), VCEK: c.GetVcekCert(), VLEK: c.GetVlekCert(), CRL: c.GetExtras()[textCRL]}}
	if ask := c.GetAskCert(); isASVK(ask) {
		r.Chain.ASVK = ask
	} else {
		r.Chain.ASK = ask
	}
	return r, nil
}

// isText says whether there is nothing but text in it. Textproto has characters that
// are no graphic ones, but none of ASCII's control characters.
func isText(data []byte) bool {
	for _, b := range data {
		if b < ' ' && b != '\t' && b != '\n' && b != '\r' {
			return false
		}
	}
	return utf8.Valid(data)
}
