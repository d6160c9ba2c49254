package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/snplaunch/snplaunch/report"
)

// Format and Version are how a bundle begins. A later version is refused: what it adds
// may be what makes the evidence.
const (
	Format  = "snplaunch evidence bundle"
	Version = 1
)

// maxSize is more than a bundle has, in bytes: a firmware of 16 MiB has 4096 pages of
// some 250 bytes each, and a guest at most some thousand vCPUs.
const maxSize = 16 << 20

// ErrFormat: it is no bundle, or was not written as one is.
var ErrFormat = errors.New("this is no evidence bundle")

// Bundle is one. What is binary is base64 in the file.
type Bundle struct {
	Format    string    `json:"format"`
	Version   int       `json:"version"`
	Statement Statement `json:"statement"`
	Report    []byte    `json:"report"` // raw, snp.ReportSize bytes
	// Certificates are those that the report is verified with and no others, DER.
	Certificates Certificates `json:"certificates"`
	// RevocationLists are those that the certificates were looked for in, DER.
	RevocationLists [][]byte `json:"revocation_lists,omitempty"`
}

// Certificates are a VCEK or a VLEK, the ASK or ASVK that issued it, and the ARK.
type Certificates struct {
	VCEK []byte `json:"vcek,omitempty"`
	VLEK []byte `json:"vlek,omitempty"`
	ASK  []byte `json:"ask,omitempty"`
	ASVK []byte `json:"asvk,omitempty"`
	ARK  []byte `json:"ark"`
}

func (c Certificates) chain() report.Chain {
	return report.Chain{VCEK: c.VCEK, VLEK: c.VLEK, ASK: c.ASK, ASVK: c.ASVK, ARK: c.ARK}
}

// New puts a bundle together. Of chain it takes what the key needs that signed the
// report; lists may be PEM.
func New(s *Statement, raw []byte, chain report.Chain, lists [][]byte) (*Bundle, error) {
	b := &Bundle{Format: Format, Version: Version, Statement: *s, Report: raw, Certificates: Certificates{ARK: chain.ARK}}
	if len(chain.VLEK) > 0 {
		b.Certificates.VLEK, b.Certificates.ASVK = chain.VLEK, chain.ASVK
	} else {
		b.Certificates.VCEK, b.Certificates.ASK = chain.VCEK, chain.ASK
	}
	for _, l := range lists {
		list, err := report.ParseRevocationList(l)
		if err != nil {
			return nil, err
		}
		b.RevocationLists = append(b.RevocationLists, list.Raw)
	}
	return b, nil
}

// Bytes gives the file.
func (b *Bundle) Bytes() ([]byte, error) {
	compact, err := marshal(b)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", " "); err != nil {
		return nil, fmt.Errorf("writing an evidence bundle: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// marshal gives compact JSON, as jq -c does: without the escapes for HTML.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("writing an evidence bundle: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Read reads a bundle, and nothing but a bundle: every byte has to be where Bytes puts
// it. It verifies nothing.
func Read(data []byte) (*Bundle, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrFormat, maxSize)
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: it is not whole JSON: %w", ErrFormat, err)
	}
	switch {
	case head.Format != Format:
		return nil, fmt.Errorf("%w: its format is %q, not %q", ErrFormat, head.Format, Format)
	case head.Version != Version:
		return nil, fmt.Errorf("%w that this program reads: it has version %d, and versions up to %d are read (a later snplaunch may do so)", ErrFormat, head.Version, Version)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	b := &Bundle{}
	if err := dec.Decode(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows its object", ErrFormat)
	}
	again, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, fmt.Errorf("%w as it was written: from byte %d on it says the same otherwise, so that it was changed", ErrFormat, differ(again, data))
	}
	return b, nil
}

// differ is where two begin to be different.
func differ(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
