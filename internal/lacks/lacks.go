// Package lacks ends tests for want of something that they need and that can be had.
package lacks

import (
	"os"
	"testing"
)

// Variable, when it is set, says that nothing may be missing: scripts/test sets it once
// it has brought everything.
const Variable = "SNPLAUNCH_REQUIRE_ALL"

// End ends a test: as a failure where Variable is set, as a skip elsewhere. The
// sentence says what is missing and how it is had.
func End(t testing.TB, sentence string) {
	t.Helper()
	if os.Getenv(Variable) != "" {
		t.Fatalf("%s (%s is set, so that nothing may be missing)", sentence, Variable)
	}
	t.Skipf("%s (%s=1 makes this a failure)", sentence, Variable)
}
