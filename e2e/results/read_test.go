package results_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/e2e/results/resultstest"
)

// text is a run as its file has it.
func text(t testing.TB, run *results.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := results.Write(&b, run); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func read(t testing.TB, s string) *results.Run {
	t.Helper()
	run, err := results.Read(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	want := resultstest.Run(resultstest.Options{Seed: 1})
	if got := read(t, text(t, want)); !reflect.DeepEqual(got, want) {
		t.Error("a run is read as another than was written")
	}
}

// The names in the file are a promise to whoever reads it.
func TestNamesInTheFile(t *testing.T) {
	run := resultstest.Run(resultstest.Options{Seed: 1})
	run.Header.Plan, run.Header.Planned = run.Header.Plan[:1], 1
	run.Cells = run.Cells[:1]
	var names []string
	for _, line := range strings.SplitAfter(text(t, run), "\n") {
		for _, part := range strings.Split(line, `":`) {
			if i := strings.LastIndex(part, `"`); i >= 0 {
				names = append(names, part[i+1:])
			}
		}
	}
	got := strings.Join(names, " ")
	for _, want := range []string{
		"format matrix matrix_sha256 started planned tool host kernel cpu cpus matrix_file plan id",
		"id group axes name value",
		"line depth expect status",
		"backend simulated verdict outcome computed launched reported qemu inputs name sha256",
		"started duration_ms worker stages name start_ms end_ms",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the file has the names %s; want among them, in this order, %s", got, want)
		}
	}
}

// A writer that is killed leaves the beginning of a line, wherever it was.
func TestACutLastLineIsForgivenAndTold(t *testing.T) {
	small := resultstest.Run(resultstest.Options{Seed: 1})
	small.Header.Plan, small.Header.Planned, small.Cells = small.Header.Plan[:5], 5, small.Cells[:3]
	full := text(t, small)
	last := strings.LastIndex(strings.TrimSuffix(full, "\n"), "\n") + 1
	all := strings.Count(full, "\n") - 1
	for at := last; at <= len(full); at++ {
		run := read(t, full[:at])
		cells, cut := all-1, at-last
		if at >= len(full)-1 { // all but the newline is a whole cell
			cells, cut = all, 0
		}
		if len(run.Cells) != cells || run.Cut != cut {
			t.Fatalf("cut %d bytes into the last line: %d cells, cut %d; want %d and %d", at-last, len(run.Cells), run.Cut, cells, cut)
		}
	}
	header := strings.Index(full, "\n")
	for _, at := range []int{0, 1, header / 2} {
		if _, err := results.Read(strings.NewReader(full[:at])); !errors.Is(err, results.ErrNoHeader) {
			t.Errorf("cut %d bytes into the header: %v", at, err)
		}
	}
}

func TestWhatIsNoFileOfResults(t *testing.T) {
	full := text(t, resultstest.Run(resultstest.Options{Seed: 1, Green: true}))
	lines := strings.SplitAfter(full, "\n")
	change := func(line int, old, new string) string {
		if !strings.Contains(lines[line], old) {
			t.Fatalf("line %d has no %s", line+1, old)
		}
		changed := append([]string(nil), lines...)
		changed[line] = strings.Replace(changed[line], old, new, 1)
		return strings.Join(changed, "")
	}
	for _, c := range []struct{ name, text, says string }{
		{"newer", change(0, `"format":1`, `"format":2,"novelty":true`), "line 1: the file has format 2, this snplaunch reads up to 1: use the snplaunch that wrote it"},
		{"format 0", change(0, `"format":1`, `"format":0`), "line 1: there is no format 0"},
		{"something else", "{\"a\":1}\n", "line 1: this is no header"},
		{"no JSON", "hello\n", "line 1: this is no header"},
		{"cut in the middle", change(3, lines[3], lines[3][:40]+"\n"), "line 4: invalid character"},
		{"unknown field", change(2, `"worker"`, `"workre"`), `line 3: unknown field "workre"`},
		{"empty line", change(2, lines[2], "\n"+lines[2]), "line 3: EOF"},
		{"two on a line", change(2, "}\n", "}{}\n"), "line 3: more than one JSON object"},
		{"twice", change(3, lines[3], lines[2]), "line 4: cell boot/guest=direct/cpu=EPYC-v4/vcpus=2/firmware=OVMF.amdsev/backend=sim is there twice"},
		{"unplanned", change(2, `"id":"boot`, `"id":"boat`), "line 3: cell boat/guest=direct/cpu=EPYC-v4/vcpus=2/firmware=OVMF.amdsev/backend=sim is not in the plan"},
		{"planned twice", change(0, "vcpus=2", "vcpus=1"), "line 1: the plan has cell boot/guest=direct/cpu=EPYC-v4/vcpus=1/firmware=OVMF.amdsev/backend=sim twice"},
		{"miscounted", change(0, `"planned":`, `"planned":1`), "cells are said to be planned, the plan lists 1"},
		{"shard 0/3", change(0, `"planned"`, `"shard":"0/3","planned"`), `line 1: shard "0/3" is not of the form 3/8`},
		{"shard 4/3", change(0, `"planned"`, `"shard":"4/3","planned"`), `line 1: shard "4/3" is not of the form 3/8`},
		{"shard 01/3", change(0, `"planned"`, `"shard":"01/3","planned"`), `line 1: shard "01/3" is not of the form 3/8`},
		{"undivided plan of a shard", change(0, `"planned"`, `"shard":"1/3","planned"`), "is planned for shard 0 of 3"},
		{"status", change(2, `"status":"passed"`, `"status":"great"`), `vcpus=2/firmware=OVMF.amdsev/backend=sim: "great" is no status (failed, error, flaky, skipped, passed)`},
		{"depth", change(2, `"depth":"full"`, `"depth":"deep"`), `"deep" is no depth (launch, full)`},
		{"digest", change(2, `"computed":"`, `"computed":"0`), "line 3: "},
		{"negative time", change(2, `"duration_ms":`, `"duration_ms":-`), "it took -"},
		{"stage backwards", change(2, `"start_ms":0`, `"start_ms":999999`), "stage measure goes from 999999 to"},
		{"artefacts elsewhere", change(2, `"backend":`, `"artefacts":"/etc","backend":`), `its artefacts "/etc" do not lie relative to the file of results`},
	} {
		_, err := results.Read(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q said", c.name, err, c.says)
		}
	}
	endless := strings.NewReader(lines[0] + strings.Repeat("x", 17<<20))
	if _, err := results.Read(endless); err == nil || !strings.Contains(err.Error(), "line 2: longer than") {
		t.Errorf("an endless line: %v", err)
	}
}

func TestWriterAndResume(t *testing.T) {
	want := resultstest.Run(resultstest.Options{Seed: 2})
	path := filepath.Join(t.TempDir(), "results.jsonl")
	w, err := results.Create(path, want.Header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := results.Create(path, want.Header); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create writes over a file: %v", err)
	}
	if _, _, err := results.Resume(path); err == nil || !strings.Contains(err.Error(), "another snplaunch is writing") {
		t.Errorf("Resume takes a file that is being written: %v", err)
	}
	half := len(want.Cells) / 2
	var all sync.WaitGroup
	for _, c := range want.Cells[:half] {
		all.Go(func() {
			if err := w.Add(c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Killed in the middle of a line, and of one that lacks but its newline.
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, torn := range []string{string(whole) + `{"id":"boot/gu`, strings.TrimSuffix(string(whole), "\n"), string(whole)} {
		if err := os.WriteFile(path, []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		w, had, err := results.Resume(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(had.Cells) != half || len(had.NotRun()) != len(want.Cells)-half {
			t.Errorf("resumed with %d cells, %d not run; want %d and %d", len(had.Cells), len(had.NotRun()), half, len(want.Cells)-half)
		}
		for _, c := range want.Cells[half:] {
			if err := w.Add(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := results.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.NotRun()) > 0 || got.Cut > 0 {
			t.Errorf("resumed, the file lacks %d cells and is cut by %d", len(got.NotRun()), got.Cut)
		}
	}
	if err := os.WriteFile(path, []byte(`{"form`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := results.Resume(path); !errors.Is(err, results.ErrNoHeader) {
		t.Errorf("resuming a file without a header: %v", err)
	}
}

// Whatever is read can be written in every form, and is read again as the same.
func FuzzRead(f *testing.F) {
	small := resultstest.Run(resultstest.Options{Seed: 3})
	small.Header.Plan, small.Cells = small.Header.Plan[:3], small.Cells[:2]
	small.Header.Planned = 3
	f.Add(text(f, small))
	for _, s := range resultstest.Divide(small, 2) {
		f.Add(text(f, s))
	}
	resultstest.Hostile(small, "\x1b]0;<script>|# ...\n---")
	f.Add(text(f, small) + "{")
	f.Fuzz(func(t *testing.T, s string) {
		run, err := results.Read(strings.NewReader(s))
		if err != nil {
			return
		}
		again := read(t, text(t, run))
		if a, b := text(t, run), text(t, again); a != b {
			t.Errorf("written, read and written again differ:\n%s\n%s", a, b)
		}
		for name, form := range forms {
			if err := form(new(bytes.Buffer), run); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if d := results.Diff(run, again); d.Any() || len(d.Inputs) > 0 {
			t.Errorf("a run drifts from itself: %+v", d)
		}
	})
}
