package main

import (
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// e2eVerbs are the second words of `snplaunch e2e`.
var e2eVerbs = []struct {
	name string
	run  func(*env, []string) error
}{
	{"plan", e2ePlan},
	{"run", e2eRun},
	{"evidence", e2eEvidence},
	{"merge", e2eMerge},
	{"diff", e2eDiff},
	{"report", e2eReport},
}

func e2eVerb(e *env, args []string) error {
	var names []string
	for _, v := range e2eVerbs {
		names = append(names, v.name)
	}
	if len(args) == 0 {
		return usageError("e2e: say what: %s", strings.Join(names, ", "))
	}
	for _, v := range e2eVerbs {
		if v.name == args[0] {
			return v.run(e, args[1:])
		}
	}
	return usageError("e2e: %q is none of its verbs (%s)", args[0], suggest.Remedy(args[0], names))
}
