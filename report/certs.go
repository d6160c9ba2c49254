package report

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// Chain are the certificates that came with a report, DER; what did not come
// is nil. Either VCEK or VLEK signed it.
type Chain struct {
	ARK, ASK, ASVK, VCEK, VLEK []byte
	// CRL is a revocation list that came along. Verify does not look at it: which
	// lists count is for the caller to say (Options.RevocationLists).
	CRL []byte
}

// Identifiers of certificates in a certificate table (GHCB specification
// 56421), in RFC 4122 byte order as go-sev-guest and virtee/sev read them.
var (
	guidVCEK = [16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidVLEK = [16]byte{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	guidASK  = [16]byte{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	guidARK  = [16]byte{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
	guidCRL  = [16]byte{0x92, 0xf8, 0x1b, 0xc3, 0x58, 0x11, 0x4d, 0x3d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea}
)

// textCRL is the CRL's identifier as go-sev-guest spells it.
const textCRL = "92f81bc3-5811-4d3d-97ff-d19f88dc67ea"

const tableEntry = 24 // GUID[16], offset u32, length u32

// isASVK tells the key that signs VLEKs from the one that signs VCEKs: both
// stand under the ASK's GUID.
func isASVK(der []byte) bool {
	cert, err := x509.ParseCertificate(der)
	return err == nil && strings.HasPrefix(cert.Subject.CommonName, "SEV-VLEK-")
}

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
		var into *[]byte
		switch guid {
		case guidVCEK:
			into = &c.VCEK
		case guidVLEK:
			into = &c.VLEK
		case guidASK:
			into = &c.ASK
			if isASVK(table[offset : offset+length]) {
				into = &c.ASVK
			}
		case guidARK:
			into = &c.ARK
		case guidCRL:
			into = &c.CRL
		default:
			continue
		}
		// Readers differ in which of two they take; and a host that repeats
		// one large certificate would have it copied over and over.
		if *into != nil {
			return Chain{}, fmt.Errorf("certificate table: entry %d repeats the certificate %x", at/tableEntry, guid)
		}
		*into = bytes.Clone(table[offset : offset+length])
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
			if b.Type != "CERTIFICATE" {
				return Chain{}, fmt.Errorf("certificate file %d holds a PEM block %q, not only certificates", i+1, b.Type)
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
			case cn == "SEV-VCEK":
				c.VCEK = der
			case cn == "SEV-VLEK":
				c.VLEK = der
			case strings.HasPrefix(cn, "SEV-VLEK-"):
				c.ASVK = der
			case strings.HasPrefix(cn, "SEV-"):
				c.ASK = der
			case strings.HasPrefix(cn, "ARK-"):
				c.ARK = der
			default:
				return Chain{}, fmt.Errorf("certificate file %d: the certificate of %q is none of ARK, ASK, ASVK, VCEK, VLEK", i+1, cn)
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
func (c Chain) simulated() bool {
	return marked(c.ARK) || marked(c.ASK) || marked(c.ASVK) || marked(c.VCEK) || marked(c.VLEK)
}

// marked looks for the mark in the raw bytes, not in a parsed name: a certificate
// that cannot be parsed, or whose mark stands in another attribute, must not
// slip through.
func marked(der []byte) bool { return bytes.Contains(der, []byte(snp.SimulatedMarker)) }

// With gives the chain with certificates of another one put in where that has
// any.
func (c Chain) With(o Chain) Chain {
	for _, p := range []struct{ dst, src *[]byte }{{&c.ARK, &o.ARK}, {&c.ASK, &o.ASK}, {&c.ASVK, &o.ASVK}, {&c.VCEK, &o.VCEK}, {&c.VLEK, &o.VLEK}, {&c.CRL, &o.CRL}} {
		if len(*p.src) > 0 {
			*p.dst = *p.src
		}
	}
	return c
}
