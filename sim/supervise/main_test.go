package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
)

// helperWord makes the test program one of the helpers, which run supervised.
const helperWord = "supervised-helper"

var folder string // of this run: the simulated roots

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == helperWord {
		os.Exit(runHelper(os.Args[2], os.Args[3:]))
	}
	dir, err := os.MkdirTemp("", "snplaunch-supervise-*")
	if err != nil {
		panic(err)
	}
	folder = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var rootsOnce = sync.OnceValues(func() (*psp.CA, error) { return psp.LoadOrCreateCA(folder, nil) })

// machine makes a software host.
func machine(t testing.TB, o kvm.Options) (*kvm.Host, *psp.Platform) {
	t.Helper()
	ca, err := rootsOnce()
	if err != nil {
		t.Fatal(err)
	}
	p, err := psp.New(psp.DefaultConfig(), ca)
	if err != nil {
		t.Fatal(err)
	}
	return kvm.NewHost(p, o), p
}

// log collects what a supervisor says.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// self is this program; others may run it.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts a command on the software host.
func start(t testing.TB, h *kvm.Host, view View, args ...string) (*Foreign, *log) {
	t.Helper()
	said := &log{}
	f, err := StartForeign(args[0], args, Config{Host: h, CBitPos: 51, View: view, Logf: said.add})
	if err != nil {
		t.Fatal(err)
	}
	return f, said
}

// wait waits for the end, but not for ever.
func wait(t testing.TB, f *Foreign) int {
	t.Helper()
	type end struct {
		status int
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		status, err := f.Wait()
		ended <- end{status, err}
	}()
	select {
	case e := <-ended:
		if e.err != nil {
			t.Fatal(e.err)
		}
		return e.status
	case <-time.After(30 * time.Second):
		f.Kill()
		t.Fatal("it does not end")
		return 0
	}
}

// views are those that can be had here.
func views(t testing.TB) []View {
	t.Helper()
	v := []View{ViewTrapped}
	if hasMounts() {
		v = append(v, ViewPrivate)
	}
	return v
}

// hasMounts says whether this process may have mounts of its own.
var hasMounts = sync.OnceValue(func() bool {
	f, listener, err := startGuard(guardOrder{Path: "/bin/true", Args: []string{"true"}, View: ViewPrivate})
	if err != nil {
		return false
	}
	(&loop{listener: listener}).closeUnused(f)
	return true
})

func (l *loop) closeUnused(f *Foreign) {
	f.conn.Close()
	_ = f.guard.Wait()
	_ = os.NewFile(uintptr(l.listener), "listener").Close()
}

// under runs a helper in every view and wants it to find all as it should be.
func under(t *testing.T, o kvm.Options, helper string, args ...string) {
	t.Helper()
	for _, v := range views(t) {
		t.Run(string(v), func(t *testing.T) {
			h, _ := machine(t, o)
			f, said := start(t, h, v, append([]string{self(t), helperWord, helper}, args...)...)
			if status := wait(t, f); status != 0 {
				t.Errorf("the helper %q ended with %d\n%s", helper, status, said)
			}
			checkStats(t, f.Stats())
		})
	}
}

// checkStats sees that what was counted adds up.
func checkStats(t testing.TB, s Stats) {
	t.Helper()
	count, held := s.Total()
	if count == 0 || held <= 0 || s.CPU <= 0 {
		t.Errorf("%d calls in %v with %v of processor time", count, held, s.CPU)
	}
	if !slices.IsSortedFunc(s.Calls, func(a, b CallStats) int { return int(b.Time - a.Time) }) {
		t.Error("the calls are not sorted by their cost")
	}
	for _, c := range s.Calls {
		if c.Count < 1 || c.Ours > c.Count || c.Max > c.Time {
			t.Errorf("call %+v", c)
		}
	}
}

// others gives a copy of this program that other users may run, with the mode.
func others(t testing.TB, mode os.FileMode) string {
	t.Helper()
	b, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "snplaunch-others-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "helper")
	if err := os.WriteFile(path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// machineFrom makes a host on roots that are there already, for helpers.
func machineFrom(dir string) (*kvm.Host, error) {
	ca, err := psp.LoadOrCreateCA(dir, nil)
	if err != nil {
		return nil, err
	}
	p, err := psp.New(psp.DefaultConfig(), ca)
	if err != nil {
		return nil, err
	}
	return kvm.NewHost(p, kvm.Options{}), nil
}
