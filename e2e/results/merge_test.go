package results_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/e2e/results/resultstest"
)

// Shards, read from their files in any order and each with its cells in any
// order, make the run that was not divided.
func TestMergedShardsEqualOneRun(t *testing.T) {
	whole := resultstest.Run(resultstest.Options{Seed: 4})
	r := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{1, 2, 3, 8, len(whole.Cells)} {
		shards := resultstest.Divide(whole, n)
		r.Shuffle(len(shards), func(i, j int) { shards[i], shards[j] = shards[j], shards[i] })
		for i, s := range shards {
			r.Shuffle(len(s.Cells), func(i, j int) { s.Cells[i], s.Cells[j] = s.Cells[j], s.Cells[i] })
			shards[i] = read(t, text(t, s))
		}
		merged, err := results.Merge(shards...)
		if err != nil {
			t.Fatal(err)
		}
		if len(merged.Header.Shards) != n {
			t.Errorf("the header names %d shards of %d", len(merged.Header.Shards), n)
		}
		again := read(t, text(t, merged))
		again.Header.Shards = nil
		if !reflect.DeepEqual(again, whole) {
			t.Errorf("%d shards do not make the whole run", n)
		}
	}
}

func TestWhatCannotBeMerged(t *testing.T) {
	whole := resultstest.Run(resultstest.Options{Seed: 5})
	three := func() []*results.Run { return resultstest.Divide(whole, 3) }
	change := func(how func(*results.Run)) []*results.Run {
		s := three()
		how(s[1])
		return s
	}
	for _, c := range []struct {
		name       string
		shards     []*results.Run
		says       []string
		incomplete bool
	}{
		{"nothing", nil, []string{"nothing to merge"}, false},
		{"a shard twice", append(three(), three()[0]), []string{"are there twice: boot/guest=direct/cpu=EPYC-v4/vcpus=1/firmware=OVMF.amdsev/backend=sim (in shards 1/3 and 1/3), "}, false},
		{"a shard missing", three()[:2], []string{fmt.Sprintf("of %d that were planned, %d: boot/guest=direct/cpu=EPYC-v4/vcpus=4/firmware=OVMF.amdsev/backend=sim (shard 3), ", len(whole.Cells), len(three()[2].Cells))}, true},
		{"a cell missing", change(func(r *results.Run) { r.Cells = r.Cells[1:] }), []string{"planned, 1: boot/guest=direct/cpu=EPYC-v4/vcpus=2/firmware=OVMF.amdsev/backend=sim (shard 2)"}, true},
		{"two matrices", change(func(r *results.Run) { r.Header.MatrixSum = "abc" }), []string{"shard 1/3 is of matrix smoke", "shard 2/3 of smoke (abc)"}, false},
		{"two tools", change(func(r *results.Run) { r.Header.Tool = "0.5.0" }), []string{"snplaunch 0.4.0, shard 2/3 by 0.5.0"}, false},
		{"two divisions", append(three()[:1], resultstest.Divide(whole, 4)[1]), []string{"are of two divisions"}, false},
		{"two plans", change(func(r *results.Run) {
			r.Header.Plan = append([]results.Planned(nil), r.Header.Plan...)
			r.Header.Plan[0].Shard = 3
		}), []string{"have two plans: give every shard the same recorded durations"}, false},
	} {
		merged, err := results.Merge(c.shards...)
		if err == nil {
			t.Errorf("%s: merged", c.name)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v; want %q said", c.name, err, s)
			}
		}
		if errors.Is(err, results.ErrIncomplete) != c.incomplete || (merged != nil) != c.incomplete {
			t.Errorf("%s: incomplete is not told apart", c.name)
		}
	}
}

func TestHostsOfShards(t *testing.T) {
	s := resultstest.Divide(resultstest.Run(resultstest.Options{Seed: 5}), 2)
	s[1].Header.Host.Kernel = "6.12.0"
	m, err := results.Merge(s...)
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Host != (results.Host{}) || m.Header.Shards[0].Host.Kernel != "6.16.3" || m.Header.Shards[1].Host.Kernel != "6.12.0" {
		t.Errorf("the hosts of two shards become %+v and %+v", m.Header.Host, m.Header.Shards)
	}
}

func TestArtefactsMoveWithTheFile(t *testing.T) {
	run := &results.Run{Cells: []results.Cell{
		{Artefacts: "artefacts/a", Attempts: []results.Attempt{{Artefacts: "artefacts/a.1"}}}, {},
	}}
	moved, err := run.Moved("shards/1", ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{moved.Cells[0].Artefacts, "shards/1/artefacts/a"},
		{moved.Cells[0].Attempts[0].Artefacts, "shards/1/artefacts/a.1"},
		{moved.Cells[1].Artefacts, ""},
		{run.Cells[0].Artefacts, "artefacts/a"}, // not changed behind the caller's back
		{run.Cells[0].Attempts[0].Artefacts, "artefacts/a.1"},
	} {
		if filepath.ToSlash(c.got) != c.want {
			t.Errorf("artefacts lie in %q, want %q", c.got, c.want)
		}
	}
}
