package main

import (
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/diagnose"
)

func explainVerb(e *env, args []string) error {
	fs := e.flags("explain", "WORD… [--json]\n\nSays in a paragraph what a word of SNP means: fw_error=11, ret=-5, EIO, policy=0x30000, tcb=0xd315000000000004 (tcb:turin=… for one product),\n"+
		"platform_info=…, signer_info=…, features=0x21, sig=0xa00f11, a GUID, section=16, page=3, a command, 0x1:0x4 (a termination request), a digest,\nthe id of a failure as diagnose prints it. A bare number has every meaning that it may have.")
	asJSON := fs.Bool("json", false, "print an array")
	words, rest, err := parse(fs, negativeNumbers(args), 64)
	if err != nil {
		return err
	}
	words = append(words, rest...)
	if len(words) == 0 {
		return usageError("explain: give a word, such as fw_error=11; `snplaunch explain --help` lists the kinds")
	}
	all := make([]diagnose.Explanation, 0, len(words))
	var unknown error
	for _, w := range words {
		list, err := diagnose.Explain(w)
		unknown = errors.Join(unknown, err)
		all = append(all, list...)
	}
	if *asJSON {
		if err := e.json(all); err != nil {
			return err
		}
	} else {
		for i, x := range all {
			if i > 0 {
				fmt.Fprintln(e.stdout)
			}
			fmt.Fprintf(e.stdout, "%s (%s)\n  %s\n  source: %s\n", x.Word, x.Kind, x.Text, x.Source)
		}
	}
	return unknown
}

// negativeNumbers keeps a word such as -22 from being taken for a flag.
func negativeNumbers(args []string) []string {
	var out, words []string
	for i, a := range args {
		if a == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if len(a) > 1 && a[0] == '-' && (a[1] >= '0' && a[1] <= '9' || a[1] == 'E') {
			words = append(words, a)
			continue
		}
		out = append(out, a)
	}
	if words == nil {
		return out
	}
	return append(append(out, "--"), words...)
}
