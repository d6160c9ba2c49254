package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/snplaunch/snplaunch/ovmf"
)

// firmwareKind is what a firmware image is wanted for.
type firmwareKind int

const (
	amdSev  firmwareKind = iota // boots only what its hashes table names
	generic                     // boots anything
)

// The places where distributions put OVMF images of one piece: Debian and
// Ubuntu, Fedora, openSUSE, Arch. QEMU's descriptors are asked first.
var firmwarePlaces = map[firmwareKind][]string{
	amdSev: {
		"usr/share/ovmf/OVMF.amdsev.fd",
		"usr/share/OVMF/OVMF.amdsev.fd",
		"usr/share/edk2/ovmf/OVMF.amdsev.fd",
		"usr/share/edk2/x64/OVMF.amdsev.fd",
		"usr/share/qemu/ovmf-x86_64-sev.bin",
	},
	generic: {
		"usr/share/ovmf/OVMF.fd",
		"usr/share/OVMF/OVMF.fd",
		"usr/share/edk2/ovmf/OVMF.fd",
		"usr/share/edk2/x64/OVMF.4m.fd",
		"usr/share/qemu/OVMF.fd",
	},
}

// descriptorDirs hold QEMU's firmware descriptors; a file in an earlier folder
// hides the file of the same name in a later one (QEMU docs/interop/firmware.json).
var descriptorDirs = []string{"etc/qemu/firmware", "usr/local/share/qemu/firmware", "usr/share/qemu/firmware"}

// descriptor is what matters of a firmware descriptor.
type descriptor struct {
	Mapping struct {
		Device   string `json:"device"`
		Filename string `json:"filename"`
	} `json:"mapping"`
	Targets []struct {
		Architecture string `json:"architecture"`
	} `json:"targets"`
	Features []string `json:"features"`
}

// findFirmware gives the first image of that kind below root ("/" but in
// tests) that can be used; empty where there is none. The well-known places say
// by their names which kind they hold; what a descriptor names may be either
// and is looked at, which takes a moment.
func findFirmware(root string, kind firmwareKind) string {
	var places []string
	for _, p := range firmwarePlaces[kind] {
		places = append(places, filepath.Join(root, p))
	}
	if kind == amdSev {
		for _, c := range describedFirmware(root) {
			if checkTables(c, kind) == nil && (slices.Contains(places, c) || checkKind(c, kind) == nil) {
				return c
			}
		}
	}
	for _, c := range places {
		if checkTables(c, kind) == nil {
			return c
		}
	}
	return ""
}

// describedFirmware gives the images whose descriptors promise SEV-SNP with
// the image mapped as memory, as -bios does.
func describedFirmware(root string) []string {
	byName := map[string]string{}
	for _, d := range descriptorDirs {
		files, _ := filepath.Glob(filepath.Join(root, d, "*.json"))
		for _, f := range files {
			if _, hidden := byName[filepath.Base(f)]; !hidden {
				byName[filepath.Base(f)] = f
			}
		}
	}
	names := make([]string, 0, len(byName))
	for n := range byName {
		names = append(names, n)
	}
	sort.Strings(names)
	var out []string
	for _, n := range names {
		b, err := os.ReadFile(byName[n])
		var d descriptor
		// A descriptor that cannot be read is none of ours to complain about.
		if err != nil || json.Unmarshal(b, &d) != nil {
			continue
		}
		x86 := false
		for _, t := range d.Targets {
			x86 = x86 || t.Architecture == "x86_64"
		}
		if x86 && d.Mapping.Device == "memory" && filepath.IsAbs(d.Mapping.Filename) && slices.Contains(d.Features, "amd-sev-snp") {
			out = append(out, filepath.Join(root, d.Mapping.Filename))
		}
	}
	return out
}

// checkTables says why an image cannot be used for kind, as far as its tables
// tell.
func checkTables(path string, kind firmwareKind) error {
	return withImage(path, func(r io.ReaderAt, size int64) error {
		img, err := ovmf.Parse(r, size)
		if err != nil {
			return err
		}
		if err := img.CheckBIOS(); err != nil {
			return err
		}
		if len(img.Sections) == 0 {
			return errors.New("it has no SNP metadata, so it cannot launch an SNP guest")
		}
		if kind == amdSev {
			_, _, err = img.HashPage()
		}
		return err
	})
}

// checkKind says whether the code of an image is of that kind: an AmdSev build
// verifies its kernel, a generic one does not.
func checkKind(path string, kind firmwareKind) error {
	return withImage(path, func(r io.ReaderAt, size int64) error {
		verifies, err := ovmf.VerifiesBlobs(r, size)
		switch {
		case err != nil:
			return err
		case kind == amdSev && !verifies:
			return errors.New("it does not verify its kernel, so it is no AmdSev build")
		case kind == generic && verifies:
			return errors.New("it verifies its kernel, so it is an AmdSev build and not a generic one")
		}
		return nil
	})
}

func withImage(path string, check func(r io.ReaderAt, size int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	if err := check(f, st.Size()); err != nil {
		return fmt.Errorf("firmware %s: %w", path, err)
	}
	return nil
}
