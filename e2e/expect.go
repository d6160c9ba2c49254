package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/snp"
)

// Expect is how a launch must end. Its String is the form of the YAML file.
type Expect struct {
	kind   string            // a key of expectKinds; empty: only digest counts
	arg    string            // what follows it
	digest *snp.LaunchDigest // what the computed digest must be; nil: any
}

// Kinds of expectation.
const (
	expectLaunches      = "launches"
	expectMatches       = "report-matches"
	expectFails         = "fails"
	expectRefuses       = "firmware-refuses"
	expectReportInvalid = "report-invalid"
	expectNotAttested   = "not-attested"
	expectTimesOut      = "times-out"
	expectRefused       = "refused"
)

// expectKinds says of each what may follow it.
var expectKinds = []struct{ kind, arg string }{
	{expectLaunches, ""},
	{expectMatches, ""},
	{expectFails, "a firmware status, a command such as SNP_LAUNCH_START, or both"},
	{expectRefuses, ""},
	{expectReportInvalid, "a regular expression that the message must match"},
	{expectNotAttested, "a regular expression that the message must match"},
	{expectTimesOut, ""},
	{expectRefused, "a regular expression that the message must match"},
}

func defaultExpect(d results.Depth) *Expect {
	if d == results.LaunchOnly {
		return &Expect{kind: expectLaunches}
	}
	return &Expect{kind: expectMatches}
}

// needsBoot says whether a launch without a boot cannot show it.
func (e *Expect) needsBoot() bool {
	return slices.Contains([]string{expectMatches, expectRefuses, expectReportInvalid, expectNotAttested}, e.kind)
}

// String gives the expectation as the matrix says it.
func (e *Expect) String() string {
	var parts []string
	switch {
	case e.kind != "" && e.arg != "":
		parts = append(parts, e.kind+": "+e.arg)
	case e.kind != "":
		parts = append(parts, e.kind)
	}
	if e.digest != nil {
		parts = append(parts, "digest: "+e.digest.String())
	}
	return strings.Join(parts, ", ")
}

// ParseExpect reads an expectation of one line: "launches", "fails: BAD_MEASUREMENT".
func ParseExpect(s string) (*Expect, error) {
	kind, arg, _ := strings.Cut(s, ":")
	e := &Expect{}
	return e, e.add(strings.TrimSpace(kind), strings.TrimSpace(arg))
}

// add takes one key and what it has.
func (e *Expect) add(kind, arg string) error {
	if kind == "digest" {
		d, err := snp.ParseLaunchDigest(arg)
		e.digest = &d
		return err
	}
	if e.kind != "" {
		return fmt.Errorf("%s and %s cannot both be", e.kind, kind)
	}
	at := slices.IndexFunc(expectKinds, func(k struct{ kind, arg string }) bool { return k.kind == kind })
	if at < 0 {
		known := []string{"digest"}
		for _, k := range expectKinds {
			known = append(known, k.kind)
		}
		return fmt.Errorf("%q is nothing that a launch does (%s)", kind, suggest.Remedy(kind, known))
	}
	if arg != "" && expectKinds[at].arg == "" {
		return fmt.Errorf("nothing can follow %s", kind)
	}
	e.kind, e.arg = kind, arg
	if kind == expectFails {
		return checkFailure(arg)
	}
	if _, err := regexp.Compile(arg); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

// checkFailure takes "STATUS", "COMMAND" and "COMMAND STATUS".
func checkFailure(arg string) error {
	words := strings.Fields(arg)
	if len(words) > 2 {
		return fmt.Errorf("%q: at most a command and a status follow fails", arg)
	}
	for _, w := range words {
		if strings.HasPrefix(w, "SNP_") {
			continue
		}
		if _, known := statusNamed(w); !known {
			var names []string
			for i := range snp.Status(0x100) {
				if n := i.String(); !strings.HasPrefix(n, "status ") {
					names = append(names, n)
				}
			}
			return fmt.Errorf("%q is neither a firmware status nor a command that begins with SNP_ (%s)", w, suggest.Remedy(w, names))
		}
	}
	return nil
}

func statusNamed(name string) (snp.Status, bool) {
	for s := range snp.Status(0x100) {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}

// node reads an expectation: a line, or a mapping of its parts.
func (e *Expect) node(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		s, err := strictyaml.Scalar(n)
		if err != nil {
			return err
		}
		got, err := ParseExpect(s)
		*e = *got
		return err
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return errors.New(`a line such as launches is wanted, or a mapping such as {fails: BAD_MEASUREMENT}`)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		arg, err := strictyaml.Scalar(n.Content[i+1])
		if err == nil {
			err = e.add(n.Content[i].Value, arg)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Judge holds what became of a launch against the expectation: an empty string, or
// a sentence on what is otherwise. err is that of launcher.Run.
func (e *Expect) Judge(res *launcher.Result, err error) string {
	if err != nil {
		if e.kind != expectRefused {
			return "it was not launched: " + err.Error()
		}
		if e.arg == "" && errors.Is(err, fs.ErrNotExist) {
			return "it could not be tried: " + err.Error()
		}
		return e.says(err.Error())
	}
	if e.digest != nil && res.Computed != *e.digest {
		return fmt.Sprintf("the computed digest is %s, pinned is %s", res.Computed, *e.digest)
	}
	got := string(res.Verdict)
	message := ""
	if res.Error != nil {
		message = res.Error.Message
		got += ": " + message
	}
	wrong := "expected " + e.String() + ", but it ended as " + got
	switch e.kind {
	case "", expectMatches:
		if res.Verdict != launcher.VerdictMatch || !res.ReportVerified {
			return wrong
		}
		if res.Error != nil { // it attested, and then something happened
			return wrong
		}
		if res.GuestExit != nil && *res.GuestExit != 0 {
			return fmt.Sprintf("the guest's command ended with exit code %d", *res.GuestExit)
		}
	case expectLaunches:
		if res.Verdict != launcher.VerdictMatch && res.Verdict != launcher.VerdictNotAttested {
			return wrong
		}
		if res.Launched != nil && *res.Launched != res.Computed {
			return fmt.Sprintf("launched is %s, computed %s", *res.Launched, res.Computed)
		}
	case expectFails:
		if res.Verdict != launcher.VerdictLaunchFailed || res.Error == nil {
			return wrong
		}
		if e.arg == "" && res.Error.Command == "" && res.Error.FWStatus == "" {
			return wrong + " (neither KVM nor the firmware refused anything; to expect it all the same, write what is said)"
		}
		for _, w := range strings.Fields(e.arg) {
			if w != res.Error.Command && w != res.Error.FWStatus {
				return wrong
			}
		}
	case expectRefuses:
		if res.Verdict != launcher.VerdictFirmwareRefused {
			return wrong
		}
	case expectReportInvalid:
		if res.Verdict != launcher.VerdictReportInvalid {
			return wrong
		}
		return e.says(message)
	case expectNotAttested:
		if res.Verdict != launcher.VerdictNotAttested {
			return wrong
		}
		return e.says(message)
	case expectTimesOut:
		if res.Verdict != launcher.VerdictTimeout {
			return wrong
		}
	case expectRefused:
		return "expected " + e.String() + ", but it was launched and ended as " + got
	}
	return ""
}

// says holds a message against what it must match.
func (e *Expect) says(message string) string {
	if e.arg == "" || regexp.MustCompile(e.arg).MatchString(message) {
		return ""
	}
	return fmt.Sprintf("expected %s, but the message is: %s", e, message)
}
