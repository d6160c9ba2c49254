package idblock

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// vectorsEnv names a folder with published.json: expected values of the test
// suites of sev-snp-measure and of the Rust crate sev, with their inputs.
const vectorsEnv = "SNPLAUNCH_VECTORS"

type vector struct {
	ID, Kind     string
	LaunchDigest string `json:"launch_digest"`
	FamilyID     string `json:"family_id"`
	ImageID      string `json:"image_id"`
	Version      uint32
	GuestSVN     uint32 `json:"guest_svn"`
	Policy       string
	Key          string
	IDKey        string `json:"id_key"`
	AuthorKey    string `json:"author_key"`
	IDSig        string `json:"id_sig"`
	AuthorSig    string `json:"author_sig"`
	ExpectedPath string `json:"expected_path"`
	Expected     string
	Base64       string `json:"expected_base64"`
	PubkeyHex    string `json:"pubkey_0x404_hex"`
	Layout       map[string]any
}

// TestPublishedVectors: everything that other projects publish of ID blocks,
// ID auth and key digests is what this package makes. No peer is wrong in any of
// it; what they are wrong about is what they take (TestMistakenLaunchDigests).
func TestPublishedVectors(t *testing.T) {
	dir := os.Getenv(vectorsEnv)
	if dir == "" {
		t.Skipf("%s names no folder with published vectors", vectorsEnv)
	}
	read := func(t *testing.T, name string) []byte {
		return must[[]byte](t)(os.ReadFile(filepath.Join(dir, name)))
	}
	var published struct{ Vectors []vector }
	var stored struct {
		Keys map[string]struct {
			D string `json:"d_hex"`
		}
	}
	for name, into := range map[string]any{"published.json": &published, "keys.json": &stored} {
		if err := json.Unmarshal(read(t, name), into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	unhex := func(t *testing.T, s string) []byte { return must[[]byte](t)(hex.DecodeString(s)) }
	keyNamed := func(t *testing.T, name string) *ecdsa.PrivateKey {
		return must[*ecdsa.PrivateKey](t)(ecdsa.ParseRawPrivateKey(elliptic.P384(), unhex(t, stored.Keys[name].D)))
	}
	blocks := map[string]*snp.IDBlock{} // by the ID key that a project tests with
	done := map[string]int{}
	for _, v := range published.Vectors {
		switch v.Kind {
		case "id_block", "id_auth", "id_auth_layout", "key_digest":
		default:
			continue
		}
		done[v.Kind]++
		t.Run(v.ID, func(t *testing.T) {
			switch v.Kind {
			case "id_block":
				policy := must[uint64](t)(strconv.ParseUint(v.Policy, 0, 64))
				b := &snp.IDBlock{LD: must[snp.LaunchDigest](t)(ParseLaunchDigest(v.LaunchDigest)),
					FamilyID: must[snp.FamilyID](t)(snp.ParseFamilyID(v.FamilyID)), ImageID: must[snp.ImageID](t)(snp.ParseImageID(v.ImageID)),
					Version: v.Version, GuestSVN: v.GuestSVN, Policy: snp.GuestPolicy(policy)}
				blocks[v.IDKey] = b
				raw := b.Bytes()
				if got := hex.EncodeToString(raw[:]); got != v.Expected {
					t.Errorf("ID block\n got %s\nwant %s", got, v.Expected)
				}
				if got := Base64(raw[:]); got != v.Base64 {
					t.Errorf("in base64\n got %s\nwant %s", got, v.Base64)
				}
				if got := must[*snp.IDBlock](t)(ParseBlock([]byte(v.Base64))); *got != *b {
					t.Errorf("read as %+v", got)
				}
				for _, author := range []*ecdsa.PrivateKey{nil, keyNamed(t, v.AuthorKey)} {
					auth := must[*snp.IDAuth](t)(Sign(b, keyNamed(t, v.IDKey), author))
					if !verifyByHand(t, auth.Bytes(), 0x240, 0x040, raw[:]) {
						t.Error("signature does not verify by hand")
					}
				}
			case "key_digest":
				pub := &keyNamed(t, v.Key).PublicKey
				d := KeyDigest(pub)
				if d.String() != v.Expected || base64.StdEncoding.EncodeToString(d[:]) != v.Base64 {
					t.Errorf("key digest\n got %s\nwant %s", d, v.Expected)
				}
				if want, _, ok := strings.Cut(v.PubkeyHex, " "); ok {
					full := make([]byte, snp.ECDSAPublicSize)
					copy(full, unhex(t, want))
					if got := must[snp.PublicKeyBytes](t)(EncodePublicKey(pub)); !bytes.Equal(got[:], full) {
						t.Error("encoded key differs")
					}
				}
			case "id_auth":
				signed := func(keyName, sigPath string) Signed {
					raw := snp.SignatureBytes(read(t, sigPath)) // already as the firmware takes it
					r, s, err := DecodeSignature(raw)
					if err != nil {
						t.Fatal(err)
					}
					if again := must[snp.SignatureBytes](t)(ParseSignature(derSignature(t, r, s))); again != raw {
						t.Error("a signature that goes through DER is another")
					}
					return Signed{&keyNamed(t, keyName).PublicKey, raw}
				}
				b := blocks[v.IDKey]
				if b == nil {
					t.Fatalf("no ID block for %s", v.IDKey)
				}
				author := signed(v.AuthorKey, v.AuthorSig)
				auth := must[*snp.IDAuth](t)(Assemble(b, signed(v.IDKey, v.IDSig), &author))
				want := read(t, v.ExpectedPath)
				if !bytes.Equal(auth.Bytes(), want) {
					t.Error("ID auth differs from the published one")
				}
				for _, c := range Checks(b, must[*snp.IDAuth](t)(snp.ParseIDAuth(want)), true, Launch{}) {
					if c.Outcome == Fails {
						t.Errorf("the published ID auth: %+v", c)
					}
				}
			case "id_auth_layout":
				page := must[*snp.IDAuth](t)(Sign(block(), key(t, 1), key(t, 2))).Bytes()
				for _, at := range []string{"id_key_algo@0x0", "auth_key_algo@0x4", "reserved@0x8", "id_block_sig@0x40", "id_key@0x240", "reserved@0x644", "id_key_sig@0x680", "author_key@0x880", "reserved@0xc84"} {
					if v.Layout[at] == nil {
						t.Errorf("the layout has no %s", at)
					}
				}
				b := block().Bytes()
				if len(v.Layout) != 9 || len(page) != 4096 || !snp.IDAuthReservedZero(page) || page[0] != 1 || page[4] != 1 ||
					!verifyByHand(t, page, 0x240, 0x040, b[:]) || !verifyByHand(t, page, 0x880, 0x680, page[0x240:0x644]) {
					t.Errorf("ID auth is not laid out as %v", v.Layout)
				}
			}
		})
	}
	for kind, want := range map[string]int{"id_block": 2, "id_auth": 1, "id_auth_layout": 1, "key_digest": 4} {
		if done[kind] < want {
			t.Errorf("%d vectors of kind %s, want at least %d", done[kind], kind, want)
		}
	}
}
