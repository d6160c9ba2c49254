package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snplaunch/snplaunch/ovmf"
)

// plainSuite is the last release whose OVMF has no SNP metadata.
const plainSuite = "bookworm"

// plainFile is the firmware's name in the cache.
const plainFile = "OVMF_4M.plain.fd"

// plainHalves are the two files that the release has the firmware in, in the order in
// which they lie in memory: variables first, code last.
var plainHalves = []string{"usr/share/OVMF/OVMF_VARS_4M.fd", "usr/share/OVMF/OVMF_CODE_4M.fd"}

// fetchPlainFirmware joins the halves of a firmware that knows nothing of SNP
// into one image.
func (s *setup) fetchPlainFirmware(ctx context.Context) (*manifest, error) {
	a, err := s.openApt(ctx)
	if err != nil {
		return nil, err
	}
	offers, err := a.offers(ctx, "ovmf")
	if err != nil {
		return nil, err
	}
	for _, f := range offers {
		if f.suite != plainSuite {
			continue
		}
		s.o.progress(fmt.Sprintf("fetching an OVMF without SNP metadata (package %s %s from %s)", f.name, f.version, f.suite))
		tree, err := s.unpack(ctx, a, f)
		if err != nil {
			return nil, err
		}
		m := &manifest{Package: f.name, Version: f.version, Suite: f.suite, Path: plainFile}
		if m.dir, err = os.MkdirTemp(s.tmp, "part-"); err != nil {
			return nil, err
		}
		if err := joinPlain(tree, filepath.Join(m.dir, plainFile)); err != nil {
			return nil, fmt.Errorf("package %s %s: %w", f.name, f.version, err)
		}
		if err := m.record(plainFile); err != nil {
			return nil, err
		}
		return s.cache.addPart(rolePlain, m)
	}
	return nil, fmt.Errorf("package ovmf of %s: %w", plainSuite, errNotOffered)
}

// joinPlain writes the halves from an unpacked tree into one file.
func joinPlain(tree, to string) error {
	var image []byte
	for _, half := range plainHalves {
		b, err := os.ReadFile(filepath.Join(tree, half))
		if err != nil {
			return err
		}
		image = append(image, b...)
	}
	if err := os.WriteFile(to, image, 0o644); err != nil {
		return err
	}
	return withImage(to, func(r io.ReaderAt, size int64) error {
		img, err := ovmf.Parse(r, size)
		if err == nil && len(img.Sections) > 0 {
			err = errors.New("it has SNP metadata")
		}
		return err
	})
}
