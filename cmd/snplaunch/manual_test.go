package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every verb and every second word describes itself: what is completed and what the
// manual says comes from there.
func TestDescribe(t *testing.T) {
	all := describeAll(&env{ctx: t.Context()})
	for _, d := range all {
		if d.usage == "" && d.doc == "" && len(d.flags) == 0 && d.name != "version" {
			t.Errorf("%s does not describe itself", d.name)
		}
		verb, sub, _ := strings.Cut(d.name, " ")
		args := []string{verb, "--help"}
		if sub != "" {
			args = []string{verb, sub, "--help"}
		}
		if out, stderr, code := program(args...); code != exitOK {
			t.Errorf("%q: %d, %s%s", args, code, out, stderr)
		}
	}
	for _, c := range []struct{ command, flag, value string }{{"run", "keep", "always"}, {"run", "net", "user"}, {"run", "backend", "sim"}} {
		i := slices.IndexFunc(all, func(d commandHelp) bool { return d.name == c.command })
		f := slices.IndexFunc(all[i].flags, func(f flagHelp) bool { return f.name == c.flag })
		if f < 0 || !slices.Contains(all[i].flags[f].values, c.value) {
			t.Errorf("%s --%s has not the value %s", c.command, c.flag, c.value)
		}
	}
}

// What runs as a second word is what is described, and nothing else.
func TestSecondWordsAreDescribed(t *testing.T) {
	all := describeAll(&env{ctx: t.Context()})
	var want []string
	for _, v := range verbs {
		subs := subverbs[v.name]
		if len(subs) == 0 {
			want = append(want, v.name)
		}
		for _, s := range subs {
			want = append(want, v.name+" "+s.name)
			if _, stderr, code := program(v.name, s.name, "--no-such-flag"); code != exitUsage || !strings.Contains(stderr, v.name) {
				t.Errorf("%s %s cannot be run: %d, %s", v.name, s.name, code, stderr)
			}
		}
	}
	var got []string
	for _, d := range all {
		got = append(got, d.name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("described are %q, there are %q", got, want)
	}
	for _, missed := range []string{"e2e plan", "e2e run", "e2e evidence"} {
		if !slices.Contains(got, missed) {
			t.Errorf("%s is not described", missed)
		}
	}
}

// A verb's help and its page can be asked for by its name.
func TestHelpAndManOfAVerb(t *testing.T) {
	direct, _, _ := program("run", "--help")
	if out, stderr, code := program("help", "run"); code != exitOK || out != direct || out == "" {
		t.Errorf("help run: %d, %s%s", code, out, stderr)
	}
	t.Chdir(t.TempDir())
	for _, words := range [][]string{{"run"}, {"e2e", "plan"}} {
		out, stderr, code := program(append([]string{"man"}, words...)...)
		if code != exitOK || !strings.Contains(out, ".B snplaunch "+strings.Join(words, " ")) {
			t.Errorf("man %q: %d, %s%s", words, code, out, stderr)
		}
	}
	if _, stderr, code := program("man", "e2e"); code != exitUsage || !strings.Contains(stderr, "plan, run, evidence") {
		t.Errorf("man e2e: %d, %s", code, stderr)
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("man makes folders of verbs' names: %v, %v", made, err)
	}
}

// The shells complete with the scripts: bash itself is asked, zsh and fish where they are.
func TestCompletion(t *testing.T) {
	ask := map[string]func(script string, words ...string) *exec.Cmd{
		"bash": func(script string, words ...string) *exec.Cmd {
			return exec.Command("bash", append([]string{"--norc", "-c", `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _snplaunch; printf '%s\n' "${COMPREPLY[@]}"`, script}, words...)...)
		},
		"fish": func(script string, words ...string) *exec.Cmd {
			return exec.Command("fish", "--no-config", "-c", "source $argv[1]; complete -C \"$argv[2]\" | string split -f1 \\t; true", script, strings.Join(words, " "))
		},
		"zsh": func(script string, words ...string) *exec.Cmd {
			return exec.Command("zsh", append([]string{"-f", "-c", `compdef() { : }; _files() { : }; typeset -A compstate; source "$0"
compadd() { shift; print -l -- ${(M)@:#${words[CURRENT]}*} }
words=("$@"); CURRENT=$#; _snplaunch`, script}, words...)...)
		},
	}
	for shell, command := range ask {
		if _, err := exec.LookPath(shell); err != nil {
			if shell == "bash" {
				t.Fatal("bash is missing; install it")
			}
			t.Logf("%s is not here, its script is not tried", shell)
			continue
		}
		script, _, code := program("completion", shell)
		path := filepath.Join(t.TempDir(), "_snplaunch")
		if err := os.WriteFile(path, []byte(script), 0o644); err != nil || code != exitOK {
			t.Fatal(err, code)
		}
		for _, c := range []struct {
			words []string
			want  string
		}{
			{[]string{"snplaunch", "meas"}, "measure"},
			{[]string{"snplaunch", "run", "--kernel-h"}, "--kernel-hashes"},
			{[]string{"snplaunch", "run", "--keep", "al"}, "always"},
			{[]string{"snplaunch", "idblock", "key-"}, "key-digest"},
			{[]string{"snplaunch", "idblock", "create", "--id-b"}, ""},
			{[]string{"snplaunch", "completion", "f"}, "fish"},
			{[]string{"snplaunch", "e2e", "pl"}, "plan"},
			{[]string{"snplaunch", "schema", "g"}, "guest"},
		} {
			out, err := command(path, c.words...).CombinedOutput()
			if err != nil {
				t.Errorf("%s, %q: %v\n%s", shell, c.words, err, out)
				continue
			}
			got := strings.Fields(string(out))
			if c.want == "" {
				continue
			}
			if !slices.Contains(got, c.want) || len(got) > 3 {
				t.Errorf("%s completes %q to %q, want %s", shell, c.words, got, c.want)
			}
		}
	}
}

// The manual pages are such for mandoc, where it is, and for man.
func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if _, stderr, code := program("man", dir); code != exitOK {
		t.Fatalf("%d, %s", code, stderr)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < len(verbs) {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	out, _, code := program("man")
	if main, err := os.ReadFile(filepath.Join(dir, "snplaunch.1")); err != nil || code != exitOK || string(main) != out {
		t.Errorf("to stdout it is another page: %v", err)
	}
	run, err := os.ReadFile(filepath.Join(dir, "snplaunch-run.1"))
	if err != nil || !strings.Contains(string(run), `.B \-\-kernel\-hashes \fIon|off\fR`) {
		t.Errorf("%v\n%s", err, run)
	}
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Log("mandoc is not here, the pages are not checked with it")
		return
	}
	said, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(said)) {
		if !strings.Contains(line, "missing date") { // the same program gives the same pages on any day
			t.Error(line)
		}
	}
}
