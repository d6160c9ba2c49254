// Command snplaunch measures, signs, launches and attests AMD SEV-SNP guests.
//
// This package holds flags, files and messages; what they mean is decided in
// the packages that it calls. Stdout is the answer, stderr the conversation.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"

	"github.com/snplaunch/snplaunch/agent/guestagent"
	"github.com/snplaunch/snplaunch/internal/suggest"
)

// Exit codes: what was asked for holds, it does not, or it was asked wrongly.
const (
	exitOK    = 0
	exitNo    = 1
	exitUsage = 2
	// exitOwn is sim exec's own failure; every other status is the command's.
	exitOwn = 125
)

// verb is one word of the command line.
type verb struct {
	name  string
	short string // one line
	usage string // arguments, for the first line of its help
	run   func(*env, []string) error
}

// env is what a verb may use of the world.
type env struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	made   *flag.FlagSet // the flags that were made last, and their usage
	usage  string
	help   func() // prints the help of the verb whose flags were made last
	// kds takes requests to AMD's Key Distribution Service; nil, as in main: the network.
	kds http.RoundTripper
}

// exitError ends the program with a code; its message, where it has one, is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is a command line that makes no sense.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// verbs is filled in by init so that help and completion can list it.
var verbs []verb

func init() {
	verbs = []verb{
		{"run", "measure, sign, launch, attest and compare a guest", "[guest.yaml] [flags] [-- COMMAND…]", runVerb},
		{"measure", "compute the launch digest", "[guest.yaml] [flags]", measureVerb},
		{"hashes", "print the kernel-hashes table", "[guest.yaml] [flags]", hashesVerb},
		{"idblock", "ID blocks and their keys", "create|prepare|assemble|verify|show|key-digest|keygen [flags]", second("idblock")},
		{"launch-measure", "compute or check the launch measurement of SEV and SEV-ES", "[flags]", launchMeasureVerb},
		{"report", "attestation reports: show, verify", "show|verify FILE [guest.yaml] [flags]", second("report")},
		{"certs", "certificates and revocation lists of reports and chips", "fetch [flags]", second("certs")},
		{"record", "note what a command that starts QEMU launches, and how that ends", "[flags] -- COMMAND…", recordVerb},
		{"e2e", "a matrix of launches: plan, run, compare, report", "plan|run|evidence|merge|diff|report", second("e2e")},
		{"sim", "the software SNP host: exec, replay, root", "exec [flags] -- COMMAND… | replay FILE [flags] | root", second("sim")},
		{"diagnose", "why a launch failed, what a digest was made of, where two launches part", "RECORD [guest.yaml] | --log FILE|- | guest.yaml --expected DIGEST | --pages A B", diagnoseVerb},
		{"explain", "what a word of SNP means: a status, an errno, a policy, a TCB, a GUID, …", "WORD… [--json]", explainVerb},
		{"setup", "fetch QEMU, firmware and kernel where they are missing, build the initramfs", "[flags]", setupVerb},
		{"doctor", "what this machine can do, and what to do about what it cannot; whether a launch can work", "[guest.yaml] [flags] [-- QEMU COMMAND…]", doctorVerb},
		{"init", "write a guest.yaml with comments, filled in from this machine", "[FILE] [flags]", initVerb},
		{"lock", "pin a description's files by their SHA-256", "guest.yaml [flags]", lockVerb},
		{"schema", "print the JSON Schema of a description", "[guest]", schemaVerb},
		{"completion", "print a completion script", "bash|zsh|fish", completionVerb},
		{"man", "print the manual, or write its pages into a folder", "[DIR|VERB]", manVerb},
		{"version", "print the version", "", versionVerb},
	}
}

func main() {
	// In the small initramfs this program is the guest's first process.
	if guestagent.IsInit() {
		guestagent.RunAsInit()
	}
	ctx := interruptible(os.Stderr)
	os.Exit(dispatch(&env{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:]))
}

// dispatch runs a command line and gives its exit code.
func dispatch(e *env, args []string) int {
	if len(args) == 0 {
		help(e.stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			return dispatch(e, append(args[1:], "--help"))
		}
		help(e.stdout)
		return exitOK
	case "--version", "-version":
		args = []string{"version"}
	}
	for _, v := range verbs {
		if v.name == args[0] {
			return e.exit(v.run(e, args[1:]))
		}
	}
	var names []string
	for _, v := range verbs {
		names = append(names, v.name)
	}
	return e.exit(usageError("%q is not a verb of snplaunch (%s)", args[0], suggest.Remedy(args[0], names)))
}

// exit says what went wrong and gives the exit code.
func (e *env) exit(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, flag.ErrHelp) {
		e.help()
		return exitOK
	}
	code := exitNo
	var coded *exitError
	if errors.As(err, &coded) {
		code = coded.code
	}
	if m := strings.TrimSpace(err.Error()); m != "" {
		fmt.Fprintln(e.stderr, "snplaunch: "+m)
	}
	return code
}

func help(w io.Writer) {
	fmt.Fprint(w, "snplaunch measures, signs, launches and attests AMD SEV-SNP guests.\n\nUsage: snplaunch VERB …\n\n")
	width := 0
	for _, v := range verbs {
		width = max(width, len(v.name))
	}
	for _, v := range verbs {
		fmt.Fprintf(w, "  %-*s  %s\n", width, v.name, v.short)
	}
	fmt.Fprint(w, "\n`snplaunch VERB --help` lists a verb's flags. Exit codes: 0 what was asked for holds, 1 it does not, 2 wrong usage.\n")
}

// flags makes the flag set of a verb.
func (e *env) flags(name, usage string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	// The flag package calls Usage for every mistake too; help is only for
	// those who ask for it, see exit.
	fs.Usage = func() {}
	e.made, e.usage = fs, usage
	e.help = func() {
		fmt.Fprintf(e.stdout, "Usage: snplaunch %s %s\n\n", name, usage)
		var names []string
		fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		sort.Strings(names)
		for _, n := range names {
			f := fs.Lookup(n)
			arg, text := flag.UnquoteUsage(f)
			fmt.Fprintf(e.stdout, "  --%s %s\n        %s\n", n, arg, text)
		}
	}
	return fs
}

// parse reads flags and positional arguments in any order, at most max of the
// latter; what follows "--" is given back untouched.
func parse(fs *flag.FlagSet, args []string, max int) (positional, rest []string, err error) {
	for i, a := range args {
		if a == "--" {
			args, rest = args[:i], args[i+1:]
			break
		}
	}
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, nil, err
			}
			return nil, nil, usageError("%s: %w%s; `snplaunch %s --help` lists the flags", fs.Name(), err, nearFlags(fs, err), fs.Name())
		}
		if fs.NArg() == 0 {
			return positional, rest, nil
		}
		positional = append(positional, fs.Arg(0))
		args = fs.Args()[1:]
		if len(positional) > max {
			return nil, nil, usageError("%s: %q is one argument too many", fs.Name(), fs.Arg(0))
		}
	}
}

// nearFlags says which flags an unknown one may have meant.
func nearFlags(fs *flag.FlagSet, err error) string {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return ""
	}
	var known []string
	fs.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	near := suggest.Nearest(name, known)
	if len(near) == 0 {
		return ""
	}
	return " (did you mean --" + strings.Join(near, " or --") + "?)"
}
