package diagnose

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// Failure is why a launch failed, as far as QEMU's output tells.
type Failure struct {
	// ID names the catalogue's entry, e.g. "finish-measurement". It does not
	// change when the sentences do.
	ID string

	// Command is the launch command that failed: SNP_LAUNCH_START,
	// SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH, KVM_SEV_INIT2 or
	// SNP_PLATFORM_STATUS. It is empty when QEMU failed elsewhere; then Ret and
	// FWError are zero.
	Command string
	Ret     int // QEMU's "ret": minus an errno
	FWError int // QEMU's "fw_error", as printed

	// FWAsked reports that the firmware was asked and refused. It is false
	// where KVM or QEMU refused before, which fw_error=0 and fw_error=-1 mean.
	FWAsked  bool
	FWStatus snp.Status // the firmware's answer; NO_FW_CALL unless FWAsked

	Message   string // QEMU's words, without time stamps and program name
	Cause     string // one sentence
	Proven    string // what the firmware had already found right, where it tells
	Advice    string // one sentence: what to do
	Reference string // where the cause is established
	// Likely says that the cause was inferred from source, and not confirmed in
	// the report that it is taken from.
	Likely bool
}

// String gives message, cause and advice on a line each.
func (f *Failure) String() string {
	return fmt.Sprintf("QEMU: %s\nCause: %s\nAdvice: %s", f.Message, f.Cause, f.Advice)
}

// longestMessage bounds Failure.Message, in bytes: QEMU repeats whole -object
// options, blobs included.
const longestMessage = 600

// clean makes a piece of QEMU's output fit for one line of a terminal.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
	if len(s) > longestMessage {
		s = strings.ToValidUTF8(s[:longestMessage], "") + "…"
	}
	return strings.TrimSpace(s)
}
