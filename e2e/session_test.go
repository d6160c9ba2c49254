package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/launcher"
)

// One guest attests more than once, runs several commands, takes and gives
// files, and is stopped.
func TestSession(t *testing.T) {
	ctx := t.Context()
	s, err := launcher.Start(ctx, aGuest(t), options(t))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	defer func() {
		if !stopped {
			_ = s.Stop(context.Background())
			_, _ = s.Wait()
		}
	}()
	if !s.Ready() {
		res, err := s.Wait()
		t.Fatalf("the guest did not come up: %+v, %v", res, err)
	}
	if h := s.Hello(); h.Device != agent.DeviceSimulated || h.SNPActive || len(h.Notes) > 0 {
		t.Errorf("the guest's hello: %+v", h)
	}
	for range 2 {
		if err := s.Attest(ctx); err != nil {
			t.Errorf("attesting: %v", err)
		}
	}
	run := func(cmd agent.Command) (int, string, string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		exit, err := s.Command(ctx, cmd)
		if err != nil {
			t.Errorf("%q: %v", cmd.Args, err)
		}
		return exit, stdout.String(), stderr.String()
	}
	if exit, out, errs := run(agent.Command{Args: []string{"sh", "-c", "cat; echo $X >&2; pwd; exit 5"}, Env: []string{"X=y"}, Dir: "/etc", Stdin: strings.NewReader("in\n")}); exit != 5 || out != "in\n/etc\n" || errs != "y\n" {
		t.Errorf("a command: exit %d, stdout %q, stderr %q", exit, out, errs)
	}
	if exit, out, _ := run(agent.Command{Args: []string{"id"}}); exit != 0 || !strings.HasPrefix(out, "uid=0(root) gid=0") {
		t.Errorf("id: exit %d, %q", exit, out)
	}
	if exit, _, _ := run(agent.Command{Args: []string{"sh", "-c", "kill -9 $$"}}); exit != 137 {
		t.Errorf("a command killed by signal 9: exit %d", exit)
	}

	contents := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB
	if err := s.Put(ctx, "/tmp/new/file", 0o755, bytes.NewReader(contents)); err != nil {
		t.Error(err)
	}
	var back bytes.Buffer
	if err := s.Get(ctx, "/tmp/new/file", &back); err != nil || !bytes.Equal(back.Bytes(), contents) {
		t.Errorf("of %d bytes %d came back: %v", len(contents), back.Len(), err)
	}
	// A disk of the guest that is full, and a file that there is not.
	run(agent.Command{Args: []string{"sh", "-c", "mkdir /tmp/small && mount -t tmpfs -o size=1M none /tmp/small"}})
	var told *agent.Error
	if err := s.Put(ctx, "/tmp/small/file", 0o600, bytes.NewReader(contents)); !errors.As(err, &told) || !strings.Contains(told.Message, "no space left") {
		t.Errorf("a file that does not fit: %v", err)
	}
	if _, out, _ := run(agent.Command{Args: []string{"ls", "-a", "/tmp/small"}}); strings.Contains(out, "file") {
		t.Errorf("a part of it was left: %q", out)
	}
	if err := s.Get(ctx, "/nowhere", &back); !errors.As(err, &told) {
		t.Errorf("a file that there is not: %v", err)
	}
	short, cancel := context.WithCancel(ctx)
	_, err = s.Command(short, agent.Command{Args: []string{"sh", "-c", "echo; sleep 1000"}, Stdout: writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	})})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a command that nobody waits for: %v", err)
	}
	if status, err := s.QMP().QueryStatus(ctx); err != nil || status.Status != "running" {
		t.Errorf("QMP beside it: %+v, %v", status, err)
	}
	if exit, out, _ := run(agent.Command{Args: []string{"echo", "last"}}); exit != 0 || out != "last\n" {
		t.Errorf("the last command: exit %d, %q", exit, out)
	}

	stopped = true
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	res, err := s.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != launcher.VerdictMatch || res.Outcome != launcher.OutcomePassed || res.Error != nil {
		t.Errorf("verdict %s, outcome %s, %+v", res.Verdict, res.Outcome, res.Error)
	}
	if again, err := s.Wait(); again != res || err != nil {
		t.Errorf("waiting again gives %p, %v; want %p", again, err, res)
	}
	if _, err := s.Command(ctx, agent.Command{Args: []string{"true"}}); !errors.Is(err, launcher.ErrStopped) {
		t.Errorf("a command after the end: %v", err)
	}
	for i, stage := range res.Stages {
		if stage.StartMS < 0 || stage.EndMS < stage.StartMS || i > 0 && stage.EndMS < res.Stages[i-1].EndMS {
			t.Errorf("stages out of order: %+v", res.Stages)
			break
		}
	}
	t.Logf("stages: %+v", res.Stages)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
