package e2e_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/diagnose"
)

// recognised sees that the diagnosis knows what a real QEMU has just said: by an entry of
// the catalogue that is about it, not by the general one for launch commands.
func recognised(t *testing.T, r row, stderr string) {
	t.Helper()
	f := diagnose.ParseQEMU(stderr)
	if f == nil {
		t.Errorf("%s: the diagnosis knows nothing of\n%s", r.name, stderr)
		return
	}
	if want, known := diagnoses[r.name]; known && f.ID != want {
		t.Errorf("%s: diagnosed as %s, want %s:\n%s", r.name, f.ID, want, stderr)
	}
	found, err := diagnose.ReadLog(strings.NewReader(stderr))
	if err != nil || len(found) == 0 || found[0].ID != f.ID {
		t.Errorf("%s: %s by itself, in a log %v, %+v", r.name, f.ID, err, found)
	}
}

// diagnoses are the entries for rows of TestMessagesOfQEMU, by the row's name.
var diagnoses = map[string]string{
	"C-bit of another machine": "cbitpos", "no reduced-phys-bits": "reduced-phys-bits-missing", "reduced-phys-bits=64": "reduced-phys-bits-range",
	"policy in words": "property-value", "property of another tree": "unknown-property", "IGVM where it is not built in": "no-snp-object",
	"memory backend of AMD's older tree": "no-snp-object", "machine names another object": "object-missing", "unknown CPU model": "cpu-model",
	"ID block of 3 bytes": "id-block-length", "ID auth of 4097 bytes": "id-auth-length", "host data of 3 bytes": "host-data-length",
	"workarounds of 17 bytes": "workarounds-length", "a file's name for the ID block": "base64", "SMM": "smm",
	"split interrupt controllers": "split-irqchip", "interrupt controllers in QEMU": "irqchip", "TCG": "kvm-required",
	"another device node": "sev-device-missing", "/dev/sev: ENOENT": "sev-device-missing", "/dev/sev: EACCES": "sev-device-permission",
	"firmware of an odd size": "firmware-file", "SeaBIOS": "firmware-no-table", "OVMF without SNP metadata": "firmware-no-metadata", "pflash": "pflash",
	"metadata beyond the guest's memory": "memory-too-small", "kernel that is an ELF file": "kernel-elf", "unified kernel image with an initrd": "kernel-initrd",
	"kernel that is not there": "kernel-file", "command line without a kernel": "kernel-missing", "/dev/sev: EBUSY": "sev-device-permission",
	"metadata that names a page twice": "update-not-populated", "CPUID of a newer processor": "update-cpuid",
	"policy without bit 17": "start-arguments", "policy of SEV": "start-arguments", "policy of a newer firmware": "start-policy",
	"START: platform lost": "start-platform", "START: QEMU and kernel not of one age": "start-context",
	"ID block of another digest": "finish-measurement", "ID block of another policy": "finish-policy",
	"ID block with a spoilt signature": "finish-signature", "ID block with an unknown algorithm": "finish-parameter",
	"ID block without ID auth": "finish-arguments", "FINISH: a vCPU is being created": "finish-busy",
}

// The AmdSev firmware denies a kernel that no table vouches for, and says nothing that
// names it: its console is recognised all the same.
func TestConsoleOfADeniedKernelIsRecognised(t *testing.T) {
	p := parts(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.QEMU.Path, append(bareArguments(), "-accel", "tcg", "-machine", "q35,smm=off", "-m", "256M",
		"-cpu", "EPYC-v4", "-bios", p.Firmware.Path, "-kernel", p.Kernel.Path, "-serial", "stdio", "-monitor", "none")...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var f *diagnose.Failure
	for ctx.Err() == nil && f == nil {
		time.Sleep(100 * time.Millisecond)
		f = diagnose.FromConsole(out.String())
	}
	cancel()
	_ = cmd.Wait() // it was killed
	if f == nil || f.ID != "boot-kernel-denied" {
		t.Errorf("got %+v of\n%s", f, out.String())
	}
}
