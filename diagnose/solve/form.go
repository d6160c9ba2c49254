package solve

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/snplaunch/snplaunch/snp"
)

// form is a way in which a digest can have been written down wrongly: what the right
// one begins with, then.
type form struct {
	head   uint64 // the first 8 bytes
	want   []byte // as many bytes as are known of the right digest
	change Change // empty for the digest as it is
	phrase string // for a sentence
}

// formsOf lists what the right digest may be, the digest itself first.
func formsOf(d snp.LaunchDigest) []form {
	forms := []form{{want: d[:]}}
	reversed := slices.Clone(d[:])
	slices.Reverse(reversed)
	if !bytes.Equal(reversed, d[:]) {
		forms = append(forms, form{want: reversed, change: Change{"encoding", "as it is", "bytes in reverse order", ""},
			phrase: "The digest is given with its bytes in reverse order. "})
	}
	// sev-snp-measure prints hexadecimal and its snp-create-id-block reads base64: 96
	// hexadecimal digits are taken for base64 of 72 bytes and cut to 48, which hold the
	// first 64 digits.
	text := base64.StdEncoding.EncodeToString(d[:])
	if raw, err := hex.DecodeString(text); err == nil {
		forms = append(forms, form{want: raw, change: Change{"encoding", "as it is", "hexadecimal digits that were read as base64", "only the first 32 bytes of the digest are known"},
			phrase: "The digest was given in hexadecimal and read as base64, and cut (snp-create-id-block does that): only its first 32 bytes are left of it. "})
	}
	for i := range forms {
		forms[i].head = binary.LittleEndian.Uint64(forms[i].want)
	}
	return forms
}

// match gives the form in which a digest is the one in question, nil for none.
func match(forms []form, ld *snp.LaunchDigest) *form {
	head := binary.LittleEndian.Uint64(ld[:])
	for i := range forms {
		if forms[i].head == head && bytes.HasPrefix(ld[:], forms[i].want) {
			return &forms[i]
		}
	}
	return nil
}
