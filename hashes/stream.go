package hashes

import (
	"crypto/sha256"
	"io"
)

// streamBuffer is the size in bytes of each of the two buffers of SHA256: large
// enough that system calls and hand-overs hardly count, small enough to stay in
// a processor's second-level cache.
const streamBuffer = 64 << 10

// SHA256 hashes what r yields and counts its bytes. It takes two buffers of
// 64 KiB however long the stream: while one is hashed, the other is filled, so
// that neither copying nor a disk is waited for.
func SHA256(r io.Reader) (sum [32]byte, n int64, err error) {
	free, full := make(chan []byte, 2), make(chan []byte, 2)
	free <- make([]byte, streamBuffer)
	free <- make([]byte, streamBuffer)
	go func() {
		defer close(full)
		for err == nil {
			buf := <-free
			var got int
			got, err = fill(r, buf[:streamBuffer])
			full <- buf[:got]
		}
	}()
	h := sha256.New()
	for buf := range full {
		h.Write(buf)
		n += int64(len(buf))
		free <- buf
	}
	// full is closed, so err will not change any more.
	if err != io.EOF {
		return sum, n, err
	}
	return [32]byte(h.Sum(nil)), n, nil
}

// fill reads until buf is full or an error ends it. Other than with
// io.ReadFull, that error is the reader's own, so that a stream that broke off
// is never taken for one that ended.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var got int
		got, err = r.Read(buf[n:])
		n += got
	}
	return n, err
}
