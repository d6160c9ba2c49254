package childgroup

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"testing"
)

// A script that waits for what it has started ends with its context, and so does that: the
// pipe that both write to has an end.
func TestTheWholeGroupEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sh", "-c", "echo here; sleep 1000; echo never")
	Of(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil || line != "here\n" {
		t.Fatalf("%q, %v", line, err)
	}
	cancel()
	rest, err := io.ReadAll(r)
	if err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) && !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if err := Kill(cmd); err != nil {
		t.Errorf("nobody is left, and killing them gives %v", err)
	}
}
