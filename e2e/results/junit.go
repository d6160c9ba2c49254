package results

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// The dialect of JUnit's XML is the one of Maven Surefire, which Jenkins,
// GitLab and most others read: there is no standard. testdata/junit.xsd
// describes what is written here.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Time     string       `xml:"time,attr"` // seconds
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"` // UTC, without a zone as Ant has it
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string       `xml:"name,attr"`
	Class     string       `xml:"classname,attr"`
	Time      string       `xml:"time,attr"`
	Skipped   *junitWhy    `xml:"skipped"`
	Error     *junitWhy    `xml:"error"`
	Failure   *junitWhy    `xml:"failure"`
	Flaky     []junitFlaky `xml:"flakyFailure"`
	SystemOut string       `xml:"system-out,omitempty"`
}

type junitWhy struct {
	Type    string `xml:"type,attr,omitempty"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

type junitFlaky struct {
	Type       string `xml:"type,attr"`
	Message    string `xml:"message,attr"`
	StackTrace string `xml:"stackTrace"`
}

// JUnit writes a run as JUnit XML: a suite for each group, a test case for each
// cell. A cell that was planned and not run is an error there, so that no CI
// system takes a run that was killed for a good one.
func JUnit(w io.Writer, run *Run) error {
	h := run.Header
	out := junitSuites{Name: h.Matrix}
	var all int64
	for _, g := range run.groups() {
		s := junitSuite{Name: g.name, Timestamp: h.Started.UTC().Format("2006-01-02T15:04:05"), Properties: properties(h)}
		var total int64
		for i := range g.cells {
			c := &g.cells[i]
			total += c.DurationMS
			s.Tests++
			s.Cases = append(s.Cases, c.junit(h.Matrix+"."+g.name))
			switch c.Status {
			case Failed:
				s.Failures++
			case Errored:
				s.Errors++
			case Skipped:
				s.Skipped++
			}
		}
		s.Time = seconds(total)
		out.add(s)
		all += total
	}
	if missing := run.NotRun(); len(missing) > 0 {
		s := junitSuite{Name: "not run", Time: seconds(0), Timestamp: h.Started.UTC().Format("2006-01-02T15:04:05"), Properties: properties(h)}
		for _, id := range missing {
			s.Tests, s.Errors = s.Tests+1, s.Errors+1
			s.Cases = append(s.Cases, junitCase{Name: id, Class: h.Matrix + ".not run", Time: seconds(0), Error: &junitWhy{Type: "not-run", Message: notRunMessage}})
		}
		out.add(s)
	}
	out.Time = seconds(all)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuites) add(suite junitSuite) {
	s.Suites = append(s.Suites, suite)
	s.Tests += suite.Tests
	s.Failures += suite.Failures
	s.Errors += suite.Errors
}

func properties(h Header) []junitProperty {
	out := []junitProperty{{"matrix_sha256", h.MatrixSum}, {"snplaunch", h.Tool}}
	for _, p := range []junitProperty{{"shard", h.Shard}, {"host_kernel", h.Host.Kernel}, {"host_cpu", h.Host.CPU}} {
		if p.Value != "" {
			out = append(out, p)
		}
	}
	return out
}

func (c *Cell) junit(class string) junitCase {
	out := junitCase{Name: c.ID, Class: class, Time: seconds(c.DurationMS)}
	why := &junitWhy{Type: cmp.Or(c.Verdict, string(c.Status)), Message: c.says(), Text: c.Account()}
	switch c.Status {
	case Failed:
		out.Failure = why
	case Errored:
		out.Error = why
	case Skipped:
		out.Skipped = &junitWhy{Message: c.says()}
	case Flaky:
		for _, a := range c.Attempts {
			out.Flaky = append(out.Flaky, junitFlaky{Type: a.Verdict, Message: a.Message, StackTrace: a.Message})
		}
		out.SystemOut = c.Account()
	case Passed:
	}
	return out
}

const notRunMessage = "planned, but not run: the run was ended before its turn came, or its shard is missing"

// says is the message of a cell that has none of its own, too.
func (c *Cell) says() string {
	if c.Message != "" {
		return c.Message
	}
	return fmt.Sprintf("%s; expected: %s", c.Status, c.Expect)
}

// Account tells all that is known of a cell, in lines of text.
func (c *Cell) Account() string {
	var b strings.Builder
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s: %s\n", label, text)
		}
	}
	line(string(c.Status), c.Message)
	line("what to do", c.Advice)
	line("expected", c.Expect)
	line("made wrong on purpose", c.Tamper)
	line("outcome", c.ended())
	for _, d := range c.digests() {
		line(d.Name, d.Hex)
	}
	line("diagnosis", c.Diagnosis)
	for _, s := range c.Steps {
		line("step "+s.Name, strings.TrimSuffix(string(s.Status)+": "+s.Message, ": "))
		line("  hint", s.Hint)
	}
	for i, a := range c.Attempts {
		line(fmt.Sprintf("attempt %d", i+1), a.Message)
	}
	line("to repeat", c.Reproduce)
	line("artefacts", c.Artefacts)
	return b.String()
}

// ended tells how it ended in launcher's and the firmware's words.
func (c *Cell) ended() string {
	s := c.state()
	if s.Outcome == "" && s.Verdict == "" && s.FWStatus == "" {
		return ""
	}
	return s.ends()
}

// Digest is one of the digests of a cell, under its name.
type Digest struct {
	Name, Hex string
	Other     bool // it is not the one that was computed
}

func (c *Cell) digests() []Digest {
	var out []Digest
	if c.Computed != nil {
		out = append(out, Digest{"computed", c.Computed.String(), false})
	}
	if c.Launched != nil {
		out = append(out, Digest{"launched", c.Launched.String(), another(c.Computed, c.Launched)})
	}
	if c.Reported != nil {
		out = append(out, Digest{"reported", c.Reported.String(), another(c.Computed, c.Reported)})
	}
	return out
}

// group is the part of a run that belongs to one group of the matrix.
type group struct {
	name  string
	cells []Cell
}

// groups divides a run, in the order of the plan, by group.
func (r *Run) groups() []group {
	var out []group
	index := map[string]int{}
	for _, c := range r.inOrder() {
		i, known := index[c.Group]
		if !known {
			i = len(out)
			index[c.Group] = i
			out = append(out, group{name: c.Group})
		}
		out[i].cells = append(out[i].cells, c)
	}
	return out
}

// inOrder gives the cells in the order of the plan; a file has them as they ended.
func (r *Run) inOrder() []Cell {
	cells := byID(r)
	out := make([]Cell, 0, len(r.Cells))
	for _, p := range r.Header.Plan {
		if c := cells[p.ID]; c != nil {
			out = append(out, *c)
		}
	}
	return out
}

func seconds(ms int64) string { return fmt.Sprintf("%.3f", float64(ms)/1000) }

// about says a time as one says it to people.
func about(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 100*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}
