package diagnose

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/snplaunch/snplaunch/snp"
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
	var best *Failure
	bestRank := rankNone
	for line := range strings.Lines(stderr) {
		line = strings.TrimRight(line, "\r\n")
		f, rank := parseLine(line, stderr)
		if f != nil && rank < bestRank {
			best, bestRank = f, rank
		}
	}
	return best
}

// parseLine judges one line; all is the whole output, in which an entry may
// want to see more.
func parseLine(line, all string) (*Failure, rank) {
	for _, l := range launchLines {
		m := l.re().FindStringSubmatch(line)
		if m == nil {
			continue
		}
		ret, _ := strconv.Atoi(m[2])
		fw, _ := strconv.Atoi(m[3])
		command := l.command
		if command == "" {
			command = m[1]
		}
		return explainLaunch(command, ret, fw, m[0], all), rankFailure
	}
	for i := range messages {
		e := &messages[i]
		at := e.re().FindStringSubmatchIndex(line)
		if at == nil {
			continue
		}
		fill := func(template string) string {
			return clean(string(e.re().ExpandString(nil, template, line, at)))
		}
		return &Failure{
			ID: e.id, FWStatus: snp.StatusNoFWCall,
			Message: clean(line[at[0]:]),
			Cause:   fill(e.cause), Advice: fill(e.advice), Reference: e.reference,
		}, e.rank
	}
	return nil, rankNone
}

func explainLaunch(command string, ret, fw int, message, all string) *Failure {
	f := &Failure{
		Command: command, Ret: ret, FWError: fw,
		FWAsked: fw > 0, FWStatus: snp.StatusNoFWCall,
		Message: clean(message),
	}
	if f.FWAsked {
		f.FWStatus = snp.Status(fw)
	}
	for i := range launches {
		e := &launches[i]
		if e.command != "" && e.command != command || e.ret != anyValue && e.ret != ret || e.fw != anyValue && e.fw != fw {
			continue
		}
		f.ID, f.Reference = e.id, e.reference
		if e.and == nil {
			f.Cause, f.Advice = e.cause, e.advice
			return f
		}
		if at := e.and().FindStringSubmatchIndex(all); at != nil {
			f.Message = clean(f.Message + "; " + all[at[0]:at[1]])
			f.Cause = clean(string(e.and().ExpandString(nil, e.cause, all, at)))
			f.Advice = clean(string(e.and().ExpandString(nil, e.advice, all, at)))
			return f
		}
	}

	f.Reference = "Linux arch/x86/kvm/svm/sev.c and include/uapi/linux/psp-sev.h"
	if f.FWAsked {
		f.ID = "firmware-refused"
		f.Cause = fmt.Sprintf("The firmware refused %s with %s (0x%x).", command, f.FWStatus, fw)
		f.Advice = fmt.Sprintf("Look up %s for %s in AMD's document 56860, and what the host's kernel log says of ccp and kvm_amd at that time.", f.FWStatus, command)
		return f
	}
	f.ID = "kvm-refused"
	f.Cause = fmt.Sprintf("The host's kernel refused %s (%s), and the firmware was never asked.", command, errnoText(ret))
	f.Advice = "See what the host's kernel log says of kvm_amd and ccp at that time, and use a QEMU and a host kernel of about the same age."
	return f
}

// errnoText gives a negative errno in words.
func errnoText(ret int) string {
	if ret >= 0 {
		return fmt.Sprintf("ret=%d", ret)
	}
	return fmt.Sprintf("errno %d, %s", -ret, syscall.Errno(-ret).Error())
}
