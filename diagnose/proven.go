package diagnose

import (
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// checksInOrder are the firmware's checks of a launch command, in the order in
// which it makes them: who is refused with one status has passed the checks
// before it. Observed in SEV firmware 1.55.25; that SNP_LAUNCH_FINISH looks at
// digest, policy and signature in this order is also what AMD's document 56860
// says. Other versions of the firmware may differ.
var checksInOrder = map[string][]struct {
	status snp.Status
	passed string // what is right once this check is passed; empty: nothing worth a word
}{
	start: {
		{snp.StatusInvalidPlatformState, "the platform is initialised for SNP"},
		{snp.StatusInvalidGuest, ""},
		{snp.StatusInvalidGuestState, ""},
		{snp.StatusPolicyFailure, ""},
	},
	update: {
		{snp.StatusInvalidPlatformState, "the platform is initialised for SNP"},
		{snp.StatusInvalidGuest, ""},
		{snp.StatusInvalidPageState, "the page belongs to the guest and is in the right state"},
	},
	finish: {
		{snp.StatusInvalidPlatformState, "the platform is initialised for SNP"},
		{snp.StatusInvalidGuest, ""},
		{snp.StatusInvalidGuestState, "the launch has begun and is not over"},
		{snp.StatusInactive, ""},
		{snp.StatusBadMeasurement, "the launch digest is the one in the ID block"},
		{snp.StatusPolicyFailure, "the policy is the one in the ID block"},
		{snp.StatusInvalidParam, "the key algorithms are known"},
		{snp.StatusBadSignature, ""},
	},
}

// provenBefore says what the firmware had found right when it refused a command,
// empty where its answer says nothing of it.
func provenBefore(command string, status snp.Status) string {
	var passed []string
	for _, c := range checksInOrder[command] {
		if c.status == status {
			return sentenceOf(passed)
		}
		if c.passed != "" {
			passed = append(passed, c.passed)
		}
	}
	return ""
}

// sentenceOf joins clauses to a sentence.
func sentenceOf(clauses []string) string {
	if len(clauses) == 0 {
		return ""
	}
	all := clauses[0]
	for i, c := range clauses[1:] {
		if i == len(clauses)-2 {
			all += ", and " + c
		} else {
			all += ", " + c
		}
	}
	return strings.ToUpper(all[:1]) + all[1:] + "."
}
