package diagnose

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/internal/lacks"
)

// What QEMU says about a wrong command line is the same with and without SNP
// hardware: the installed QEMU must still say it in words that are known.
func TestRealQEMU(t *testing.T) {
	const name = "qemu-system-x86_64"
	qemu, err := exec.LookPath(name)
	if err != nil {
		lacks.End(t, name+" is not installed: on Debian and Ubuntu, apt-get install qemu-system-x86")
	}
	// The size of Debian's OVMF_CODE_4M.fd, not a multiple of 64 KiB.
	code := filepath.Join(t.TempDir(), "OVMF_CODE.fd")
	if err := os.WriteFile(code, make([]byte, 0x37c000), 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no kernel\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	const object = "sev-snp-guest,id=sev0,cbitpos=0,reduced-phys-bits=1"
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"reduced-phys-bits-missing", []string{"-object", "sev-snp-guest,id=sev0,cbitpos=0"}},
		{"id-block-length", []string{"-object", object + ",id-block=" + b64(95)}},
		{"id-auth-length", []string{"-object", object + ",id-auth=" + b64(4097)}},
		{"host-data-length", []string{"-object", object + ",host-data=" + b64(33)}},
		{"workarounds-length", []string{"-object", object + ",guest-visible-workarounds=" + b64(17)}},
		{"base64", []string{"-object", object + ",id-block=/some/file.bin"}},
		{"unknown-property", []string{"-object", object + ",auth-key-enabled=on"}},
		{"no-snp-object", []string{"-object", "memory-backend-memfd-private,id=ram"}},
		{"object-missing", []string{"-M", "q35,confidential-guest-support=sev1", "-object", object}},
		{"kvm-required", []string{"-M", "q35,confidential-guest-support=sev0", "-object", object, "-accel", "tcg"}},
		{"kernel-header", []string{"-M", "q35", "-accel", "tcg", "-kernel", text}},
		{"kernel-header", []string{"-M", "q35", "-accel", "tcg", "-kernel", os.DevNull}},
		{"firmware-file", []string{"-M", "q35", "-accel", "tcg", "-bios", code}},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		cmd := exec.CommandContext(ctx, qemu, append([]string{"-M", "none", "-nographic", "-nodefaults", "-S", "-monitor", "none"}, tc.args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		cancel()
		if err == nil || ctx.Err() == context.DeadlineExceeded {
			t.Errorf("%s: QEMU did not refuse %.100q", tc.want, tc.args)
		}
		if f := ParseQEMU(stderr.String()); f == nil || f.ID != tc.want {
			t.Errorf("%s: %.300q is taken for %+v", tc.want, stderr.String(), f)
		}
	}
}
