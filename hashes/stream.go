package hashes

import (
	"crypto/sha256"
	"io"
)

// streamBuffer is the size in bytes of SHA256's buffer: large enough that system
// calls hardly count, small enough to stay in a processor's second-level cache.
const streamBuffer = 64 << 10

// SHA256 hashes what r yields and counts its bytes. It takes a buffer of 64 KiB,
// however long the stream.
func SHA256(r io.Reader) (sum [32]byte, n int64, err error) {
	h := sha256.New()
	buf := make([]byte, streamBuffer)
	for err == nil {
		var got int
		got, err = r.Read(buf)
		h.Write(buf[:got])
		n += int64(got)
	}
	if err != io.EOF {
		return sum, n, err
	}
	return [32]byte(h.Sum(nil)), n, nil
}
