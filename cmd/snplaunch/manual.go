package main

import (
	"flag"
	"io"
	"regexp"
	"slices"
	"strings"
)

// arguments are what else can stand there, where that is one of some words.
func arguments(verb string) []string {
	switch verb {
	case "completion":
		return []string{"bash", "zsh", "fish"}
	case "schema":
		return schemaNames()
	}
	return nil
}

// commandHelp is a command: a verb, or one of its second words.
type commandHelp struct {
	name  string // "run", "idblock create"
	short string // one line; of the verb
	usage string // its arguments
	doc   string // what it does
	flags []flagHelp
}

type flagHelp struct {
	name   string
	arg    string   // "" for one without
	values []string // where it is one of some words
	doc    string
}

// describeAll lists all commands, from the flags that they really make.
func describeAll(e *env) []commandHelp {
	var out []commandHelp
	for _, v := range verbs {
		names := subverbNames(v.name)
		if names == nil {
			out = append(out, describeOne(e, v, nil))
			continue
		}
		for _, sub := range names {
			out = append(out, describeOne(e, v, []string{sub}))
		}
	}
	return out
}

// describeOne has a verb make its flags, which is all that it does when asked for help.
func describeOne(e *env, v verb, sub []string) commandHelp {
	d := commandHelp{name: strings.Join(append([]string{v.name}, sub...), " "), short: v.short, usage: v.usage}
	own := &env{ctx: e.ctx, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	_ = v.run(own, append(slices.Clone(sub), "--help"))
	if own.made == nil {
		return d
	}
	var doc string
	d.usage, doc, _ = strings.Cut(own.usage, "\n\n")
	d.doc = strings.TrimSpace(doc)
	own.made.VisitAll(func(f *flag.Flag) {
		arg, text := flag.UnquoteUsage(f)
		d.flags = append(d.flags, flagHelp{f.Name, arg, choices(arg), strings.TrimPrefix(text, ": ")})
	})
	return d
}

// words of small letters, digits, dots and dashes with bars between are what a flag takes;
// others name what it takes.
var choice = regexp.MustCompile(`^[a-z0-9][-a-z0-9.:]*(\|[a-z0-9][-a-z0-9.:]*)*$`)

func choices(arg string) []string {
	if !choice.MatchString(arg) || arg == "value" || arg == "string" || arg == "int" || arg == "duration" || arg == "uint" {
		return nil
	}
	return strings.Split(arg, "|")
}
