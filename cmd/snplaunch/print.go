package main

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/shell"
	"github.com/snplaunch/snplaunch/launcher"
)

// configFile is what the printed command calls the file that it belongs to.
const configFile = "snp.conf"

// print writes how a guest would be launched, in one of the forms of run --print.
func (e *env) print(g *guest.Guest, o launcher.Options, form string) error {
	paste := func(line []string) string {
		if o.Backend == launcher.BackendSim {
			line = append([]string{"snplaunch", "sim", "exec", "--hold", "--"}, line...)
		}
		return shell.Quote(line...)
	}
	switch form {
	case "libvirt":
		text, err := launcher.LibvirtDomain(g, o)
		if err != nil {
			return err
		}
		_, err = e.stdout.Write(text)
		return err
	case "qemu-config":
		config, command, err := launcher.QEMUConfig(g, o, configFile)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "# Save as %s. What no such file can express is in the command (sed -n 's/^#  //p' %[1]s):\n#  %s\n\n%s",
			configFile, strings.ReplaceAll(fold(paste(command)), "\n", "\n#  "), config)
		return err
	}
	line, err := launcher.CommandLine(g, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, paste(line))
	return err
}

// foldedLine is how long a line of a command may be in a file that QEMU reads, which takes
// 1023 bytes for a line, comments too, and what follows them for the next.
const foldedLine = 900

// fold breaks a quoted command into lines that a shell joins again.
func fold(command string) string {
	var b strings.Builder
	inQuotes, escaped, n := false, false, 0
	for _, c := range command {
		if n >= foldedLine && !escaped {
			if inQuotes {
				b.WriteString("'\\\n'")
			} else {
				b.WriteString("\\\n")
			}
			n = 0
		}
		switch {
		case escaped:
			escaped = false
		case c == '\'':
			inQuotes = !inQuotes
		case c == '\\' && !inQuotes:
			escaped = true
		}
		b.WriteRune(c)
		if n++; c == '\n' {
			n = 0
		}
	}
	return b.String()
}
