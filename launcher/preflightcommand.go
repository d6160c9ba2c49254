package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/snplaunch/snplaunch/host"
)

// PreflightCommand looks at a QEMU command line that is not ours: at its program, its
// arguments, and the files that they name as a launch of them would. Nothing is started but
// a QEMU that lists its properties.
func PreflightCommand(ctx context.Context, command []string, c host.Conditions) []host.Check {
	path, err := exec.LookPath(command[0])
	if errors.Is(err, exec.ErrDot) { // of this folder because PATH says so, as it will be then
		err = nil
	}
	program := checkOf("launch-program", "QEMU program", path, nil)
	if err != nil {
		program.Verdict, program.Reason = host.Obstacle, fmt.Sprintf("%s: %v", command[0], errors.Unwrap(err))
		program.Remedy = "install it, or give its whole path"
	} else {
		c.QEMU = host.AskQEMU(ctx, path)
	}
	checks := append([]host.Check{program}, host.CheckArguments(command[1:], c)...)
	g := host.GuestOf(command[1:])
	if g.Firmware == "" {
		return checks // QEMU's own, as another check says
	}
	// QEMU looks for firmware in its own folders, too.
	if _, err := os.Stat(g.Firmware); errors.Is(err, os.ErrNotExist) && !filepath.IsAbs(g.Firmware) {
		return append(checks, host.Check{ID: "launch-files", Category: host.Launch, Name: "files", Verdict: host.Warning,
			Reason: fmt.Sprintf("-bios %s is not in the working directory, so that QEMU looks for it in folders of its own", g.Firmware), Remedy: "give the firmware's whole path"})
	}
	r := &run{g: g, res: &Result{DurationMS: map[string]int64{}}}
	more, ok := r.fileChecks()
	checks = append(checks, more...)
	if !ok {
		return checks
	}
	defer r.inputs.Close()
	kernel, err := r.kernelChecks()
	if err != nil {
		return append(checks, checkOf("launch-kernel", "kernel", "", err))
	}
	return append(checks, kernel...)
}
