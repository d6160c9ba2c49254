package main

import (
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// subverb is the second word of a verb that has several.
type subverb struct {
	name string
	run  func(*env, []string) error
}

// subverbs are the second words of those verbs that have them: what can be run is what
// help, completion and the manual know. Filled in by init, as verbs is.
var subverbs map[string][]subverb

func init() {
	subverbs = map[string][]subverb{
		"idblock": {
			{"create", idblockCreate},
			{"prepare", idblockPrepare},
			{"assemble", idblockAssemble},
			{"verify", idblockVerify},
			{"show", idblockShow},
			{"key-digest", idblockKeyDigest},
			{"keygen", idblockKeygen},
		},
		"report": {{"show", reportShow}, {"verify", reportVerify}},
		"certs":  {{"fetch", certsFetch}},
		"e2e": {
			{"plan", e2ePlan},
			{"run", e2eRun},
			{"evidence", e2eEvidence},
			{"merge", e2eMerge},
			{"diff", e2eDiff},
			{"report", e2eReport},
		},
		"sim": {{"exec", simExec}, {"replay", simReplay}, {"root", simRoot}},
	}
}

func subverbNames(verb string) []string {
	var names []string
	for _, s := range subverbs[verb] {
		names = append(names, s.name)
	}
	return names
}

// second gives the verb of that name whose second word is the first argument.
func second(verb string) func(*env, []string) error {
	return func(e *env, args []string) error {
		names := subverbNames(verb)
		if len(args) == 0 {
			return usageError("%s: say what: %s", verb, strings.Join(names, ", "))
		}
		for _, s := range subverbs[verb] {
			if s.name == args[0] {
				return s.run(e, args[1:])
			}
		}
		return usageError("%s: %q is none of its verbs (%s)", verb, args[0], suggest.Remedy(args[0], names))
	}
}
