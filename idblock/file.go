package idblock

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// ParseBlock reads an ID block in any form that ParseParts knows.
func ParseBlock(data []byte) (*snp.IDBlock, error) {
	p, err := ParseParts(data)
	if err != nil {
		return nil, fmt.Errorf("ID block: %w", err)
	}
	if p.Block == nil {
		return nil, errors.New("ID block: there is ID auth in it, but no ID block (are the two files the wrong way round?)")
	}
	return snp.ParseIDBlock(p.Block)
}

// ParseAuth reads ID auth in any form that ParseParts knows. raw is what was
// read, for Show.
func ParseAuth(data []byte) (auth *snp.IDAuth, raw []byte, err error) {
	p, err := ParseParts(data)
	if err != nil {
		return nil, nil, fmt.Errorf("ID auth: %w", err)
	}
	if p.Auth == nil {
		return nil, nil, errors.New("ID auth: there is an ID block in it, but no ID auth (are the two files the wrong way round?)")
	}
	auth, err = snp.ParseIDAuth(p.Auth)
	return auth, p.Auth, err
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
