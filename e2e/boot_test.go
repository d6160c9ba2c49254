package e2e_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// pairs lists every pair of values that a cell covers.
func (c cell) pairs() []string {
	values := []string{fmt.Sprint("v", c.vcpus), c.cpu, fmt.Sprint("h", c.hashes), c.identity, fmt.Sprint("d", c.hostData)}
	var out []string
	for i := range values {
		for j := i + 1; j < len(values); j++ {
			out = append(out, values[i]+"/"+values[j])
		}
	}
	return out
}

// pairwise chooses cells, greedily, until every pair of values is covered and
// there are at least atLeast.
func pairwise(all []cell, atLeast int) []cell {
	uncovered := map[string]bool{}
	for _, c := range all {
		for _, p := range c.pairs() {
			uncovered[p] = true
		}
	}
	var chosen []cell
	used := map[cell]bool{}
	for len(uncovered) > 0 || len(chosen) < atLeast {
		best, most := -1, -1
		for i, c := range all {
			if used[c] {
				continue
			}
			n := 0
			for _, p := range c.pairs() {
				if uncovered[p] {
					n++
				}
			}
			// Between equals the guest with fewer vCPUs boots faster.
			if n > most {
				best, most = i, n
			}
		}
		c := all[best]
		used[c] = true
		chosen = append(chosen, c)
		for _, p := range c.pairs() {
			delete(uncovered, p)
		}
	}
	return chosen
}

// Cells that cover every pair of values are booted: the firmware checks what it
// is given against the hashes page, the guest's report comes back, and its
// measurement is the computed one.
func TestBootedGuestsReportWhatWasComputed(t *testing.T) {
	idKey, authorKey := keyFiles(t)
	cells := pairwise(allCells(), 14)
	t.Logf("%d cells cover every pair of values", len(cells))
	queue := make(chan cell)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for c := range queue {
				g := c.guest(t, idKey, authorKey)
				g.Command = []string{"echo", "hello from", c.String()}
				var out lockedBuffer
				o := options(t)
				o.Stdout = &out
				res, err := launcher.Run(t.Context(), g, o)
				if err != nil {
					t.Errorf("%s: %v", c, err)
					continue
				}
				if res.Verdict != launcher.VerdictMatch {
					t.Errorf("%s: verdict %s: %+v\nconsole:\n%s", c, res.Verdict, res.Error, res.Console)
					continue
				}
				if res.Launched == nil || res.Reported == nil || *res.Launched != res.Computed || *res.Reported != res.Computed || !res.ReportVerified {
					t.Errorf("%s: computed %s, launched %v, reported %v, verified %v", c, res.Computed, res.Launched, res.Reported, res.ReportVerified)
				}
				if res.GuestExit == nil || *res.GuestExit != 0 || out.String() != "hello from "+c.String()+"\n" {
					t.Errorf("%s: the command said %q and ended with %v", c, out.String(), res.GuestExit)
				}
				t.Logf("%-50s %s… %d ms", c, res.Reported.String()[:16], res.DurationMS["total"])
			}
		})
	}
	for _, c := range cells {
		queue <- c
	}
	close(queue)
	wg.Wait()
}

// Without a kernel hashes table the AmdSev firmware boots no kernel, so the pair is refused beforehand.
func TestAmdSevFirmwareWithoutHashesIsRefused(t *testing.T) {
	g := aGuest(t)
	g.KernelHashes = false
	_, err := launcher.Run(t.Context(), g, options(t))
	if err == nil {
		t.Fatal("a kernel without hashes on AmdSev firmware was not refused")
	}
	for _, word := range []string{"kernel_hashes", "AmdSev", "generic"} {
		if !contains(err.Error(), word) {
			t.Errorf("the refusal %q does not speak of %q", err, word)
		}
	}
}

// The exit code of the guest's command comes out, also through the guest's shell.
func TestGuestCommandFails(t *testing.T) {
	g := aGuest(t)
	g.IDBlock.Mode = guest.IDBlockNone
	g.Command = []string{"sh", "-c", "echo about to fail; exit 3"}
	var out lockedBuffer
	o := options(t)
	o.Stdout = &out
	res := launch(t, g, o)
	if res.Verdict != launcher.VerdictMatch {
		t.Fatalf("verdict %s: %+v", res.Verdict, res.Error)
	}
	if res.GuestExit == nil || *res.GuestExit != 3 || out.String() != "about to fail\n" {
		t.Errorf("guest_exit %v after %q, want 3 after the command's own words", res.GuestExit, out.String())
	}
}
