package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/internal/shell"
)

// selectionFlags say which cells of a matrix are meant.
type selectionFlags struct {
	backend   *string
	filter    *regexp.Regexp
	words     []string // those flags that every shard of a run is given alike
	cells     []string
	shard     e2e.Shard
	durations []string
	elsewhere bool // whether cells are only planned, for whatever machine
}

func addSelectionFlags(fs *flag.FlagSet) *selectionFlags {
	s := &selectionFlags{backend: fs.String("backend", "auto", "`auto|snp|sim`: where cells are launched whose matrix does not say it")}
	fs.Func("filter", "`REGEXP`: only cells whose id matches somewhere", func(v string) (err error) {
		s.filter, err = regexp.Compile(v)
		s.words = append(s.words, "--filter", v)
		return err
	})
	fs.Func("cell", "`ID`: only this cell; may be given several times", func(v string) error {
		s.cells, s.words = append(s.cells, v), append(s.words, "--cell", v)
		return nil
	})
	fs.Func("shard", "`N/OF`: only this part of the matrix, e.g. 3/8", func(v string) (err error) {
		s.shard, err = e2e.ParseShard(v)
		return err
	})
	fs.Func("durations", "`RESULTS`: of earlier runs, for what cells take; all shards must be given the same", func(v string) error {
		s.durations, s.words = append(s.durations, v), append(s.words, "--durations", v)
		return nil
	})
	return s
}

// planned is a matrix with what of it is to be run.
type planned struct {
	matrix  *e2e.Matrix
	plan    *e2e.Plan
	machine *host.Machine
}

// plan loads the matrix and plans. known are durations beside those of the flags.
func (s *selectionFlags) plan(e *env, path string, known e2e.Durations) (*planned, error) {
	p := &planned{machine: host.Probe(e.ctx, host.Root{})}
	var err error
	if p.matrix, err = e2e.Load(path); err != nil {
		return nil, err
	}
	chosen, _, err := host.Choose(*s.backend, p.machine)
	// A plan is made for other machines, too: nothing is launched here.
	var obstacles *host.ObstacleError
	if err != nil && !(s.elsewhere && errors.As(err, &obstacles)) {
		return nil, err
	}
	for _, file := range s.durations {
		run, err := results.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--durations: %w", err)
		}
		known.Learn(run)
	}
	p.plan, err = p.matrix.Plan(chosen, e2e.Selection{Filter: s.filter, Cells: s.cells, Shard: s.shard}, known)
	return p, err
}

// thisHost is the machine for the header of a file of results.
func thisHost(m *host.Machine) results.Host {
	return results.Host{Kernel: m.Kernel.Release, CPU: m.CPU.ModelName, CPUs: runtime.NumCPU()}
}

func e2ePlan(e *env, args []string) error {
	fs := e.flags("e2e plan", "MATRIX [flags]\n\nShows the cells of a matrix and what each is thought to take, without running any.")
	selection := addSelectionFlags(fs)
	selection.elsewhere = true
	asJSON := fs.Bool("json", false, "print the plan as an object")
	format := addPlanFormatFlags(fs)
	paths, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(paths) != 1 {
		return usageError("e2e plan: name a matrix, e.g. examples/matrix-smoke.yaml")
	}
	if err := format.check(fs, selection, *asJSON); err != nil {
		return err
	}
	p, err := selection.plan(e, paths[0], e2e.Durations{})
	if err != nil {
		return err
	}
	if format.name != "" {
		return format.write(e, p, selection)
	}
	if *asJSON {
		return p.json(e)
	}
	return p.text(e)
}

func (p *planned) json(e *env) error {
	type cell struct {
		results.Queued
		Tamper string `json:"tamper,omitempty"`
		Expect string `json:"expect"`
		Shard  int    `json:"shard,omitempty"`
	}
	out := struct {
		Matrix string `json:"matrix"`
		Cells  []cell `json:"cells"`
	}{Matrix: p.matrix.Name}
	for _, c := range p.plan.All {
		if p.plan.Shard.Of > 0 && c.Shard != p.plan.Shard.Number {
			continue
		}
		q := cell{Queued: results.Queued{ID: c.ID, Group: c.Group.Name, Depth: c.Depth(), CostMS: c.Cost.Milliseconds(), Recorded: c.Recorded}, Expect: c.Expect.String(), Shard: c.Shard}
		if c.Tamper != nil {
			q.Tamper = c.Tamper.Name
		}
		out.Cells = append(out.Cells, q)
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func (p *planned) text(e *env) error {
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	var total time.Duration
	count := map[results.Depth]int{}
	tampered := 0
	for _, c := range p.plan.All {
		if p.plan.Shard.Of > 0 && c.Shard != p.plan.Shard.Number {
			continue
		}
		guess := "~"
		if c.Recorded {
			guess = ""
		}
		total += c.Cost
		count[c.Depth()]++
		if c.Tamper != nil {
			tampered++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\n", c.ID, c.Depth(), c.Expect, guess, c.Cost.Round(10*time.Millisecond))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "snplaunch: %d cells: %d full, %d launch-only; %d of them with something made wrong; one after the other about %s (~: nothing recorded)\n",
		len(p.plan.Cells), count[results.Full], count[results.LaunchOnly], tampered, total.Round(time.Second))
	return nil
}

// reproduce gives the command that runs one cell of a matrix again. flags are those of
// the run that what becomes of a cell depends on.
func reproduce(matrix, backend string, flags ...string) func(string) string {
	return func(id string) string {
		words := []string{"snplaunch", "e2e", "run", matrix, "--cell", id, "--keep", "always", "--results", "again.results.jsonl"}
		if backend != "auto" {
			words = append(words, "--backend", backend)
		}
		words = append(words, flags...)
		return shell.Quote(words...)
	}
}

// resultsOf is where a matrix's results go when no flag says it.
func resultsOf(matrix string, shard e2e.Shard) string {
	name := strings.TrimSuffix(strings.TrimSuffix(matrix, ".yaml"), ".yml")
	name = name[strings.LastIndexByte(name, os.PathSeparator)+1:]
	if shard.Of > 0 {
		name += fmt.Sprintf(".%d-of-%d", shard.Number, shard.Of)
	}
	return name + ".results.jsonl"
}
