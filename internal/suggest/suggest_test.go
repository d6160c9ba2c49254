package suggest_test

import (
	"slices"
	"testing"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

func TestNearest(t *testing.T) {
	known := []string{"DebugSwap", "SecureTSC", "vTOM", "sev", "seves"}
	for word, want := range map[string][]string{
		"debugswop": {"DebugSwap"},
		"SECURETSC": {"SecureTSC"},
		"sevs":      {"sev", "seves"},
		"vtm":       {"vTOM"},
		"":          nil,
		"x":         nil,
		"something": nil,
	} {
		if got := suggest.Nearest(word, known); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := suggest.Remedy("sevs", known); got != "did you mean sev or seves?" {
		t.Errorf("got %q", got)
	}
	if got := suggest.Remedy("else", []string{"a", "b"}); got != "use one of a, b" {
		t.Errorf("got %q", got)
	}
}
