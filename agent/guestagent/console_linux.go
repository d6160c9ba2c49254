package guestagent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// openConsole opens the terminal behind /dev/console. The kernel lets no session have
// /dev/console itself for its terminal (drivers/tty/tty_io.c, noctty); it tells the
// terminals behind it, the one that /dev/console is last, in /sys/class/tty/console/active
// (Documentation/ABI/testing/sysfs-tty).
func openConsole(sys, dev string) (*os.File, error) {
	b, err := os.ReadFile(filepath.Join(sys, "class/tty/console/active"))
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(b))
	if len(names) == 0 {
		return nil, errors.New("the kernel has none (name one in its command line, as in console=ttyS0)")
	}
	name := names[len(names)-1]
	if name == "tty0" { // the virtual terminal that is shown, which is no terminal either
		if b, err = os.ReadFile(filepath.Join(sys, "class/tty/tty0/active")); err != nil {
			return nil, err
		}
		name = strings.TrimSpace(string(b))
	}
	if name != filepath.Base(name) {
		return nil, fmt.Errorf("%q is no terminal's name", name)
	}
	return os.OpenFile(filepath.Join(dev, name), os.O_RDWR, 0)
}
