package certs

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/report"
)

// maxFile is more than any file with certificates or a revocation list has, in bytes.
const maxFile = 4 << 20

// extensions are those of files in a folder that are read; others may be anything.
// snphost and snpguest write ark, ask, asvk, vcek and vlek as .pem or .der, snphost
// its certificate table where it is told to, and AMD's KDS serves "cert_chain" and "crl".
var extensions = []string{".pem", ".der", ".crt", ".cer", ".cert", ".crl"}

var bareNames = []string{"cert_chain", "crl", "vcek", "vlek"}

// readPath reads the certificates of a file, which must hold some, or of a folder: those
// of its files whose names say that they hold some.
func readPath(path string) ([]candidate, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	if !st.IsDir() {
		return readFile(path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	var out []candidate
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if e.IsDir() || !slices.Contains(extensions, filepath.Ext(name)) && !slices.Contains(bareNames, name) {
			continue
		}
		more, err := readFile(filepath.Join(path, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the folder %s holds no certificates (files like ark.pem, ask.der, vcek.pem, cert_chain.pem)", path)
	}
	return out, nil
}

// readFile reads certificates and revocation lists in PEM, one of either in DER, or a
// certificate table.
func readFile(path string) ([]candidate, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	var out []candidate
	for _, one := range split(data) {
		if _, err := report.ParseRevocationList(one); err == nil {
			out = append(out, candidate{crlRole, one, path})
			continue
		}
		chain, err := report.ParseCertificates(one)
		if err != nil {
			var tableErr error
			if chain, tableErr = report.ParseCertTable(one); tableErr != nil || len(candidates(chain, path)) == 0 {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
		out = append(out, candidates(chain, path)...)
	}
	return out, nil
}

// ReadList reads a file with a revocation list, DER or PEM.
func ReadList(path string) ([]byte, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	if _, err := report.ParseRevocationList(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// split takes the blocks of a PEM file apart; anything else is one piece.
func split(data []byte) (out [][]byte) {
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		out = append(out, pem.EncodeToMemory(b))
	}
	if len(out) == 0 {
		return [][]byte{data}
	}
	return out
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading certificates: %w", err)
	case len(data) > maxFile:
		return nil, fmt.Errorf("%s has more than %d bytes, so it holds no certificates", path, maxFile)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New(path + " is empty")
	}
	return data, nil
}
