package idblock

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

func derSignature(t testing.TB, r, s *big.Int) []byte {
	t.Helper()
	return must[[]byte](t)(asn1.Marshal(struct{ R, S *big.Int }{r, s}))
}

func TestParseSignature(t *testing.T) {
	order := elliptic.P384().Params().N
	for name, c := range map[string]struct{ r, s *big.Int }{
		"large":          {new(big.Int).Sub(order, big.NewInt(1)), new(big.Int).Sub(order, big.NewInt(2))},
		"small":          {big.NewInt(1), big.NewInt(0x80)},
		"zero bytes":     {new(big.Int).Lsh(big.NewInt(0x5A), 360), new(big.Int).Lsh(big.NewInt(0x7F0001), 8)},
		"leading zeros":  {new(big.Int).Rsh(order, 9), new(big.Int).Rsh(order, 100)},
		"a high top bit": {new(big.Int).Rsh(order, 8), new(big.Int).Rsh(order, 1)},
	} {
		want := must[snp.SignatureBytes](t)(EncodeSignature(c.r, c.s))
		der := derSignature(t, c.r, c.s)
		raw := append(c.r.FillBytes(make([]byte, 48)), c.s.FillBytes(make([]byte, 48))...)
		for form, data := range map[string][]byte{
			"DER": der, "raw": raw,
			"base64 of DER": []byte(base64.StdEncoding.EncodeToString(der) + "\n"),
			"base64 of raw": []byte(base64.StdEncoding.EncodeToString(raw)),
			"JOSE":          []byte(base64.RawURLEncoding.EncodeToString(raw)),
			"192 digits":    []byte(hex.EncodeToString(raw) + "\r\n"),
			"0x 192 digits": []byte("0x" + strings.ToUpper(hex.EncodeToString(raw))),
			"r,s":           []byte(fmt.Sprintf("%x,%x", c.r, c.s)),
			"r, s":          []byte(fmt.Sprintf("0x%096X, 0x%096X\n", c.r, c.s)),
			"two lines":     []byte(fmt.Sprintf("%096x\n%096x\n", c.r, c.s)),
			"r:s":           []byte(fmt.Sprintf("%x:%x", c.r, c.s)),
		} {
			if got, err := ParseSignature(data); err != nil || got != want {
				t.Errorf("%s, %s: %v", name, form, err)
			}
		}
	}
	one := big.NewInt(1)
	der := derSignature(t, one, one)
	for name, c := range map[string]struct {
		data []byte
		hint string
	}{
		"nothing":            {nil, "empty"},
		"white space":        {[]byte("\n"), "empty"},
		"text":               {[]byte("signature"), "no signature"},
		"95 bytes":           {bytes.Repeat([]byte{0x81}, 95), "no signature"},
		"the firmware's":     {make([]byte, 512), "no signature"},
		"cut DER":            {der[:len(der)-1], "no signature"},
		"DER and more":       {append(bytes.Clone(der), 0), "bytes after its DER"},
		"DER of one number":  {[]byte{0x30, 3, 2, 1, 5}, "not DER"},
		"a third number":     {[]byte{0x30, 9, 2, 1, 5, 2, 1, 5, 2, 1, 5}, "r and s alone"},
		"zero r":             {derSignature(t, new(big.Int), one), "r is not between"},
		"s the order":        {derSignature(t, one, order), "s is not between"},
		"negative":           {derSignature(t, big.NewInt(-5), one), "r is not between"},
		"raw zeros":          {make([]byte, 96), "r is not between"},
		"raw ones":           {bytes.Repeat([]byte{0xFF}, 96), "r is not between"},
		"long numbers":       {[]byte(strings.Repeat("f", 97) + "," + strings.Repeat("1", 96)), "r is not between"},
		"three numbers":      {[]byte("1,2,3"), "no signature"},
		"190 digits":         {bytes.Repeat([]byte("1"), 190), "no signature"},
		"P-256, raw":         {bytes.Repeat([]byte{0x81}, 64), "no signature"},
		"a number and words": {[]byte("12,xyz"), "no signature"},
	} {
		if _, err := ParseSignature(c.data); err == nil || !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%s: %v, want %q", name, err, c.hint)
		}
	}
	// 96 bytes that are a whole DER signature are not guessed at.
	r := new(big.Int).Rsh(order, 384-45*8+1)
	both := derSignature(t, r, r)
	if len(both) != 96 {
		t.Fatalf("made %d bytes of DER, want 96", len(both))
	}
	if _, err := ParseSignature(both); err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("96 bytes of DER: %v", err)
	}
	if _, err := ParseSignature([]byte(fmt.Sprintf("%x,%x", r, r))); err != nil {
		t.Errorf("what the message advises: %v", err)
	}
}

// TestAssemble: signatures from elsewhere are taken when they verify, and give
// what Sign would have given with them.
func TestAssemble(t *testing.T) {
	b, id, author := block(), key(t, 1), key(t, 2)
	want := must[*snp.IDAuth](t)(Sign(b, id, author))
	idSigned, authorSigned := Signed{&id.PublicKey, want.IDBlockSig}, &Signed{&author.PublicKey, want.IDKeySig}
	got, err := Assemble(b, idSigned, authorSigned)
	if err != nil || *got != *want {
		t.Errorf("with an author key: %v", err)
	}
	alone, err := Assemble(b, idSigned, nil)
	if err != nil || *alone != *must[*snp.IDAuth](t)(Sign(b, id, nil)) {
		t.Errorf("without: %v", err)
	}
	otherBlock := block()
	otherBlock.GuestSVN++
	for name, c := range map[string]struct {
		block  *snp.IDBlock
		id     Signed
		author *Signed
	}{
		"another block":       {otherBlock, idSigned, authorSigned},
		"another ID key":      {b, Signed{&author.PublicKey, want.IDBlockSig}, authorSigned},
		"another author key":  {b, idSigned, &Signed{&id.PublicKey, want.IDKeySig}},
		"signatures swapped":  {b, Signed{&id.PublicKey, want.IDKeySig}, &Signed{&author.PublicKey, want.IDBlockSig}},
		"no signature":        {b, Signed{Key: &id.PublicKey}, nil},
		"no author signature": {b, idSigned, &Signed{Key: &author.PublicKey}},
	} {
		if got, err := Assemble(c.block, c.id, c.author); err == nil || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		} else if s, ok := StatusOf(err); !ok || s != snp.StatusBadSignature {
			t.Errorf("%s: status %s, %v", name, s, err)
		}
	}
}

// FuzzParseSignature: what is taken comes back from DER, from r and s, and
// from the firmware's encoding; binary input in DER form is the very DER that
// its r and s have.
func FuzzParseSignature(f *testing.F) {
	f.Add(must[[]byte](f)(testFile(f, "id-block.sig"), nil))
	r, s := new(big.Int).Lsh(big.NewInt(0x5A), 360), big.NewInt(0x80)
	f.Add(append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...))
	f.Add([]byte(fmt.Sprintf("%x,%x", r, s)))
	f.Add([]byte(fmt.Sprintf("%096x%096x", r, s)))
	f.Add([]byte(base64.StdEncoding.EncodeToString(derSignature(f, r, s))))
	f.Fuzz(func(t *testing.T, data []byte) {
		sig, err := ParseSignature(data)
		if err != nil {
			return
		}
		r, s, err := DecodeSignature(sig)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := EncodeSignature(r, s); err != nil || again != sig {
			t.Fatalf("encodes to something else: %v", err)
		}
		der := derSignature(t, r, s)
		if again, err := EncodeSignatureASN1(der); err != nil || again != sig {
			t.Fatalf("its DER is read as something else: %v", err)
		}
		if again, err := ParseSignature([]byte(fmt.Sprintf("%x,%x", r, s))); err != nil || again != sig {
			t.Fatalf("its r,s is read as something else: %v", err)
		}
		if _, err := EncodeSignatureASN1(data); err == nil && !bytes.Equal(data, der) {
			t.Fatalf("DER % x is taken for % x", data, der)
		}
	})
}
