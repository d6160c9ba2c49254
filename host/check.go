package host

import "strings"

// Verdict is what a check means for the use of this machine.
type Verdict string

const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // may be in the way
	Fail Verdict = "fail" // is in the way of Check.Backend
	Info Verdict = "info" // only told
)

// Check is one thing that was looked at.
type Check struct {
	ID      string  `json:"id"`                // does not change, e.g. "sev-device"
	Name    string  `json:"name"`              // for people, e.g. "/dev/sev"
	Backend string  `json:"backend,omitempty"` // the backend that it matters to; empty: to none in particular
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`            // what is there
	Remedy  string  `json:"remedy,omitempty"` // what to do; only with Warn and Fail
}

// ObstacleError reports that a backend cannot work on this machine.
type ObstacleError struct {
	Backend string
	Checks  []Check // those that fail
}

func (e *ObstacleError) Error() string {
	var b strings.Builder
	b.WriteString("backend " + e.Backend + " cannot work on this machine: ")
	for i, c := range e.Checks {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.Name + ": " + c.Found + " (" + c.Remedy + ")")
	}
	return b.String()
}
