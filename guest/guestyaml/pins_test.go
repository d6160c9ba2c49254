package guestyaml_test

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest/guestyaml"
)

func TestSetPins(t *testing.T) {
	one, two := [32]byte{0x11}, [32]byte{0x22}
	hex := func(first string) string { return `"` + first + strings.Repeat("0", 62) + `"` }
	pins := []guestyaml.Pin{{Of: "firmware", Key: "firmware_sha256", SHA256: one}, {Of: "kernel", Key: "kernel_sha256", SHA256: two}}
	for before, want := range map[string]string{
		"# head\nfirmware: f # mine\n\n# the kernel\nkernel: \"k\"\n# tail\n":                                                                          "# head\nfirmware: f # mine\nfirmware_sha256: " + hex("11") + "\n\n# the kernel\nkernel: \"k\"\nkernel_sha256: " + hex("22") + "\n# tail\n",
		"kernel: k\r\nfirmware_sha256:   " + strings.Repeat("ab", 32) + "   # old\r\nfirmware: f\r\nkernel_sha256: '" + strings.Repeat("00", 32) + "'": "kernel: k\r\nfirmware_sha256:   " + hex("11") + "   # old\r\nfirmware: f\r\nkernel_sha256: " + hex("22"),
		"  firmware: f\n  kernel: long\n    name\n  disks:\n    - file: a":                                                                             "  firmware: f\n  firmware_sha256: " + hex("11") + "\n  kernel: long\n    name\n  kernel_sha256: " + hex("22") + "\n  disks:\n    - file: a",
		"firmware: f\nkernel: k": "firmware: f\nfirmware_sha256: " + hex("11") + "\nkernel: k\nkernel_sha256: " + hex("22") + "\n",
	} {
		got, err := guestyaml.SetPins([]byte(before), "g.yaml", pins)
		if err != nil || string(got) != want {
			t.Errorf("%q\n got %q\nwant %q\n%v", before, got, want, err)
			continue
		}
		if again, err := guestyaml.SetPins(got, "g.yaml", pins); err != nil || string(again) != want {
			t.Errorf("a second time: %q, %v", again, err)
		}
	}
	for before, want := range map[string]string{
		"{firmware: f, kernel: k}\n":         "there is no line after which",
		"firmware: f\nkernel: |\n  k\n":      "there is no line after which",
		"firmware: f\n":                      "there is no line after which kernel_sha256",
		"firmware: f\nkernel: k\nvcpus: x\n": "g.yaml:3",
		"firmware: f\nkernel: k\nkernel_sha256: \"\\x30" + strings.Repeat("0", 63) + "\"\n": "cannot be replaced",
	} {
		if got, err := guestyaml.SetPins([]byte(before), "g.yaml", pins); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q\n got %q, %v\nwant %s", before, got, err, want)
		}
	}
}

// FuzzSetPins: what comes out says what went in, and the pins; SetPins itself sees to it.
func FuzzSetPins(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("firmware: 'a\n  b' # x\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pins := []guestyaml.Pin{{Of: "firmware", Key: "firmware_sha256", SHA256: [32]byte{1}}}
		out, err := guestyaml.SetPins(data, "/d/g.yaml", pins)
		if err != nil {
			return
		}
		if g, err := guestyaml.Parse(out, "/d/g.yaml"); err != nil || *g.FirmwareSHA256 != pins[0].SHA256 {
			t.Errorf("%q: %v", out, err)
		}
	})
}
