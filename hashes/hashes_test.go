package hashes_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/snplaunch/snplaunch/hashes"
)

// want is the table of kernel "kernel", no initrd, command line
// "console=ttyS0". Recipe (python3):
//
//	from hashlib import sha256; from struct import pack; from uuid import UUID
//	g = lambda s: UUID(s).bytes_le
//	e = lambda u, d: g(u) + pack("<H", 50) + sha256(d).digest()
//	(g("9438d606-4f22-4cc9-b479-a793d411fd21") + pack("<H", 168)
//	 + e("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", b"console=ttyS0\0")
//	 + e("44baf731-3a2f-4bd7-9af1-41e29169781d", b"")
//	 + e("4de79437-abd2-427f-b835-d5b172d2045b", b"kernel") + bytes(8)).hex()
const want = "06d63894224fc94cb479a793d411fd21a800d82dd09720bd944caa78e7714d36ab2a3200f18aae9b3c09e55bc3047ad361e2442d7c53372470b2958fb83293209a784f7131f7ba442f3ad74b9af141e29169781d3200e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8553794e74dd2ab7f42b835d5b172d2045b32006923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c0000000000000000"

func table(t *testing.T) *hashes.Table {
	t.Helper()
	tab, err := hashes.New(strings.NewReader("kernel"), nil, "console=ttyS0")
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestBytes(t *testing.T) {
	b := table(t).Bytes()
	if got := hex.EncodeToString(b[:]); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestPage(t *testing.T) {
	page, err := table(t).Page(0xC00)
	if err != nil {
		t.Fatal(err)
	}
	// The SHA-384 of that page, by measure/testdata/recipe.py.
	const sum = "ed1c142b6ba2ad15e072c891bdabcb8d64524446d153a65266099c5ea543564fe37105ec056699cd03386073482b030d"
	if got := fmt.Sprintf("%x", sha512.Sum384(page[:])); got != sum {
		t.Errorf("SHA-384 of the page\n got %s\nwant %s", got, sum)
	}
	for _, off := range []int{-1, 4096 - 175, 4096, 1 << 40} {
		if _, err := table(t).Page(off); !errors.Is(err, hashes.ErrPlace) {
			t.Errorf("offset %d: got %v", off, err)
		}
	}
	if _, err := table(t).Page(4096 - 176); err != nil {
		t.Error(err)
	}
}

// TestBlanksCount: nothing is trimmed, and an absent initrd is an empty one.
func TestBlanksCount(t *testing.T) {
	seen := map[[176]byte]string{}
	for _, c := range []string{"", " ", "a", "a ", " a", "a\n", "a\r\n", "A"} {
		tab, err := hashes.New(nil, nil, c)
		if err != nil {
			t.Fatal(err)
		}
		if was, twice := seen[tab.Bytes()]; twice {
			t.Errorf("%q and %q give one table", c, was)
		}
		seen[tab.Bytes()] = c
	}
	none, _ := hashes.New(nil, nil, "")
	empty, _ := hashes.New(strings.NewReader(""), bytes.NewReader(nil), "")
	if *none != *empty {
		t.Error("nil and empty differ")
	}
}

func TestNewErrors(t *testing.T) {
	if _, err := hashes.New(nil, nil, "a\x00b"); err == nil {
		t.Error("a NUL byte passes")
	}
	broken := iotest.ErrReader(errors.New("broken disk"))
	for _, r := range [][2]io.Reader{{broken, nil}, {nil, broken}} {
		if _, err := hashes.New(r[0], r[1], ""); err == nil || !strings.Contains(err.Error(), "broken disk") {
			t.Errorf("got %v", err)
		}
	}
}

func TestParse(t *testing.T) {
	page, err := table(t).Page(0x100)
	if err != nil {
		t.Fatal(err)
	}
	got, err := hashes.Parse(page[:], 0x100)
	if err != nil {
		t.Fatal(err)
	}
	if *got != *table(t) {
		t.Errorf("got %+v", got)
	}
	// Offsets in the table: GUID 0, length 16, entries at 18, 68, 118, padding 168.
	for _, c := range []struct {
		name string
		at   int
		want error
	}{
		{"table GUID", 0, hashes.ErrNoTable},
		{"table length", 16, hashes.ErrLength},
		{"table length, high byte", 17, hashes.ErrLength},
		{"cmdline GUID", 18, hashes.ErrEntry},
		{"initrd GUID", 68, hashes.ErrEntry},
		{"kernel GUID", 118 + 15, hashes.ErrEntry},
		{"cmdline length", 34, hashes.ErrLength},
		{"kernel length", 118 + 17, hashes.ErrLength},
		{"padding", 175, hashes.ErrPadding},
	} {
		bad := page
		bad[0x100+c.at] ^= 1
		if _, err := hashes.Parse(bad[:], 0x100); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	for _, off := range []int{-1, 4096 - 175, 1 << 40} {
		if _, err := hashes.Parse(page[:], off); !errors.Is(err, hashes.ErrPlace) {
			t.Errorf("offset %d: got %v", off, err)
		}
	}
	if _, err := hashes.Parse(nil, 0); !errors.Is(err, hashes.ErrPlace) {
		t.Errorf("no page: got %v", err)
	}
}

// FuzzParse: what is accepted is exactly what Bytes writes.
func FuzzParse(f *testing.F) {
	good, _ := hex.DecodeString(want)
	f.Add(good, 0)
	f.Add(append(make([]byte, 8), good...), 8)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, page []byte, off int) {
		tab, err := hashes.Parse(page, off)
		if err != nil {
			return
		}
		if b := tab.Bytes(); !bytes.Equal(b[:], page[off:off+hashes.Size]) {
			t.Fatalf("accepted %x, writes %x", page[off:off+hashes.Size], b)
		}
	})
}
