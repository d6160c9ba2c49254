package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// What became of a guest is told from its end and its console, and so is how
// far it came.
func TestOutcomesOfGuestsThatDoNotAttest(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*guest.Guest)
		verdict launcher.Verdict
		outcome launcher.Outcome
		says    string
	}{
		{"kernel without a root", func(g *guest.Guest) { g.Append = "console=ttyS0 panic=-1 rdinit=/nonexistent" },
			launcher.VerdictNotAttested, launcher.OutcomePanicked, "Kernel panic - not syncing"},
		{"firmware without a kernel", func(g *guest.Guest) { g.Kernel, g.Initrd, g.Append = "", "", "" },
			launcher.VerdictNotAttested, launcher.OutcomeNotBooted, "BdsDxe: No bootable option"},
		{"no time", func(g *guest.Guest) { g.Command, g.Timeout = []string{"sleep", "1000"}, 12*time.Second },
			launcher.VerdictTimeout, launcher.OutcomeTimedOut, "longer than 12s; last seen: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := aGuest(t)
			g.IDBlock.Mode = guest.IDBlockNone
			c.change(g)
			res := launch(t, g, options(t))
			if res.Verdict != c.verdict || res.Outcome != c.outcome || res.Error == nil || !strings.Contains(res.Error.Message, c.says) {
				t.Errorf("verdict %s, outcome %s, %+v; want %s, %s, and %q said\nconsole:\n%s",
					res.Verdict, res.Outcome, res.Error, c.verdict, c.outcome, c.says, res.Console)
			}
		})
	}
}
