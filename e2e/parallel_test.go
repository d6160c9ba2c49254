package e2e_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Fifty launches at once, half of them under one supervisor: each has the
// digest that was measured for it.
func TestFiftyLaunchesAtOnce(t *testing.T) {
	at := aPlace(t)
	makeRoots(t)
	const each = 25
	var want []string
	for _, tag := range []string{"0", "1", "2", "3", "4"} {
		want = append(want, at.digest(t, tag, 2))
	}
	prepare := func(view, line string) (*exec.Cmd, *bytes.Buffer) {
		cmd, _ := simExecCommand(t, []string{"--view", view}, []string{"sh", "-c", line})
		cmd.Env = append(cmd.Env, "Q="+at.qemu)
		cmd.Dir = at.dir
		stderr := &bytes.Buffer{}
		cmd.Stderr = stderr
		return cmd, stderr
	}
	views := simViews()
	together, said := prepare(views[0], fmt.Sprintf(`i=0; while [ $i -lt %d ]; do TAG=$((i %% 5)) "$Q" & i=$((i + 1)); done; wait`, each))
	if err := together.Start(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range each {
		cmd, stderr := prepare(views[i%len(views)], fmt.Sprintf(`TAG=%d "$Q"`, i%5))
		all.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("launch %d: %v\n%s", i, err, stderr)
			}
			if got := launched(stderr.String()); !slices.Equal(got, want[i%5:i%5+1]) {
				t.Errorf("launch %d: launched %q, measured %s\n%s", i, got, want[i%5], stderr)
			}
		})
	}
	if err := together.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	all.Wait()
	var expected []string
	for i := range each {
		expected = append(expected, want[i%5])
	}
	slices.Sort(expected)
	if got := launched(said.String()); !slices.Equal(got, expected) {
		t.Errorf("under one supervisor, launched\n%s\nmeasured\n%s\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"), said)
	}
	if l := gone(t, t.Name()); l != nil {
		t.Errorf("processes are left: %q", l)
	}
}
