package psp

import (
	"bytes"
	"crypto/sha512"

	"github.com/snplaunch/snplaunch/snp"
)

// lastPage remembers the digest of the page that was hashed last. Four fifths
// of an OVMF image are one page, all ones, over and over, and comparing is a hundred times
// quicker than hashing.
type lastPage struct {
	page   []byte
	result snp.ContentDigest
}

func (l *lastPage) digest(page []byte) snp.ContentDigest {
	if !bytes.Equal(page, l.page) {
		l.page = append(l.page[:0], page...)
		l.result = sha512.Sum384(page)
	}
	return l.result
}
