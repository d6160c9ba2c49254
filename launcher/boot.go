package launcher

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
)

// startB starts the QEMU that will run the guest on the software host, stopped
// before its first instruction. The file it gives back is one that B can
// write its memory to.
func (r *run) startB() (*os.File, error) {
	memory, err := memoryFile("snplaunch-memory", nil)
	if err != nil {
		return nil, err
	}
	g := r.booted()
	var path string
	r.b, err = startVM("QEMU B", r.o.QEMU, nil, true, r.o.Console, func(s *starter, p plumbing) ([]string, error) {
		shared, err := duplicate(memory)
		if err != nil {
			return nil, err
		}
		path = fmt.Sprintf("/proc/self/fd/%d", s.inherit(shared))
		page := 0
		if r.measured.HashPage != nil {
			f, err := memoryFile("snplaunch-hashes", r.measured.HashPage[:])
			if err != nil {
				return nil, err
			}
			page = s.inherit(f)
		}
		p.simPort = true
		return tcgArguments(g, page, r.measured.HashPageGPA, p), nil
	})
	if err != nil {
		memory.Close()
		return nil, err
	}
	r.b.memoryPath = path
	return memory, nil
}

// booted is the guest that B is given, which is the one that was measured but for
// a hook's tampering.
func (r *run) booted() *guest.Guest {
	g := *r.g
	if r.o.Hooks.BootInitrd != "" {
		g.Initrd = r.o.Hooks.BootInitrd
	}
	return &g
}

// letBGo compares what B holds with what A had measured, and starts it.
func (r *run) letBGo(ctx context.Context, memory *os.File) error {
	since := time.Now()
	if err := r.b.connect(ctx); err != nil {
		if r.b.ended(5 * time.Second) {
			return fmt.Errorf("QEMU B did not start: %s", r.b.stderr.lines(3))
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

// Firmware that has given up spins: its vCPU shows the same instruction
// pointer in every sample and is not halted. A guest that works does not do
// that for stalledSamples in a row.
const (
	sampleEvery    = 150 * time.Millisecond
	stalledSamples = 8
)

// watchRefusal gives an error when the firmware of a guest under TCG stands
// still. It ends without one when ctx does or QEMU no longer answers.
func watchRefusal(ctx context.Context, v *vm) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var last uint64
	same := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.Done():
			return nil
		case <-tick.C:
		}
		regs, err := v.qmp.Registers(ctx, 0)
		if err != nil {
			return nil
		}
		if regs.RIP != last || regs.Halted {
			last, same = regs.RIP, 0
			continue
		}
		if same++; same >= stalledSamples {
			return errRefused
		}
	}
}

var errRefused = errors.New("the firmware stopped before it started the kernel")

// refused says which entry of the hashes table does not fit what the guest was
// given.
func (r *run) refused() {
	r.res.fail(VerdictFirmwareRefused, "OVMF refused to go on: "+r.whatDiffers(),
		"give the guest the files and the command line that were measured, or measure those it is given")
}

// whatDiffers hashes what B was given and compares it with the table that was
// measured.
func (r *run) whatDiffers() string {
	if r.measured.HashTable == nil {
		return "its vCPU stands still, and this launch has no kernel hashes that could explain it"
	}
	g := r.booted()
	given, err := measure.HashTable(g)
	if err != nil {
		return "its vCPU stands still; what the guest was given cannot be hashed: " + err.Error()
	}
	measured := r.measured.HashTable
	for _, e := range []struct {
		name, what      string
		measured, given [32]byte
	}{
		{"kernel", r.g.Kernel, measured.Kernel, given.Kernel},
		{"initrd", g.Initrd, measured.Initrd, given.Initrd},
		{"cmdline", fmt.Sprintf("%q", r.g.Append), measured.Cmdline, given.Cmdline},
	} {
		if e.measured != e.given {
			return fmt.Sprintf("the %s entry of the hashes table is %s, but the guest was given %s, whose SHA-256 is %s",
				e.name, short(hex.EncodeToString(e.measured[:])), e.what, short(hex.EncodeToString(e.given[:])))
		}
	}
	return "its vCPU stands still, though kernel, initrd and command line have the hashes that were measured"
}
