package launcher

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/qmp"
)

// Outcome says what became of the guest. It comes from the SHUTDOWN event's
// reason, QEMU's run state and the guest's own word, never from QEMU's exit
// status, which is 0 after a clean end, a panic and a failed command alike.
type Outcome string

// Outcomes.
const (
	OutcomePassed          Outcome = "passed"           // it attested, and its command, if any, succeeded
	OutcomeLaunched        Outcome = "launched"         // it was launched and, as asked, not run
	OutcomeGuestFailed     Outcome = "guest-failed"     // its command failed
	OutcomePanicked        Outcome = "panicked"         // its kernel did
	OutcomeFirmwareRefused Outcome = "firmware-refused" // OVMF refused what it was to boot
	OutcomeNotBooted       Outcome = "not-booted"       // OVMF found nothing to boot
	OutcomeEnded           Outcome = "ended"            // it powered off or was reset before it had said its word
	OutcomeLaunchFailed    Outcome = "launch-failed"    // it never ran
	OutcomeInternalError   Outcome = "internal-error"   // KVM could not go on with it
	OutcomeTimedOut        Outcome = "timed-out"        // it took too long
	OutcomeNotLaunched     Outcome = "not-launched"     // as VerdictNotLaunched
)

// life is what QMP tells of a guest's end.
type life struct {
	mu       sync.Mutex
	reason   string // of the SHUTDOWN event: "guest-shutdown", "guest-reset", …
	panicked bool
	// stuck is closed when the guest cannot go on but QEMU stays, as it does
	// for ever after a KVM internal error; status is the run state then.
	stuck  chan struct{}
	status string
	once   sync.Once // closes stuck
	// shut is closed at the SHUTDOWN event: QEMU is about to end.
	shut chan struct{}
}

// stuckStates are run states that a guest does not leave by itself (QEMU
// qapi/run-state.json).
var stuckStates = map[string]bool{"internal-error": true, "io-error": true, "guest-panicked": true}

// statusPatience is how long QEMU may take to say what state it is in.
const statusPatience = 5 * time.Second

// watchLife begins to listen, before the guest runs, and ends with QEMU.
func watchLife(c *qmp.Client) *life {
	l := &life{stuck: make(chan struct{}), shut: make(chan struct{})}
	events := c.Subscribe(64)
	go func() {
		for ev := range events.C() {
			switch ev.Event {
			case "SHUTDOWN":
				reason, _ := ev.Data["reason"].(string)
				l.mu.Lock()
				if l.reason == "" {
					close(l.shut)
				}
				l.reason = cmp.Or(reason, "no reason told")
				l.mu.Unlock()
			case "GUEST_PANICKED":
				l.mu.Lock()
				l.panicked = true
				l.mu.Unlock()
			case "STOP":
				select {
				case <-l.shut: // it stops because it ends, and may not answer any more
					continue
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
				s, err := c.QueryStatus(ctx)
				cancel()
				if err != nil || !stuckStates[s.Status] {
					continue
				}
				l.mu.Lock()
				l.status = s.Status
				l.mu.Unlock()
				l.stick()
				return
			}
		}
	}()
	return l
}

// stick says that the guest cannot go on.
func (l *life) stick() { l.once.Do(func() { close(l.stuck) }) }

// ended judges a guest that ended, or stuck, before it had said its word, and
// says so in a sentence. silent is a guest that has written nothing at all, killed what
// ended its QEMU, empty where nothing did.
func (l *life) ended(seen sighting, silent bool, killed string) (Outcome, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.panicked || seen.stage == stagePanic:
		return OutcomePanicked, fmt.Sprintf("the guest's kernel panicked (last seen: %s)", seen)
	case killed != "" && l.reason == "":
		return OutcomeEnded, fmt.Sprintf("%s (last seen: %s)", killed, seen)
	case l.status == "internal-error":
		return OutcomeInternalError, fmt.Sprintf("KVM could not go on with the guest (QEMU's run state is %s; last seen: %s)", l.status, seen)
	case l.status != "":
		return OutcomeEnded, fmt.Sprintf("the guest stopped (QEMU's run state is %s; last seen: %s)", l.status, seen)
	case seen.stage == stageNoBoot:
		return OutcomeNotBooted, fmt.Sprintf("the firmware found nothing to boot (last seen: %s)", seen)
	case l.reason == "guest-shutdown" && silent && seen.stage == stageFirmware:
		return OutcomeEnded, "the guest was launched, and ended (guest-shutdown) before its firmware had written a word; where nothing runs a guest, as under sim exec, that is all there is"
	case l.reason != "":
		return OutcomeEnded, fmt.Sprintf("the guest ended (%s) before it had said its word (last seen: %s)", l.reason, seen)
	}
	return OutcomeEnded, fmt.Sprintf("the guest ended without a word (last seen: %s)", seen)
}

// settle gives a result its outcome where nothing that happened to the guest
// has given it one, and what the console tells of a failure.
func (r *Result) settle(launchOnly bool) {
	r.explainConsole()
	switch {
	case r.Outcome != "":
	case r.Verdict == VerdictLaunchFailed:
		r.Outcome = OutcomeLaunchFailed
	case r.Verdict == VerdictTimeout:
		r.Outcome = OutcomeTimedOut
	case r.Verdict == VerdictFirmwareRefused:
		r.Outcome = OutcomeFirmwareRefused
	case launchOnly:
		r.Outcome = OutcomeLaunched
	case r.GuestExit != nil && *r.GuestExit != 0:
		r.Outcome = OutcomeGuestFailed
	case r.Report != nil:
		r.Outcome = OutcomePassed
	default:
		r.Outcome = OutcomeEnded
	}
}
