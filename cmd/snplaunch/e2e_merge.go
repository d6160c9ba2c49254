package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/snplaunch/snplaunch/e2e/results"
)

const maxShards = 1 << 16

func e2eMerge(e *env, args []string) error {
	fs := e.flags("e2e merge", "OUT IN… [flags]\n\nPuts the results of all shards of a run into one file. Cells that are there twice, or missing, are errors.")
	partial := fs.Bool("partial", false, "write what there is where cells are missing; the exit code stays 1")
	paths, _, err := parse(fs, args, maxShards)
	if err != nil {
		return err
	}
	if len(paths) < 2 {
		return usageError("e2e merge: name the file to write and those to read: snplaunch e2e merge all.jsonl shard-*.jsonl")
	}
	out := paths[0]
	// A forgotten OUT must not cost the results of a shard.
	if there, err := results.ReadFile(out); err == nil && there.Header.Shard != "" {
		return usageError("e2e merge: %s holds the results of shard %s, and would be written over; name the file to write first: snplaunch e2e merge all.jsonl shard-*.jsonl", out, there.Header.Shard)
	}
	var runs []*results.Run
	for _, p := range paths[1:] {
		run, err := e.readResults(p)
		if err != nil {
			return err
		}
		if run, err = run.Moved(filepath.Dir(p), filepath.Dir(out)); err != nil {
			return err
		}
		runs = append(runs, run)
	}
	merged, err := results.Merge(runs...)
	if err != nil && (!*partial || !errors.Is(err, results.ErrIncomplete)) {
		return fmt.Errorf("merging: %w", err)
	}
	var text bytes.Buffer
	if err := results.Write(&text, merged); err != nil {
		return err
	}
	if err := writeTogether(namedFile{out, text.Bytes()}); err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "%s: %s\n", out, merged.Totals())
	return err
}

// readResults reads a file of results and tells where its writer was killed.
func (e *env) readResults(path string) (*results.Run, error) {
	run, err := results.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if run.Cut > 0 {
		fmt.Fprintf(e.stderr, "snplaunch: %s: the last line, %d bytes, breaks off: its writer was killed, and that cell counts as not run\n", path, run.Cut)
	}
	return run, nil
}
