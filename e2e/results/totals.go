package results

import (
	"fmt"
	"strings"
)

// Totals counts cells by how they ended.
type Totals struct {
	Passed  int `json:"passed"`
	Flaky   int `json:"flaky"`
	Failed  int `json:"failed"`
	Errored int `json:"error"`
	Skipped int `json:"skipped"`
	NotRun  int `json:"not_run"` // planned, and not in the file
}

// Totals counts the cells of a run.
func (r *Run) Totals() Totals {
	t := Totals{NotRun: r.Header.Planned - len(r.Cells)}
	for _, c := range r.Cells {
		t.Count(c.Status)
	}
	return t
}

// Count adds a cell.
func (t *Totals) Count(s Status) {
	switch s {
	case Passed:
		t.Passed++
	case Flaky:
		t.Flaky++
	case Failed:
		t.Failed++
	case Errored:
		t.Errored++
	case Skipped:
		t.Skipped++
	}
}

// Of is the number of cells that ended like that.
func (t Totals) Of(s Status) int {
	return map[Status]int{Passed: t.Passed, Flaky: t.Flaky, Failed: t.Failed, Errored: t.Errored, Skipped: t.Skipped}[s]
}

// Holds says whether everything that was planned was run and did what was
// expected of it. What was skipped was not expected to run.
func (t Totals) Holds() bool { return t.Failed == 0 && t.Errored == 0 && t.NotRun == 0 }

// String lists what there is: "3 failed, 445 passed".
func (t Totals) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{t.Failed, "failed"}, {t.Errored, "could not be tried"}, {t.NotRun, "not run"}, {t.Flaky, "flaky"}, {t.Skipped, "skipped"}, {t.Passed, "passed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return "no cells"
	}
	return strings.Join(parts, ", ")
}

// NotRun lists the ids of cells that were planned for this file and are not in it.
func (r *Run) NotRun() []string {
	own, _, _ := r.Header.shard()
	have := map[string]bool{}
	for _, c := range r.Cells {
		have[c.ID] = true
	}
	var out []string
	for _, p := range r.Header.Plan {
		if p.Shard == own && !have[p.ID] {
			out = append(out, p.ID)
		}
	}
	return out
}
