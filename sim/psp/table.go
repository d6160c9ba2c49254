package psp

// Chain are the certificates that a report of this chip verifies with, DER.
// ASVK and VLEK are nil where no VLEK is loaded.
type Chain struct{ ARK, ASK, VCEK, ASVK, VLEK []byte }

// Certificates gives the chain. What could not be certified is refused when the
// key is made, and signing fails only where there is no memory for it.
func (p *Platform) Certificates() Chain {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := Chain{ARK: p.line.ark.Raw, ASK: p.line.ask.Raw}
	c.VCEK, _ = p.vcek.cert()
	if p.settings.vlekLoaded {
		c.ASVK = p.line.asvk.Raw
		c.VLEK, _ = p.vlek.cert()
	}
	return c
}

// Identifiers of certificates in the table of an extended report (GHCB
// specification 56421; RFC 4122 byte order, as go-sev-guest and virtee/sev read it).
var (
	guidVCEK = [16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidVLEK = [16]byte{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	guidASK  = [16]byte{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	guidARK  = [16]byte{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
)

// Table gives the chain as the certificate table of an extended report:
// entries {GUID[16], offset u32, length u32}, ended by a zero entry, then the
// certificates; offsets count from the start of the table. With a VLEK the
// table is that of a provider: VLEK and, under the ASK's identifier, the ASVK. A
// guest of it that asks for the VCEK all the same fetches that chain from the KDS.
func (c Chain) Table() []byte {
	type entry struct {
		guid [16]byte
		der  []byte
	}
	entries := []entry{{guidVCEK, c.VCEK}, {guidASK, c.ASK}, {guidARK, c.ARK}}
	if c.VLEK != nil {
		entries = []entry{{guidVLEK, c.VLEK}, {guidASK, c.ASVK}, {guidARK, c.ARK}}
	}
	const entrySize = 24
	head := make([]byte, entrySize*(len(entries)+1))
	var body []byte
	for i, e := range entries {
		h := head[entrySize*i:]
		copy(h, e.guid[:])
		le.PutUint32(h[16:], uint32(len(head)+len(body)))
		le.PutUint32(h[20:], uint32(len(e.der)))
		body = append(body, e.der...)
	}
	return append(head, body...)
}
