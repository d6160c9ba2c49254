package kvm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// Fault is something that goes wrong on a Host on purpose. Exactly one of
// Status, Errno, Delay, Dead is set, or none where the target is something
// that the host lacks (LackSEV and the others).
type Fault struct {
	// Target is a command to the Secure Processor ("SNP_LAUNCH_UPDATE"), an
	// ioctl ("KVM_CREATE_VM"), a device node ("/dev/sev") or a lack.
	Target string
	// Call is the call that is hit, counted from 1 over the life of the Host; 0: every call.
	Call int
	// Status is what the Secure Processor answers; the kernel makes an errno of it.
	Status snp.Status
	// Errno is what the system call fails with. The Secure Processor is not asked.
	Errno unix.Errno
	// Delay is how long the command takes longer.
	Delay time.Duration
	// Dead: the Secure Processor does not answer this command, and none after
	// it (Linux drivers/crypto/ccp/sev-dev.c, psp_dead): this one times out
	// (ETIMEDOUT, though at once rather than after 100 s), the others are EBUSY.
	Dead bool
}

// What a host may lack. A fault with such a target says nothing else.
const (
	// LackSEV is kvm_amd without sev=1: no /dev/sev, no SEV VM type, and
	// KVM_MEMORY_ENCRYPT_OP is ENOTTY.
	LackSEV = "no-sev"
	// LackSNPVMType is a host whose SEV works but for SNP: firmware settings, kernel, RMP.
	LackSNPVMType = "no-snp-vm-type"
	// LackGuestMemfd is a kernel without private memory for guests.
	LackGuestMemfd = "no-guest-memfd"
)

// Commands to the Secure Processor that a fault can hit.
const (
	cmdPlatformStatus    = "PLATFORM_STATUS"
	cmdPDHCertExport     = "PDH_CERT_EXPORT"
	cmdGetID             = "GET_ID"
	cmdSNPPlatformStatus = "SNP_PLATFORM_STATUS"
	cmdSNPCommit         = "SNP_COMMIT"
	cmdSNPConfig         = "SNP_CONFIG"
	cmdSNPVLEKLoad       = "SNP_VLEK_LOAD"
	cmdInit2             = "INIT2" // platform initialisation, on behalf of KVM_SEV_INIT2
	cmdGCTXCreate        = "SNP_GCTX_CREATE"
	cmdLaunchStart       = "SNP_LAUNCH_START"
	cmdActivate          = "SNP_ACTIVATE"
	cmdLaunchUpdate      = "SNP_LAUNCH_UPDATE"      // one KVM_SEV_SNP_LAUNCH_UPDATE, whatever its length
	cmdLaunchUpdateVMSA  = "SNP_LAUNCH_UPDATE_VMSA" // one vCPU's, in KVM_SEV_SNP_LAUNCH_FINISH
	cmdLaunchFinish      = "SNP_LAUNCH_FINISH"
)

var (
	faultCommands = []string{
		cmdPlatformStatus, cmdPDHCertExport, cmdGetID, cmdSNPPlatformStatus, cmdSNPCommit, cmdSNPConfig, cmdSNPVLEKLoad,
		cmdInit2, cmdGCTXCreate, cmdLaunchStart, cmdActivate, cmdLaunchUpdate, cmdLaunchUpdateVMSA, cmdLaunchFinish,
	}
	// commandAliases are other names that people use.
	commandAliases = map[string]string{
		"GCTX_CREATE": cmdGCTXCreate, "ACTIVATE": cmdActivate, "KVM_SEV_INIT2": cmdInit2, "SEV_PLATFORM_STATUS": cmdPlatformStatus,
		"GET_ID2": cmdGetID, "SNP_SET_CONFIG": cmdSNPConfig,
		"KVM_SEV_SNP_LAUNCH_START": cmdLaunchStart, "KVM_SEV_SNP_LAUNCH_UPDATE": cmdLaunchUpdate, "KVM_SEV_SNP_LAUNCH_FINISH": cmdLaunchFinish,
	}
	faultDevices = []string{devKVM, devSEV}
	faultLacks   = []string{LackSEV, LackSNPVMType, LackGuestMemfd}
)

// maxDelay is how long the kernel waits for a command (psp_cmd_timeout).
const maxDelay = 100 * time.Second

// ParseFault reads TARGET[:CALL]=EFFECT, or a lack by itself:
//
//	SNP_LAUNCH_UPDATE:3=INVALID_PAGE_STATE   the third call gets a firmware status (a name or a number)
//	SNP_LAUNCH_UPDATE:2=EAGAIN               the system call fails
//	SNP_LAUNCH_START=delay 200ms             every call is slow
//	SNP_ACTIVATE:1=dead                      the firmware never answers again
//	KVM_CREATE_GUEST_MEMFD=ENOMEM            an ioctl fails
//	/dev/sev=ENOENT                          a device cannot be opened
//	no-snp-vm-type                           the host lacks something
//
// CALL is a number from 1, or * (the default) for every call.
func ParseFault(s string) (Fault, error) {
	bad := func(format string, args ...any) (Fault, error) {
		return Fault{}, fmt.Errorf("fault %q: %s", s, fmt.Sprintf(format, args...))
	}
	where, effect, hasEffect := strings.Cut(s, "=")
	where, effect = strings.TrimSpace(where), strings.TrimSpace(effect)
	if where == "" {
		return bad("say what fails, as in SNP_LAUNCH_UPDATE:3=INVALID_PAGE_STATE")
	}
	if slices.Contains(faultLacks, where) {
		if hasEffect {
			return bad("%s stands by itself, without =", where)
		}
		return Fault{Target: where}, nil
	}
	name, call, hasCall := strings.Cut(where, ":")
	target, known := faultTarget(name)
	if !known {
		return bad("%q is no command, ioctl, device or lack%s", name, didYouMean(name, faultTargets()))
	}
	f := Fault{Target: target}
	if hasCall && call != "*" {
		n, err := strconv.Atoi(call)
		if err != nil || n < 1 {
			return bad("%q after the colon is neither a call's number, from 1, nor *", call)
		}
		f.Call = n
	}
	if effect == "" {
		return bad("say after = what happens: a firmware status, an errno, dead, or delay 200ms")
	}
	if err := f.setEffect(effect); err != nil {
		return bad("%v", err)
	}
	return f, nil
}

// setEffect reads what stands after =.
func (f *Fault) setEffect(s string) error {
	isCommand := slices.Contains(faultCommands, f.Target)
	if e := errnoByName(s); e != 0 {
		f.Errno = e
		return nil
	}
	if word, rest, _ := strings.Cut(s, " "); word == "delay" {
		d, err := time.ParseDuration(strings.TrimSpace(rest))
		switch {
		case !isCommand:
			return fmt.Errorf("only commands to the firmware can be slow, and %s is none", f.Target)
		case err != nil || d <= 0:
			return fmt.Errorf("%q is no time; write delay 200ms", rest)
		case d > maxDelay:
			return fmt.Errorf("the kernel waits %v at most, then the firmware is taken for dead; use dead", maxDelay)
		}
		f.Delay = d
		return nil
	}
	if s == "dead" {
		if !isCommand {
			return fmt.Errorf("the firmware can die in a command to it only, and %s is none", f.Target)
		}
		f.Dead = true
		return nil
	}
	st, known := statusByName(s)
	switch {
	case !known:
		return fmt.Errorf("%q is no firmware status, no errno, not dead and no delay%s", s, didYouMean(s, effectNames()))
	case st == snp.StatusSuccess:
		return errors.New("SUCCESS is no fault")
	case !isCommand:
		return fmt.Errorf("%s is answered by the kernel: give it an errno, as in %s=EINVAL", f.Target, f.Target)
	}
	f.Status = st
	return nil
}

// String gives what ParseFault reads.
func (f Fault) String() string {
	if slices.Contains(faultLacks, f.Target) {
		return f.Target
	}
	s := f.Target
	if f.Call != 0 {
		s += ":" + strconv.Itoa(f.Call)
	}
	switch {
	case f.Dead:
		return s + "=dead"
	case f.Delay != 0:
		return s + "=delay " + f.Delay.String()
	case f.Errno != 0:
		return s + "=" + unix.ErrnoName(f.Errno)
	}
	if _, known := statusByName(f.Status.String()); !known {
		return fmt.Sprintf("%s=0x%x", s, int32(f.Status))
	}
	return s + "=" + f.Status.String()
}

func faultTarget(name string) (string, bool) {
	if slices.Contains(faultDevices, name) {
		return name, true
	}
	name = strings.ToUpper(name)
	if full, isAlias := commandAliases[name]; isAlias {
		return full, true
	}
	_, isIoctl := ioctlNumbers[name]
	return name, isIoctl || slices.Contains(faultCommands, name)
}

func faultTargets() []string {
	return slices.Concat(faultCommands, slices.Sorted(maps.Keys(commandAliases)), slices.Sorted(maps.Keys(ioctlNumbers)), faultDevices, faultLacks)
}

// highestStatus is the last status code that Linux 7.2 names (sev_ret_code).
const highestStatus = 0x3F

// statusByName finds a firmware status by name or number.
func statusByName(s string) (snp.Status, bool) {
	for st := snp.StatusNoFWCall; st <= highestStatus; st++ {
		if st.String() == strings.ToUpper(s) {
			return st, true
		}
	}
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil || n < int64(snp.StatusNoFWCall) || n > 0xFFFF { // STATUS has 16 bits in the mailbox
		return 0, false
	}
	return snp.Status(n), true
}

func errnoByName(s string) unix.Errno {
	s = strings.ToUpper(s)
	for e := unix.Errno(1); e < 134; e++ {
		if unix.ErrnoName(e) == s {
			return e
		}
	}
	return 0
}

func effectNames() []string {
	names := []string{"dead"}
	for st := snp.StatusNoFWCall; st <= highestStatus; st++ {
		if n := st.String(); !strings.Contains(n, " ") {
			names = append(names, n)
		}
	}
	for e := unix.Errno(1); e < 134; e++ {
		if n := unix.ErrnoName(e); n != "" {
			names = append(names, n)
		}
	}
	return names
}

// didYouMean ends a sentence about an unknown name with the nearest one that
// exists, where one is near.
func didYouMean(name string, known []string) string {
	best, distance := "", 1+len(name)/3
	for _, k := range known {
		if d := editDistance(strings.ToUpper(name), strings.ToUpper(k)); d <= distance && (best == "" || d < distance) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance is how many letters are put in, taken out or changed between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
