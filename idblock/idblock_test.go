package idblock

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crypto/rand"

	"github.com/snplaunch/snplaunch/snp"
)

// key is the P-384 key with this private scalar.
func key(t testing.TB, d byte) *ecdsa.PrivateKey {
	t.Helper()
	raw := make([]byte, 48)
	raw[0], raw[47] = 0x5A, d
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func block() *snp.IDBlock {
	b := &snp.IDBlock{Version: 1, GuestSVN: 7, Policy: snp.PolicyDefault}
	for i := range b.LD {
		b.LD[i] = byte(i)
	}
	b.FamilyID[0], b.ImageID[15] = 0xF0, 0x0F
	return b
}

// littleEndian reads n bytes by hand, so that the tests do not lean on the
// code that they test.
func littleEndian(b []byte) *big.Int {
	v := new(big.Int)
	for i := len(b) - 1; i >= 0; i-- {
		v.Lsh(v, 8).Or(v, big.NewInt(int64(b[i])))
	}
	return v
}

// verifyByHand checks a signature with nothing of this package: offsets from
// the specification, math/big, and ecdsa.Verify.
func verifyByHand(t *testing.T, page []byte, keyAt, sigAt int, msg []byte) bool {
	t.Helper()
	if c := binary.LittleEndian.Uint32(page[keyAt:]); c != 2 {
		t.Fatalf("curve %d", c)
	}
	x, y := littleEndian(page[keyAt+4:keyAt+76]), littleEndian(page[keyAt+76:keyAt+148])
	// y² = x³ - 3x + b, modulo p
	p := elliptic.P384().Params()
	left := new(big.Int).Exp(y, big.NewInt(2), p.P)
	right := new(big.Int).Exp(x, big.NewInt(3), p.P)
	right.Sub(right, new(big.Int).Mul(x, big.NewInt(3))).Add(right, p.B).Mod(right, p.P)
	if left.Cmp(right) != 0 {
		t.Fatal("the key is not on the curve")
	}
	r, s := littleEndian(page[sigAt:sigAt+72]), littleEndian(page[sigAt+72:sigAt+144])
	digest := sha512.Sum384(msg)
	return ecdsa.Verify(&ecdsa.PublicKey{Curve: elliptic.P384(), X: x, Y: y}, digest[:], r, s)
}

func TestSign(t *testing.T) {
	b, id, author := block(), key(t, 1), key(t, 2)
	auth, err := Sign(b, id, author)
	if err != nil {
		t.Fatal(err)
	}
	page, raw := auth.Bytes(), b.Bytes()
	if len(page) != 4096 || !snp.IDAuthReservedZero(page) {
		t.Errorf("%d bytes, reserved bytes zero: %v", len(page), snp.IDAuthReservedZero(page))
	}
	if !bytes.Equal(page[:8], []byte{1, 0, 0, 0, 1, 0, 0, 0}) {
		t.Errorf("algorithms % x", page[:8])
	}
	if !verifyByHand(t, page, 0x240, 0x040, raw[:]) {
		t.Error("the ID key's signature over the block is bad")
	}
	if !verifyByHand(t, page, 0x880, 0x680, page[0x240:0x240+0x404]) {
		t.Error("the author key's signature over the ID key is bad")
	}
	if got := littleEndian(page[0x244 : 0x244+72]); got.Cmp(id.X) != 0 {
		t.Error("ID_KEY holds another key")
	}
	if got := littleEndian(page[0x884+72 : 0x884+144]); got.Cmp(author.Y) != 0 {
		t.Error("AUTHOR_KEY holds another key")
	}

	again, err := Sign(b, id, author)
	if err != nil {
		t.Fatal(err)
	}
	if *again != *auth {
		t.Error("the same input gave another ID auth")
	}
	alone, err := Sign(b, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	page = alone.Bytes()
	if !zero(page[0x644:]) || page[4] != 0 {
		t.Error("without an author key there is something where it would be")
	}
	if alone.IDBlockSig != auth.IDBlockSig {
		t.Error("the author key changed the block's signature")
	}
	if _, err := Sign(b, nil, author); err == nil {
		t.Error("signed without an ID key")
	}
}

func TestVerify(t *testing.T) {
	b := block()
	good, err := Sign(b, key(t, 1), key(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	alone, err := Sign(b, key(t, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	order := elliptic.P384().Params().N
	putOrder := func(dst []byte) { putReversed(dst, order.Bytes()) }
	const ok = snp.StatusSuccess
	for _, c := range []struct {
		name   string
		from   *snp.IDAuth
		author bool
		change func(*snp.IDBlock, *snp.IDAuth)
		want   snp.Status
	}{
		{"good, author key on", good, true, func(*snp.IDBlock, *snp.IDAuth) {}, ok},
		{"good, author key off", good, false, func(*snp.IDBlock, *snp.IDAuth) {}, ok},
		{"no author key, off", alone, false, func(*snp.IDBlock, *snp.IDAuth) {}, ok},
		{"no author key, on", alone, true, func(*snp.IDBlock, *snp.IDAuth) {}, snp.StatusInvalidParam},
		{"ID algorithm", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKeyAlgo = 2 }, snp.StatusInvalidParam},
		{"author algorithm", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.AuthorKeyAlgo = 0 }, snp.StatusInvalidParam},
		{"author algorithm, off", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { a.AuthorKeyAlgo = 9 }, ok},
		{"both an algorithm and a signature: the algorithm comes first", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDBlockSig[0]++; a.AuthorKeyAlgo = 0 }, snp.StatusInvalidParam},
		{"curve", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKey[0] = 1 }, snp.StatusBadSignature},
		{"ID key not on the curve", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKey[4] ^= 1 }, snp.StatusBadSignature},
		{"ID key too large", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKey[4+48] = 1 }, snp.StatusBadSignature},
		{"ID key zero", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { clear(a.IDKey[4:]) }, snp.StatusBadSignature},
		{"another ID key", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKey = a.AuthorKey }, snp.StatusBadSignature},
		{"r", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDBlockSig[0] ^= 1 }, snp.StatusBadSignature},
		{"r zero", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { clear(a.IDBlockSig[:72]) }, snp.StatusBadSignature},
		{"s zero", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { clear(a.IDBlockSig[72:]) }, snp.StatusBadSignature},
		{"s is the order", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { putOrder(a.IDBlockSig[72:]) }, snp.StatusBadSignature},
		{"r of more than 384 bits", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDBlockSig[71] = 1 }, snp.StatusBadSignature},
		{"launch digest", good, false, func(b *snp.IDBlock, _ *snp.IDAuth) { b.LD[0] ^= 1 }, snp.StatusBadSignature},
		{"version", good, false, func(b *snp.IDBlock, _ *snp.IDAuth) { b.Version = 2 }, snp.StatusBadSignature},
		{"author key not on the curve", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.AuthorKey[80] ^= 1 }, snp.StatusBadSignature},
		{"author signature", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKeySig[0] ^= 1 }, snp.StatusBadSignature},
		{"author signature, off", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKeySig[0] ^= 1 }, ok},
		// The tail of ID_KEY is signed by the author key, but is no part of the point.
		{"tail of the ID key, author on", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKey[0x403] = 1 }, snp.StatusBadSignature},
		{"tail of the ID key, author off", good, false, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKey[0x403] = 1 }, ok},
		{"tail of a signature", good, true, func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDBlockSig[511] = 1 }, ok},
	} {
		t.Run(c.name, func(t *testing.T) {
			b2, a2 := *b, *c.from
			c.change(&b2, &a2)
			err := Verify(&b2, &a2, c.author)
			status, _ := StatusOf(err)
			if status != c.want || (err == nil) != (c.want == ok) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// TestVerifyOrder: the firmware looks at digest and policy before anything else.
func TestVerifyOrder(t *testing.T) {
	b := block()
	auth, err := Sign(b, key(t, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	bad := *auth
	bad.IDKeyAlgo = 0
	otherLD := b.LD
	otherLD[47]++
	for _, c := range []struct {
		auth   *snp.IDAuth
		ld     snp.LaunchDigest
		policy snp.GuestPolicy
		want   snp.Status
	}{
		{auth, b.LD, b.Policy, snp.StatusSuccess},
		{&bad, b.LD, b.Policy, snp.StatusInvalidParam},
		{&bad, b.LD, b.Policy | snp.PolicyDebug, snp.StatusPolicyFailure},
		{&bad, otherLD, b.Policy | snp.PolicyDebug, snp.StatusBadMeasurement},
	} {
		if got, _ := StatusOf(VerifyLaunch(b, c.auth, false, c.ld, c.policy)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestKeyDigest(t *testing.T) {
	k := key(t, 3)
	// By hand: curve 2, then both coordinates backwards, then zeros.
	want := make([]byte, 0x404)
	want[0] = 2
	for i, v := range []*big.Int{k.X, k.Y} {
		be := v.FillBytes(make([]byte, 72))
		for j, c := range be {
			want[4+72*i+71-j] = c
		}
	}
	if got := KeyDigest(&k.PublicKey); got != sha512.Sum384(want) {
		t.Errorf("got %s", got)
	}
	raw, err := EncodePublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodePublicKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Equal(&k.PublicKey) {
		t.Error("decoding gives another key")
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := EncodePublicKey(&p256.PublicKey); !errors.Is(err, ErrNotP384) {
		t.Errorf("P-256: got %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("KeyDigest took a P-256 key")
		}
	}()
	KeyDigest(&p256.PublicKey)
}

func TestEncodeSignature(t *testing.T) {
	n := elliptic.P384().Params().N
	one, top := big.NewInt(1), new(big.Int).Sub(n, big.NewInt(1))
	raw, err := EncodeSignature(one, top)
	if err != nil {
		t.Fatal(err)
	}
	r, s, err := DecodeSignature(raw)
	if err != nil || r.Cmp(one) != 0 || s.Cmp(top) != 0 {
		t.Errorf("got %v, %v, %v", r, s, err)
	}
	for _, bad := range []*big.Int{big.NewInt(0), big.NewInt(-1), n, new(big.Int).Lsh(n, 400)} {
		if _, err := EncodeSignature(bad, one); err == nil {
			t.Errorf("r = %x passes", bad)
		}
		if _, err := EncodeSignature(one, bad); err == nil {
			t.Errorf("s = %x passes", bad)
		}
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{one, top})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := EncodeSignatureASN1(der); err != nil || got != raw {
		t.Errorf("DER: %v", err)
	}
	for _, bad := range [][]byte{nil, der[:len(der)-1], append(der, 0), []byte("30")} {
		if _, err := EncodeSignatureASN1(bad); err == nil {
			t.Errorf("DER % x passes", bad)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "id.pem")
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteKey(path, k); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	before, _ := os.ReadFile(path)
	if err := WriteKey(path, key(t, 9)); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("writing over a key: got %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the key was changed")
	}
	if err := WriteKey(filepath.Join(dir, "no", "id.pem"), k); err == nil {
		t.Error("wrote into a folder that is not there")
	}
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := WriteKey(filepath.Join(dir, "p256.pem"), p256); !errors.Is(err, ErrNotP384) {
		t.Errorf("P-256: got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "p256.pem")); err == nil {
		t.Error("a refused key left a file")
	}

	sec1, _ := x509.MarshalECPrivateKey(k)
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(k)
	pkix, _ := x509.MarshalPKIXPublicKey(&k.PublicKey)
	asPEM := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }
	params := asPEM("EC PARAMETERS", []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22})
	for name, data := range map[string][]byte{
		"SEC1 PEM": asPEM("EC PRIVATE KEY", sec1), "PKCS#8 PEM": asPEM("PRIVATE KEY", pkcs8),
		"SEC1 DER": sec1, "PKCS#8 DER": pkcs8,
		"openssl ecparam": append(params, asPEM("EC PRIVATE KEY", sec1)...),
		"WriteKey":        before,
	} {
		p := filepath.Join(dir, "key")
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadKey(p)
		if err != nil || !got.Equal(k) {
			t.Errorf("%s: %v", name, err)
		}
		pub, err := LoadPublicKey(p)
		if err != nil || !pub.Equal(&k.PublicKey) {
			t.Errorf("%s as public key: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{"PEM": asPEM("PUBLIC KEY", pkix), "DER": pkix} {
		p := filepath.Join(dir, "pub")
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		pub, err := LoadPublicKey(p)
		if err != nil || !pub.Equal(&k.PublicKey) {
			t.Errorf("public key %s: %v", name, err)
		}
		if _, err := LoadKey(p); err == nil {
			t.Errorf("public key %s passes as a private one", name)
		}
	}

	if _, err := LoadKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
}

// flawed is a signer elsewhere that signs something else.
type flawed struct{ *ecdsa.PrivateKey }

func (f flawed) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	other := bytes.Clone(digest)
	other[0] ^= 1
	return f.PrivateKey.Sign(r, other, o)
}

func TestSignWith(t *testing.T) {
	if _, err := SignWith(block(), flawed{key(t, 1)}, nil); err == nil {
		t.Error("a signature that does not verify passes")
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SignWith(block(), rsaKey, nil); !errors.Is(err, ErrNotP384) {
		t.Errorf("RSA: got %v", err)
	}
	if _, err := SignWith(block(), key(t, 1), rsaKey); !errors.Is(err, ErrNotP384) {
		t.Errorf("RSA author: got %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	b := block()
	raw := b.Bytes()
	auth, err := Sign(b, key(t, 1), key(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) string {
		p := filepath.Join(dir, "f")
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, data := range map[string][]byte{"raw": raw[:], "base64": []byte(Base64(raw[:])), "base64 and a line end": []byte(Base64(raw[:]) + "\r\n")} {
		got, err := ReadBlock(write(data))
		if err != nil || *got != *b {
			t.Errorf("block, %s: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{"raw": auth.Bytes(), "base64": []byte(Base64(auth.Bytes()))} {
		got, page, err := ReadAuth(write(data))
		if err != nil || *got != *auth || !bytes.Equal(page, auth.Bytes()) {
			t.Errorf("auth, %s: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "95 bytes": raw[:95], "97 bytes": append(raw[:], 0),
		"base64 of 95 bytes": []byte(Base64(raw[:95])), "hexadecimal": []byte(hex.EncodeToString(raw[:])), "auth": auth.Bytes(),
	} {
		if _, err := ReadBlock(write(data)); err == nil {
			t.Errorf("block of %s passes", name)
		}
	}
	if _, _, err := ReadAuth(write(auth.Bytes()[:4095])); err == nil {
		t.Error("auth of 4095 bytes passes")
	}
}

// TestParseLaunchDigest: both forms, told apart by length, and nothing else.
// 96 hexadecimal digits are valid base64, too; taking them so would give
// another digest.
func TestParseLaunchDigest(t *testing.T) {
	want := block().LD
	b64 := base64.StdEncoding.EncodeToString(want[:])
	for _, s := range []string{want.String(), strings.ToUpper(want.String()), b64, "0x" + want.String(), "0X" + want.String()} {
		if got, err := ParseLaunchDigest(s); err != nil || got != want {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0y" + want.String(), want.String()[:95], b64 + "=", b64[:63] + "*", want.String()[:64] + " ", strings.Repeat("z", 96), strings.Repeat("A", 62) + "=="} {
		if _, err := ParseLaunchDigest(s); err == nil {
			t.Errorf("%q passes", s)
		}
	}
}

// TestMistakenLaunchDigests: what is likely to be given by mistake is named.
func TestMistakenLaunchDigests(t *testing.T) {
	want := block().LD.String()
	for s, hint := range map[string]string{
		base64.StdEncoding.EncodeToString([]byte(want)):                    "base64 of hexadecimal digits",
		base64.StdEncoding.EncodeToString([]byte("0x" + want)):             "base64 of hexadecimal digits",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": "SHA-256",
		want[:95]: "got 95 characters",
		base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{200}, 96)):     "got 128 characters",
		base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xFB}, 48)): "has the length of base64 but is none",
		strings.Repeat("g", 96): "launch digest",
	} {
		if got, err := ParseLaunchDigest(s); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: %v, %v; want %q", s, got, err, hint)
		}
	}
}

func TestShow(t *testing.T) {
	b := block()
	auth, err := Sign(b, key(t, 1), key(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	text := func(b *snp.IDBlock, page []byte) string {
		lines, err := Show(b, page)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for _, l := range lines {
			out.WriteString(l.String() + "\n")
		}
		return out.String()
	}
	good := text(b, auth.Bytes())
	for _, want := range []string{
		"LD: 000102", "GUEST_SVN: 7\n", "POLICY: 0x30000 (ABI 0.0, SMT)\n", "VERSION: 1\n", "ID_KEY_ALGO: 1, ECDSA P-384 with SHA-384\n",
		"ID_KEY_DIGEST: " + KeyDigest(&key(t, 1).PublicKey).String() + "\n", "AUTHOR_KEY_DIGEST: " + KeyDigest(&key(t, 2).PublicKey).String() + "\n",
		"reserved bytes: zero\n", "signatures: good\n",
	} {
		if !strings.Contains(good, want) {
			t.Errorf("no %q in\n%s", want, good)
		}
	}
	if only := text(b, nil); strings.Contains(only, "KEY") {
		t.Errorf("a block alone shows keys:\n%s", only)
	}
	alone, err := Sign(b, key(t, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := text(b, alone.Bytes()); !strings.Contains(s, "AUTHOR_KEY: none\n") || !strings.Contains(s, "signatures: good\n") {
		t.Errorf("without an author key:\n%s", s)
	}

	page := auth.Bytes()
	page[0x10], page[0x240+0x403], page[0x40] = 1, 1, page[0x40]^1
	odd := *b
	odd.Version = 9
	bad := text(&odd, page)
	for _, want := range []string{"VERSION: 9 (", "reserved bytes: not zero (", "the digest covers them", "signatures: bad (", "BAD_SIGNATURE"} {
		if !strings.Contains(bad, want) {
			t.Errorf("no %q in\n%s", want, bad)
		}
	}
	if _, err := Show(b, page[:4095]); err == nil {
		t.Error("an ID auth of 4095 bytes is shown")
	}
}

// FuzzVerify: foreign ID blocks and ID auths never panic; what Verify takes, the
// check by hand takes, too.
func FuzzVerify(f *testing.F) {
	b := block()
	for _, author := range []*ecdsa.PrivateKey{nil, key(f, 2)} {
		auth, err := Sign(b, key(f, 1), author)
		if err != nil {
			f.Fatal(err)
		}
		raw := b.Bytes()
		f.Add(raw[:], auth.Bytes(), true)
		f.Add(raw[:], auth.Bytes(), false)
		f.Add([]byte(Base64(raw[:])), []byte(Base64(auth.Bytes())), author != nil)
	}
	f.Fuzz(func(t *testing.T, rawBlock, rawAuth []byte, author bool) {
		b, err := ParseBlock(rawBlock)
		if err != nil {
			return
		}
		a, page, err := ParseAuth(rawAuth)
		if err != nil {
			return
		}
		if _, err := Show(b, page); err != nil {
			t.Fatal(err)
		}
		err = Verify(b, a, author)
		if err != nil {
			if s, ok := StatusOf(err); !ok || s != snp.StatusInvalidParam && s != snp.StatusBadSignature {
				t.Fatalf("status of %v", err)
			}
			return
		}
		signed := b.Bytes()
		if !verifyByHand(t, page, 0x240, 0x040, signed[:]) || author && !verifyByHand(t, page, 0x880, 0x680, page[0x240:0x644]) {
			t.Fatal("Verify takes what does not verify by hand")
		}
	})
}
