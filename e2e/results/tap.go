package results

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// tapDetails is the block of YAML under a test point.
type tapDetails struct {
	Message   string            `yaml:"message,omitempty"`
	Severity  string            `yaml:"severity,omitempty"`
	Expected  string            `yaml:"expected,omitempty"`
	Outcome   string            `yaml:"outcome,omitempty"`
	Advice    string            `yaml:"advice,omitempty"`
	Diagnosis string            `yaml:"diagnosis,omitempty"`
	Digests   map[string]string `yaml:"digests,omitempty"`
	Attempts  []string          `yaml:"failed_attempts,omitempty"`
	Hint      string            `yaml:"hint,omitempty"`
	Reproduce string            `yaml:"reproduce,omitempty"`
	Artefacts string            `yaml:"artefacts,omitempty"`
	Duration  int64             `yaml:"duration_ms"`
}

// TAP writes a run in the Test Anything Protocol, version 14: a test point for
// each cell in the order of the plan, its steps as a subtest. A cell that was
// planned and not run is not ok.
func TAP(w io.Writer, run *Run) error {
	var b bytes.Buffer
	missing := run.NotRun()
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(run.Cells)+len(missing))
	n := 0
	for _, c := range run.inOrder() {
		n++
		if err := c.tap(&b, n); err != nil {
			return err
		}
	}
	for _, id := range missing {
		n++
		if err := tapPoint(&b, "", n, id, Errored, "", &tapDetails{Message: notRunMessage, Severity: "error"}); err != nil {
			return err
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (c *Cell) tap(b *bytes.Buffer, n int) error {
	if len(c.Steps) > 0 {
		fmt.Fprintf(b, "# Subtest: %s\n    1..%d\n", tapText(c.ID), len(c.Steps))
		for i, s := range c.Steps {
			var d *tapDetails
			if !s.Status.Good() {
				d = &tapDetails{Message: s.Message, Severity: severity(s.Status), Hint: s.Hint, Duration: s.EndMS - s.StartMS}
			}
			if err := tapPoint(b, "    ", i+1, s.Name, s.Status, s.Message, d); err != nil {
				return err
			}
		}
	}
	d := &tapDetails{
		Message: c.Message, Severity: severity(c.Status), Expected: c.Expect, Outcome: c.ended(), Advice: c.Advice, Diagnosis: c.Diagnosis,
		Reproduce: c.Reproduce, Artefacts: c.Artefacts, Duration: c.DurationMS,
	}
	switch c.Status {
	case Passed:
		d = &tapDetails{Duration: c.DurationMS}
	case Skipped:
		d = nil
	default:
		for _, g := range c.digests() {
			if d.Digests == nil {
				d.Digests = map[string]string{}
			}
			d.Digests[g.Name] = g.Hex
		}
		for _, a := range c.Attempts {
			d.Attempts = append(d.Attempts, a.Message)
		}
	}
	return tapPoint(b, "", n, c.ID, c.Status, c.says(), d)
}

func severity(s Status) string {
	switch s {
	case Failed:
		return "fail"
	case Errored:
		return "error"
	case Flaky:
		return "flaky"
	}
	return ""
}

func tapPoint(b *bytes.Buffer, indent string, n int, name string, s Status, reason string, d *tapDetails) error {
	word, directive := "ok", ""
	if !s.Good() {
		word = "not ok"
	}
	if s == Skipped {
		directive = " # SKIP " + tapText(reason)
	}
	fmt.Fprintf(b, "%s%s %d - %s%s\n", indent, word, n, tapText(name), directive)
	if d == nil {
		return nil
	}
	var block bytes.Buffer
	enc := yaml.NewEncoder(&block)
	enc.SetIndent(2)
	if err := enc.Encode(d); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	fmt.Fprintf(b, "%s  ---\n", indent)
	for line := range strings.Lines(block.String()) {
		fmt.Fprintf(b, "%s  %s", indent, line)
	}
	fmt.Fprintf(b, "%s  ...\n", indent)
	return nil
}

// tapText makes a description of any text: one line, in which no directive begins.
func tapText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "#", `\#`).Replace(oneLine(s))
}

// oneLine puts a text on one line and takes what a terminal would obey.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(printable, s)), " ")
}
