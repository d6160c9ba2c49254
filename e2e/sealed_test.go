package e2e_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// Whoever writes to a file while it is measured and launched changes nothing:
// either the run is refused because of the change, or what was hashed is what
// was launched.
func TestAFileThatChangesIsLaunchedAsMeasured(t *testing.T) {
	const runs = 100
	path := filepath.Join(t.TempDir(), "initrd")
	contents := [2][]byte{make([]byte, 4<<20), make([]byte, 4<<20)}
	for i := range contents[1] {
		contents[1][i] = byte(i)
	}
	if err := os.WriteFile(path, contents[0], 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rng := rand.New(rand.NewPCG(5, 1)) // the moments differ with the machine's load anyway
	launched, refused := 0, 0
	for i := range runs {
		g := aGuest(t)
		g.Initrd = path
		g.IDBlock.Mode = guest.IDBlockNone
		o := options(t)
		o.LaunchOnly = true
		var writer sync.WaitGroup
		delay := time.Duration(rng.IntN(200)) * time.Millisecond
		if i%4 == 0 { // while the inputs are read
			delay = time.Duration(rng.IntN(10)) * time.Millisecond
		}
		writer.Go(func() {
			time.Sleep(delay)
			if _, err := file.WriteAt(contents[i%2^1], 0); err != nil {
				t.Error(err)
			}
		})
		res, err := launcher.Run(context.Background(), g, o)
		writer.Wait()
		switch {
		case err != nil && strings.Contains(err.Error(), path) && strings.Contains(err.Error(), "changed"):
			refused++
		case err != nil:
			t.Fatalf("run %d, changed after %s: %v", i, delay, err)
		case res.Verdict != launcher.VerdictMatch || res.Launched == nil || *res.Launched != res.Computed:
			t.Fatalf("run %d, changed after %s: verdict %s, computed %s, launched %v: %+v", i, delay, res.Verdict, res.Computed, res.Launched, res.Error)
		default:
			launched++
		}
	}
	if launched == 0 {
		t.Error("not one of the runs was launched")
	}
	t.Logf("%d launched as measured, %d refused", launched, refused)
}

// A file that is replaced after it was measured does not reach the guest: the
// firmware would refuse it.
func TestAReplacedInitrdIsNotBooted(t *testing.T) {
	g := aGuest(t)
	initrd, err := os.ReadFile(g.Initrd)
	if err != nil {
		t.Fatal(err)
	}
	g.Initrd = filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(g.Initrd, initrd, 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(t)
	var replaced error = errors.New("the launch never began")
	o.Hooks.Stage = func(name string) {
		if name == "launch" {
			replaced = os.WriteFile(g.Initrd, []byte("not what was measured"), 0o600)
		}
	}
	res := launch(t, g, o)
	if replaced != nil {
		t.Fatal(replaced)
	}
	if res.Verdict != launcher.VerdictMatch {
		t.Errorf("verdict %s: %+v", res.Verdict, res.Error)
	}
}
