package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// Finding is a failure that was recognised in a log.
type Finding struct {
	Failure
	Line  int // where it was first seen, from 1
	Count int // on how many lines
	// Consequence says that this follows from another failure, as far as the
	// line itself tells.
	Consequence bool
	// Root says that no launch can succeed before this is repaired.
	Root bool

	rank rank
}

// A log may repeat itself for ever; what is kept of it is bounded by these.
const (
	mostFindings = 100 // different failures
	mostResults  = 400 // different return values of launch commands
)

// scan reads lines and keeps what it recognised.
type scan struct {
	watched []*watch
	found   map[*messageEntry]*match
	lists   [][]messageEntry
	results map[result]*match
	// also is the first line on which a condition was met: what another line
	// of the log must say, or must not, for an entry to count.
	also map[string]*condition
}

// watch is a pattern to be looked for, with what is done where it is found.
type watch struct {
	re       pattern
	literals []string
	// list is the part of the catalogue that an entry is in: the first entry of a
	// list that explains a line does so alone. -1 for what is no entry.
	list int
	// hit says whether the line is explained.
	hit func(line string, number int, at []int) bool
}

// match is where an entry was found first.
type match struct {
	text  string // the line
	at    []int  // the expression's groups in it
	line  int
	last  int // the line that was counted last
	count int
}

// result is what QEMU reports of a launch command.
type result struct {
	command string
	ret, fw int
}

// condition is where a pattern that entries refer to was found.
type condition struct {
	text string
	at   []int
}

// newScan prepares to look for return values of launch commands and for entries.
func newScan(entries ...[]messageEntry) *scan {
	s := &scan{lists: entries, found: map[*messageEntry]*match{}, results: map[result]*match{}, also: map[string]*condition{}}
	for _, l := range launchLines {
		s.watch(l.re, 0, func(line string, number int, at []int) bool {
			s.hear(l.command, line, number, at)
			return true
		})
	}
	for i := range launches {
		s.condition(launches[i].and)
	}
	for n, list := range entries {
		for i := range list {
			e := &list[i]
			s.watch(e.re, n, func(line string, number int, at []int) bool {
				if e.when != nil && !e.when(groups(line, at)) {
					return false
				}
				if m := s.found[e]; m != nil {
					m.again(number)
				} else if len(s.found) < mostFindings {
					s.found[e] = newMatch(line, number, at)
				}
				return !e.conditional() // what else the log says is not known yet
			})
			s.condition(e.and)
			s.condition(e.unless)
		}
	}
	return s
}

func (s *scan) watch(re pattern, list int, hit func(line string, number int, at []int) bool) {
	s.watched = append(s.watched, &watch{re, literals(re().String()), list, hit})
}

func (s *scan) condition(re pattern) {
	if re == nil {
		return
	}
	name := re().String()
	if _, known := s.also[name]; known {
		return
	}
	s.also[name] = nil
	s.watch(re, -1, func(line string, _ int, at []int) bool {
		if s.also[name] == nil {
			s.also[name] = &condition{strings.Clone(line), at}
		}
		return false
	})
}

func newMatch(line string, number int, at []int) *match {
	return &match{text: strings.Clone(line), at: at, line: number, last: number, count: 1}
}

func (m *match) again(number int) {
	if number != m.last {
		m.last, m.count = number, m.count+1
	}
}

func groups(line string, at []int) []string {
	var out []string
	for i := 0; i+1 < len(at); i += 2 {
		if at[i] < 0 {
			out = append(out, "")
		} else {
			out = append(out, line[at[i]:at[i+1]])
		}
	}
	return out
}

// hear notes the return values of a launch command.
func (s *scan) hear(command, line string, number int, at []int) {
	g := groups(line, at)
	ret, _ := strconv.Atoi(g[2])
	fw, _ := strconv.Atoi(g[3])
	r := result{cmp.Or(command, g[1]), ret, fw}
	if m := s.results[r]; m != nil {
		m.again(number)
	} else if len(s.results) < mostResults {
		s.results[r] = newMatch(line, number, at)
	}
}

// line looks at one line, with those watches that may find something in it.
func (s *scan) line(line string, number int, among []*watch) {
	explained := 0 // a bit for each list
	for _, w := range among {
		if w.list >= 0 && explained&(1<<w.list) != 0 || !w.may(line) {
			continue
		}
		if at := w.re().FindStringSubmatchIndex(line); at != nil && w.hit(line, number, at) {
			explained |= 1 << w.list
		}
	}
}

func (w *watch) may(text string) bool {
	return len(w.literals) == 0 || slices.ContainsFunc(w.literals, func(l string) bool { return strings.Contains(text, l) })
}

// text looks at a whole text.
func (s *scan) text(text string) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		s.line(strings.TrimRight(line, "\r\n"), number, s.watched)
	}
}

// findings are the failures, the root cause first: by rank, then in the order
// of the lines.
func (s *scan) findings() []Finding {
	var out []Finding
	for r, m := range s.results {
		f := s.explain(r, clean(m.text[m.at[0]:m.at[1]]))
		out = append(out, Finding{Failure: *f, Line: m.line, Count: m.count, rank: rankFailure})
	}
	for n := range s.lists {
		alone := map[int]bool{} // lines that an entry with conditions explains
		for i := range s.lists[n] {
			e := &s.lists[n][i]
			m := s.found[e]
			if m == nil || alone[m.line] || !s.holds(e) {
				continue
			}
			alone[m.line] = e.conditional()
			out = append(out, e.finding(m))
		}
	}
	slices.SortFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Line, b.Line), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Message, b.Message))
	})
	return out
}

// holds says whether the rest of the log is as an entry wants it.
func (s *scan) holds(e *messageEntry) bool {
	return (e.and == nil || s.also[e.and().String()] != nil) && (e.unless == nil || s.also[e.unless().String()] == nil)
}

func (e *messageEntry) conditional() bool { return e.and != nil || e.unless != nil }

// finding fills an entry with what was found.
func (e *messageEntry) finding(m *match) Finding {
	fill := func(template string) string {
		return clean(string(e.re().ExpandString(nil, template, m.text, m.at)))
	}
	end := len(m.text)
	if e.exact {
		end = m.at[1]
	}
	return Finding{
		Failure: Failure{
			ID: e.id, FWStatus: snp.StatusNoFWCall, Message: clean(m.text[m.at[0]:end]),
			Cause: fill(e.cause), Advice: fill(e.advice), Reference: e.reference, Likely: e.likely,
		},
		Line: m.line, Count: m.count, Consequence: e.rank == rankConsequence || e.rank == rankEnd, Root: e.rank == rankRoot, rank: e.rank,
	}
}

// explain finds the launch entry for a return value.
func (s *scan) explain(r result, message string) *Failure {
	f := &Failure{
		Command: r.command, Ret: r.ret, FWError: r.fw,
		FWAsked: r.fw > 0, FWStatus: snp.StatusNoFWCall,
		Message: message,
	}
	if f.FWAsked {
		f.FWStatus = snp.Status(r.fw)
		f.Proven = provenBefore(r.command, f.FWStatus)
	}
	for i := range launches {
		e := &launches[i]
		if e.command != "" && e.command != r.command || e.ret != anyValue && e.ret != r.ret || e.fw != anyValue && e.fw != r.fw {
			continue
		}
		if e.and == nil {
			f.ID, f.Reference, f.Likely = e.id, e.reference, e.likely
			f.Cause, f.Advice = e.cause, e.advice
			return f
		}
		if c := s.also[e.and().String()]; c != nil {
			f.ID, f.Reference, f.Likely = e.id, e.reference, e.likely
			f.Message = clean(f.Message + "; " + c.text[c.at[0]:c.at[1]])
			f.Cause = clean(string(e.and().ExpandString(nil, e.cause, c.text, c.at)))
			f.Advice = clean(string(e.and().ExpandString(nil, e.advice, c.text, c.at)))
			return f
		}
	}

	f.Reference = "Linux arch/x86/kvm/svm/sev.c and include/uapi/linux/psp-sev.h"
	if f.FWAsked {
		f.ID = "firmware-refused"
		f.Cause = fmt.Sprintf("The firmware refused %s with %s (0x%x).", r.command, f.FWStatus, r.fw)
		f.Advice = fmt.Sprintf("Look up %s for %s in AMD's document 56860, and what the host's kernel log says of ccp and kvm_amd at that time.", f.FWStatus, r.command)
		return f
	}
	f.ID = "kvm-refused"
	f.Cause = fmt.Sprintf("The host's kernel refused %s (%s), and the firmware was never asked.", r.command, errnoText(r.ret))
	f.Advice = "See what the host's kernel log says of kvm_amd and ccp at that time, and use a QEMU and a host kernel of about the same age."
	return f
}
