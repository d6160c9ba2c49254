package report

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// Chain are the certificates that came with a report, DER; what did not come
// is nil. Either VCEK or VLEK signed it.
type Chain struct{ ARK, ASK, ASVK, VCEK, VLEK []byte }

// Identifiers of certificates in a certificate table (GHCB specification
// 56421), in RFC 4122 byte order as go-sev-guest and virtee/sev read them.
var (
	guidVCEK = [16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidVLEK = [16]byte{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	guidASK  = [16]byte{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	guidARK  = [16]byte{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
)

const tableEntry = 24 // GUID[16], offset u32, length u32

// ParseCertTable reads the certificate table of an extended report. Entries of
// other kinds are left out; the sizes are checked in 64 bits, as the table
// comes from the host. An empty table gives an empty chain.
func ParseCertTable(table []byte) (Chain, error) {
	var c Chain
	for at := 0; ; at += tableEntry {
		if len(table) == 0 {
			return c, nil
		}
		if at+tableEntry > len(table) {
			return Chain{}, fmt.Errorf("certificate table: %d bytes hold no end of its %d entries", len(table), at/tableEntry)
		}
		e := table[at : at+tableEntry]
		guid := [16]byte(e[:16])
		offset, length := uint64(binary.LittleEndian.Uint32(e[16:])), uint64(binary.LittleEndian.Uint32(e[20:]))
		if guid == ([16]byte{}) && offset == 0 && length == 0 {
			return c, nil
		}
		if offset+length > uint64(len(table)) {
			return Chain{}, fmt.Errorf("certificate table: entry %d lies at %d+%d, beyond its %d bytes", at/tableEntry, offset, length, len(table))
		}
		der := bytes.Clone(table[offset : offset+length])
		switch guid {
		case guidVCEK:
			c.VCEK = der
		case guidVLEK:
			c.VLEK = der
		case guidASK:
			c.ASK = der
		case guidARK:
			c.ARK = der
		}
	}
}

// ParseCertificates reads certificates of a chain from PEM, or one from DER,
// and tells them apart by the common names of their subjects.
func ParseCertificates(files ...[]byte) (Chain, error) {
	var c Chain
	for i, data := range files {
		var ders [][]byte
		for rest := data; ; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			ders = append(ders, b.Bytes)
		}
		if len(ders) == 0 {
			ders = [][]byte{data}
		}
		for _, der := range ders {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return Chain{}, fmt.Errorf("certificate file %d holds neither PEM nor DER: %w", i+1, err)
			}
			switch cn := cert.Subject.CommonName; {
			case len(cn) > 4 && cn[:4] == "ARK-":
				c.ARK = der
			case cn == "SEV-VCEK":
				c.VCEK = der
			case cn == "SEV-VLEK":
				c.VLEK = der
			case len(cn) > 9 && cn[:9] == "SEV-VLEK-":
				c.ASVK = der
			case len(cn) > 4 && cn[:4] == "SEV-":
				c.ASK = der
			default:
				return Chain{}, fmt.Errorf("the certificate of %q is none of ARK, ASK, ASVK, VCEK, VLEK", cn)
			}
		}
	}
	return c, nil
}

// Fingerprint is the SHA-256 of a certificate, 64 hexadecimal digits.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// simulated says whether a certificate carries the mark of the software host.
// The raw bytes are searched, not a parsed name: a certificate that cannot
// be parsed, or whose mark stands in another attribute, must not slip through.
func (c Chain) simulated() bool {
	for _, der := range [][]byte{c.ARK, c.ASK, c.ASVK, c.VCEK, c.VLEK} {
		if bytes.Contains(der, []byte(snp.SimulatedMarker)) {
			return true
		}
	}
	return false
}

// pair parses ARK and ASK and sees that they belong together.
func (c Chain) pair() (ark, ask *x509.Certificate, err error) {
	if len(c.ARK) == 0 || len(c.ASK) == 0 {
		return nil, nil, errors.New("the chain lacks its ARK or ASK certificate")
	}
	if ark, err = x509.ParseCertificate(c.ARK); err != nil {
		return nil, nil, fmt.Errorf("ARK: %w", err)
	}
	if ask, err = x509.ParseCertificate(c.ASK); err != nil {
		return nil, nil, fmt.Errorf("ASK: %w", err)
	}
	if err := ark.CheckSignatureFrom(ark); err != nil {
		return nil, nil, fmt.Errorf("the ARK did not sign itself: %w", err)
	}
	if err := ask.CheckSignatureFrom(ark); err != nil {
		return nil, nil, fmt.Errorf("the ASK was not signed by the ARK: %w", err)
	}
	return ark, ask, nil
}

// With gives the chain with certificates of another one put in where that has
// any.
func (c Chain) With(o Chain) Chain {
	for _, p := range []struct{ dst, src *[]byte }{{&c.ARK, &o.ARK}, {&c.ASK, &o.ASK}, {&c.ASVK, &o.ASVK}, {&c.VCEK, &o.VCEK}, {&c.VLEK, &o.VLEK}} {
		if len(*p.src) > 0 {
			*p.dst = *p.src
		}
	}
	return c
}
