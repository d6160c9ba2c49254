package images

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/snplaunch/snplaunch/internal/childgroup"
)

// qemuProgram is the name under which distributions install QEMU.
const qemuProgram = "qemu-system-x86_64"

// minQEMU is the first major version whose sev-snp-guest and KVM interface are
// those that this module was written for.
const minQEMU = 10

var qemuVersionLine = regexp.MustCompile(`(?m)^QEMU emulator version (\d+)\.(\d+)\.(\d+)`)

// findQEMU looks for QEMU in PATH, or for the one that the user named, and
// asks it for its version.
func findQEMU(ctx context.Context, name string) (QEMUInfo, error) {
	if name == "" {
		name = qemuProgram
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return QEMUInfo{}, fmt.Errorf("QEMU %d or later is missing: there is no %s", minQEMU, name)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	childgroup.Of(cmd)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not answer: %w", ctx.Err())
	}
	if err != nil {
		return QEMUInfo{}, fmt.Errorf("QEMU %d or later is missing: %s does not tell its version: %w", minQEMU, path, withStderr(err))
	}
	version, major, err := parseQEMUVersion(string(out))
	if err != nil {
		return QEMUInfo{}, fmt.Errorf("QEMU %d or later is missing: %s: %w", minQEMU, path, err)
	}
	if major < minQEMU {
		return QEMUInfo{}, fmt.Errorf("QEMU %d or later is missing: %s is version %s", minQEMU, path, version)
	}
	return QEMUInfo{Path: path, Version: version}, nil
}

func parseQEMUVersion(out string) (version string, major int, err error) {
	m := qemuVersionLine.FindStringSubmatch(out)
	if m == nil {
		return "", 0, fmt.Errorf("its --version has no line \"QEMU emulator version …\"")
	}
	if major, err = strconv.Atoi(m[1]); err != nil {
		return "", 0, err
	}
	return m[1] + "." + m[2] + "." + m[3], major, nil
}
