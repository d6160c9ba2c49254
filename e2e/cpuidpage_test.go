package e2e_test

import (
	"bytes"
	"errors"
	"os/exec"
	"regexp"
	"testing"
)

// The first versions of QEMU's EPYC models have a last-level cache with complex
// indexing, a bit that AMD does not define. Machine types before pc-q35-9.1 pass it on,
// and the firmware refuses the CPUID page; QEMU then prints what was expected, as
// NVIDIA/nvtrust issue 91 shows it from a Milan. Later machine types, and later
// versions of the models, leave the bit out.
func TestModelsWithComplexIndexing(t *testing.T) {
	p := parts(t)
	launch := func(machine, cpu string) (status int, stderr string) {
		t.Helper()
		cmd, _ := command(t, "cpuidpage", "sim", "exec", "--", p.QEMU.Path, "-nodefaults", "-display", "none", "-enable-kvm", "-cpu", cpu, "-smp", "2", "-m", "256M",
			"-machine", machine+",confidential-guest-support=sev0", "-object", "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1", "-bios", p.Firmware.Path)
		var out bytes.Buffer
		cmd.Stderr = &out
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String()
	}
	refusal := regexp.MustCompile(`(?m)^qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'
qemu-system-x86_64: SEV-SNP: CPUID validation failed for function 0x8000001d, index: 0x3, provided: (eax:0x[0-9a-f]{8}, ebx: 0x03c0003f, ecx: 0x[0-9a-f]{8}), edx: 0x00000006, expected: (eax:0x[0-9a-f]{8}, ebx: 0x03c0003f, ecx: 0x[0-9a-f]{8}), edx: 0x00000002
qemu-system-x86_64: SEV-SNP: failed update CPUID page$`)
	for _, cpu := range []string{"EPYC", "EPYC-v1", "EPYC-v2", "EPYC-v3", "EPYC-Rome", "EPYC-Rome-v2", "EPYC-Milan", "EPYC-Milan-v1"} {
		status, stderr := launch("pc-q35-9.0", cpu)
		m := refusal.FindStringSubmatch(stderr)
		if status != 1 || m == nil || m[1] != m[2] {
			t.Errorf("%s on pc-q35-9.0: status %d\n%s", cpu, status, stderr)
		}
	}
	for _, c := range [][2]string{
		{"pc-q35-9.0", "EPYC-v4"}, {"pc-q35-9.0", "EPYC-Rome-v3"}, {"pc-q35-9.0", "EPYC-Milan-v2"}, {"pc-q35-9.0", "EPYC-Genoa"},
		{"pc-q35-9.1", "EPYC-v1"}, {"q35", "EPYC-Rome-v1"}, {"q35", "EPYC-Milan-v1"},
	} {
		if status, stderr := launch(c[0], c[1]); status != 0 {
			t.Errorf("%s on %s: status %d\n%s", c[1], c[0], status, stderr)
		}
	}
}
