package main

import (
	"encoding/json"

	"github.com/snplaunch/snplaunch/e2e/results"
)

func e2eDiff(e *env, args []string) error {
	fs := e.flags("e2e diff", "OLD NEW [flags]\n\nCompares two files of results: what now launches, fails or measures differently, and which input changed. Exit code 1: something drifted.")
	asJSON := fs.Bool("json", false, "print JSON")
	paths, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	if len(paths) != 2 {
		return usageError("e2e diff: name two files of results, the older one first")
	}
	old, err := e.readResults(paths[0])
	if err != nil {
		return err
	}
	new, err := e.readResults(paths[1])
	if err != nil {
		return err
	}
	drift := results.Diff(old, new)
	if *asJSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		err = enc.Encode(drift)
	} else {
		err = drift.Text(e.stdout)
	}
	if err == nil && drift.Any() {
		err = &exitError{code: exitNo}
	}
	return err
}
