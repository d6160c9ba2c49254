package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
)

// Step is one thing that a cell with several does. It has exactly one action. The word
// in parentheses is the key of the YAML form.
type Step struct {
	Name  string        // (name) empty: the action
	Limit time.Duration // (limit) how long it may take; 0: what is left of the cell's budget
	Info  bool          // (info) that it fails is told, and does not fail the cell
	Hints []Hint        // (hints)

	action string // the key of the action, one of stepActions
	// launch changes the group's guest for the launch.
	launch func(*guest.Guest)
	args   []string // of a command
	// from and to are the files of put and fetch, and those that are compared.
	from, to string
	mode     uint32
	expect   stepExpect
}

// Hint is said when a pattern shows in the output of a step that failed.
type Hint struct {
	When string // (when) a regular expression
	Say  string // (say)
}

// stepExpect is what a step must find.
type stepExpect struct {
	launch *Expect        // of a launch
	exit   *int           // of a command; nil: 0
	output *regexp.Regexp // that the command's output, or the file, must match
	not    *regexp.Regexp // that it must not match
}

// Actions of a step.
const (
	stepLaunch = "launch" // start the guest, and have it attest where that is expected
	stepAttest = "attest" // have it attest again, over another nonce
	stepGuest  = "guest"  // run a command in it
	stepHost   = "host"   // run a command here
	stepPut    = "put"    // copy a file of the host into it
	stepFetch  = "fetch"  // collect a file of it
	stepCheck  = "check"  // look at a collected file
	stepEqual  = "equal"  // compare two collected files
	stepDiffer = "differ" // see that two collected files are not the same
	stepStop   = "stop"   // end the guest
)

var stepActions = []string{stepLaunch, stepAttest, stepGuest, stepHost, stepPut, stepFetch, stepCheck, stepEqual, stepDiffer, stepStop}

func (s *Step) fields(f *form) []strictyaml.Field {
	act := func(action string, read func(n *yaml.Node) error) strictyaml.Field {
		return strictyaml.Field{Key: action, Read: func(r *strictyaml.Reader, n *yaml.Node, name string) {
			if s.action != "" {
				r.Fail(n, "%s: a step does one thing, and this one has %s already (make it two)", name, s.action)
				return
			}
			s.action = action
			note(r, n, name, read(n))
		}}
	}
	flag := func(n *yaml.Node) error {
		on := false
		if err := strictyaml.Boolean("", &on).Set(n); err != nil || on {
			return err
		}
		return errors.New("false says nothing (leave the step out)")
	}
	command := func(n *yaml.Node) error {
		err := strictyaml.Words("", &s.args).Set(n)
		if err == nil && len(s.args) == 0 {
			err = errors.New("there is no command (write a list of its words)")
		}
		return err
	}
	collected := func(k string, into *string) strictyaml.Field {
		return strictyaml.Value(k, nil, func(v string) error {
			*into = v
			return collectedName(v)
		}, func() (string, bool) { return *into, *into != "" })
	}
	pair := func(n *yaml.Node) error {
		var names []string
		if err := strictyaml.Words("", &names).Set(n); err != nil {
			return err
		}
		if len(names) != 2 {
			return errors.New("two names of collected files are wanted")
		}
		s.from, s.to = names[0], names[1]
		return errors.Join(collectedName(s.from), collectedName(s.to))
	}
	sub := func(fields ...strictyaml.Field) func(*yaml.Node) error {
		return func(n *yaml.Node) error {
			if err := f.mapping(n, func(r *strictyaml.Reader) { r.Mapping(n, "", fields) }); err != nil {
				return err
			}
			if s.from == "" || s.to == "" {
				return errors.New("it needs both files")
			}
			return nil
		}
	}
	return []strictyaml.Field{
		strictyaml.Text("name", &s.Name),
		strictyaml.Duration("limit", &s.Limit),
		strictyaml.Boolean("info", &s.Info),
		act(stepLaunch, func(n *yaml.Node) error {
			if n.Kind != yaml.MappingNode {
				return errors.New("keys of a guest that are other than the group's are wanted; {} for none")
			}
			g := guest.Default() // only to see that it can be read
			s.launch = func(g *guest.Guest) { _ = f.changeGuest(n, g) }
			return f.changeGuest(n, &g)
		}),
		act(stepAttest, flag),
		act(stepGuest, command),
		act(stepHost, command),
		act(stepPut, sub(strictyaml.Path("host", &s.from, f.dir), strictyaml.Text("guest", &s.to),
			strictyaml.Value("mode", nil, func(v string) error {
				m, err := strconv.ParseUint(v, 8, 12)
				if s.mode = uint32(m); err != nil {
					return fmt.Errorf("%q is no mode (write e.g. \"0755\")", v)
				}
				return nil
			}, func() (string, bool) { return fmt.Sprintf("%#o", s.mode), s.mode != 0 }))),
		act(stepFetch, sub(strictyaml.Text("guest", &s.from), collected("to", &s.to))),
		act(stepCheck, func(n *yaml.Node) error {
			v, err := strictyaml.Scalar(n)
			if s.from = v; err == nil {
				err = collectedName(v)
			}
			return err
		}),
		act(stepEqual, pair),
		act(stepDiffer, pair),
		act(stepStop, flag),
		{Key: "expect", Read: func(r *strictyaml.Reader, n *yaml.Node, name string) { note(r, n, name, s.expect.node(f, n)) }},
		strictyaml.List("hints", &s.Hints, func(h *Hint) []strictyaml.Field {
			return []strictyaml.Field{strictyaml.Value("when", nil, func(v string) error {
				h.When = v
				_, err := regexp.Compile(v)
				return err
			}, func() (string, bool) { return h.When, h.When != "" }), strictyaml.Text("say", &h.Say)}
		}),
	}
}

// collectedName refuses what is no name of a file in the cell's own folder.
func collectedName(s string) error {
	if s == "" || s != filepath.Base(s) || strings.HasPrefix(s, ".") {
		return fmt.Errorf("%q is no name of a collected file (write one without folders)", s)
	}
	return nil
}

// node reads what a step expects: of a launch what a cell can, of others a mapping.
func (e *stepExpect) node(f *form, n *yaml.Node) error {
	// A mapping with a key of a command's is one; another may be a launch's.
	command := false
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		command = command || slices.Contains([]string{"exit", "output", "not"}, n.Content[i].Value)
	}
	if !command {
		e.launch = &Expect{}
		if err := e.launch.node(n); err == nil || n.Kind != yaml.MappingNode {
			return err
		}
		e.launch = nil
	}
	pattern := func(k string, into **regexp.Regexp) strictyaml.Field {
		return strictyaml.Value(k, nil, func(v string) (err error) {
			*into, err = regexp.Compile("(?m)" + v)
			return err
		}, func() (string, bool) { return "", false })
	}
	code := 0
	err := f.mapping(n, func(r *strictyaml.Reader) {
		r.Mapping(n, "expect.", []strictyaml.Field{strictyaml.Decimal("exit", &code), pattern("output", &e.output), pattern("not", &e.not)})
	})
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "exit" {
			e.exit = &code
		}
	}
	return err
}

// settle refuses what does not go together in a step.
func (s *Step) settle() error {
	if s.action == "" {
		return fmt.Errorf("it does nothing (give one of %s)", strings.Join(stepActions, ", "))
	}
	if s.Name == "" {
		s.Name = s.action
		if len(s.args) > 0 {
			s.Name += ": " + strings.Join(s.args, " ")
		}
	}
	command := s.action == stepGuest || s.action == stepHost
	switch {
	case s.expect.launch != nil && s.action != stepLaunch:
		return fmt.Errorf("%q is expected of a launch, not of %s (write expect: {exit: …, output: …})", s.expect.launch, s.action)
	case s.expect.exit != nil && !command:
		return fmt.Errorf("%s has no exit code to expect", s.action)
	case (s.expect.output != nil || s.expect.not != nil) && !command && s.action != stepCheck:
		return fmt.Errorf("%s has no output to expect", s.action)
	case s.action == stepCheck && s.expect.output == nil && s.expect.not == nil:
		return errors.New("check needs expect: {output: …} or {not: …}")
	}
	if s.action == stepLaunch {
		if s.expect.launch == nil {
			s.expect.launch = &Expect{}
		}
		if s.expect.launch.kind == "" {
			s.expect.launch.kind = expectMatches
		}
	}
	return nil
}

// launches says whether the step starts a guest.
func (s *Step) launches() bool { return s.action == stepLaunch }

// settleSteps refuses an order that cannot be.
func settleSteps(steps []*Step) error {
	running := false
	for i, s := range steps {
		if err := s.settle(); err != nil {
			return fmt.Errorf("steps[%d]: %w", i, err)
		}
		switch s.action {
		case stepLaunch:
			if running {
				return fmt.Errorf("steps[%d]: the guest runs already (stop it first)", i)
			}
			running = s.expect.launch.isGood()
		case stepStop:
			if !running {
				return fmt.Errorf("steps[%d]: there is no guest to stop", i)
			}
			running = false
		case stepAttest, stepGuest, stepPut, stepFetch:
			if !running {
				return fmt.Errorf("steps[%d]: %s needs a guest that runs (launch it first)", i, s.action)
			}
		}
	}
	return nil
}
