package ovmf

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// lzmaOf is "kernel entry: ", the GUID of the kernel's entry, and 300 times
// "snp", packed by Python: lzma.compress(data, format=lzma.FORMAT_ALONE), with
// the unpacked size put into the header as EDK2's tool does.
const lzmaOf = "5d00008000a2030000000000000035994aaba2e2af1fc3bc1684af1e2d8723e7f9ea19da6a7bdc9c39d3857b5dc796d45d47c4e26dffb7fe4aeccfa5fffff37b8000"

func packed(t testing.TB) (stream, plain []byte) {
	t.Helper()
	stream, err := hex.DecodeString(lzmaOf)
	if err != nil {
		t.Fatal(err)
	}
	plain = append([]byte("kernel entry: "), guidKernelEntry[:]...)
	return stream, append(plain, bytes.Repeat([]byte("snp"), 300)...)
}

func TestDecodeLZMA(t *testing.T) {
	stream, want := packed(t)
	got, err := decodeLZMA(stream, 1<<20)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(want))
	}
	if _, err := decodeLZMA(stream, len(want)-1); err == nil {
		t.Error("a stream that unpacks to more than the limit was unpacked")
	}
	for n := range len(stream) - 8 {
		if got, err := decodeLZMA(stream[:n], 1<<20); err == nil && bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes gave everything", n, len(stream))
		}
	}
}

func TestVerifiesBlobs(t *testing.T) {
	stream, _ := packed(t)
	image := func(code []byte) []byte {
		return append(append(bytes.Repeat([]byte{0xFF}, 4096), code...), bytes.Repeat([]byte{0xFF}, 4096)...)
	}
	section := append([]byte{0, 0, 0, 2}, guidLZMASection[:]...)
	section = binary.LittleEndian.AppendUint16(section, 24)
	section = binary.LittleEndian.AppendUint16(section, 1)
	for name, c := range map[string]struct {
		code []byte
		want bool
	}{
		"no code":                    {nil, false},
		"the GUID in plain":          {guidKernelEntry[:], true},
		"the GUID packed":            {append(bytes.Clone(section), stream...), true},
		"a damaged section":          {append(bytes.Clone(section), stream[:20]...), false},
		"the section's GUID in code": {append(bytes.Clone(guidLZMASection[:]), 0xFF, 0xFF), false},
		"second section":             {append(append(bytes.Clone(section), 1, 2, 3), append(bytes.Clone(section), stream...)...), true},
	} {
		img := image(c.code)
		got, err := VerifiesBlobs(bytes.NewReader(img), int64(len(img)))
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	if _, err := VerifiesBlobs(bytes.NewReader(nil), MaxSize+1); err == nil {
		t.Error("an image beyond the limit was read")
	}
}

func FuzzDecodeLZMA(f *testing.F) {
	stream, _ := packed(f)
	f.Add(stream)
	f.Add(stream[:30])
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := decodeLZMA(in, 1<<16)
		if err == nil && len(out) > 1<<16 {
			t.Fatalf("%d bytes came out", len(out))
		}
	})
}
