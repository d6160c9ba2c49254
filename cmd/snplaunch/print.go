package main

import (
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
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
		return shellQuote(line)
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
		_, err = fmt.Fprintf(e.stdout, "# Save as %s. The rest is what no such file can express:\n# %s\n\n%s", configFile, paste(command), config)
		return err
	}
	line, err := launcher.CommandLine(g, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, paste(line))
	return err
}
