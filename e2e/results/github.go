package results

import (
	"fmt"
	"io"
	"strings"
)

// What GitHub shows of a step: ten annotations of each level, and a summary of
// at most a mebibyte.
const (
	maxAnnotations = 10
	maxSummaryRows = 100
)

// Annotations writes a run's failures as workflow commands of GitHub Actions,
// which the runner reads from a step's output: ::error for what did not pass,
// ::warning for what passed at a later attempt.
func Annotations(w io.Writer, run *Run) error {
	var errs, warnings []string
	h := run.Header
	for _, c := range run.inOrder() {
		switch c.Status {
		case Failed, Errored:
			word := "failed"
			if c.Status == Errored {
				word = "could not be tried"
			}
			errs = append(errs, annotation("error", h.MatrixFile, c.Line, c.ID+" "+word, sentences(c.says(), c.Advice, repeat(c.Reproduce))))
		case Flaky:
			why := c.Message
			if n := len(c.Attempts); n > 0 {
				why = fmt.Sprintf("passed at attempt %d; before: %s", n+1, c.Attempts[n-1].Message)
			}
			warnings = append(warnings, annotation("warning", h.MatrixFile, c.Line, c.ID+" is flaky", sentences(why)))
		}
	}
	if n := len(run.NotRun()); n > 0 {
		errs = append(errs, annotation("error", h.MatrixFile, 0, fmt.Sprintf("%d cells were not run", n), notRunMessage))
	}
	var b strings.Builder
	for _, l := range []struct {
		level string
		lines []string
	}{{"error", errs}, {"warning", warnings}} {
		for i, a := range l.lines {
			if i == maxAnnotations-1 && len(l.lines) > maxAnnotations {
				b.WriteString(annotation(l.level, h.MatrixFile, 0, fmt.Sprintf("and %d more", len(l.lines)-i), "GitHub shows ten annotations of a step; the job's summary and the report list all"))
				break
			}
			b.WriteString(a)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func repeat(command string) string {
	if command == "" {
		return ""
	}
	return "To repeat: " + command
}

func sentences(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "\n")
}

// annotation is one workflow command, with the escapes that the runner undoes:
// of %, CR and LF in the message, of : and , too in a property.
func annotation(level, file string, line int, title, message string) string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var props []string
	if file != "" {
		props = append(props, "file="+property.Replace(file))
		if line > 0 {
			props = append(props, fmt.Sprintf("line=%d", line))
		}
	}
	props = append(props, "title="+property.Replace(title))
	return fmt.Sprintf("::%s %s::%s\n", level, strings.Join(props, ","), data.Replace(message))
}

// Summary writes a run as Markdown for the summary of a job, which the runner
// takes from the file that $GITHUB_STEP_SUMMARY names.
func Summary(w io.Writer, run *Run) error {
	var b strings.Builder
	h, t := run.Header, run.Totals()
	mark := "✅"
	if !t.Holds() {
		mark = "❌"
	}
	fmt.Fprintf(&b, "### %s %s: %s\n\n", mark, markdown(h.Matrix), t)
	var facts []string
	if h.Shard != "" {
		facts = append(facts, "shard "+h.Shard)
	}
	facts = append(facts, "snplaunch "+h.Tool)
	if h.Host.Kernel != "" {
		facts = append(facts, "Linux "+h.Host.Kernel, h.Host.CPU)
	}
	if run.simulated() {
		facts = append(facts, "software SNP host: no AMD hardware was involved")
	}
	fmt.Fprintf(&b, "%s\n", markdown(strings.Join(facts, "; ")))
	var rows []Cell
	for _, s := range []Status{Failed, Errored, Flaky} {
		for _, c := range run.inOrder() {
			if c.Status == s {
				rows = append(rows, c)
			}
		}
	}
	if len(rows) > 0 {
		b.WriteString("\n| | cell | expected | found | took |\n|---|---|---|---|---|\n")
	}
	for i, c := range rows {
		if i == maxSummaryRows {
			fmt.Fprintf(&b, "\nand %d more\n", len(rows)-i)
			break
		}
		found := sentences(c.Message, c.Advice)
		if c.Status == Flaky && len(c.Attempts) > 0 {
			found = c.Attempts[len(c.Attempts)-1].Message
		}
		fmt.Fprintf(&b, "| %s %s | %s | %s | %s | %s |\n", looks[c.Status].Symbol, c.Status, markdown(c.ID), markdown(c.Expect), markdown(limit(found)), took(c.DurationMS))
	}
	if missing := run.NotRun(); len(missing) > 0 {
		fmt.Fprintf(&b, "\n%d cells were planned and not run", len(missing))
		for i, id := range missing {
			if i == maxSummaryRows {
				fmt.Fprintf(&b, "\n- and %d more", len(missing)-i)
				break
			}
			fmt.Fprintf(&b, "\n- %s", markdown(id))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// simulated says whether any cell ran on the software host.
func (r *Run) simulated() bool {
	for _, c := range r.Cells {
		if c.Simulated {
			return true
		}
	}
	return false
}

// maxMessage is how much of a message a summary has, in runes.
const maxMessage = 1000

func limit(s string) string {
	if r := []rune(s); len(r) > maxMessage {
		return string(r[:maxMessage]) + "…"
	}
	return s
}

// markdown makes any text stand in Markdown, in a table too, as it is: every
// character that Markdown, GitHub's or HTML might take for its own becomes a
// reference.
func markdown(s string) string {
	var b strings.Builder
	for _, r := range strings.TrimSpace(s) {
		switch {
		case r == '\n':
			b.WriteString("<br>")
		case strings.ContainsRune("\\`*_{}[]<>()#+!|&~$@:\"'", r):
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(printable(r))
		}
	}
	return b.String()
}
