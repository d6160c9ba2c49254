package results

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Text writes a run for people: what did not pass, and the totals.
func Text(w io.Writer, run *Run) error {
	var b strings.Builder
	for _, c := range run.inOrder() {
		if c.Status == Passed || c.Status == Skipped {
			continue
		}
		fmt.Fprintf(&b, "%s %s (%s)\n", looks[c.Status].Symbol, oneLine(c.ID), took(c.DurationMS))
		account := c.Account()
		if c.Status == Flaky { // it did what it should: only why not at once
			account = ""
			for i, a := range c.Attempts {
				account += fmt.Sprintf("attempt %d: %s\n", i+1, a.Message)
			}
		}
		for line := range strings.Lines(account) {
			fmt.Fprintf(&b, "    %s\n", strings.TrimRight(strings.Map(printable, line), " "))
		}
	}
	for _, id := range run.NotRun() {
		fmt.Fprintf(&b, "· %s: %s\n", oneLine(id), notRunMessage)
	}
	h := run.Header
	fmt.Fprintf(&b, "%s: %s", oneLine(h.Matrix), run.Totals())
	if d := run.took(); d > 0 {
		fmt.Fprintf(&b, " in %s", about(d))
	}
	if run.simulated() {
		b.WriteString(" on the software SNP host")
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

// took is the time from the start of a run to the end of its last cell. A
// resumed run includes the time that it lay.
func (r *Run) took() time.Duration {
	last := r.Header.Started
	for _, c := range r.Cells {
		if end := c.Started.Add(time.Duration(c.DurationMS) * time.Millisecond); end.After(last) {
			last = end
		}
	}
	return last.Sub(r.Header.Started)
}
