package idblock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/hex"
	"math/big"
	"os"
	"testing"
)

// rfcKey is the P-384 key of RFC 6979, A.2.6, which also the files in testdata have.
func rfcKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	d, err := hex.DecodeString("6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5")
	if err != nil {
		t.Fatal(err)
	}
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRFC6979 signs the messages of RFC 6979, A.2.6, for P-384 with SHA-384
// and wants that document's public key, r and s.
func TestRFC6979(t *testing.T) {
	k := rfcKey(t)
	pub, err := EncodePublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at   []byte
		want string
	}{
		"Ux": {pub[4:76], "EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13"},
		"Uy": {pub[76:148], "8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720"},
	} {
		w, _ := new(big.Int).SetString(c.want, 16)
		if got := littleEndian(c.at); got.Cmp(w) != 0 {
			t.Errorf("%s\n got %096X\nwant %s", name, got, c.want)
		}
	}
	for message, want := range map[string][2]string{
		"sample": {
			"94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
			"99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8",
		},
		"test": {
			"8203B63D3C853E8D77227FB377BCF7B7B772E97892A80F36AB775D509D7A5FEB0542A7F0812998DA8F1DD3CA3CF023DB",
			"DDD0760448D42D8A43AF45AF836FCE4DE8BE06B485E9B61B827C2F13173923E06A739F040649A667BF3B828246BAA5A5",
		},
	} {
		raw, err := sign(k, []byte(message))
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			w, _ := new(big.Int).SetString(want[i], 16)
			if got := littleEndian(raw[72*i : 72*i+72]); got.Cmp(w) != 0 {
				t.Errorf("%q, %c\n got %096X\nwant %s", message, "rs"[i], got, want[i])
			}
		}
	}
}

// TestOpenSSLSignature takes what openssl signed, and finds the same ID block
// behind it (testdata/README.md).
func TestOpenSSLSignature(t *testing.T) {
	raw := testFile(t, "id-block.bin")
	b, err := ParseBlock(raw)
	if err != nil {
		t.Fatal(err)
	}
	if string(b.FamilyID[:]) != "family-id-16-byt" || string(b.ImageID[:]) != "image-id-16-byte" || b.Version != 1 || b.GuestSVN != 7 || b.Policy != 0x30000 || b.LD[47] != 0x2F {
		t.Errorf("read %+v", b)
	}
	sig, err := ParseSignature(testFile(t, "id-block.sig"))
	if err != nil {
		t.Fatal(err)
	}
	auth, err := Assemble(b, Signed{&rfcKey(t).PublicKey, sig}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !verifyByHand(t, auth.Bytes(), 0x240, 0x040, raw) {
		t.Error("what was assembled does not verify by hand")
	}
	// openssl's k is random, so its signature is not ours, but over the same digest.
	own, err := Sign(b, rfcKey(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if own.IDBlockSig == auth.IDBlockSig || own.IDKey != auth.IDKey {
		t.Error("openssl's signature is ours, or its key is not")
	}
	digest := sha512.Sum384(raw)
	r, s, err := DecodeSignature(sig)
	if err != nil || !ecdsa.Verify(&rfcKey(t).PublicKey, digest[:], r, s) {
		t.Errorf("decoded signature: %v", err)
	}
}

func testFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
