package psp

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// testFolder holds the roots that all tests use: making them takes seconds. Workers of
// a fuzzing run find it in the environment.
var testFolder = os.Getenv(folderVariable)

const folderVariable = "SNPLAUNCH_PSP_TEST_FOLDER"

func TestMain(m *testing.M) {
	if testFolder != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "snplaunch-psp-*")
	if err == nil {
		err = os.Setenv(folderVariable, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testFolder = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// madeTogether is how the roots of testFolder come to be: by two that ask for
// them at once, where an earlier version left its own.
var madeTogether = sync.OnceValue(func() (r struct {
	cas  [2]*CA
	errs [2]error
	told int
}) {
	if _, err := os.Stat(filepath.Join(testFolder, "simulated-roots.pem")); err != nil { // not a fuzzing worker's
		if err := os.WriteFile(filepath.Join(testFolder, "simulated-ca.pem"), []byte("whatever it was"), 0o600); err != nil {
			panic(err)
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range r.cas {
		wg.Go(func() {
			r.cas[i], r.errs[i] = LoadOrCreateCA(testFolder, func() { mu.Lock(); r.told++; mu.Unlock() })
		})
	}
	wg.Wait()
	return r
})

func testCA(t testing.TB) *CA {
	t.Helper()
	r := madeTogether()
	for _, err := range r.errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return r.cas[0]
}

func platform(t testing.TB, change func(*Config)) *Platform {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, testCA(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// must ends the test when a command does not succeed.
func must(t testing.TB, st snp.Status) {
	t.Helper()
	if st != snp.StatusSuccess {
		t.Fatalf("got %s, want SUCCESS", st)
	}
}

// launching gives a guest that takes pages.
func launching(t testing.TB, p *Platform) *Guest {
	t.Helper()
	g := p.CreateContext()
	must(t, g.LaunchStart(snp.PolicyDefault, [16]byte{0: 1, 15: 2}))
	p.mu.Lock()
	asid := uint32(1)
	for p.asids[asid] != nil || p.dirty[asid] {
		asid++
	}
	p.mu.Unlock()
	must(t, g.Activate(asid))
	return g
}

// running gives a guest that was launched without an ID block.
func running(t testing.TB, p *Platform) *Guest {
	t.Helper()
	g := launching(t, p)
	must(t, g.LaunchFinish(FinishParams{HostData: snp.HostData{7}}))
	return g
}
