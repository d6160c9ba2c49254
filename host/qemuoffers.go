package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/internal/childgroup"
	"github.com/snplaunch/snplaunch/internal/suggest"
)

// QEMU is what a qemu-system-x86_64 says of its sev-snp-guest object.
type QEMU struct {
	Path string
	// HasObject says that it knows the object, Properties which of its own it has.
	HasObject  bool
	Properties []string
	// Err is why it could not be asked.
	Err error
}

// asked keeps what programs were asked, *question by program: the answer is the same for as
// long as the file is.
var asked sync.Map

type question struct {
	answered chan struct{} // closed when answer is there
	answer   *QEMU
}

type program struct {
	path     string
	size     int64
	modified time.Time
}

// AskQEMU starts a QEMU that lists the object's properties and ends. Each program is
// asked once.
func AskQEMU(ctx context.Context, path string) *QEMU {
	st, err := os.Stat(path)
	if err != nil {
		return &QEMU{Path: path, Err: err}
	}
	key := program{path, st.Size(), st.ModTime()}
	own := &question{answered: make(chan struct{})}
	asker, others := asked.LoadOrStore(key, own)
	if others {
		q := asker.(*question)
		select {
		case <-q.answered:
			return q.answer
		case <-ctx.Done():
			return &QEMU{Path: path, Err: fmt.Errorf("%s: it did not answer: %w", path, ctx.Err())}
		}
	}
	if own.answer = ask(ctx, path); own.answer.Err != nil { // it may go better the next time
		asked.CompareAndDelete(key, own)
	}
	close(own.answered)
	return own.answer
}

// askPatience is how long a program has to list the properties.
const askPatience = 10 * time.Second

func ask(ctx context.Context, path string) *QEMU {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-object", "sev-snp-guest,help")
	childgroup.Of(cmd)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not answer: %w", ctx.Err())
	}
	return readProperties(path, string(out), err)
}

// property is a line of -object …,help: "  kernel-hashes=<bool>   - text".
var property = regexp.MustCompile(`(?m)^\s+([a-z][a-z0-9-]*)=<`)

func readProperties(path, out string, err error) *QEMU {
	q := &QEMU{Path: path, HasObject: strings.Contains(out, "sev-snp-guest options") || err == nil}
	for _, m := range property.FindAllStringSubmatch(out, -1) {
		q.Properties = append(q.Properties, m[1])
	}
	if len(q.Properties) == 0 {
		q.HasObject = false
		if err == nil {
			q.Err = fmt.Errorf("%s lists no properties of sev-snp-guest", path)
		} else if !strings.Contains(out, "sev-snp-guest") {
			q.Err = fmt.Errorf("%s: %w: %.200s", path, err, strings.TrimSpace(out))
		}
	}
	return q
}

// checks are those of the object and of the properties that a command line uses.
func (q *QEMU) checks(used []string) []Check {
	if q == nil {
		return nil
	}
	object := Check{ID: "launch-qemu", Name: "QEMU's sev-snp-guest", Reason: q.Path + " knows it"}
	props := Check{ID: "launch-qemu-properties", Name: "its properties", Reason: "those that are used are there"}
	switch {
	case q.Err != nil:
		object.Verdict, object.Reason = Unknown, q.Err.Error()
		props.Verdict, props.Reason = Unknown, "they cannot be asked for"
		return []Check{object, props}
	case !q.HasObject:
		object.Verdict, object.Reason, object.Remedy = Obstacle, q.Path+" does not know it", "use QEMU 9.1 or newer, of a build for x86-64 with KVM"
		props.Verdict, props.Reason = Unknown, "there is no such object"
		return []Check{object, props}
	}
	for _, u := range used {
		if !slices.Contains(q.Properties, u) {
			props.Verdict, props.Reason = Obstacle, fmt.Sprintf("this QEMU's has no property %q", u)
			props.Remedy = suggest.Remedy(u, q.Properties)
			break
		}
	}
	return []Check{object, props}
}
