package idblock

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// rawSignatureSize is that of r and s, big-endian and one after the other, as
// PKCS#11's CKM_ECDSA and JOSE's ES384 give them.
const rawSignatureSize = 2 * coordBytes

// ParseSignature reads a P-384 signature in the forms that signers give:
//
//   - DER, as openssl, Go and most cloud services write;
//   - 96 bytes, r and s big-endian, as PKCS#11 and JOSE have it;
//   - either of them in base64, also in the URL alphabet without padding;
//   - 192 hexadecimal digits, r and s; or two hexadecimal numbers, r then s,
//     separated by a comma, a colon or white space.
//
// Binary and text are told apart by what they are, the rest by length. Bytes
// that are both a DER signature and 96 long are refused rather than guessed.
func ParseSignature(data []byte) (snp.SignatureBytes, error) {
	if sig, ok, err := binarySignature(data); ok {
		return sig, err
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return snp.SignatureBytes{}, errors.New("the signature is empty")
	}
	if numbers := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",: \t\r\n", r) }); len(numbers) == 2 {
		if r, ok := hexNumber(numbers[0]); ok {
			if s, ok := hexNumber(numbers[1]); ok {
				return EncodeSignature(r, s)
			}
		}
	}
	if digits := strings.TrimPrefix(text, "0x"); len(digits) == 2*rawSignatureSize {
		if raw, err := hex.DecodeString(digits); err == nil {
			return encodeRawSignature(raw)
		}
	}
	for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		raw, err := alphabet.Strict().DecodeString(text)
		if err != nil {
			continue
		}
		if sig, ok, err := binarySignature(raw); ok {
			return sig, err
		}
	}
	return snp.SignatureBytes{}, fmt.Errorf("%d bytes are no signature (want DER, %d bytes of r and s, base64 of either, or r,s in hexadecimal)", len(data), rawSignatureSize)
}

// binarySignature reads DER or r and s; ok is false when data is neither.
func binarySignature(data []byte) (sig snp.SignatureBytes, ok bool, err error) {
	der, derErr := EncodeSignatureASN1(data)
	switch {
	case derErr == nil && len(data) == rawSignatureSize:
		return sig, true, errors.New("the signature can be read both as DER and as r and s (give it as r,s in hexadecimal)")
	case derErr == nil:
		return der, true, nil
	case len(data) == rawSignatureSize && !printable(data):
		sig, err = encodeRawSignature(data)
		return sig, true, err
	case isDERSequence(data):
		return sig, true, derErr
	}
	return sig, false, nil
}

// encodeRawSignature takes r and s, big-endian, 48 bytes each.
func encodeRawSignature(raw []byte) (snp.SignatureBytes, error) {
	return EncodeSignature(new(big.Int).SetBytes(raw[:coordBytes]), new(big.Int).SetBytes(raw[coordBytes:]))
}

// isDERSequence says whether data looks like what a signer meant as DER, so
// that the reason why it is none is worth telling.
func isDERSequence(data []byte) bool {
	var v asn1.RawValue
	_, err := asn1.Unmarshal(data, &v)
	return err == nil && v.Tag == asn1.TagSequence && v.Class == asn1.ClassUniversal && !printable(data)
}

// printable says whether data is ASCII text. r and s of a real signature are
// never so: that would be a chance of one in 2^136.
func printable(data []byte) bool {
	return bytes.IndexFunc(data, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' && r != '\r' && r != '\t' }) < 0
}

func hexNumber(s string) (*big.Int, bool) {
	s = strings.TrimPrefix(s, "0x")
	for _, c := range s {
		if !strings.ContainsRune("0123456789abcdefABCDEF", c) {
			return nil, false
		}
	}
	return new(big.Int).SetString(s, 16)
}
