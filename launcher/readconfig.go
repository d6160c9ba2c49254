package launcher

import (
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
)

// maxConfigValue is the longest value that -readconfig reads (QEMU's util/qemu-config.c
// scans into 1024 bytes).
const maxConfigValue = 1023

// configGroups are the options that -readconfig can express: the section that stands for
// one, and the property that an argument's first word is.
var configGroups = map[string][2]string{
	"-machine": {"machine", "type"}, "-accel": {"accel", "accel"}, "-object": {"object", "qom-type"}, "-device": {"device", "driver"},
	"-chardev": {"chardev", "backend"}, "-netdev": {"netdev", "type"}, "-smp": {"smp-opts", "cpus"}, "-m": {"memory", "size"},
}

// machineFiles are options that are properties of the machine.
var machineFiles = map[string]string{"-bios": "firmware", "-kernel": "kernel", "-initrd": "initrd", "-append": "append"}

// QEMUConfig gives a file for QEMU's -readconfig, and the command line that it goes with:
// options that no such file has, values that are too long for one (an ID block's
// authentication is) or have a quotation mark.
func QEMUConfig(g *guest.Guest, o Options, file string) (config string, command []string, err error) {
	line, err := CommandLine(g, o)
	if err != nil {
		return "", nil, err
	}
	command = []string{line[0], "-readconfig", file}
	var machine, sections strings.Builder
	for args := line[1:]; len(args) > 0; {
		option := args[0]
		if len(args) == 1 || strings.HasPrefix(args[1], "-") {
			command, args = append(command, option), args[1:]
			continue
		}
		value := args[1]
		args = args[2:]
		group, known := configGroups[option]
		property, ofMachine := machineFiles[option]
		switch {
		case ofMachine && fits(value):
			fmt.Fprintf(&machine, "  %s = \"%s\"\n", property, value)
		case known && option == "-machine":
			text, _, ok := properties(value, group[1])
			if !ok {
				command = append(command, option, value)
				break
			}
			machine.WriteString(text)
		case known:
			text, id, ok := properties(value, group[1])
			if !ok {
				command = append(command, option, value)
				break
			}
			if id != "" {
				id = fmt.Sprintf(" %q", id)
			}
			fmt.Fprintf(&sections, "\n[%s%s]\n%s", group[0], id, text)
		default:
			command = append(command, option, value)
		}
	}
	return "[machine]\n" + machine.String() + sections.String(), command, nil
}

func fits(value string) bool {
	return value != "" && len(value) <= maxConfigValue && !strings.ContainsAny(value, "\"\n")
}

// properties gives the lines of an argument's properties and its id; false where a
// file cannot express it.
func properties(value, first string) (text, id string, ok bool) {
	if strings.HasPrefix(value, "{") {
		return "", "", false
	}
	const comma = "\x00"
	var b strings.Builder
	seen := map[string]bool{}
	for i, p := range strings.Split(strings.ReplaceAll(value, ",,", comma), ",") {
		name, v, given := strings.Cut(strings.ReplaceAll(p, comma, ","), "=")
		if i == 0 && !given {
			name, v = first, name
		} else if !given {
			return "", "", false
		}
		if seen[name] || !fits(v) { // a property that is given twice is a list
			return "", "", false
		}
		seen[name] = true
		if name == "id" {
			id = v
			continue
		}
		fmt.Fprintf(&b, "  %s = \"%s\"\n", name, v)
	}
	return b.String(), id, true
}
