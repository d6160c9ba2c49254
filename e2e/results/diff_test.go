package results_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/e2e/results/resultstest"
	"github.com/snplaunch/snplaunch/snp"
)

func green(t testing.TB) *results.Run {
	return read(t, text(t, resultstest.Run(resultstest.Options{Seed: 6, Green: true})))
}

func drift(t *testing.T, d *results.Drift) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.Text(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Each way to drift, made in one cell, is found there and nowhere else.
func TestDrift(t *testing.T) {
	other := snp.LaunchDigest{1, 2, 3}
	const id = "boot/guest=direct/cpu=EPYC-v4/vcpus=2/firmware=OVMF.amdsev/backend=sim"
	for _, c := range []struct {
		name   string
		change func(a, b *results.Cell)
		kinds  []results.Kind
		says   string
	}{
		{"nothing", func(a, b *results.Cell) {}, nil, "Nothing drifted."},
		{"slower", func(a, b *results.Cell) { b.DurationMS *= 2; b.Worker = 7 }, nil, "Nothing drifted."},
		{"flaky", func(a, b *results.Cell) { b.Status = results.Flaky }, nil, "Nothing drifted."},
		{"input without consequence", func(a, b *results.Cell) { b.Inputs[2].SHA256 = strings.Repeat("ab", 32) }, nil,
			"initrd: abababababab…, was 09e6c018d2c8…, in 1 cells, 0 of which drifted"},
		{"fails", func(a, b *results.Cell) { b.Status, b.Message = results.Failed, "it is broken" }, []results.Kind{results.FailsNow}, "1 fail now\n  " + id + ": it is broken (no input changed)"},
		{"errs", func(a, b *results.Cell) { b.Status = results.Errored }, []results.Kind{results.FailsNow}, ": error, was passed"},
		{"passes", func(a, b *results.Cell) { a.Status = results.Failed }, []results.Kind{results.PassesNow}, "1 pass now\n  " + id + ": passed, was failed"},
		{"launches no more", func(a, b *results.Cell) {
			b.Status, b.Outcome, b.Verdict, b.FWError, b.FWStatus = results.Failed, "launch-failed", "launch-failed", 11, "BAD_MEASUREMENT"
		}, []results.Kind{results.FailsNow, results.LaunchesNoMore, results.EndsDifferently}, "1 launch no more\n  " + id + ": launch-failed BAD_MEASUREMENT (fw_error=11), was passed match"},
		{"launches", func(a, b *results.Cell) { a.Outcome = "launch-failed" }, []results.Kind{results.LaunchesNow, results.EndsDifferently}, "1 launch now\n"},
		{"measures", func(a, b *results.Cell) {
			b.Computed, b.Launched, b.Reported = &other, &other, &other
			b.Inputs[0].SHA256 = strings.Repeat("cd", 32)
		}, []results.Kind{results.MeasuresAnew}, ": computed 010203000000…, was "},
		{"reports", func(a, b *results.Cell) { b.Reported = &other }, []results.Kind{results.MeasuresAnew}, "1 measure differently\n  " + id + ": reported 010203000000…, was "},
		{"ends", func(a, b *results.Cell) { b.Verdict = "timeout" }, []results.Kind{results.EndsDifferently}, "passed timeout, was passed match"},
		{"is skipped", func(a, b *results.Cell) { b.Status, b.Computed, b.Outcome = results.Skipped, nil, "" }, []results.Kind{results.SkippedNow}, "1 are skipped now"},
		{"was skipped", func(a, b *results.Cell) { a.Status, a.Computed, a.Outcome = results.Skipped, nil, "" }, []results.Kind{results.NotSkippedNow}, "1 are not skipped any more"},
		{"was skipped, fails", func(a, b *results.Cell) { a.Status, b.Status = results.Skipped, results.Failed }, []results.Kind{results.NotSkippedNow, results.FailsNow}, "1 fail now"},
		{"is expected", func(a, b *results.Cell) { b.Expect = "fails: BAD_MEASUREMENT" }, []results.Kind{results.ExpectsAnew}, "fails: BAD_MEASUREMENT, was report-matches"},
	} {
		a, b := green(t), green(t)
		slices.Reverse(b.Cells) // in which order cells ended says nothing
		i := len(b.Cells) - 2
		if a.Cells[1].ID != id || b.Cells[i].ID != id {
			t.Fatal("the sample has changed")
		}
		c.change(&a.Cells[1], &b.Cells[i])
		d := results.Diff(a, b)
		var kinds []results.Kind
		for _, cell := range d.Cells {
			if cell.ID != id {
				t.Errorf("%s: %s drifted", c.name, cell.ID)
			}
			kinds = append(kinds, cell.Kinds...)
		}
		slices.Sort(kinds)
		want := slices.Sorted(slices.Values(c.kinds))
		if !slices.Equal(kinds, want) || d.Any() != (len(want) > 0) {
			t.Errorf("%s: drifted as %q, want %q", c.name, kinds, want)
		}
		if got := drift(t, d); !strings.Contains(got, c.says) {
			t.Errorf("%s: says\n%s\nwant %q", c.name, got, c.says)
		}
	}
}

// A change of firmware is named with its hash and the cells in which it counted.
func TestDriftNamesTheInput(t *testing.T) {
	a, b := green(t), green(t)
	changed := 0
	for i := range b.Cells {
		c := &b.Cells[i]
		c.Inputs[0].SHA256 = strings.Repeat("ef", 32)
		if c.Group == "id-block" {
			c.Computed = &snp.LaunchDigest{byte(i)}
			changed++
		}
	}
	b.Header.Tool = "0.5.0"
	d := results.Diff(a, b)
	want := results.InputChange{Name: "firmware", Old: a.Cells[0].Inputs[0].SHA256, New: strings.Repeat("ef", 32), Cells: len(b.Cells), Drifted: changed}
	if len(d.Inputs) != 1 || d.Inputs[0] != want {
		t.Errorf("inputs %+v, want %+v", d.Inputs, want)
	}
	got := drift(t, d)
	for _, s := range []string{"snplaunch: 0.5.0, was 0.4.0", "(changed: firmware)", "  and 108 more; --json lists all"} {
		if !strings.Contains(got, s) {
			t.Errorf("does not say %q:\n%s", s, got)
		}
	}
}

func TestCellsNewAndGone(t *testing.T) {
	a, b := green(t), green(t)
	first, second, third := a.Cells[0].ID, a.Cells[1].ID, a.Cells[2].ID
	a.Header.Plan, a.Cells = a.Header.Plan[1:], a.Cells[1:] // the first is new
	a.Header.Planned--
	b.Header.Plan, b.Cells = slices.Delete(b.Header.Plan, 1, 2), slices.Delete(b.Cells, 1, 2) // the second is gone
	b.Header.Planned--
	b.Cells = slices.Delete(b.Cells, 1, 2) // the third is only not run
	d := results.Diff(a, b)
	if !d.Any() || len(d.Added) != 1 || d.Added[0].ID != first || len(d.Gone) != 1 || d.Gone[0].ID != second || !slices.Equal(d.NewNot, []string{third}) || len(d.OldNot)+len(d.Cells) > 0 {
		t.Errorf("new %v, gone %v, not run %v", d.Added, d.Gone, d.NewNot)
	}
	if d := results.Diff(b, a); !slices.Equal(d.OldNot, []string{third}) || len(d.NewNot) > 0 {
		t.Errorf("not run before: %v", d.OldNot)
	}
	var back results.Drift
	encoded, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(encoded), "null") {
		t.Errorf("a list is null in %s", encoded)
	}
	if err := json.Unmarshal(encoded, &back); err != nil || drift(t, &back) != drift(t, d) {
		t.Errorf("JSON loses something: %v", err)
	}
}
