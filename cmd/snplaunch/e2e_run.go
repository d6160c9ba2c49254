package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/launcher"
)

func e2eRun(e *env, args []string) error { return e.runMatrix("run", args) }

// e2eEvidence is a run of the cells that give evidence.
func e2eEvidence(e *env, args []string) error { return e.runMatrix("evidence", args) }

func (e *env) runMatrix(verb string, args []string) error {
	about := "Runs the cells of a matrix, several at a time and the slowest first, and says which did not do what was expected. Exit code 1: a cell failed or could not be tried."
	if verb == "evidence" {
		about = "Runs the full cells of a matrix in which nothing is made wrong, and leaves the evidence bundle of each that passed: one file, for report verify --bundle."
	}
	fs := e.flags("e2e "+verb, "MATRIX [flags]\n\n"+about)
	selection := addSelectionFlags(fs)
	reports := newReportFlags(fs)
	o := e2e.RunOptions{}
	fs.IntVar(&o.Workers, "j", max(runtime.NumCPU(), 1), "`N`: cells at the same time")
	fs.BoolVar(&o.FailFast, "fail-fast", false, "begin no further cell once one has failed")
	fs.IntVar(&o.Retries, "retries", 0, "`N`: how often a cell is tried again whose guest did not come up or took too long; it is then reported as flaky. A wrong digest, or something wrong that passed, is never tried again")
	fs.DurationVar(&o.Budget, "budget", 0, "`DURATION`: for one attempt at a cell, over what the matrix says")
	fs.StringVar(&o.Results, "results", "", "`FILE`: JSON lines (default: the matrix's name with .results.jsonl, in this folder); artefacts go beside it")
	fs.BoolVar(&o.Resume, "resume", false, "go on with a run that was interrupted or killed")
	fs.BoolVar(&o.Overwrite, "overwrite", false, "put results aside that did not come to their end")
	fs.StringVar(&o.Evidence, "evidence", "", "`DIR`: put the evidence bundle of each full cell that passed there")
	keep := fs.String("keep", "failed", "`failed|always|never`: which cells leave a folder with all that is needed to look into them")
	qemu := fs.String("qemu", "", "`FILE`: qemu-system-x86_64, for cells whose matrix names none")
	hardware := fs.Bool("require-hardware", false, "fail where a launch would be simulated")
	cf := addCertFlags(fs)
	paths, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	switch {
	case len(paths) != 1:
		return usageError("e2e %s: name a matrix, e.g. examples/matrix-smoke.yaml", verb)
	case !slices.Contains([]e2e.Keep{e2e.KeepFailed, e2e.KeepAlways, e2e.KeepNever}, e2e.Keep(*keep)):
		return usageError("--keep %q is none of failed, always, never", *keep)
	case o.Workers < 1:
		return usageError("-j %d: at least one cell at a time", o.Workers)
	case o.Retries < 0:
		return usageError("--retries %d is no number of attempts", o.Retries)
	}
	o.Keep = e2e.Keep(*keep)
	if o.Results == "" {
		o.Results = resultsOf(paths[0], selection.shard)
	}
	// The run before says what cells take, unless shards must agree on it.
	known := e2e.Durations{}
	if selection.shard.Of == 0 && !o.Resume {
		if before, err := results.ReadFile(o.Results); err == nil {
			known.Learn(before)
		}
	}
	p, err := selection.plan(e, paths[0], known)
	if err != nil {
		return err
	}
	if verb == "evidence" {
		if o.Evidence == "" {
			o.Evidence = strings.TrimSuffix(o.Results, ".results.jsonl") + ".evidence"
		}
		p.plan.Only((*e2e.Cell).GivesEvidence)
		if len(p.plan.Cells) == 0 {
			return fmt.Errorf("%s has no full cell in which nothing is made wrong, so none gives evidence", paths[0])
		}
	}
	if *hardware {
		for _, c := range p.plan.Cells {
			if c.Backend() != host.SNP {
				return fmt.Errorf("--require-hardware: cell %s would be simulated", c.ID)
			}
		}
	}
	data, err := launcher.DefaultDataDir()
	if err != nil {
		return err
	}
	finder, err := cf.finder(e)
	if err != nil {
		return err
	}
	o.Launch = launcher.Options{QEMU: *qemu, CBitPos: int(host.CBitPos()), DataDir: data, Conditions: p.machine.Conditions(), Certs: finder, Tool: "snplaunch " + versionName()}
	o.Host, o.Tool = thisHost(p.machine), versionName()
	again := cf.words()
	if *qemu != "" {
		again = append(again, "--qemu", *qemu)
	}
	if o.Budget > 0 {
		again = append(again, "--budget", o.Budget.String())
	}
	o.Reproduce = reproduce(paths[0], *selection.backend, again...)
	o.Sink = newMatrixProgress(e)
	defer hold()()
	run, err := p.matrix.Run(e.ctx, p.plan, o)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted; `snplaunch e2e %s %s --resume`, with the same flags, goes on", verb, paths[0])
	}
	if err != nil {
		return err
	}
	if err := reports.write(e, run, o.Results); err != nil {
		return err
	}
	if !reports.github {
		if err := results.Text(e.stdout, run); err != nil {
			return err
		}
	}
	fmt.Fprintf(e.stderr, "snplaunch: results: %s\n", o.Results)
	if !run.Totals().Holds() {
		return &exitError{code: exitNo}
	}
	return nil
}
