package snp_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

func TestParseSHA256(t *testing.T) {
	want := [32]byte{0xFB, 0xEF, 31: 0xA5}
	for _, s := range []string{hex.EncodeToString(want[:]), strings.ToUpper(hex.EncodeToString(want[:])), base64.StdEncoding.EncodeToString(want[:])} {
		if got, err := snp.ParseSHA256(s); err != nil || got != want {
			t.Errorf("%s: %x, %v", s, got, err)
		}
	}
	for s, hint := range map[string]string{
		"":                      "got 0 characters",
		strings.Repeat("0", 63): "want 64 hexadecimal digits or 44 characters of base64",
		strings.Repeat("g", 64): "SHA-256: ",
		strings.Repeat("0", 96): "got 96 characters",
		strings.Repeat("A", 44): "not base64 of 32 bytes", // of 33
		strings.Repeat("=", 44): "not base64",
		base64.URLEncoding.EncodeToString(want[:]): "not base64",
	} {
		if _, err := snp.ParseSHA256(s); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: got %v, want %q", s, err, hint)
		}
	}
}
