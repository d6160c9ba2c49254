package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// victim is a process that is killed in the midst of a launch.
type victim struct {
	name string
	find func(pids []int) int // among the processes of the launch; 0: not there
}

// programOf gives what a process runs, by its file and its arguments.
func programOf(pid int) (exe, args string) {
	exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return exe, strings.ReplaceAll(string(b), "\x00", " ")
}

func first(pids []int, is func(exe, args string) bool) int {
	for _, pid := range pids {
		if is(programOf(pid)) {
			return pid
		}
	}
	return 0
}

// Whoever of those that take part in a launch is killed, whenever: the others
// end, soon, and nothing is left.
func TestTwoHundredKills(t *testing.T) {
	at := aPlace(t)
	makeRoots(t)
	program := snplaunch(t)
	isProgram := func(exe, args string) bool { return exe == program && !strings.HasPrefix(args, "snplaunch-guard ") }
	victims := []victim{
		{"QEMU", func(p []int) int {
			return first(p, func(exe, _ string) bool { return strings.HasPrefix(filepath.Base(exe), "qemu-system") })
		}},
		{"the supervisor", func(p []int) int { return first(p, isProgram) }},
		{"the guard", func(p []int) int {
			return first(p, func(_, args string) bool { return strings.HasPrefix(args, "snplaunch-guard ") })
		}},
		{"QEMU's parent", func(p []int) int {
			return first(p, func(_, args string) bool { return strings.HasPrefix(args, "sh -c inner") })
		}},
		{"the supervisor's parent", func(p []int) int {
			return first(p, func(_, args string) bool { return strings.HasPrefix(args, "sh -c outer") })
		}},
	}
	const kills, atOnce = 200, 4
	type failure struct{ what, out string }
	var mu sync.Mutex
	hit, failures := map[string]int{}, []failure{}
	random := rand.New(rand.NewPCG(1, 2))
	type job struct {
		n     int
		v     victim
		delay time.Duration
		view  string
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for j := range jobs {
				mark := fmt.Sprintf("kills-%d", j.n)
				// What the shells run is named in their arguments, where it can be found.
				line := `outer=1; "$0" sim exec --view "$1" -- sh -c 'inner=1; TAG=one "$Q"; exit $?'; exit $?`
				cmd, _ := command(t, mark)
				cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", line, program, j.view}
				cmd.Env = append(cmd.Env, "Q="+at.qemu)
				cmd.Dir = at.dir
				var out bytes.Buffer
				file, err := os.CreateTemp(at.dir, "out-*") // a pipe would be waited for
				if err != nil {
					t.Error(err)
					continue
				}
				cmd.Stdout, cmd.Stderr = file, file
				if err := cmd.Start(); err != nil {
					t.Error(err)
					continue
				}
				time.Sleep(j.delay)
				pid := j.v.find(markedPIDs(mark))
				if pid != 0 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				ended := make(chan struct{})
				go func() { _ = cmd.Wait(); close(ended) }()
				what := ""
				select {
				case <-ended:
				case <-time.After(20 * time.Second):
					what = "it does not end"
					_ = cmd.Process.Kill()
				}
				if l := gone(t, mark); l != nil {
					what = fmt.Sprintf("%s left: %q", what, l)
					for _, pid := range markedPIDs(mark) {
						_ = syscall.Kill(pid, syscall.SIGKILL)
					}
				}
				_, _ = file.Seek(0, 0)
				_, _ = out.ReadFrom(file)
				file.Close()
				mu.Lock()
				if pid != 0 {
					hit[j.v.name]++
				}
				if what != "" {
					failures = append(failures, failure{fmt.Sprintf("%s killed after %v, view %s: %s", j.v.name, j.delay, j.view, what), out.String()})
				}
				mu.Unlock()
			}
		})
	}
	for n := range kills {
		views := simViews()
		jobs <- job{n, victims[n%len(victims)], time.Duration(random.IntN(250)) * time.Millisecond, views[n/len(victims)%len(views)]}
	}
	close(jobs)
	workers.Wait()
	for _, f := range failures {
		t.Errorf("%s\n%s", f.what, f.out)
	}
	for _, v := range victims {
		if hit[v.name] == 0 {
			t.Errorf("%s was never there to be killed", v.name)
		}
	}
	t.Logf("killed: %v", hit)
}

// markedPIDs lists the processes that carry a mark.
func markedPIDs(mark string) (out []int) {
	envs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range envs {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(append([]byte{0}, b...), []byte("\x00"+marker+"="+mark+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// A terminal's signals end a command that heeds them and, once it has ended,
// what it has left behind.
func TestSignalsEndWhatIsLeft(t *testing.T) {
	makeRoots(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		mark := fmt.Sprintf("left-%d", sig)
		cmd, _ := command(t, mark, "sim", "exec", "--", "sh", "-c", "setsid -f sleep 60 </dev/null >/dev/null 2>&1")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := make([]byte, 4096)
		n, err := stderr.Read(said)
		if err != nil || !bytes.Contains(said[:n], []byte("waiting for what it has left running")) || !bytes.Contains(said[:n], []byte("sleep")) {
			t.Errorf("%v: it says %q (%v)", sig, said[:n], err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%v: the command's status was 0, sim exec's is %v", sig, err)
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("%v: it does not end", sig)
		}
		if l := gone(t, mark); l != nil {
			t.Errorf("%v: processes are left: %q", sig, l)
		}
	}
}
