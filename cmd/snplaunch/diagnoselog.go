package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/snplaunch/snplaunch/diagnose"
)

// logInquiry looks for known failures in a log or a paste of one.
func logInquiry(fs *flag.FlagSet) inquiry {
	path := fs.String("log", "", "`FILE`: a log with the failure somewhere in it, of QEMU, the kernel, a guest's console, a CI job; - reads standard input")
	return inquiry{
		name:  "--log",
		asked: func([]string) bool { return *path != "" },
		run: func(e *env, files []string, asJSON bool) error {
			if len(files) > 0 {
				return usageError("diagnose: %q is one argument too many beside --log", files[0])
			}
			return diagnoseLog(e, *path, asJSON)
		},
	}
}

// foundFailure is a finding as --json prints it.
type foundFailure struct {
	ID          string `json:"id"`
	Line        int    `json:"line"`  // where it was first seen
	Count       int    `json:"count"` // on how many lines
	Message     string `json:"message"`
	Cause       string `json:"cause"`
	Likely      bool   `json:"likely"`           // inferred, not confirmed
	Proven      string `json:"proven,omitempty"` // what is already known to be right
	Advice      string `json:"advice"`
	Reference   string `json:"reference"`
	Consequence bool   `json:"consequence"` // of another failure
	Command     string `json:"command,omitempty"`
	Ret         *int   `json:"ret,omitempty"`
	FWError     *int   `json:"fw_error,omitempty"`
	FWStatus    string `json:"fw_status,omitempty"`
}

func diagnoseLog(e *env, path string, asJSON bool) error {
	in := e.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	findings, err := diagnose.ReadLog(in)
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	if asJSON {
		list := make([]foundFailure, 0, len(findings))
		for _, f := range findings {
			j := foundFailure{ID: f.ID, Line: f.Line, Count: f.Count, Message: f.Message, Cause: f.Cause, Likely: f.Likely, Proven: f.Proven,
				Advice: f.Advice, Reference: f.Reference, Consequence: f.Consequence, Command: f.Command}
			if f.Command != "" {
				j.Ret, j.FWError = &f.Ret, &f.FWError
			}
			if f.FWAsked {
				j.FWStatus = f.FWStatus.String()
			}
			list = append(list, j)
		}
		if err := e.json(map[string]any{"findings": list}); err != nil {
			return err
		}
	} else {
		printFindings(e.stdout, findings)
	}
	if len(findings) == 0 {
		return &exitError{exitNo, errors.New("nothing recognised: give the whole of QEMU's standard error, and the host's kernel log (dmesg) beside it")}
	}
	return nil
}

func printFindings(w io.Writer, findings []diagnose.Finding) {
	for i, f := range findings {
		if i == 1 {
			fmt.Fprintln(w, "\nAlso in this log:")
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		where := fmt.Sprintf("line %d", f.Line)
		if f.Count > 1 {
			where += fmt.Sprintf(", and on %d more", f.Count-1)
		}
		cause := "cause"
		if f.Likely {
			cause = "likely cause"
		}
		fmt.Fprintf(w, "%s (%s)\n", f.ID, where)
		for _, l := range [][2]string{{"said", f.Message}, {cause, f.Cause}, {"already right", f.Proven}, {"what to do", f.Advice}, {"source", f.Reference}} {
			if l[1] != "" {
				fmt.Fprintf(w, "  %-14s %s\n", l[0]+":", strings.ReplaceAll(l[1], "\n", " "))
			}
		}
	}
}
