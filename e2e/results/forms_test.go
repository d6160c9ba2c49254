package results_test

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/e2e/results/resultstest"
	"github.com/snplaunch/snplaunch/internal/lacks"
)

// forms are all forms in which a run is written.
var forms = map[string]func(io.Writer, *results.Run) error{
	"JSON lines": results.Write, "text": results.Text, "JUnit": results.JUnit, "TAP": results.TAP,
	"annotations": results.Annotations, "summary": results.Summary,
}

func written(t testing.TB, form string, run *results.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := forms[form](&b, run); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// hostile is what a guest, or a file's name, might do to each of the forms.
const hostile = "\x1b[2J\x00\u202e]]></failure><script>alert(1)</script><!-- \" ' & \\ # TODO | `x` [a](javascript:b) %0A::error::c\r\n...\nnot ok 1\n::error::d\n  ---\n\xff"

// runs are what every form has to cope with.
func runs(t testing.TB) map[string]*results.Run {
	half := resultstest.Run(resultstest.Options{Seed: 8})
	half.Cells = half.Cells[:len(half.Cells)/2]
	bad := resultstest.Run(resultstest.Options{Seed: 9})
	resultstest.Hostile(bad, hostile)
	merged, err := results.Merge(resultstest.Divide(resultstest.Run(resultstest.Options{Seed: 10}), 3)...)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*results.Run{
		"green":   resultstest.Run(resultstest.Options{Seed: 7, Green: true}),
		"mixed":   resultstest.Run(resultstest.Options{Seed: 7}),
		"killed":  half,
		"merged":  merged,
		"hostile": bad,
		"empty":   {Header: results.Header{Format: 1, Matrix: "none", Started: half.Header.Started}},
	}
}

func TestJUnitIsValid(t *testing.T) {
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		lacks.End(t, "xmllint is missing; install it (Debian: libxml2-utils)")
	}
	for name, run := range runs(t) {
		path := filepath.Join(t.TempDir(), "junit.xml")
		if err := os.WriteFile(path, []byte(written(t, "JUnit", run)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(xmllint, "--nonet", "--noout", "--schema", "testdata/junit.xsd", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// The schema is one that refuses something.
	for _, wrong := range []string{"<testsuites/>", strings.Replace(written(t, "JUnit", runs(t)["green"]), "<testcase ", `<testcase age="3" `, 1)} {
		cmd := exec.Command(xmllint, "--nonet", "--noout", "--schema", "testdata/junit.xsd", "-")
		cmd.Stdin = strings.NewReader(wrong)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("the schema takes %.80s\n%s", wrong, out)
		}
	}
}

func TestJUnitCounts(t *testing.T) {
	for name, run := range runs(t) {
		var doc struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Suites   []struct {
				Tests   int `xml:"tests,attr"`
				Skipped int `xml:"skipped,attr"`
				Cases   []struct {
					Failure *string `xml:"failure"`
					Error   *string `xml:"error"`
					Skipped *string `xml:"skipped"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		if err := xml.Unmarshal([]byte(written(t, "JUnit", run)), &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var said, counted results.Totals
		cases := 0
		for _, s := range doc.Suites {
			said.Skipped += s.Skipped
			if s.Tests != len(s.Cases) {
				t.Errorf("%s: a suite says %d tests and has %d", name, s.Tests, len(s.Cases))
			}
			for _, c := range s.Cases {
				cases++
				switch {
				case c.Failure != nil:
					counted.Failed++
				case c.Error != nil:
					counted.Errored++
				case c.Skipped != nil:
					counted.Skipped++
				}
			}
		}
		is := run.Totals()
		said.Failed, said.Errored = doc.Failures, doc.Errors
		want := results.Totals{Failed: is.Failed, Errored: is.Errored + is.NotRun, Skipped: is.Skipped}
		if said != want || counted != want || doc.Tests != run.Header.Planned || cases != run.Header.Planned {
			t.Errorf("%s: says %+v of %d, has %+v of %d; want %+v of %d", name, said, doc.Tests, counted, cases, want, run.Header.Planned)
		}
	}
}

func TestTAPCounts(t *testing.T) {
	for name, run := range runs(t) {
		lines := strings.Split(written(t, "TAP", run), "\n")
		if lines[0] != "TAP version 14" || lines[1] != "1.."+strconv.Itoa(run.Header.Planned) {
			t.Errorf("%s: begins %q", name, lines[:2])
		}
		ok, not, skip := 0, 0, 0
		for _, l := range lines[2:] {
			switch {
			case strings.HasPrefix(l, "ok "):
				ok++
				if strings.Contains(l, " # SKIP ") {
					skip++
				}
			case strings.HasPrefix(l, "not ok "):
				not++
			case l != "" && !strings.HasPrefix(l, "  ") && !strings.HasPrefix(l, "# Subtest: "):
				t.Errorf("%s: a line of no kind: %q", name, l)
			}
		}
		is := run.Totals()
		if not != is.Failed+is.Errored+is.NotRun || ok != is.Passed+is.Flaky+is.Skipped || skip != is.Skipped {
			t.Errorf("%s: %d ok (%d skipped), %d not ok; want of %+v", name, ok, skip, not, is)
		}
	}
}

// A run's failures are annotations, at most ten of a level, each on one line.
func TestAnnotations(t *testing.T) {
	for name, run := range runs(t) {
		levels := map[string]int{}
		for _, l := range strings.Split(strings.TrimSuffix(written(t, "annotations", run), "\n"), "\n") {
			if l == "" {
				continue
			}
			command, _, ok := strings.Cut(strings.TrimPrefix(l, "::"), "::")
			level, props, hasProps := strings.Cut(command, " ")
			levels[level]++
			if !ok || !hasProps || (level != "error" && level != "warning") || strings.Contains(l, "\r") {
				t.Errorf("%s: no command: %q", name, l)
			}
			for _, p := range strings.Split(props, ",") {
				key, _, _ := strings.Cut(p, "=")
				if key != "file" && key != "line" && key != "title" {
					t.Errorf("%s: property %q of %q", name, key, l)
				}
			}
		}
		is := run.Totals()
		bad := is.Failed + is.Errored + min(is.NotRun, 1)
		if levels["error"] != min(bad, 10) || levels["warning"] != min(is.Flaky, 10) {
			t.Errorf("%s: %d errors and %d warnings of %+v", name, levels["error"], levels["warning"], is)
		}
	}
}

func TestAnnotationEscapes(t *testing.T) {
	run := resultstest.Run(resultstest.Options{Seed: 7, Green: true})
	c := &run.Cells[3]
	c.Status, c.Line, c.Message, c.Reproduce = results.Failed, 7, "100%:\r\nbroken, all", ""
	c.ID = "a:b,c=1%"
	run.Header.Plan[3].ID = c.ID
	run.Header.MatrixFile = "ci/m,1.yaml"
	const want = "::error file=ci/m%2C1.yaml,line=7,title=a%3Ab%2Cc=1%25 failed::100%25:%0D%0Abroken, all\n"
	if got := written(t, "annotations", run); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSummary(t *testing.T) {
	for name, run := range runs(t) {
		got := written(t, "summary", run)
		if len(got) > 1<<20 {
			t.Errorf("%s: %d bytes, GitHub takes a mebibyte", name, len(got))
		}
		for _, bad := range []string{"<script", "](", "`", "\x1b", "\u202e", "&#124;\n"} {
			if strings.Contains(got, bad) {
				t.Errorf("%s: has %q", name, bad)
			}
		}
		columns := -1
		for _, l := range strings.Split(got, "\n") {
			if !strings.HasPrefix(l, "|") {
				columns = -1
				continue
			}
			if n := strings.Count(l, "|"); columns >= 0 && n != columns {
				t.Errorf("%s: a row of %d columns among rows of %d: %s", name, n-1, columns-1, l)
			} else {
				columns = n
			}
		}
	}
	if got := written(t, "summary", runs(t)["green"]); !strings.HasPrefix(got, "### ✅ smoke: 172 passed\n") || !strings.Contains(got, "software SNP host") {
		t.Errorf("a green run: %s", got)
	}
}

// What goes to a terminal moves no cursor.
func TestTextIsPrintable(t *testing.T) {
	for name, run := range runs(t) {
		for _, r := range written(t, "text", run) {
			if r != '\n' && (r < ' ' || r == 0x7f || r == '\u202e') {
				t.Errorf("%s: has %q", name, r)
			}
		}
	}
}
