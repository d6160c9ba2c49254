package idblock

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// Line is one decoded field: its name, its value, and a remark where the value
// is unusual or would be refused.
type Line struct {
	Field  string `json:"field"`
	Value  string `json:"value"`
	Remark string `json:"remark,omitempty"`
	// Unusual marks what no check of the firmware looks at, see Remarks.
	Unusual bool `json:"-"`
}

// String gives "FIELD: value (remark)".
func (l Line) String() string {
	if l.Remark == "" {
		return l.Field + ": " + l.Value
	}
	return l.Field + ": " + l.Value + " (" + l.Remark + ")"
}

// Show decodes an ID block and, when rawAuth is not nil, the 4096 bytes of its
// ID auth, in the order in which they lie in memory. Whether the author key
// counts is decided at launch (author-key-enabled), so Show checks it whenever
// ID auth has one.
func Show(block *snp.IDBlock, rawAuth []byte) ([]Line, error) {
	version := Line{Field: "VERSION", Value: fmt.Sprint(block.Version)}
	if block.Version != snp.IDBlockVersion {
		version.Remark, version.Unusual = fmt.Sprintf("the specification has only %d", snp.IDBlockVersion), true
	}
	lines := []Line{
		{Field: "LD", Value: block.LD.String()},
		{Field: "FAMILY_ID", Value: block.FamilyID.String()},
		{Field: "IMAGE_ID", Value: block.ImageID.String()},
		version,
		{Field: "GUEST_SVN", Value: fmt.Sprint(block.GuestSVN)},
		{Field: "POLICY", Value: block.Policy.Describe()},
	}
	if rawAuth == nil {
		return lines, nil
	}
	auth, err := snp.ParseIDAuth(rawAuth)
	if err != nil {
		return nil, err
	}
	authorEnabled := HasAuthorKey(auth)
	lines = append(lines,
		algo("ID_KEY_ALGO", auth.IDKeyAlgo, true),
		algo("AUTH_KEY_ALGO", auth.AuthorKeyAlgo, authorEnabled))
	lines = append(lines, signature("ID_BLOCK_SIG", auth.IDBlockSig)...)
	lines = append(lines, publicKey("ID_KEY", auth.IDKey)...)
	if authorEnabled {
		lines = append(lines, signature("ID_KEY_SIG", auth.IDKeySig)...)
		lines = append(lines, publicKey("AUTHOR_KEY", auth.AuthorKey)...)
	} else {
		lines = append(lines, Line{Field: "AUTHOR_KEY", Value: "none"})
	}
	reserved := Line{Field: "reserved bytes", Value: "zero"}
	if !snp.IDAuthReservedZero(rawAuth) {
		reserved = Line{Field: "reserved bytes", Value: "not zero", Remark: "the specification wants zero; firmware 1.55.25 was observed not to look", Unusual: true}
	}
	lines = append(lines, reserved)
	verdict := Line{Field: "signatures", Value: "good"}
	if err := Verify(block, auth, authorEnabled); err != nil {
		verdict = Line{Field: "signatures", Value: "bad", Remark: err.Error()}
	}
	return append(lines, verdict), nil
}

// HasAuthorKey says whether ID auth carries an author key, that is whether
// QEMU's author-key-enabled can be on.
func HasAuthorKey(auth *snp.IDAuth) bool {
	return auth.AuthorKeyAlgo != 0 || auth.AuthorKey != snp.PublicKeyBytes{} || auth.IDKeySig != snp.SignatureBytes{}
}

func algo(field string, v uint32, wanted bool) Line {
	l := Line{Field: field, Value: fmt.Sprint(v)}
	switch {
	case v == snp.KeyAlgoECDSAP384:
		l.Value += ", ECDSA P-384 with SHA-384"
	case wanted:
		l.Remark = "INVALID_PARAM: the firmware knows only 1, ECDSA P-384 with SHA-384"
	}
	return l
}

func signature(field string, raw snp.SignatureBytes) []Line {
	r, s, err := DecodeSignature(raw)
	if err != nil {
		return []Line{{Field: field, Value: "invalid", Remark: err.Error()}}
	}
	l := []Line{{Field: field + ".R", Value: fmt.Sprintf("%096x", r)}, {Field: field + ".S", Value: fmt.Sprintf("%096x", s)}}
	if !zero(raw[sigEnd:]) {
		l[1].Remark, l[1].Unusual = "bytes after S are not zero", true
	}
	return l
}

func publicKey(field string, raw snp.PublicKeyBytes) []Line {
	out := []Line{{Field: field + ".CURVE", Value: fmt.Sprint(binary.LittleEndian.Uint32(raw[:]))}}
	pub, err := DecodePublicKey(raw)
	if err != nil {
		out[0].Remark = err.Error()
	} else {
		point, _ := pub.Bytes() // cannot fail: the point was just checked
		out[0].Value += ", P-384"
		out = append(out,
			Line{Field: field + ".QX", Value: fmt.Sprintf("%x", point[1:1+coordBytes])},
			Line{Field: field + ".QY", Value: fmt.Sprintf("%x", point[1+coordBytes:])})
	}
	digest := Line{Field: strings.TrimSuffix(field, "_KEY") + "_KEY_DIGEST", Value: DigestPublicKey(raw).String()}
	if !zero(raw[keyEnd:]) {
		digest.Remark, digest.Unusual = "bytes after QY are not zero, and the digest covers them", true
	}
	return append(out, digest)
}
