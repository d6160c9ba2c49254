package main

import (
	"encoding/hex"
	"strings"
	"testing"
)

// TestLaunchMeasureVerb goes through the example of AMD's sev-tool
// (readme.md, calc_measurement; its arguments are hexadecimal).
func TestLaunchMeasureVerb(t *testing.T) {
	const want = "6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea"
	tik := "66320db73158a35a255d051758e95ed4"
	raw := string(must(hex.DecodeString(tik))(t))
	inFolder(t, map[string]string{"tik.bin": raw, "tik.hex": tik + "\n", "tik.b64": "ZjINtzFYo1olXQUXWOle1A==", "tk.bin": "0123456789abcdef" + raw,
		"short": "abc", "digits": tik})
	base := []string{"launch-measure", "--digest", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "--api-major", "0", "--api-minor", "0x12", "--build-id", "15", "--policy", "0"}
	with := func(more ...string) []string { return append(append([]string{}, base...), more...) }
	nonce := []string{"--mnonce", "4fbe0bedbad6c86ae8f68971d103e554"}
	for _, key := range [][]string{{"--tik", "tik.bin"}, {"--tik", "tik.hex"}, {"--tik", "tik.b64"}, {"--tk", "tk.bin"}} {
		if got := good(t, with(append(key, nonce...)...)...); got != want+"\n" {
			t.Errorf("%s: %s", key, got)
		}
	}
	if got := good(t, with("--tik", "tik.bin", "--mnonce", "T74L7brWyGro9olx0QPlVA==", "--output-format", "base64", "--digest", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")...); got != "b6qy2q44m800BaBdbK/jPAQU977dC64Zul84t/0WZOo=\n" {
		t.Errorf("base64: %s", got)
	}
	blob := good(t, with(append(nonce, "--tik", "tik.bin", "--output-format", "blob")...)...)
	blob = blob[:len(blob)-1]
	if got := good(t, with("--tik", "tik.bin", "--measurement", blob)...); got != "match\n" {
		t.Errorf("check: %s", got)
	}
	for _, change := range [][]string{{"--policy", "1"}, {"--api-minor", "0x13"}, {"--build-id", "16"}, {"--digest", want}} {
		bad(t, exitNo, "is not of this guest", with(append(change, "--tik", "tik.bin", "--measurement", blob)...)...)
	}
	bad(t, exitUsage, "--api-major, --api-minor, --build-id, --policy, --tik or --tk, --mnonce or --measurement", "launch-measure")
	bad(t, exitUsage, "give --mode sev or seves, or --digest", append(append([]string{"launch-measure"}, base[3:]...), append(nonce, "--tik", "tik.bin")...)...)
	bad(t, exitUsage, "more than the 32 bits", with(append(nonce, "--tik", "tik.bin", "--policy", "0x100000000")...)...)
	bad(t, exitUsage, "is not a number from 0 to 255", "launch-measure", "--api-major", "256")
	bad(t, exitUsage, "--tik and --tk", with(append(nonce, "--tik", "x", "--tk", "y")...)...)
	bad(t, exitUsage, "brings its nonce", with(append(nonce, "--tik", "tik.bin", "--measurement", blob)...)...)
	bad(t, exitUsage, "--measurement: got 44 characters, want 96 hexadecimal digits or 64 base64 characters", with("--tik", "tik.bin", "--measurement", "b6qy2q44m800BaBdbK/jPAQU977dC64Zul84t/0WZOo=")...)
	bad(t, exitUsage, "--mnonce", with("--tik", "tik.bin", "--mnonce", "00")...)
	bad(t, exitUsage, "--digest", with(append(nonce, "--tik", "tik.bin", "--digest", "00")...)...)
	bad(t, exitNo, "TIK short: got 3 characters, want 16 bytes", with(append(nonce, "--tik", "short")...)...)
	bad(t, exitNo, "digits of a single key", with(append(nonce, "--tk", "digits")...)...)
	bad(t, exitNo, "reading the TIK", with(append(nonce, "--tik", "none")...)...)
	bad(t, exitUsage, "is not known", with(append(nonce, "--tik", "tik.bin", "--output-format", "x")...)...)

	// The digest of a guest's own files is the one that measure gives.
	files := someImages(t)
	for _, mode := range []string{"sev", "seves"} {
		digest := strings.TrimSpace(good(t, append([]string{"measure", "--mode", mode, "--vcpus", "2"}, files...)...))
		want := good(t, with(append(nonce, "--tik", "tik.bin", "--digest", digest)...)...)
		if got := good(t, append(append([]string{"launch-measure", "--mode", mode, "--vcpus", "2"}, files...), append(base[3:], append(nonce, "--tik", "tik.bin")...)...)...); got != want {
			t.Errorf("%s\n got %s\nwant %s", mode, got, want)
		}
	}
}
