package diagnose

import (
	"fmt"
	"syscall"
)

// launchLines find the lines in which QEMU reports the return value of a
// launch command. Some versions print a function's name before it.
var launchLines = []struct {
	command string // empty: the match's first group
	re      pattern
}{
	{"", expression(`(?:\b(?:sev|kvm)_\w+: )?(SNP_LAUNCH_(?:START|UPDATE|FINISH)) ret=(-?\d{1,9}) fw_error=(-?\d{1,9})\b(?: '[^']*')?`)},
	{"KVM_SEV_INIT2", expression(`(?:\b(?:sev|kvm)_\w+: )?(failed to initialize) ret=(-?\d{1,9}) fw_error=(-?\d{1,9})\b(?: '[^']*')?`)},
	{"SNP_PLATFORM_STATUS", expression(`(?:\b(?:sev|kvm)_\w+: )?(failed to get platform status) ret=(-?\d{1,9}) fw_error='(-?\d{1,9})(?:: [^']*)?'`)},
}

// ParseQEMU finds in QEMU's standard error why the launch failed, whatever
// else is printed around it. It returns nil when no line is known.
//
// A line that names the failure wins over one that only reports a consequence
// of it ("failed to initialize kvm"); among equals the first wins, because
// QEMU does not go on after its first fatal error.
func ParseQEMU(stderr string) *Failure {
	s := newScan(messages)
	s.text(stderr)
	found := s.findings()
	if len(found) == 0 {
		return nil
	}
	return &found[0].Failure
}

// errnoText gives a negative errno in words.
func errnoText(ret int) string {
	if ret >= 0 {
		return fmt.Sprintf("ret=%d", ret)
	}
	return fmt.Sprintf("errno %d, %s", -ret, syscall.Errno(-ret).Error())
}
