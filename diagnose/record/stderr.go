package record

import (
	"regexp"
	"strconv"
)

// What QEMU (target/i386/sev.c) prints when a launch command fails, with the errno
// (negative) and the firmware's status.
var (
	launchFailure = regexp.MustCompile(`(SNP_LAUNCH_START|SNP_LAUNCH_UPDATE|SNP_LAUNCH_FINISH) ret=(-?\d{1,6}) fw_error=(-?\d{1,6}) '`)
	initFailure   = regexp.MustCompile(`failed to initialize ret=(-?\d{1,6}) fw_error=(-?\d{1,6}) '`)
	statusFailure = regexp.MustCompile(`failed to get platform status ret=(-?\d{1,6}) fw_error='?(-?\d{1,6})[: ]`)
	secretData    = regexp.MustCompile(`("data"\s*:\s*"|(?:^|,)data=)[^",]*`)
)

// failureIn looks for the failure of a launch command in what the program said.
func failureIn(command Payload, stderr string) (Result, bool) {
	var ret, fw string
	switch c := command.(type) {
	case *Start, *Update, *Finish:
		for _, m := range launchFailure.FindAllStringSubmatch(stderr, -1) {
			if m[1] == command.Name() {
				ret, fw = m[2], m[3]
			}
		}
	case *Init:
		if m := initFailure.FindStringSubmatch(stderr); m != nil {
			ret, fw = m[1], m[2]
		}
	case *Other:
		if m := statusFailure.FindStringSubmatch(stderr); m != nil && c.Device == "sev" {
			ret, fw = m[1], m[2]
		}
	}
	if ret == "" {
		return Result{}, false
	}
	r, err1 := strconv.Atoi(ret)
	f, err2 := strconv.Atoi(fw)
	if err1 != nil || err2 != nil || r >= 0 {
		return Result{}, false
	}
	return Result{Errno: -r, FWError: f, From: FromStderr}, true
}
