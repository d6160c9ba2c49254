package main

import (
	"fmt"
	"strings"
)

func completionVerb(e *env, args []string) error {
	fs := e.flags("completion", "bash|zsh|fish\n\nPrints a script that completes verbs and file names, for instance: source <(snplaunch completion bash)")
	shell, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(shell) == 0 {
		return usageError("completion: name the shell: bash, zsh or fish")
	}
	var names []string
	for _, v := range verbs {
		names = append(names, v.name)
	}
	words := strings.Join(names, " ")
	switch shell[0] {
	case "bash":
		fmt.Fprintf(e.stdout, `_snplaunch() {
  local cur=${COMP_WORDS[COMP_CWORD]} words=
  case $COMP_CWORD in
    1) words=%q ;;
    2) case ${COMP_WORDS[1]} in
         idblock) words="create prepare assemble verify show key-digest keygen" ;;
         report) words="show verify" ;;
         certs) words="fetch" ;;
         e2e) words="merge diff report" ;;
         sim) words="exec root" ;;
         completion) words="bash zsh fish" ;;
       esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _snplaunch snplaunch
`, words)
	case "zsh":
		fmt.Fprintf(e.stdout, "#compdef snplaunch\n_arguments '1:verb:(%s)' '*:file:_files'\n", words)
	case "fish":
		for _, v := range verbs {
			fmt.Fprintf(e.stdout, "complete -c snplaunch -n __fish_use_subcommand -f -a %s -d '%s'\n", v.name, strings.ReplaceAll(v.short, "'", `\'`))
		}
	default:
		return usageError("completion: %q is none of bash, zsh, fish", shell[0])
	}
	return nil
}
