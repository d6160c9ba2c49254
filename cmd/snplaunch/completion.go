package main

import (
	"fmt"
	"strings"
)

func completionVerb(e *env, args []string) error {
	fs := e.flags("completion", "bash|zsh|fish\n\nPrints a script that completes verbs, flags, their values and file names, for instance: source <(snplaunch completion bash)")
	shell, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(shell) == 0 {
		return usageError("completion: name the shell: bash, zsh or fish")
	}
	script, ok := map[string]func([]commandHelp) string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[shell[0]]
	if !ok {
		return usageError("completion: %q is none of bash, zsh, fish", shell[0])
	}
	_, err = fmt.Fprint(e.stdout, script(describeAll(e)))
	return err
}

// bashScript finds the command among the first words, and completes a flag's value
// after the flag, flags after a dash, else the second word, files.
func bashScript(all []commandHelp) string {
	var b strings.Builder
	b.WriteString(`_snplaunch() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]} words= i
  for ((i = 2; i < COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} == -- ]] && { COMPREPLY=($(compgen -f -- "$cur")); return; }
  done
`)
	b.WriteString(shellTables(all, `"$cmd ${COMP_WORDS[2]}"`, "$COMP_CWORD"))
	b.WriteString(`  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ ${#COMPREPLY[@]} -gt 0 || $cur == -* ]] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _snplaunch snplaunch
`)
	return b.String()
}

// zshScript is the same for zsh, whose words begin at 1 and whose compadd completes.
func zshScript(all []commandHelp) string {
	var b strings.Builder
	b.WriteString(`#compdef snplaunch
_snplaunch() {
  local cur=${words[CURRENT]} prev=${words[CURRENT-1]} cmd=${words[2]} second=${words[3]} after
  integer at=$(( CURRENT - 1 ))
  after=${words[(I)--]}
  if (( after > 0 && after < CURRENT )); then _files; return; fi
  local choices
`)
	b.WriteString(strings.ReplaceAll(shellTables(all, `"$cmd $second"`, "$at"), "words=", "choices="))
	b.WriteString(`  compadd -- ${=choices}
  [[ $cur == -* || $compstate[nmatches] -gt 0 ]] || _files
}
if [ "$funcstack[1]" = "_snplaunch" ]; then _snplaunch "$@"; else compdef _snplaunch snplaunch; fi
`)
	return b.String()
}

// shellTables are the words that can stand at a place, as case statements that set words.
// second is the shell's word for the command's two words, at for the number of the word.
func shellTables(all []commandHelp, second, at string) string {
	var b strings.Builder
	var names []string
	for _, v := range verbs {
		names = append(names, v.name)
	}
	fmt.Fprintf(&b, "  if [[ %s -eq 1 ]]; then words=%q; else\n  case %s in\n", at, strings.Join(names, " "), second)
	for _, d := range all {
		pattern := d.name + " *"
		if strings.Contains(d.name, " ") {
			pattern = d.name
		}
		fmt.Fprintf(&b, "  %s)\n    case $prev in\n", shellPattern(pattern))
		for _, f := range d.flags {
			if len(f.values) > 0 {
				fmt.Fprintf(&b, "    --%s) words=%q ;;\n", f.name, strings.Join(f.values, " "))
			} else if f.arg != "" {
				fmt.Fprintf(&b, "    --%s) ;;\n", f.name)
			}
		}
		words := arguments(d.name)
		var flags []string
		for _, f := range d.flags {
			flags = append(flags, "--"+f.name)
		}
		fmt.Fprintf(&b, "    *) if [[ $cur == -* ]]; then words=%q; else words=%q; fi ;;\n    esac ;;\n", strings.Join(flags, " "), strings.Join(words, " "))
	}
	for _, v := range verbs {
		if subs := subverbNames(v.name); subs != nil {
			fmt.Fprintf(&b, "  %s) words=%q ;;\n", shellPattern(v.name+" *"), strings.Join(subs, " "))
		}
	}
	b.WriteString("  esac; fi\n")
	return b.String()
}

// shellPattern quotes all of a pattern but a star at its end.
func shellPattern(s string) string {
	if rest, ok := strings.CutSuffix(s, "*"); ok {
		return "'" + rest + "'*"
	}
	return "'" + s + "'"
}

func fishScript(all []commandHelp) string {
	var b strings.Builder
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
	}
	for _, v := range verbs {
		fmt.Fprintf(&b, "complete -c snplaunch -n __fish_use_subcommand -f -a %s -d %s\n", v.name, quote(v.short))
		words := append(subverbNames(v.name), arguments(v.name)...)
		if len(words) > 0 {
			fmt.Fprintf(&b, "complete -c snplaunch -n %s -f -a %s\n", quote("__fish_seen_subcommand_from "+v.name+"; and not __fish_seen_subcommand_from "+strings.Join(words, " ")), quote(strings.Join(words, " ")))
		}
	}
	for _, d := range all {
		var seen []string
		for _, w := range strings.Fields(d.name) {
			seen = append(seen, "__fish_seen_subcommand_from "+w)
		}
		for _, f := range d.flags {
			fmt.Fprintf(&b, "complete -c snplaunch -n %s -l %s -d %s", quote(strings.Join(seen, "; and ")), f.name, quote(firstSentence(f.doc)))
			switch {
			case len(f.values) > 0:
				fmt.Fprintf(&b, " -x -a %s", quote(strings.Join(f.values, " ")))
			case f.arg != "":
				b.WriteString(" -r")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func firstSentence(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s, _, _ = strings.Cut(s, "; ")
	return s
}
