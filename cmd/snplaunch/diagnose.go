package main

import (
	"flag"
	"slices"
	"strings"
)

// inquiry is one way to find out why a launch failed. It has flags of its own on
// the verb diagnose and answers where one of them, or a file that it knows, was
// given.
type inquiry struct {
	name string // of its flag or kind of file, for messages
	// asked says whether the command line asks for it.
	asked func(files []string) bool
	run   func(e *env, files []string, asJSON bool) error
	// alone says that the files are its own, also where others know them.
	alone bool
}

// inquiries makes the flags of all of them.
var inquiries = []func(fs *flag.FlagSet) inquiry{
	logInquiry,
	recordInquiry,
	saveAreaInquiry,
	digestInquiry,
	pagesInquiry,
}

func diagnoseVerb(e *env, args []string) error {
	fs := e.flags("diagnose", "[guest.yaml] [flags]\n\nSays why a launch failed, from what it has left behind. Exit code 1 where nothing is found.")
	asJSON := fs.Bool("json", false, "print an object")
	var all []inquiry
	for _, add := range inquiries {
		all = append(all, add(fs))
	}
	files, _, err := parse(fs, args, 16)
	if err != nil {
		return err
	}
	asked := slices.DeleteFunc(slices.Clone(all), func(q inquiry) bool { return !q.asked(files) })
	if i := slices.IndexFunc(asked, func(q inquiry) bool { return q.alone }); i >= 0 {
		asked = asked[i : i+1]
	}
	names := func(list []inquiry) string {
		var out []string
		for _, q := range list {
			out = append(out, q.name)
		}
		return strings.Join(out, ", ")
	}
	switch len(asked) {
	case 0:
		return usageError("diagnose: say what to look at: %s; `snplaunch diagnose --help` has more", names(all))
	case 1:
		return asked[0].run(e, files, *asJSON)
	}
	return usageError("diagnose: %s cannot be asked for at once", names(asked))
}
