package psp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"os"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// Offsets in ID block and ID auth (AMD 56860, SNP_LAUNCH_FINISH), written out
// here on their own.
const (
	blockPolicy   = 0x58
	authAlgo      = 0x000
	authorAlgo    = 0x004
	authSig       = 0x040
	authKey       = 0x240
	authKeySig    = 0x680
	authAuthorKey = 0x880
)

// put writes a number little-endian into 72 bytes.
func put(b []byte, n *big.Int) {
	be := n.FillBytes(make([]byte, 72))
	for i := range be {
		b[i] = be[len(be)-1-i]
	}
}

func take(b []byte) *big.Int {
	be := make([]byte, 72)
	for i := range be {
		be[i] = b[71-i]
	}
	return new(big.Int).SetBytes(be)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func putKey(t testing.TB, b []byte, k *ecdsa.PublicKey) {
	t.Helper()
	point, err := k.Bytes() // 04, X, Y
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b, 2)
	put(b[4:], new(big.Int).SetBytes(point[1:49]))
	put(b[4+72:], new(big.Int).SetBytes(point[49:]))
}

func putSignature(t testing.TB, b, message []byte, k *ecdsa.PrivateKey) {
	t.Helper()
	sum := sha512.Sum384(message)
	r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	put(b, r)
	put(b[72:], s)
}

// signedParams is what a guest owner with both keys gives for a guest.
func signedParams(t testing.TB, g *Guest, id, author *ecdsa.PrivateKey) FinishParams {
	t.Helper()
	block := make([]byte, 96)
	ld := g.LaunchDigest()
	copy(block, ld[:])
	copy(block[0x30:], "family id 16 b. ")
	copy(block[0x40:], "image id, 16 b. ")
	binary.LittleEndian.PutUint32(block[0x50:], 1)
	binary.LittleEndian.PutUint32(block[0x54:], 9) // GUEST_SVN
	binary.LittleEndian.PutUint64(block[blockPolicy:], uint64(g.Policy()))
	auth := make([]byte, 4096)
	auth[authAlgo], auth[authorAlgo] = 1, 1
	putKey(t, auth[authKey:], &id.PublicKey)
	putKey(t, auth[authAuthorKey:], &author.PublicKey)
	putSignature(t, auth[authSig:], block, id)
	putSignature(t, auth[authKeySig:], auth[authKey:authKey+0x404], author)
	return FinishParams{IDBlock: block, IDAuth: auth, IDBlockEnabled: true, AuthorKeyEnabled: true, HostData: snp.HostData{3}}
}

// launched gives a guest with one page.
func launched(t testing.TB, p *Platform) *Guest {
	t.Helper()
	g := launching(t, p)
	must(t, g.LaunchUpdate(snp.PageNormal, 0x1000, make([]byte, snp.PageSize)))
	return g
}

func TestLaunchFinish(t *testing.T) {
	p := platform(t, nil)
	id, author := newKey(t), newKey(t)

	t.Run("without ID block", func(t *testing.T) {
		g := launched(t, p)
		must(t, g.LaunchFinish(FinishParams{HostData: snp.HostData{1}, AuthorKeyEnabled: true}))
		r := mustReport(t, g)
		if r.HostData != (snp.HostData{1}) || !r.AuthorKeyEnabled || r.IDKeyDigest != (snp.KeyDigest{}) || r.AuthorKeyDigest != (snp.KeyDigest{}) ||
			r.GuestSVN != 0 || r.FamilyID != (snp.FamilyID{}) || r.ImageID != (snp.ImageID{}) {
			t.Errorf("report says %+v", r)
		}
	})
	t.Run("with both keys", func(t *testing.T) {
		g := launched(t, p)
		f := signedParams(t, g, id, author)
		must(t, g.LaunchFinish(f))
		r := mustReport(t, g)
		if r.IDKeyDigest != sha512.Sum384(f.IDAuth[authKey:authKey+0x404]) || r.AuthorKeyDigest != sha512.Sum384(f.IDAuth[authAuthorKey:authAuthorKey+0x404]) {
			t.Error("the key digests are not those of the keys")
		}
		if !r.AuthorKeyEnabled || r.GuestSVN != 9 || string(r.FamilyID[:]) != "family id 16 b. " || string(r.ImageID[:]) != "image id, 16 b. " || r.HostData != f.HostData {
			t.Errorf("report says %+v", r)
		}
	})
	t.Run("with the ID key alone", func(t *testing.T) {
		g := launched(t, p)
		f := signedParams(t, g, id, author)
		f.AuthorKeyEnabled = false
		clear(f.IDAuth[authKeySig:]) // not looked at
		f.IDAuth[authorAlgo] = 0
		must(t, g.LaunchFinish(f))
		if r := mustReport(t, g); r.AuthorKeyEnabled || r.AuthorKeyDigest != (snp.KeyDigest{}) || r.IDKeyDigest == (snp.KeyDigest{}) {
			t.Errorf("report says %+v", r)
		}
	})
	t.Run("reserved bytes and VERSION are not looked at", func(t *testing.T) {
		g := launched(t, p)
		f := signedParams(t, g, id, author)
		for _, at := range []int{0x008, 0x03F, 0x644, 0x67F, 0xC84, 0xFFF, authSig + 144, authSig + 511, authKeySig + 144} {
			f.IDAuth[at] = 0xFF
		}
		binary.LittleEndian.PutUint32(f.IDBlock[0x50:], 7)
		putSignature(t, f.IDAuth[authSig:], f.IDBlock, id)
		must(t, g.LaunchFinish(f))
	})
}

// An ID block and ID auth that virtee/sev made and asserts (testdata/README.md).
func TestForeignIDBlock(t *testing.T) {
	auth, err := os.ReadFile("testdata/virtee-sev-id-auth.bin")
	if err != nil {
		t.Fatal(err)
	}
	block, err := hex.DecodeString("a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d8966068e615bb99efd13d214b35c231715b38e263dc6059745" +
		"000000000000000000000000000000000000000000000000000000000000000001000000000000000000030000000000")
	if err != nil {
		t.Fatal(err)
	}
	g := launching(t, platform(t, nil))
	copy(g.ld[:], block) // what was measured there is not known
	f := FinishParams{IDBlock: block, IDAuth: auth, IDBlockEnabled: true, AuthorKeyEnabled: true}
	must(t, g.LaunchFinish(f))
	r := mustReport(t, g)
	if got, want := r.IDKeyDigest.String(), "59fb2c686dfa4fef49f38339aa775c90051c28d57383ddc3baf3b5eb4b1496df3b0dbbdcbae5fe27677a644820773fe2"; got != want {
		t.Errorf("ID_KEY_DIGEST\n got %s\nwant %s", got, want)
	}
	if got, want := r.AuthorKeyDigest.String(), "eed81169fb0cb5e0ec34794f128fd4e0c4a46f67c65a1adfa81fcb24bcc088c272369b7ffc3eb2b6af6a4284a1b36c5f"; got != want {
		t.Errorf("AUTHOR_KEY_DIGEST\n got %s\nwant %s", got, want)
	}
}

// faults are what SNP_LAUNCH_FINISH refuses in an ID block, in the order in
// which SEV firmware 1.55.25 was observed to look; signatures that a change
// would break are made again where the fault itself is not the signature.
var faults = []struct {
	name string
	do   func(*FinishParams)
	want snp.Status
}{
	{"LD", func(f *FinishParams) { f.IDBlock[0] ^= 1 }, snp.StatusBadMeasurement},
	{"policy", func(f *FinishParams) { f.IDBlock[blockPolicy+2] ^= 8 }, snp.StatusPolicyFailure},
	{"ID key algorithm", func(f *FinishParams) { f.IDAuth[authAlgo] = 2 }, snp.StatusInvalidParam},
	{"author key algorithm", func(f *FinishParams) { f.IDAuth[authorAlgo] = 0 }, snp.StatusInvalidParam},
	{"ID key curve", func(f *FinishParams) { f.IDAuth[authKey] = 1 }, snp.StatusBadSignature},
	{"ID key point", func(f *FinishParams) { f.IDAuth[authKey+4] ^= 1 }, snp.StatusBadSignature},
	{"ID block signature", func(f *FinishParams) { f.IDAuth[authSig] ^= 1 }, snp.StatusBadSignature},
	{"author key curve", func(f *FinishParams) { f.IDAuth[authAuthorKey] = 1 }, snp.StatusBadSignature},
	{"author key point", func(f *FinishParams) { f.IDAuth[authAuthorKey+4] ^= 1 }, snp.StatusBadSignature},
	{"ID key signature", func(f *FinishParams) { f.IDAuth[authKeySig] ^= 1 }, snp.StatusBadSignature},
}

// Each fault alone has its status; several at once have the first one's; and
// after any of them the guest can still be finished.
func TestFinishOrder(t *testing.T) {
	p := platform(t, nil)
	id, author := newKey(t), newKey(t)
	g := launched(t, p)
	good := signedParams(t, g, id, author)
	fresh := func() FinishParams {
		f := good
		f.IDBlock, f.IDAuth = bytes.Clone(good.IDBlock), bytes.Clone(good.IDAuth)
		return f
	}
	refused := func(what string, f FinishParams, want snp.Status) {
		t.Helper()
		before := g.context
		if st := g.LaunchFinish(f); st != want {
			t.Errorf("%s: got %s, want %s", what, st, want)
		}
		if g.context != before {
			t.Errorf("%s: the guest was changed", what)
		}
	}
	for i, first := range faults {
		f := fresh()
		first.do(&f)
		refused(first.name+" alone", f, first.want)
		for _, second := range faults[i+1:] {
			f := fresh()
			first.do(&f)
			second.do(&f)
			refused(first.name+" and "+second.name, f, first.want)
		}
	}
	f := fresh()
	for _, fault := range faults {
		fault.do(&f)
	}
	refused("all at once", f, snp.StatusBadMeasurement)

	// What the buffers lack the hypervisor would have had to give.
	f = fresh()
	f.IDBlock = f.IDBlock[:95]
	refused("short ID block", f, snp.StatusInvalidParam)
	f = fresh()
	f.IDAuth = nil
	refused("no ID auth", f, snp.StatusInvalidParam)

	// State and ASID come before all of it.
	bad := fresh()
	faults[0].do(&bad)
	if st := p.CreateContext().LaunchFinish(bad); st != snp.StatusInvalidGuestState {
		t.Errorf("in INIT: %s", st)
	}
	inactive := p.CreateContext()
	must(t, inactive.LaunchStart(snp.PolicyDefault, [16]byte{}))
	if st := inactive.LaunchFinish(bad); st != snp.StatusInactive {
		t.Errorf("without ASID: %s", st)
	}

	must(t, g.LaunchFinish(fresh()))
}

// Numbers out of range are refused: r and s lie in 1 … n-1, coordinates below p.
func TestNumberRanges(t *testing.T) {
	p := platform(t, nil)
	id, author := newKey(t), newKey(t)
	params := elliptic.P384().Params()
	high := new(big.Int).Lsh(big.NewInt(1), 576) // does not fit 72 bytes; its half does
	high.Rsh(high, 1)
	for name, change := range map[string]func(*FinishParams){
		"r 0":                func(f *FinishParams) { put(f.IDAuth[authSig:], new(big.Int)) },
		"s 0":                func(f *FinishParams) { put(f.IDAuth[authSig+72:], new(big.Int)) },
		"r n":                func(f *FinishParams) { put(f.IDAuth[authSig:], params.N) },
		"s n":                func(f *FinishParams) { put(f.IDAuth[authSig+72:], params.N) },
		"r + n":              func(f *FinishParams) { b := f.IDAuth[authSig:]; put(b, new(big.Int).Add(take(b), params.N)) },
		"s + n":              func(f *FinishParams) { b := f.IDAuth[authSig+72:]; put(b, new(big.Int).Add(take(b), params.N)) },
		"r + 2^575":          func(f *FinishParams) { b := f.IDAuth[authSig:]; put(b, new(big.Int).Add(take(b), high)) },
		"Qx + p":             func(f *FinishParams) { b := f.IDAuth[authKey+4:]; put(b, new(big.Int).Add(take(b), params.P)) },
		"Qy + 2^575":         func(f *FinishParams) { b := f.IDAuth[authKey+76:]; put(b, new(big.Int).Add(take(b), high)) },
		"point 0, 0":         func(f *FinishParams) { clear(f.IDAuth[authKey+4 : authKey+148]) },
		"everything zero":    func(f *FinishParams) { clear(f.IDAuth[authSig : authKey+0x404]); f.IDAuth[authKey] = 2 },
		"tail of the ID key": func(f *FinishParams) { f.IDAuth[authKey+0x403] = 1 }, // the author signed it
	} {
		g := launched(t, p)
		f := signedParams(t, g, id, author)
		change(&f)
		if st := g.LaunchFinish(f); st != snp.StatusBadSignature {
			t.Errorf("%s: got %s, want BAD_SIGNATURE", name, st)
		}
	}
}

// Signed by the wrong one.
func TestWrongKeys(t *testing.T) {
	p := platform(t, nil)
	id, author, other := newKey(t), newKey(t), newKey(t)
	for name, change := range map[string]func(*FinishParams){
		"ID block signed by another": func(f *FinishParams) { putSignature(t, f.IDAuth[authSig:], f.IDBlock, other) },
		"ID key signed by another":   func(f *FinishParams) { putSignature(t, f.IDAuth[authKeySig:], f.IDAuth[authKey:authKey+0x404], other) },
		"ID key signed by itself":    func(f *FinishParams) { putSignature(t, f.IDAuth[authKeySig:], f.IDAuth[authKey:authKey+0x404], id) },
		"another ID key":             func(f *FinishParams) { putKey(t, f.IDAuth[authKey:], &other.PublicKey) },
		"another author key":         func(f *FinishParams) { putKey(t, f.IDAuth[authAuthorKey:], &other.PublicKey) },
		"another GUEST_SVN":          func(f *FinishParams) { f.IDBlock[0x54]++ },
		"another family id":          func(f *FinishParams) { f.IDBlock[0x30]++ },
		"r and s exchanged": func(f *FinishParams) {
			b := f.IDAuth[authSig:]
			r, s := take(b), take(b[72:])
			put(b, s)
			put(b[72:], r)
		},
		"big-endian r, as PEM has it": func(f *FinishParams) { b := f.IDAuth[authSig:]; copy(b[:48], take(b).FillBytes(make([]byte, 48))) },
	} {
		g := launched(t, p)
		f := signedParams(t, g, id, author)
		change(&f)
		if st := g.LaunchFinish(f); st != snp.StatusBadSignature {
			t.Errorf("%s: got %s, want BAD_SIGNATURE", name, st)
		}
	}
}

// FuzzLaunchFinish changes an ID auth page. It never panics, and succeeds
// exactly when signatures are right by another reading of the page. The input is
// what is XORed into a good page and where, and how much of it is given: whole
// pages as input keep the fuzzer busy making them smaller.
func FuzzLaunchFinish(f *testing.F) {
	p := platform(f, nil)
	ref := launched(f, p)
	good := signedParams(f, ref, newKey(f), newKey(f))
	n := elliptic.P384().Params().N
	f.Add(uint16(0), []byte{}, uint16(0), true)
	f.Add(uint16(0), []byte{}, uint16(0), false)
	f.Add(uint16(0), []byte{}, uint16(4000), false)
	for _, at := range []uint16{authAlgo, authorAlgo, authSig, authSig + 72, authKey, authKey + 4, authKeySig, authAuthorKey, authAuthorKey + 4, 0x008, 0xFFF} {
		f.Add(at, []byte{1}, uint16(0), true)
		f.Add(at, []byte{3}, uint16(0), false)
	}
	mirror := make([]byte, 72) // r, n-s: the other signature that anyone can make of one
	put(mirror, new(big.Int).Sub(n, take(good.IDAuth[authSig+72:])))
	for i := range mirror {
		mirror[i] ^= good.IDAuth[authSig+72+i]
	}
	f.Add(uint16(authSig+72), mirror, uint16(0), true)

	right := func(key, sig, message []byte) bool {
		if !bytes.Equal(key[:4], []byte{2, 0, 0, 0}) {
			return false
		}
		pub := &ecdsa.PublicKey{Curve: elliptic.P384(), X: take(key[4:]), Y: take(key[76:])} //nolint:staticcheck // another way than the one under test
		if _, err := pub.ECDH(); err != nil {                                                // not on the curve
			return false
		}
		sum := sha512.Sum384(message)
		return ecdsa.Verify(pub, sum[:], take(sig), take(sig[72:]))
	}
	f.Fuzz(func(t *testing.T, at uint16, patch []byte, cut uint16, withAuthor bool) {
		auth := bytes.Clone(good.IDAuth)
		for i, c := range patch {
			auth[(int(at)+i)%len(auth)] ^= c
		}
		auth = auth[:len(auth)-int(cut)%(len(auth)+1)]
		g := p.CreateContext()
		defer g.Decommission()
		g.context = ref.context
		g.asid = 0 // the reference's own stays with it
		g.context.asid = 1 << 30
		before := g.context
		c := good
		c.IDAuth, c.AuthorKeyEnabled = auth, withAuthor
		st := g.LaunchFinish(c)
		want := len(auth) == 4096 && bytes.Equal(auth[:4], []byte{1, 0, 0, 0}) &&
			right(auth[authKey:], auth[authSig:], good.IDBlock) &&
			(!withAuthor || bytes.Equal(auth[4:8], []byte{1, 0, 0, 0}) && right(auth[authAuthorKey:], auth[authKeySig:], auth[authKey:authKey+0x404]))
		if (st == snp.StatusSuccess) != want {
			t.Fatalf("%s, want success: %v", st, want)
		}
		if st != snp.StatusSuccess {
			if g.context != before {
				t.Fatal("a refused FINISH changed the guest")
			}
			return
		}
		// The same key: then it is the signature that was given, or its mirror.
		if bytes.Equal(auth[authKey:authKey+0x404], good.IDAuth[authKey:authKey+0x404]) {
			s := take(good.IDAuth[authSig+72:])
			got := take(auth[authSig+72:])
			if !bytes.Equal(auth[authSig:authSig+72], good.IDAuth[authSig:authSig+72]) || got.Cmp(s) != 0 && got.Cmp(new(big.Int).Sub(n, s)) != 0 {
				t.Fatal("a changed signature of the ID block was accepted")
			}
		}
	})
}
