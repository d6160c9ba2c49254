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
	var last time.Time
	for _, c := range run.inOrder() {
		if end := c.Started.Add(time.Duration(c.DurationMS) * time.Millisecond); end.After(last) {
			last = end
		}
		if c.Status == Passed || c.Status == Skipped {
			continue
		}
		fmt.Fprintf(&b, "%s %s (%s)\n", looks[c.Status].Symbol, oneLine(c.ID), about(time.Duration(c.DurationMS)*time.Millisecond))
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
	if last.After(h.Started) {
		fmt.Fprintf(&b, " in %s", about(last.Sub(h.Started)))
	}
	if run.simulated() {
		b.WriteString(" on the software SNP host")
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
