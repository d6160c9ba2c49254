package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func manVerb(e *env, args []string) error {
	fs := e.flags("man", "[DIR|VERB]\n\nWrites the manual pages into a folder, snplaunch.1 and one for each command; without a folder, snplaunch.1 to stdout, or the page of a verb: snplaunch man run | man -l -")
	dir, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	all := describeAll(e)
	if len(dir) == 0 {
		_, err := fmt.Fprint(e.stdout, mainPage(all))
		return err
	}
	for _, d := range all {
		if d.name == strings.Join(dir, " ") {
			_, err := fmt.Fprint(e.stdout, commandPage(d))
			return err
		}
	}
	if len(dir) > 1 {
		return usageError("man: %q is no verb of snplaunch", strings.Join(dir, " "))
	}
	if subs := subverbNames(dir[0]); subs != nil {
		return usageError("man: %s has a page for each of its verbs: name %s %s", dir[0], dir[0], strings.Join(subs, ", "))
	}
	if err := os.MkdirAll(dir[0], 0o755); err != nil {
		return err
	}
	files := []namedFile{{filepath.Join(dir[0], "snplaunch.1"), []byte(mainPage(all))}}
	for _, d := range all {
		files = append(files, namedFile{filepath.Join(dir[0], pageName(d)+".1"), []byte(commandPage(d))})
	}
	return writeTogether(files...)
}

func pageName(d commandHelp) string { return "snplaunch-" + strings.ReplaceAll(d.name, " ", "-") }

// mainPage is the page of the whole program, in the macros of man(7).
func mainPage(all []commandHelp) string {
	var b strings.Builder
	head(&b, "snplaunch", "launch AMD SEV-SNP guests, compute their launch digest beforehand, prove that the two agree")
	b.WriteString(".SH SYNOPSIS\n.B snplaunch\n.I VERB\n[\\fIarguments\\fR]\n.SH DESCRIPTION\n")
	paragraph(&b, "With SEV-SNP a guest's owner has to know its measurement beforehand. snplaunch computes it from the same description that launches the guest, on an EPYC host or on a software SNP host, and shows that both agree.")
	b.WriteString(".SH COMMANDS\n")
	for _, d := range all {
		fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s.\n", roff(pageName(d)), roff(d.short))
	}
	b.WriteString(".SH EXIT STATUS\n.TP\n.B 0\nWhat was asked for holds.\n.TP\n.B 1\nIt does not.\n.TP\n.B 2\nWrong usage.\n.SH ENVIRONMENT\n")
	for _, v := range [][2]string{
		{"XDG_CACHE_HOME", "Where the parts that setup fetches are kept, in the folder snplaunch."},
		{"XDG_DATA_HOME", "Where the keys of the simulated root are kept."},
		{"XDG_STATE_HOME", "Where the folders of failed runs are kept."},
	} {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", v[0], roff(v[1]))
	}
	return b.String()
}

// commandPage is the page of one command.
func commandPage(d commandHelp) string {
	var b strings.Builder
	head(&b, pageName(d), d.short)
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B snplaunch %s\n%s\n", roff(d.name), roff(d.usage))
	if d.doc != "" {
		b.WriteString(".SH DESCRIPTION\n")
		paragraph(&b, d.doc)
	}
	if len(d.flags) > 0 {
		b.WriteString(".SH OPTIONS\n")
	}
	for _, f := range d.flags {
		fmt.Fprintf(&b, ".TP\n.B \\-\\-%s", roff(f.name))
		if f.arg != "" {
			fmt.Fprintf(&b, " \\fI%s\\fR", roff(f.arg))
		}
		b.WriteString("\n")
		paragraph(&b, f.doc)
	}
	b.WriteString(".SH SEE ALSO\n.BR snplaunch (1)\n")
	return b.String()
}

func head(b *strings.Builder, name, short string) {
	fmt.Fprintf(b, ".TH %s 1 \"\" snplaunch\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), roff(name), roff(short))
}

// paragraph writes text, a paragraph for each that it has, none of whose lines reads as a
// macro.
func paragraph(b *strings.Builder, text string) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if i > 0 {
			b.WriteString(".br\n")
		}
		line = roff(line)
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		b.WriteString(line + "\n")
	}
}

// roff keeps text from being read as anything but text.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "…", "...").Replace(s)
}
