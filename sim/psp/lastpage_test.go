package psp

import (
	"bytes"
	"crypto/sha512"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// Whatever page came before, a page's digest is its own.
func TestLastPage(t *testing.T) {
	ones, other := bytes.Repeat([]byte{0xFF}, snp.PageSize), bytes.Repeat([]byte{0xFF}, snp.PageSize)
	other[snp.PageSize-1] = 0xFE
	var l lastPage
	for i, p := range [][]byte{ones, ones, other, ones, other, other, make([]byte, snp.PageSize), ones} {
		page := bytes.Clone(p) // the caller uses its buffer again
		if got := l.digest(page); got != snp.ContentDigest(sha512.Sum384(p)) {
			t.Errorf("page %d: another digest than its own", i)
		}
		clear(page)
	}
}
