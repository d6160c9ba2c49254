package guest

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Files are copied by the agent: In before the command is run, Out when it has
// ended, whatever its exit code.
type Files struct {
	In  []FileIn  // (files.in)
	Out []FileOut // (files.out)
}

// FileIn is a file that the guest gets.
type FileIn struct {
	Host  string      // (host) path on the host
	Guest string      // (guest) absolute path in the guest
	Mode  fs.FileMode // (mode) permission bits; 0: those that it has on the host
}

// FileOut is a file that the guest gives.
type FileOut struct {
	Guest string // (guest) absolute path in the guest
	Host  string // (host) path on the host
}

// ParseFileIn reads HOST:GUEST or HOST:GUEST:MODE, the mode in octal digits. GUEST
// begins at the last ":/", so HOST may have colons.
func ParseFileIn(s string) (FileIn, error) {
	at := strings.LastIndex(s, ":/")
	if at <= 0 {
		return FileIn{}, fmt.Errorf("%q names no file for the guest (write HOST:GUEST, GUEST with its whole path, e.g. tool:/bin/tool)", s)
	}
	f := FileIn{Host: s[:at], Guest: s[at+1:]}
	if at := strings.LastIndexByte(f.Guest, ':'); at >= 0 {
		mode, err := ParseMode(f.Guest[at+1:])
		if err != nil {
			return FileIn{}, err
		}
		f.Guest, f.Mode = f.Guest[:at], mode
	}
	return f, nil
}

// ParseFileOut reads GUEST:HOST. GUEST has no colon.
func ParseFileOut(s string) (FileOut, error) {
	guest, host, ok := strings.Cut(s, ":")
	if !ok || !strings.HasPrefix(guest, "/") || host == "" {
		return FileOut{}, fmt.Errorf("%q names no file of the guest (write GUEST:HOST, GUEST with its whole path, e.g. /tmp/result:result)", s)
	}
	return FileOut{Guest: guest, Host: host}, nil
}

// ParseMode reads permission bits in octal, with or without a 0 or 0o before them.
func ParseMode(s string) (fs.FileMode, error) {
	v, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil || v > 0o777 {
		return 0, fmt.Errorf("%q is not a mode (write e.g. 0755)", s)
	}
	return fs.FileMode(v), nil
}

// Timeouts bound the stages of a run, each from the end of the one before it; 0: only
// the whole run is bounded.
type Timeouts struct {
	Launch   time.Duration // (timeouts.launch) until SNP_LAUNCH_FINISH
	Firmware time.Duration // (timeouts.firmware) until the kernel's first sign
	Kernel   time.Duration // (timeouts.kernel) until the agent says hello
	Agent    time.Duration // (timeouts.agent) until the guest has sent its report
	Command  time.Duration // (timeouts.command) until the command has ended
}
