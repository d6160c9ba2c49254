package supervise

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ours are the processes that this package has started and whose life is in
// order, so that they are no orphans of a guard that was killed.
var ours pids

type pids struct {
	mu  sync.Mutex
	set map[int]bool
}

func (p *pids) add(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil {
		p.set = map[int]bool{}
	}
	p.set[pid] = true
}

func (p *pids) remove(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.set, pid)
}

func (p *pids) has(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set[pid]
}

// killPatience bounds how long killing goes on: something may fork as fast as
// it is killed, or hang in the kernel.
const killPatience = 10 * time.Second

// killAll kills every process below this one, until there is none. Reaping is
// left to the caller's own wait4.
func killAll() {
	for end := time.Now().Add(killPatience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		pids := descendants(os.Getpid(), nil)
		if len(pids) == 0 {
			return
		}
		for _, p := range pids {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
	}
}

// killOrphans kills and reaps what a guard has left to this process when it was
// killed itself, until done is closed. Those are below us, have a filter more than we
// have, and were not started by this package.
func killOrphans(done <-chan struct{}) {
	filters := filterCount("self")
	skip := func(pid int) bool { return ours.has(pid) || filterCount(strconv.Itoa(pid)) <= filters }
	for end := time.Now().Add(killPatience); time.Now().Before(end); {
		for _, p := range descendants(os.Getpid(), skip) {
			_ = syscall.Kill(p, syscall.SIGKILL)
			var st syscall.WaitStatus
			_, _ = syscall.Wait4(p, &st, syscall.WNOHANG, nil) // not ours to reap while its parent lives
		}
		select {
		case <-done:
			reapOrphans(skip)
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// reapOrphans takes the exit statuses of dead children that were started by
// others.
func reapOrphans(skip func(int) bool) {
	for pid, s := range processes() {
		if s.parent == os.Getpid() && s.zombie && !skip(pid) {
			var st syscall.WaitStatus
			_, _ = syscall.Wait4(pid, &st, syscall.WNOHANG, nil)
		}
	}
}

// filterCount is how many seccomp filters a process has (Linux 5.9).
func filterCount(pid string) int {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if v, found := bytes.CutPrefix(line, []byte("Seccomp_filters:")); found {
			n, err := strconv.Atoi(string(bytes.TrimSpace(v)))
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

type process struct {
	parent int
	zombie bool
}

// processes lists all that can be seen.
func processes() map[int]process {
	out := map[int]process{}
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return out
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// pid (comm) state ppid …; comm may hold anything, also ")".
		i := bytes.LastIndexByte(b, ')')
		fields := bytes.Fields(b[i+1:])
		if i < 0 || len(fields) < 2 {
			continue
		}
		parent, err1 := strconv.Atoi(string(fields[1]))
		pid, err2 := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err1 == nil && err2 == nil {
			out[pid] = process{parent, fields[0][0] == 'Z'}
		}
	}
	return out
}

// descendants lists the living processes below root, without those that skip
// is true for and what is below them.
func descendants(root int, skip func(int) bool) []int {
	children := map[int][]int{}
	all := processes()
	for pid, p := range all {
		children[p.parent] = append(children[p.parent], pid)
	}
	var out []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, pid := range children[queue[0]] {
			if skip != nil && skip(pid) {
				continue
			}
			queue = append(queue, pid)
			if !all[pid].zombie {
				out = append(out, pid)
			}
		}
	}
	return out
}
