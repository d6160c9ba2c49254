package results

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// Drift is what two runs of a matrix found differently. Its JSON form is the
// output of `e2e diff --json`.
type Drift struct {
	Old    Side          `json:"old"`
	New    Side          `json:"new"`
	Inputs []InputChange `json:"inputs"`     // that changed, the one in most cells first
	Cells  []CellDrift   `json:"cells"`      // that are in both and drifted
	Added  []CellState   `json:"added"`      // in the new plan only
	Gone   []CellState   `json:"gone"`       // in the old plan only
	OldNot []string      `json:"old_notrun"` // ids planned in both, run only in the new one
	NewNot []string      `json:"new_notrun"` // and only in the old one
}

// Side is one of the two runs.
type Side struct {
	Matrix    string    `json:"matrix"`
	MatrixSum string    `json:"matrix_sha256"`
	Tool      string    `json:"tool"`
	Host      Host      `json:"host"`
	Started   time.Time `json:"started"`
	Totals    Totals    `json:"totals"`
}

// InputChange is something that cells are made of and that is another thing now.
type InputChange struct {
	Name    string `json:"name"` // of Input, or "qemu version", "backend", "expectation"
	Old     string `json:"old"`  // SHA-256 for an Input; empty where there was none
	New     string `json:"new"`
	Cells   int    `json:"cells"`   // in which it changed
	Drifted int    `json:"drifted"` // of those
}

// Kind is a way in which a cell drifted.
type Kind string

// Kinds.
const (
	FailsNow        Kind = "fails-now"        // it passed, and does not do what is expected any more
	PassesNow       Kind = "passes-now"       // it did not, and does
	LaunchesNow     Kind = "launches-now"     // the launch itself failed
	LaunchesNoMore  Kind = "launches-no-more" // the launch itself fails
	MeasuresAnew    Kind = "measures-anew"    // computed, launched or reported digest is another one
	EndsDifferently Kind = "ends-differently" // verdict, outcome or firmware status is another one
	SkippedNow      Kind = "skipped-now"      // it was run before
	NotSkippedNow   Kind = "not-skipped-now"  // it was skipped before
	ExpectsAnew     Kind = "expected-anew"    // the matrix expects something else of it
)

// kinds in the order in which they are told.
var kinds = []struct {
	kind Kind
	says string
}{
	{FailsNow, "fail now"},
	{LaunchesNoMore, "launch no more"},
	{MeasuresAnew, "measure differently"},
	{EndsDifferently, "end differently"},
	{LaunchesNow, "launch now"},
	{PassesNow, "pass now"},
	{SkippedNow, "are skipped now"},
	{NotSkippedNow, "are not skipped any more"},
	{ExpectsAnew, "are expected to do something else"},
}

// CellDrift is a cell that both runs have.
type CellDrift struct {
	ID     string        `json:"id"`
	Kinds  []Kind        `json:"kinds"`
	Old    CellState     `json:"old"`
	New    CellState     `json:"new"`
	Inputs []InputChange `json:"inputs"` // of this cell
}

// CellState is how a cell was found.
type CellState struct {
	ID       string            `json:"id"`
	Expect   string            `json:"expect"`
	Status   Status            `json:"status"`
	Verdict  string            `json:"verdict,omitempty"`
	Outcome  string            `json:"outcome,omitempty"`
	FWError  int               `json:"fw_error,omitempty"`
	FWStatus string            `json:"fw_status,omitempty"`
	Message  string            `json:"message,omitempty"`
	Computed *snp.LaunchDigest `json:"computed,omitempty"`
	Launched *snp.LaunchDigest `json:"launched,omitempty"`
	Reported *snp.LaunchDigest `json:"reported,omitempty"`
}

func (c *Cell) state() CellState {
	return CellState{c.ID, c.Expect, c.Status, c.Verdict, c.Outcome, c.FWError, c.FWStatus, c.Message, c.Computed, c.Launched, c.Reported}
}

// Any says whether anything drifted: a cell that does something else, or is
// there in only one of the runs. An input that changed without consequence is
// no drift.
func (d *Drift) Any() bool {
	return len(d.Cells)+len(d.Added)+len(d.Gone)+len(d.OldNot)+len(d.NewNot) > 0
}

// Diff compares two runs of a matrix, or of two editions of it.
func Diff(old, new *Run) *Drift {
	d := &Drift{
		Old: side(old), New: side(new),
		// Lists are never null in JSON.
		Inputs: []InputChange{}, Cells: []CellDrift{}, Added: []CellState{}, Gone: []CellState{}, OldNot: []string{}, NewNot: []string{},
	}
	before, after := byID(old), byID(new)
	changes := map[[3]string]*InputChange{}
	for i := range new.Cells {
		b := &new.Cells[i]
		a, both := before[b.ID]
		if !both {
			if planned(old, b.ID) {
				d.OldNot = append(d.OldNot, b.ID)
			} else {
				d.Added = append(d.Added, b.state())
			}
			continue
		}
		inputs := inputChanges(a, b)
		ks := drifted(a, b)
		for _, in := range inputs {
			key := [3]string{in.Name, in.Old, in.New}
			if changes[key] == nil {
				changes[key] = &InputChange{Name: in.Name, Old: in.Old, New: in.New}
			}
			changes[key].Cells++
			if len(ks) > 0 {
				changes[key].Drifted++
			}
		}
		if len(ks) > 0 {
			d.Cells = append(d.Cells, CellDrift{b.ID, ks, a.state(), b.state(), inputs})
		}
	}
	for i := range old.Cells {
		a := &old.Cells[i]
		if _, both := after[a.ID]; both {
			continue
		}
		if planned(new, a.ID) {
			d.NewNot = append(d.NewNot, a.ID)
		} else {
			d.Gone = append(d.Gone, a.state())
		}
	}
	for _, c := range changes {
		d.Inputs = append(d.Inputs, *c)
	}
	slices.SortFunc(d.Inputs, func(a, b InputChange) int {
		return cmp.Or(cmp.Compare(b.Cells, a.Cells), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Old, b.Old), cmp.Compare(a.New, b.New))
	})
	// Runs have their cells as they ended, which says nothing.
	slices.SortFunc(d.Cells, func(a, b CellDrift) int { return cmp.Compare(a.ID, b.ID) })
	for _, s := range [][]CellState{d.Added, d.Gone} {
		slices.SortFunc(s, func(a, b CellState) int { return cmp.Compare(a.ID, b.ID) })
	}
	slices.Sort(d.OldNot)
	slices.Sort(d.NewNot)
	return d
}

func side(r *Run) Side {
	h := r.Header
	return Side{h.Matrix, h.MatrixSum, h.Tool, h.Host, h.Started, r.Totals()}
}

func byID(r *Run) map[string]*Cell {
	m := map[string]*Cell{}
	for i := range r.Cells {
		m[r.Cells[i].ID] = &r.Cells[i]
	}
	return m
}

func planned(r *Run, id string) bool {
	return slices.ContainsFunc(r.Header.Plan, func(p Planned) bool { return p.ID == id })
}

// inputChanges lists what a cell is made of and was not before.
func inputChanges(a, b *Cell) []InputChange {
	out := []InputChange{}
	was, is := map[string]string{}, map[string]string{}
	var names []string
	for _, in := range a.Inputs {
		was[in.Name] = in.SHA256
		names = append(names, in.Name)
	}
	for _, in := range b.Inputs {
		is[in.Name] = in.SHA256
		if _, known := was[in.Name]; !known {
			names = append(names, in.Name)
		}
	}
	add := func(name, old, new string, drifted bool) {
		if old != new {
			c := InputChange{Name: name, Old: old, New: new, Cells: 1}
			if drifted {
				c.Drifted = 1
			}
			out = append(out, c)
		}
	}
	changed := len(drifted(a, b)) > 0
	for _, n := range names {
		add(n, was[n], is[n], changed)
	}
	add("qemu version", a.QEMU, b.QEMU, changed)
	add("backend", a.Backend, b.Backend, changed)
	add("expectation", a.Expect, b.Expect, changed)
	return out
}

// launchFailed is launcher's outcome of a guest that never ran; results lie
// below launcher and know it by its word.
const launchFailed = "launch-failed"

// drifted lists the ways in which a cell does something else than before. How
// long it took, and whether it took a second attempt, is none.
func drifted(a, b *Cell) []Kind {
	var out []Kind
	add := func(when bool, k Kind) {
		if when {
			out = append(out, k)
		}
	}
	okA, okB := a.Status == Passed || a.Status == Flaky, b.Status == Passed || b.Status == Flaky
	skipA, skipB := a.Status == Skipped, b.Status == Skipped
	add(!skipA && skipB, SkippedNow)
	add(skipA && !skipB, NotSkippedNow)
	add(a.Expect != b.Expect, ExpectsAnew)
	add(!okB && !skipB && (okA || skipA), FailsNow)
	add(okB && !okA && !skipA, PassesNow)
	if skipA || skipB {
		return out // there is nothing to compare
	}
	if a.Outcome != "" && b.Outcome != "" {
		add(a.Outcome == launchFailed && b.Outcome != launchFailed, LaunchesNow)
		add(a.Outcome != launchFailed && b.Outcome == launchFailed, LaunchesNoMore)
	}
	add(another(a.Computed, b.Computed) || another(a.Launched, b.Launched) || another(a.Reported, b.Reported), MeasuresAnew)
	add(a.Verdict != b.Verdict || a.Outcome != b.Outcome || a.FWError != b.FWError || a.FWStatus != b.FWStatus, EndsDifferently)
	return out
}

// another says whether two digests that are both there differ. One that is
// missing is told by how the cell ended.
func another(a, b *snp.LaunchDigest) bool { return a != nil && b != nil && *a != *b }

// listed is how many cells of a kind are named in text.
const listed = 20

// Text writes a drift for people.
func (d *Drift) Text(w io.Writer) error {
	var b strings.Builder
	for _, s := range []struct {
		word string
		side Side
	}{{"old", d.Old}, {"new", d.New}} {
		fmt.Fprintf(&b, "%s  %s of %s, snplaunch %s: %s\n", s.word, s.side.Matrix, s.side.Started.UTC().Format("2006-01-02 15:04"), s.side.Tool, s.side.Totals)
	}
	what := func(name string, changed bool, old, new string) {
		if changed {
			fmt.Fprintf(&b, "%s: %s, was %s\n", name, new, old)
		}
	}
	b.WriteByte('\n')
	what("matrix", d.Old.MatrixSum != d.New.MatrixSum, short(d.Old.MatrixSum), short(d.New.MatrixSum))
	what("snplaunch", d.Old.Tool != d.New.Tool, d.Old.Tool, d.New.Tool)
	what("host kernel", d.Old.Host.Kernel != d.New.Host.Kernel, orNone(d.Old.Host.Kernel), orNone(d.New.Host.Kernel))
	what("host CPU", d.Old.Host.CPU != d.New.Host.CPU, orNone(d.Old.Host.CPU), orNone(d.New.Host.CPU))
	for _, c := range d.Inputs {
		fmt.Fprintf(&b, "%s: %s, was %s, in %d cells, %d of which drifted\n", c.Name, short(orNone(c.New)), short(orNone(c.Old)), c.Cells, c.Drifted)
	}
	if !d.Any() {
		fmt.Fprintf(&b, "\nNothing drifted.\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	for _, k := range kinds {
		var lines []string
		for _, c := range d.Cells {
			if slices.Contains(c.Kinds, k.kind) {
				lines = append(lines, c.ID+": "+c.says(k.kind))
			}
		}
		section(&b, k.says, lines)
	}
	var added, gone []string
	for _, c := range d.Added {
		added = append(added, fmt.Sprintf("%s: %s", c.ID, c.Status))
	}
	for _, c := range d.Gone {
		gone = append(gone, fmt.Sprintf("%s: was %s", c.ID, c.Status))
	}
	section(&b, "are new", added)
	section(&b, "are gone", gone)
	section(&b, "were not run before, though planned", d.OldNot)
	section(&b, "were not run now, though planned", d.NewNot)
	_, err := io.WriteString(w, b.String())
	return err
}

func section(b *strings.Builder, says string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%d %s\n", len(lines), says)
	for i, l := range lines {
		if i == listed && len(lines) > listed+1 {
			fmt.Fprintf(b, "  and %d more; --json lists all\n", len(lines)-listed)
			break
		}
		fmt.Fprintf(b, "  %s\n", l)
	}
}

// says tells what is behind one kind of drift of a cell.
func (c *CellDrift) says(k Kind) string {
	var s string
	switch k {
	case MeasuresAnew:
		var parts []string
		for _, d := range []struct {
			name string
			a, b *snp.LaunchDigest
		}{{"computed", c.Old.Computed, c.New.Computed}, {"launched", c.Old.Launched, c.New.Launched}, {"reported", c.Old.Reported, c.New.Reported}} {
			if another(d.a, d.b) {
				parts = append(parts, fmt.Sprintf("%s %s, was %s", d.name, short(d.b.String()), short(d.a.String())))
			}
		}
		s = strings.Join(parts, "; ")
	case ExpectsAnew:
		return fmt.Sprintf("%s, was %s", c.New.Expect, c.Old.Expect)
	case SkippedNow, NotSkippedNow, PassesNow:
		s = fmt.Sprintf("%s, was %s", c.New.Status, c.Old.Status)
	case FailsNow:
		s = fmt.Sprintf("%s, was %s", c.New.Status, c.Old.Status)
		if c.New.Message != "" {
			s = c.New.Message
		}
	default:
		s = fmt.Sprintf("%s, was %s", c.New.ends(), c.Old.ends())
	}
	var names []string
	for _, in := range c.Inputs {
		names = append(names, in.Name)
	}
	if len(names) == 0 {
		return s + " (no input changed)"
	}
	return s + " (changed: " + strings.Join(names, ", ") + ")"
}

// ends tells how a cell ended, in launcher's and the firmware's words.
func (c *CellState) ends() string {
	parts := []string{orNone(c.Outcome)}
	if c.Verdict != "" && c.Verdict != c.Outcome {
		parts = append(parts, c.Verdict)
	}
	if c.FWStatus != "" {
		parts = append(parts, fmt.Sprintf("%s (fw_error=%d)", c.FWStatus, c.FWError))
	}
	return strings.Join(parts, " ")
}

// shortDigest is enough of a digest to tell two apart.
const shortDigest = 12

// short shortens what is as long as a digest.
func short(s string) string {
	if len(s) >= 64 && !strings.ContainsAny(s, " /.") {
		return s[:shortDigest] + "…"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
