// Command sh is the guest's shell: mvdan.cc/sh's interpreter with the command
// line of a POSIX shell.
//
//	sh [-eux…] [-o OPTION] [-c COMMAND [NAME] | FILE] [ARGUMENT…]
//
// Without a command and a file it reads from its standard input. u-root's own
// shell, gosh, takes no arguments for a script, and as part of u-root's one
// binary it does not know itself by the name sh.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// Exit codes of POSIX's sh for what it could not start with.
const (
	exitUsage    = 2
	exitNotFound = 127
)

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "sh: %v\n", err)
		return code
	}
	options, command, args := parse(args)
	source, name, interactive := stdin, "sh", false
	switch {
	case command && len(args) == 0:
		return fail(exitUsage, fmt.Errorf("-c needs a command"))
	case command:
		source = strings.NewReader(args[0])
		if args = args[1:]; len(args) > 0 {
			name, args = args[0], args[1:]
		}
	case len(args) > 0:
		f, err := os.Open(args[0])
		if err != nil {
			return fail(exitNotFound, err)
		}
		defer f.Close()
		source, name, args = f, args[0], args[1:]
	default:
		interactive = isTerminal(stdin)
	}
	r, err := interp.New(interp.StdIO(stdin, stdout, stderr), interp.Interactive(interactive),
		interp.Params(append(append(options, "--"), args...)...))
	if err != nil {
		return fail(exitUsage, err)
	}
	if interactive {
		err = converse(r, stdin, stdout)
	} else {
		var program *syntax.File
		if program, err = syntax.NewParser().Parse(source, name); err != nil {
			return fail(exitUsage, err)
		}
		err = r.Run(context.Background(), program)
	}
	if status, ok := interp.IsExitStatus(err); ok {
		return int(status)
	}
	if err != nil {
		return fail(1, err)
	}
	return 0
}

// parse splits the options off and says whether -c is among them.
func parse(args []string) (options []string, command bool, rest []string) {
	for len(args) > 0 {
		a := args[0]
		if len(a) < 2 || a[0] != '-' && a[0] != '+' {
			break
		}
		args = args[1:]
		if a == "--" {
			break
		}
		for _, letter := range a[1:] {
			switch {
			case letter == 'c' && a[0] == '-':
				command = true
			case letter == 'i', letter == 'l', letter == 's': // this shell finds out by itself
			case letter == 'o' && len(args) > 0:
				options = append(options, a[:1]+"o", args[0])
				args = args[1:]
			default:
				options = append(options, a[:1]+string(letter))
			}
		}
	}
	return options, command, args
}

// converse runs what is typed, line by line. Ctrl-C ends what runs, not the shell: a signal
// that is taken, unlike one that is ignored, is not so for what the shell starts.
func converse(r *interp.Runner, stdin io.Reader, stdout io.Writer) error {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	var last error
	parser := syntax.NewParser()
	fmt.Fprint(stdout, "$ ")
	err := parser.Interactive(stdin, func(stmts []*syntax.Stmt) bool {
		if parser.Incomplete() {
			fmt.Fprint(stdout, "> ")
			return true
		}
		for _, stmt := range stmts {
			last = r.Run(context.Background(), stmt)
			if r.Exited() {
				return false
			}
		}
		fmt.Fprint(stdout, "$ ")
		return true
	})
	if err != nil {
		return err
	}
	return last
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
