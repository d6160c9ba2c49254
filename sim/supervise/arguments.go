package supervise

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// maxArguments and maxArgument bound what is read of a program's arguments.
const (
	maxArguments = 4096
	maxArgument  = 128 << 10
)

// cbitposPattern finds the property in both forms that QEMU takes:
// sev-snp-guest,cbitpos=51 and {"qom-type":"sev-snp-guest","cbitpos":51}.
var cbitposPattern = regexp.MustCompile(`(cbitpos=|"cbitpos"\s*:\s*)(\d+)`)

// FitCBitPos puts another C-bit position into an argument of QEMU, keeping the
// argument's length: 51 becomes 00, or " 0" in JSON. changed is false where
// there is nothing to change. A position with more digits than there is room
// for is an error.
func FitCBitPos(argument string, position int) (fitted string, changed bool, err error) {
	if !strings.Contains(argument, "sev-snp-guest") && !strings.Contains(argument, "sev-guest") {
		return argument, false, nil
	}
	fitted = cbitposPattern.ReplaceAllStringFunc(argument, func(m string) string {
		parts := cbitposPattern.FindStringSubmatch(m)
		old, convErr := strconv.Atoi(parts[2])
		if convErr == nil && old == position {
			return m
		}
		digits := strconv.Itoa(position)
		if len(digits) > len(parts[2]) {
			err = fmt.Errorf("%q leaves no room for this machine's C-bit position %d: write it with two digits", m, position)
			return m
		}
		fill := "0"
		if strings.HasPrefix(parts[1], `"`) {
			fill = " "
		}
		changed = true
		return parts[1] + strings.Repeat(fill, len(parts[2])-len(digits)) + digits
	})
	if err != nil {
		return argument, false, err
	}
	return fitted, changed, nil
}

// fitArguments puts the C-bit position right in the arguments of a program
// that is about to be started.
func (l *loop) fitArguments(n *notification, argv uint64) {
	if l.cbitpos < 0 {
		return
	}
	c := &caller{pid: int(n.PID), table: l.table}
	for i := uint64(0); i < maxArguments; i++ {
		var p [8]byte
		if c.Read(argv+8*i, p[:]) != nil {
			return
		}
		var addr uint64
		for j := 7; j >= 0; j-- {
			addr = addr<<8 | uint64(p[j])
		}
		if addr == 0 {
			return
		}
		argument, err := c.readString(addr, maxArgument)
		if err != nil {
			continue
		}
		fitted, changed, err := FitCBitPos(argument, l.cbitpos)
		if err != nil {
			l.logf("software SNP host: %v", err)
			continue
		}
		if !changed {
			continue
		}
		if err := c.Write(addr, []byte(fitted)); err != nil {
			l.logf("software SNP host: cannot put cbitpos right in the arguments of process %d: %v", n.PID, err)
			continue
		}
		l.logf("software SNP host: cbitpos of %q does not fit this machine, whose CPUID says %d: QEMU is started with %q",
			cbitposPattern.FindString(argument), l.cbitpos, cbitposPattern.FindString(fitted))
	}
}
