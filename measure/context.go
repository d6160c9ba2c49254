package measure

import (
	"crypto/sha512"
	"encoding/binary"

	"github.com/snplaunch/snplaunch/snp"
)

// Context is the part of a guest context that measuring needs: the launch
// digest as it grows. The zero Context is that of a new guest; a Context that
// was copied goes on by itself, so that many launches can share a beginning.
type Context struct {
	LD snp.LaunchDigest
}

// Extend adds an update. An update of several pages counts as one update for
// each page, with the same contents digest, as the firmware treats a page of
// 2 MiB; for measured types Length must therefore be one page (0 means one).
func (c *Context) Extend(u snp.Update) {
	info := snp.PageInfo{Contents: u.Contents, Type: u.Type, GPA: u.GPA}
	raw := info.Bytes()
	for n := uint64(0); n == 0 || n < u.Length; n += snp.PageSize {
		copy(raw[:snp.DigestSize], c.LD[:])
		binary.LittleEndian.PutUint64(raw[0x68:], u.GPA+n)
		c.LD = sha512.Sum384(raw[:])
	}
}

// Fold gives the launch digest of a list of updates.
func Fold(updates []snp.Update) snp.LaunchDigest {
	var c Context
	for _, u := range updates {
		c.Extend(u)
	}
	return c.LD
}
