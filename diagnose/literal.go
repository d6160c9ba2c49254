package diagnose

import (
	"regexp/syntax"
	"sync"
)

// known are the literals of expressions that were asked for before: parsing the
// whole catalogue takes a few milliseconds.
var known sync.Map

// literals gives strings of which every match of an expression contains at
// least one, the longest that can be had; none where there is no such string.
// Looking for a string is far cheaper than an expression, and a log is long.
func literals(expression string) []string {
	if l, ok := known.Load(expression); ok {
		return l.([]string)
	}
	l := parseLiterals(expression)
	known.Store(expression, l)
	return l
}

func parseLiterals(expression string) []string {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil
	}
	return literalsOf(re.Simplify())
}

func literalsOf(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 {
			return []string{string(re.Rune)}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return literalsOf(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return literalsOf(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if l := literalsOf(sub); shortest(l) > shortest(best) {
				best = l
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			l := literalsOf(sub)
			if len(l) == 0 {
				return nil
			}
			all = append(all, l...)
		}
		return all
	}
	return nil
}

// shortest is the length of the shortest of some strings, 0 where there is none.
func shortest(list []string) int {
	n := 0
	for i, s := range list {
		if i == 0 || len(s) < n {
			n = len(s)
		}
	}
	return n
}
