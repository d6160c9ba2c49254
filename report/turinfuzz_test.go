package report

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/google/go-sev-guest/abi"
)

// FuzzTurinExtensions gives certificates any values of the KDS's extensions: it never
// panics, and what is read is what stands there.
func FuzzTurinExtensions(f *testing.F) {
	number := []byte{2, 1, 7}
	f.Add(true, number, number, []byte{1, 2, 3, 4, 5, 6, 7, 8}, 4)
	f.Add(false, number, number, []byte{0x16, 1, 'x'}, 5)
	f.Add(true, []byte{2, 2, 0, 200}, []byte{2, 1, 0xFF}, append([]byte{4, 8}, make([]byte, 8)...), 4)
	f.Add(true, []byte{}, []byte{0x30, 0x80}, make([]byte, 64), 99)
	f.Fuzz(func(t *testing.T, vcek bool, fmc, other, last []byte, arc int) {
		id := func(arcs ...int) asn1.ObjectIdentifier {
			return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs...)
		}
		exts := []pkix.Extension{{Id: id(1), Value: number}, {Id: id(2), Value: other}, {Id: id(3, 9), Value: fmc}, {Id: id(arc), Value: last}}
		for i := 1; i <= 8; i++ {
			exts = append(exts, pkix.Extension{Id: id(3, i), Value: number})
		}
		key := abi.VlekReportSigner
		if vcek {
			key = abi.VcekReportSigner
		}
		e, err := turinExtensions(&x509.Certificate{Extensions: exts}, key)
		if err != nil {
			return
		}
		var want int
		if _, err := asn1.Unmarshal(fmc, &want); err != nil || want != int(e.tcb.FMC) {
			t.Errorf("FMC % x is read as %d", fmc, e.tcb.FMC)
		}
		if e.tcb.BootLoader != 7 || e.tcb.TEE != 7 || e.tcb.SNP != 7 || e.tcb.Microcode != 7 {
			t.Errorf("read as %+v", e.tcb)
		}
		if vcek && (arc != 4 || len(e.hwid) != 8) || !vcek && (arc != 5 || e.hwid != nil) {
			t.Errorf("extension %d is taken, chip id % x", arc, e.hwid)
		}
	})
}
