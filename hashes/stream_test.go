package hashes_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/snplaunch/snplaunch/hashes"
)

// Lengths around the buffer's size, in readers that give what they have in
// every way that io.Reader allows.
func TestSHA256(t *testing.T) {
	const buffer = 64 << 10
	data := make([]byte, 5*buffer)
	for i := range data {
		data[i] = byte(i % 251)
	}
	for _, n := range []int{0, 1, buffer - 1, buffer, buffer + 1, 2 * buffer, 2*buffer + 1, len(data)} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"plain":              func(r io.Reader) io.Reader { return r },
			"halves":             iotest.HalfReader,
			"EOF with the last":  iotest.DataErrReader,
			"nothing in between": func(r io.Reader) io.Reader { return io.MultiReader(new(hesitant), r) },
			"one byte at a time": func(r io.Reader) io.Reader { return iotest.OneByteReader(r) },
			"nothing afterwards": func(r io.Reader) io.Reader { return io.MultiReader(r, bytes.NewReader(nil)) },
		} {
			sum, got, err := hashes.SHA256(wrap(bytes.NewReader(data[:n])))
			if err != nil || got != int64(n) || sum != sha256.Sum256(data[:n]) {
				t.Errorf("%s, %d bytes: SHA-256 %x of %d bytes, %v", name, n, sum, got, err)
			}
		}
	}
}

// hesitant gives no bytes and no error a few times, then ends.
type hesitant int

func (h *hesitant) Read([]byte) (int, error) {
	if *h++; *h > 3 {
		return 0, io.EOF
	}
	return 0, nil
}

// A stream that breaks off has no digest, wherever it breaks off and with
// whatever error, io.ErrUnexpectedEOF among them.
func TestSHA256Errors(t *testing.T) {
	for _, n := range []int{0, 1, 64 << 10, 100 << 10} {
		for _, want := range []error{errors.New("broken"), io.ErrUnexpectedEOF} {
			r := io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(want))
			if sum, _, err := hashes.SHA256(r); err != want || sum != [32]byte{} {
				t.Errorf("broken with %v after %d bytes: %x, %v", want, n, sum, err)
			}
		}
	}
}

// However long the stream is, it takes the same memory.
func TestSHA256Memory(t *testing.T) {
	allocs := func(n int64) float64 {
		return testing.AllocsPerRun(3, func() {
			if _, got, err := hashes.SHA256(io.LimitReader(zeros{}, n)); err != nil || got != n {
				t.Fatal(got, err)
			}
		})
	}
	if short, long := allocs(1<<10), allocs(16<<20); long != short {
		t.Errorf("16 MiB take %v allocations, 1 KiB %v", long, short)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func BenchmarkSHA256(b *testing.B) {
	const n = 64 << 20
	b.SetBytes(n)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := hashes.SHA256(io.LimitReader(zeros{}, n)); err != nil {
			b.Fatal(err)
		}
	}
}
