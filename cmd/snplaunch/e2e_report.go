package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snplaunch/snplaunch/e2e/results"
)

func e2eReport(e *env, args []string) error {
	fs := e.flags("e2e report", "RESULTS [flags]\n\nTells what a run of a matrix found, in the forms that others read. Exit code 1: a cell failed, could not be tried, or was not run.")
	reports := newReportFlags(fs)
	paths, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(paths) != 1 {
		return usageError("e2e report: name a file of results; several shards become one with `snplaunch e2e merge`")
	}
	run, err := e.readResults(paths[0])
	if err != nil {
		return err
	}
	if err := reports.write(e, run, paths[0]); err != nil {
		return err
	}
	if !reports.github { // its stdout is the runner's
		if err := results.Text(e.stdout, run); err != nil {
			return err
		}
	}
	if !run.Totals().Holds() {
		return &exitError{code: exitNo}
	}
	return nil
}

// reportFlags are the forms of results that `e2e run` and `e2e report` write.
type reportFlags struct {
	junit, tap, html string
	github           bool
}

func newReportFlags(fs *flag.FlagSet) *reportFlags {
	r := &reportFlags{}
	fs.StringVar(&r.junit, "junit", "", "write JUnit XML to this `FILE`")
	fs.StringVar(&r.tap, "tap", "", "write TAP 14 to this `FILE`")
	fs.StringVar(&r.html, "html", "", "write a report, one self-contained page, to this `FILE`")
	fs.BoolVar(&r.github, "github", false, "print annotations of GitHub Actions, and add a summary to the file that $GITHUB_STEP_SUMMARY names")
	return r
}

// writeHTML lists the artefacts that are there, relative to the report.
func (r *reportFlags) writeHTML(w io.Writer, run *results.Run) error {
	return results.HTML(w, run, results.HTMLOptions{Files: func(folder string) []string {
		entries, err := os.ReadDir(filepath.Join(filepath.Dir(r.html), folder))
		if err != nil {
			return nil // moved or removed since: the link to the folder stays
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}})
}

// write writes what was asked for of a run whose results lie, or would lie, in
// a file: artefacts are relative to it.
func (r *reportFlags) write(e *env, run *results.Run, path string) error {
	var files []namedFile
	for _, f := range []struct {
		path  string
		write func(io.Writer, *results.Run) error
	}{{r.junit, results.JUnit}, {r.tap, results.TAP}, {r.html, r.writeHTML}} {
		if f.path == "" {
			continue
		}
		here, err := run.Moved(filepath.Dir(path), filepath.Dir(f.path))
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := f.write(&text, here); err != nil {
			return fmt.Errorf("writing %s: %w", f.path, err)
		}
		files = append(files, namedFile{f.path, text.Bytes()})
	}
	if err := writeTogether(files...); err != nil {
		return err
	}
	if !r.github {
		return nil
	}
	if err := results.Annotations(e.stdout, run); err != nil {
		return err
	}
	summary := os.Getenv("GITHUB_STEP_SUMMARY")
	if summary == "" {
		return nil
	}
	f, err := os.OpenFile(summary, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("writing the job's summary: %w", err)
	}
	if err = results.Summary(f, run); err != nil {
		f.Close()
		return fmt.Errorf("writing the job's summary: %w", err)
	}
	return f.Close()
}
