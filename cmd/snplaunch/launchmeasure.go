package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// launchMeasureVerb computes or checks the launch measurement of a guest of
// SEV or SEV-ES.
func launchMeasureVerb(e *env, args []string) error {
	fs := e.flags("launch-measure", "[guest.yaml] --mode sev|seves [flags], or --digest DIGEST [flags]\n\nFor SEV and SEV-ES, where the firmware authenticates the launch digest with a key that it shares with the guest owner: gives the launch measurement, or with --measurement checks one, exit code 1 when it is not of this guest. The firmware's version is what QEMU's query-sev shows.")
	gf := addGuestFlags(fs) // --policy is among them
	mf := addMeasureFlags(fs)
	digest := fs.String("digest", "", "`HEX|BASE64`: launch digest, a SHA-256, as `snplaunch measure --mode sev` or seves gives it; without it the guest is measured")
	var m measure.LaunchMeasure
	given := map[string]bool{}
	number := func(name, usage string, set *uint8) {
		fs.Func(name, usage, func(s string) error {
			v, err := strconv.ParseUint(s, 0, 8)
			if err != nil {
				return fmt.Errorf("%q is not a number from 0 to 255 (0x… is hexadecimal)", s)
			}
			given[name], *set = true, uint8(v)
			return nil
		})
	}
	number("api-major", "`N`: major version of the firmware's API", &m.APIMajor)
	number("api-minor", "`N`: its minor version", &m.APIMinor)
	number("build-id", "`N`: its build", &m.Build)
	mnonce := fs.String("mnonce", "", "`HEX|BASE64`: nonce of the measurement, 16 bytes")
	tikFile := fs.String("tik", "", "`FILE`: transport integrity key, 16 bytes, raw, in hexadecimal or base64")
	tkFile := fs.String("tk", "", "`FILE`: TEK and TIK in one file, 32 bytes")
	measurement := fs.String("measurement", "", "`BASE64`: check this measurement with its nonce, 48 bytes, as QEMU's query-sev-launch-measure gives it")
	format := fs.String("output-format", "hex", "`hex|base64|blob`: the measurement, or base64 of it and its nonce as QEMU gives them")
	file, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	var missing []string
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"--api-major", given["api-major"]}, {"--api-minor", given["api-minor"]}, {"--build-id", given["build-id"]}, {"--policy", gf.given["policy"]},
		{"--tik or --tk", *tikFile+*tkFile != ""}, {"--mnonce or --measurement", *mnonce+*measurement != ""},
	} {
		if !f.given {
			missing = append(missing, f.name)
		}
	}
	switch {
	case len(missing) > 0:
		return usageError("launch-measure: without these there is nothing to compute: %s", strings.Join(missing, ", "))
	case *tikFile != "" && *tkFile != "":
		return usageError("launch-measure: --tik and --tk: give one of them")
	case *mnonce != "" && *measurement != "":
		return usageError("launch-measure: --mnonce and --measurement: the measurement brings its nonce with it; give one of them")
	}
	tik, err := readTIK(*tikFile, *tkFile)
	if err != nil {
		return err
	}
	raw, policy, err := plainDigest(e, gf, mf, file, *digest)
	if err != nil {
		return err
	}
	if m.Policy = uint32(policy); uint64(policy) > math.MaxUint32 {
		return usageError("--policy %s has more than the 32 bits of a policy of SEV and SEV-ES", policy)
	}
	m.Digest = [sha256.Size]byte(raw)
	if *measurement != "" {
		blob, err := sizedBytes([]byte(*measurement), measure.LaunchBlobSize, false)
		if err != nil {
			return usageError("--measurement: %w", err)
		}
		if !m.Check(tik, [measure.LaunchBlobSize]byte(blob)) {
			return errors.New("the launch measurement is not of this guest: digest, policy, firmware version or TIK differ")
		}
		fmt.Fprintln(e.stdout, "match")
		return nil
	}
	if raw, err = sizedBytes([]byte(*mnonce), len(m.MNonce), false); err != nil {
		return usageError("--mnonce: %w", err)
	}
	m.MNonce = [measure.MNonceSize]byte(raw)
	sum := m.Sum(tik)
	switch *format {
	case "hex":
		fmt.Fprintln(e.stdout, hex.EncodeToString(sum[:]))
	case "base64":
		fmt.Fprintln(e.stdout, base64.StdEncoding.EncodeToString(sum[:]))
	case "blob":
		fmt.Fprintln(e.stdout, base64.StdEncoding.EncodeToString(append(sum[:], m.MNonce[:]...)))
	default:
		return usageError("--output-format %q is not known; use hex, base64 or blob", *format)
	}
	return nil
}

// plainDigest gives the launch digest of SEV or SEV-ES, the one that is given or
// the guest's, and the policy.
func plainDigest(e *env, gf *guestFlags, mf *measureFlags, file []string, given string) ([]byte, snp.GuestPolicy, error) {
	if given != "" {
		raw, err := sizedBytes([]byte(given), sha256.Size, false)
		if err != nil {
			return nil, 0, usageError("--digest: %w", err)
		}
		gf.noFirmware = true // nothing is measured
		g, err := gf.guest(e.ctx, file, false)
		if err != nil {
			return nil, 0, err
		}
		return raw, g.Policy, nil
	}
	opt, err := mf.options()
	if err != nil {
		return nil, 0, err
	}
	if opt.Mode != measure.SEV && opt.Mode != measure.SEVES {
		return nil, 0, usageError("launch-measure is for SEV and SEV-ES: give --mode sev or seves, or --digest")
	}
	r, err := mf.measure(e, gf, file)
	if err != nil {
		return nil, 0, err
	}
	defer r.close()
	return r.Digest, r.guest.Policy, mf.warn(e.stderr, r)
}

// readTIK reads the TIK from its own file, or from one that has the TEK before
// it, as sevctl and virt-qemu-sev-validate know them.
func readTIK(tikFile, tkFile string) (tik [measure.TIKSize]byte, err error) {
	path, size := tikFile, measure.TIKSize
	if tkFile != "" {
		path, size = tkFile, 2*measure.TIKSize
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return tik, fmt.Errorf("reading the TIK: %w", err)
	}
	if _, err := hex.DecodeString(string(data)); err == nil && len(data) == size && tkFile != "" {
		return tik, fmt.Errorf("TIK %s: its %d bytes are hexadecimal digits of a single key, so this is no file for --tk", path, size)
	}
	raw, err := sizedBytes(data, size, true)
	if err != nil {
		return tik, fmt.Errorf("TIK %s: %w", path, err)
	}
	return [measure.TIKSize]byte(raw[size-measure.TIKSize:]), nil
}

// sizedBytes reads n bytes in hexadecimal or base64 or, where rawToo, as they
// are; their length tells which.
func sizedBytes(data []byte, n int, rawToo bool) ([]byte, error) {
	if rawToo && len(data) == n {
		return data, nil
	}
	text := strings.TrimSpace(string(data))
	switch len(text) {
	case 2 * n:
		return hex.DecodeString(text)
	case base64.StdEncoding.EncodedLen(n):
		if raw, err := base64.StdEncoding.Strict().DecodeString(text); err == nil && len(raw) == n {
			return raw, nil
		}
	}
	forms := fmt.Sprintf("%d hexadecimal digits or %d base64 characters", 2*n, base64.StdEncoding.EncodedLen(n))
	if rawToo {
		forms = fmt.Sprintf("%d bytes, %s", n, forms)
	}
	return nil, fmt.Errorf("got %d characters, want %s", len(text), forms)
}
