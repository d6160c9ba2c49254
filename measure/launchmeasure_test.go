package measure_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/snplaunch/snplaunch/measure"
)

// launchMeasurements come from two sources. The first is the example of AMD's
// sev-tool, readme.md, calc_measurement, which its test suite asserts. The
// others were computed with Python:
//
//	hmac.new(TIK, bytes([4, MAJOR, MINOR, BUILD]) + POLICY.to_bytes(4, 'little') + DIGEST + MNONCE, 'sha256')
//
// with the digest 00 01 … 1f, the nonce f0 f1 … ff, the TIK 80 81 … 8f.
var launchMeasurements = []struct {
	name, digest, mnonce, tik, want string
	major, minor, build             uint8
	policy                          uint32
}{
	{"sev-tool", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "4fbe0bedbad6c86ae8f68971d103e554", "66320db73158a35a255d051758e95ed4",
		"6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea", 0x00, 0x12, 0x0f, 0},
	{"SEV", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "808182838485868788898a8b8c8d8e8f",
		"43e9185f5bf9b5b530d4bf434043dd8030766eff4182fcdcd20c9fd024fb47e9", 0, 24, 15, 0x3},
	{"SEV-ES", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "808182838485868788898a8b8c8d8e8f",
		"59246609dafbdc6469cdf50f08bbda78cd3b81772bdd13c1c968180d9877c5eb", 1, 55, 37, 0x7},
	{"a large policy", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "808182838485868788898a8b8c8d8e8f",
		"7530ce003195868f80d8993338618e3fbe141c20233bdd74980f534ff4c936c4", 255, 0, 254, 0x89abcdef},
}

func TestLaunchMeasure(t *testing.T) {
	for _, c := range launchMeasurements {
		m := measure.LaunchMeasure{APIMajor: c.major, APIMinor: c.minor, Build: c.build, Policy: c.policy,
			Digest: [32]byte(unhex(t, c.digest)), MNonce: [16]byte(unhex(t, c.mnonce))}
		tik := [measure.TIKSize]byte(unhex(t, c.tik))
		got := m.Sum(tik)
		if hex.EncodeToString(got[:]) != c.want {
			t.Errorf("%s\n got %x\nwant %s", c.name, got, c.want)
		}
		blob := [measure.LaunchBlobSize]byte(append(got[:], m.MNonce[:]...))
		m.MNonce = [16]byte{} // Check takes the blob's
		if !m.Check(tik, blob) {
			t.Errorf("%s: its own blob is not accepted", c.name)
		}
		// Every bit counts: of the blob, of what it is held against, of the key.
		for i := range blob {
			changed := blob
			changed[i] ^= 1 << (i % 8)
			if m.Check(tik, changed) {
				t.Errorf("%s: accepted with byte %d of the blob changed", c.name, i)
			}
		}
		for i, change := range []func(*measure.LaunchMeasure){
			func(m *measure.LaunchMeasure) { m.APIMajor ^= 1 }, func(m *measure.LaunchMeasure) { m.APIMinor ^= 0x80 },
			func(m *measure.LaunchMeasure) { m.Build ^= 2 }, func(m *measure.LaunchMeasure) { m.Policy ^= 1 << 31 },
			func(m *measure.LaunchMeasure) { m.Policy ^= 1 }, func(m *measure.LaunchMeasure) { m.Digest[31] ^= 1 },
		} {
			changed := m
			change(&changed)
			if changed.Check(tik, blob) {
				t.Errorf("%s: accepted with change %d", c.name, i)
			}
		}
		other := tik
		other[15] ^= 1
		if m.Check(other, blob) {
			t.Errorf("%s: accepted with another TIK", c.name)
		}
		if msg := m.Message(); len(msg) != 56 || msg[0] != 4 || !bytes.Equal(msg[8:40], m.Digest[:]) {
			t.Errorf("%s: message % x", c.name, msg)
		}
	}
}

// TestPublishedLaunchMeasure takes the vectors of other tools, see vectorsEnv.
func TestPublishedLaunchMeasure(t *testing.T) {
	dir := os.Getenv(vectorsEnv)
	if dir == "" {
		t.Skipf("%s names no folder with published vectors", vectorsEnv)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "published.json"))
	if err != nil {
		t.Fatal(err)
	}
	var published struct {
		Vectors []struct {
			ID, Kind, Digest, MNonce, TIK, Expected string
			Policy                                  string
			APIMajor                                string `json:"api_major"`
			APIMinor                                string `json:"api_minor"`
			BuildID                                 string `json:"build_id"`
			Message                                 string `json:"message_hex"`
		}
	}
	if err := json.Unmarshal(raw, &published); err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, v := range published.Vectors {
		if v.Kind != "sev_launch_measure_hmac" {
			continue
		}
		done++
		octet := func(s string) uint8 { // sev-tool's arguments are hexadecimal
			n, err := strconv.ParseUint(s[:2], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			return uint8(n)
		}
		m := measure.LaunchMeasure{APIMajor: octet(v.APIMajor), APIMinor: octet(v.APIMinor), Build: octet(v.BuildID), Policy: uint32(octet(v.Policy)), MNonce: [16]byte(unhex(t, v.MNonce))}
		// The digest is shortened there; it is that of nothing.
		m.Digest = sha256.Sum256(nil)
		if got := hex.EncodeToString(m.Message()); got != v.Message {
			t.Errorf("%s: message\n got %s\nwant %s", v.ID, got, v.Message)
		}
		if got := m.Sum([16]byte(unhex(t, v.TIK))); hex.EncodeToString(got[:]) != v.Expected {
			t.Errorf("%s\n got %x\nwant %s", v.ID, got, v.Expected)
		}
	}
	if done == 0 {
		t.Error("published.json has no launch measurement")
	}
}
