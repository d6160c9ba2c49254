package supervise

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxArguments and maxArgument bound what is read of a program's arguments.
const (
	maxArguments = 4096
	maxArgument  = 128 << 10
)

// cbitposPattern finds the property in both forms that QEMU takes, decimal or
// hexadecimal: sev-snp-guest,cbitpos=51 and
// {"qom-type":"sev-snp-guest","cbitpos":51}. What only begins like a number is left
// for QEMU to refuse.
var cbitposPattern = regexp.MustCompile(`(cbitpos=|"cbitpos"\s*:)(\s*(?:0[xX][0-9a-fA-F]+|\d+)\b)`)

// FitCBitPos puts another C-bit position into an argument of QEMU, keeping the
// argument's length: 51 becomes " 0", which QEMU reads as it reads 0. (A zero in
// front would do for some positions; QEMU takes 08 for a bad octal number.) changed is false where
// there is nothing to change. A position with more digits than there is room
// for is an error.
func FitCBitPos(argument string, position int) (fitted string, changed bool, err error) {
	if !strings.Contains(argument, "sev-snp-guest") && !strings.Contains(argument, "sev-guest") {
		return argument, false, nil
	}
	fitted = cbitposPattern.ReplaceAllStringFunc(argument, func(m string) string {
		parts := cbitposPattern.FindStringSubmatch(m)
		old, convErr := strconv.ParseUint(strings.TrimSpace(parts[2]), 0, 32)
		if convErr == nil && old == uint64(position) {
			return m
		}
		digits := strconv.Itoa(position)
		if len(digits) > len(parts[2]) {
			err = fmt.Errorf("%q leaves no room for this machine's C-bit position %d: write it with two digits", m, position)
			return m
		}
		changed = true
		return parts[1] + strings.Repeat(" ", len(parts[2])-len(digits)) + digits
	})
	if err != nil {
		return argument, false, err
	}
	return fitted, changed, nil
}

// overwrite writes even where the program itself may not, as to the literals of
// a compiled program, of which it gets a copy.
func (c *caller) overwrite(addr uint64, p []byte) error {
	err := c.write(addr, p)
	if !errors.Is(err, unix.EFAULT) {
		return err
	}
	f, openErr := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_WRONLY, 0)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer f.Close()
	_, err = f.WriteAt(p, int64(addr))
	return err
}

// fitArguments puts the C-bit position right in the arguments of a program
// that is about to be started.
func (l *loop) fitArguments(n *notification, c *caller, argv uint64) {
	if l.cbitpos < 0 {
		return
	}
	for i := uint64(0); i < maxArguments; i++ {
		var p [8]byte
		if c.read(argv+8*i, p[:]) != nil {
			return
		}
		addr := le.Uint64(p[:])
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
		if err := c.overwrite(addr, []byte(fitted)); err != nil {
			l.logf("software SNP host: cannot put cbitpos right in the arguments of process %d: %v", n.PID, err)
			continue
		}
		l.logf("software SNP host: cbitpos of %q does not fit this machine, whose CPUID says %d: QEMU is started with %q",
			cbitposPattern.FindString(argument), l.cbitpos, cbitposPattern.FindString(fitted))
	}
}
