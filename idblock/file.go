package idblock

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"

	"github.com/snplaunch/snplaunch/snp"
)

// ParseBlock reads an ID block: 96 raw bytes, or base64 of them, as QEMU's
// id-block= takes and snpguest writes.
func ParseBlock(data []byte) (*snp.IDBlock, error) {
	raw, err := rawOrBase64(data, snp.IDBlockSize, "ID block")
	if err != nil {
		return nil, err
	}
	return snp.ParseIDBlock(raw)
}

// ParseAuth reads ID auth: 4096 raw bytes, or base64 of them. QEMU would take
// fewer bytes and the kernel then read beyond them, so fewer are refused.
// raw is what was read, for Show.
func ParseAuth(data []byte) (auth *snp.IDAuth, raw []byte, err error) {
	raw, err = rawOrBase64(data, snp.IDAuthSize, "ID auth")
	if err != nil {
		return nil, nil, err
	}
	auth, err = snp.ParseIDAuth(raw)
	return auth, raw, err
}

// ReadBlock reads an ID block from a file, see ParseBlock.
func ReadBlock(path string) (*snp.IDBlock, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("reading ID block: %w", err)
	}
	b, err := ParseBlock(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// ReadAuth reads ID auth from a file, see ParseAuth.
func ReadAuth(path string) (*snp.IDAuth, []byte, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading ID auth: %w", err)
	}
	a, raw, err := ParseAuth(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, raw, nil
}

// Base64 gives an ID block or ID auth as QEMU's id-block= and id-auth= take it.
func Base64(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

// ParseLaunchDigest reads a launch digest of 48 bytes as 96 hexadecimal digits
// or 64 base64 characters, told apart by length alone.
func ParseLaunchDigest(s string) (snp.LaunchDigest, error) {
	if len(s) == base64.StdEncoding.EncodedLen(snp.DigestSize) {
		raw, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(raw) != snp.DigestSize {
			return snp.LaunchDigest{}, fmt.Errorf("launch digest %q has the length of base64 but is none (give 96 hexadecimal digits or 64 base64 characters)", s)
		}
		return snp.LaunchDigest(raw), nil
	}
	return snp.ParseLaunchDigest(s)
}

// rawOrBase64 tells the two forms apart by length: the base64 of size bytes is
// never as long as size.
func rawOrBase64(data []byte, size int, what string) ([]byte, error) {
	if len(data) == size {
		return data, nil
	}
	text := bytes.TrimSpace(data)
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: got %d bytes that are not base64, want %d raw bytes or base64 of them", what, len(data), size)
	}
	if len(raw) != size {
		return nil, fmt.Errorf("%s: its base64 holds %d bytes, want %d", what, len(raw), size)
	}
	return raw, nil
}

// readSmall reads at most twice the size of the largest structure here.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 2*snp.IDAuthSize))
}
