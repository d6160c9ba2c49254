package launcher

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/hashes"
)

// startB starts the QEMU that will run the guest on the software host, stopped
// before its first instruction. The file it gives back is one that B can
// write its memory to.
func (r *run) startB() (*os.File, error) {
	var err error
	if r.booted, err = r.give(r.o.Hooks.Booted); err != nil {
		return nil, err
	}
	memory, err := memoryFile("snplaunch-memory", nil)
	if err != nil {
		return nil, err
	}
	var path string
	r.b, err = startVM("QEMU B", r.o.QEMU, nil, true, serial{r.o.Console, r.o.Keyboard}, func(s *starter, p plumbing) ([]string, error) {
		shared, err := duplicate(memory)
		if err != nil {
			return nil, err
		}
		path = inherited(s.inherit(shared))
		page := 0
		if r.measured.HashPage != nil {
			f, err := memoryFile("snplaunch-hashes", r.measured.HashPage[:])
			if err != nil {
				return nil, err
			}
			page = s.inherit(f)
		}
		g, err := handedOver(s, r.booted)
		if err != nil {
			return nil, err
		}
		// Under TCG there is no host; max is what TCG can do.
		if properties, ok := strings.CutPrefix(g.CPU, "host"); ok && (properties == "" || properties[0] == ',') {
			g.CPU = "max" + properties
		}
		p.simPort = true
		if err := r.giveDevices(s, g, &p); err != nil {
			return nil, err
		}
		return tcgArguments(g, page, r.measured.HashPageGPA, p), nil
	})
	if err != nil {
		memory.Close()
		return nil, err
	}
	r.b.memoryPath = path
	return memory, nil
}

// errNotStarted is the end of a QEMU before it spoke: it could not have what its arguments
// ask for.
var errNotStarted = errors.New("QEMU did not start")

// letBGo compares what B holds with what A had measured, and starts it.
func (r *run) letBGo(ctx context.Context, memory *os.File) error {
	since := time.Now()
	if err := r.b.connect(ctx); err != nil {
		if r.b.ended(5 * time.Second) {
			return errNotStarted
		}
		return err
	}
	_, updates := r.sim.heard()
	if err := samePages(ctx, r.b, memory, r.b.memoryPath, updates); err != nil {
		return err
	}
	r.res.stage("compare", since)
	return r.b.qmp.Cont(ctx)
}

// refused judges a firmware that stands still: it found nothing to boot and says
// so, or its blob verifier refused what it found and is silent.
func (r *run) refused(seen sighting) {
	if seen.stage == stageNoBoot {
		r.res.Outcome = OutcomeNotBooted
		r.res.fail(VerdictNotAttested, fmt.Sprintf("the firmware found nothing to boot (last seen: %s)", seen),
			"give the guest a kernel, with kernel_hashes on where the firmware is an AmdSev build")
		return
	}
	r.res.fail(VerdictFirmwareRefused, "OVMF refused to go on: "+r.whatDiffers(),
		"give the guest the files and the command line that were measured, or measure those it is given")
}

// whatDiffers compares what B was given with the table that was measured.
func (r *run) whatDiffers() string {
	if r.measured.HashTable == nil {
		return "its vCPU stands still, and this launch has no kernel hashes that could explain it"
	}
	for _, e := range []struct {
		name     string
		measured [32]byte
		given    *guest.Input
	}{
		{"kernel", r.measured.HashTable.Kernel, r.booted.files.Kernel},
		{"initrd", r.measured.HashTable.Initrd, r.booted.files.Initrd},
	} {
		if e.given == nil {
			continue
		}
		sum, err := e.given.SHA256()
		if err != nil {
			return "its vCPU stands still; what the guest was given cannot be hashed: " + err.Error()
		}
		if sum != e.measured {
			return fmt.Sprintf("the %s entry of the hashes table is %s, but the guest was given %s, whose SHA-256 is %s",
				e.name, short(hex.EncodeToString(e.measured[:])), e.given.Path, short(hex.EncodeToString(sum[:])))
		}
	}
	if got, err := hashes.Cmdline(r.booted.guest.Append); err == nil && got != r.measured.HashTable.Cmdline {
		return fmt.Sprintf("the command line entry of the hashes table is %s, but the guest was given %q, whose SHA-256 is %s",
			short(hex.EncodeToString(r.measured.HashTable.Cmdline[:])), r.booted.guest.Append, short(hex.EncodeToString(got[:])))
	}
	return "its vCPU stands still, though kernel, initrd and command line have the hashes that were measured"
}
