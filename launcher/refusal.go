package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

var errRefused = errors.New("the firmware stopped before it started the kernel")

// Firmware that has given up spins: its vCPU shows the same instruction
// pointer in every sample, is not halted, and uses the processor all the while.
// The last counts because on a busy machine a vCPU that merely waits for its
// turn shows the same instruction pointer too.
const (
	sampleEvery    = 150 * time.Millisecond
	stalledSamples = 8
	stalledRunning = time.Second
)

// watchRefusal gives an error when the firmware of a guest under TCG stands
// still. It ends without one when ctx does or QEMU no longer answers.
func watchRefusal(ctx context.Context, v *vm) error {
	thread, err := v.qmp.VCPUThread(ctx, 0)
	if err != nil {
		return nil
	}
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var s stall
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
		used, err := threadTime(thread)
		if err != nil {
			return nil
		}
		if s.sample(regs.RIP, regs.Halted, used) {
			return errRefused
		}
	}
}

// stall is what the samples of one vCPU have shown since it last moved.
type stall struct {
	rip     uint64
	samples int
	since   time.Duration // processor time of the thread when it last moved
}

// sample takes one look: instruction pointer, whether the vCPU is halted, and
// the processor time that its thread has used. It says whether the vCPU has
// given up.
func (s *stall) sample(rip uint64, halted bool, used time.Duration) bool {
	if rip != s.rip || halted || s.samples == 0 {
		*s = stall{rip: rip, samples: 1, since: used}
		return false
	}
	s.samples++
	return s.samples > stalledSamples && used-s.since >= stalledRunning
}

// userHZ is the unit of times in /proc/PID/stat, the same on every Linux that Go runs on.
const userHZ = 100

// threadTime is the processor time that a thread has used (proc_pid_stat(5),
// utime and stime).
func threadTime(tid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tid))
	if err != nil {
		return 0, err
	}
	return parseThreadTime(b)
}

func parseThreadTime(stat []byte) (time.Duration, error) {
	// The name of the thread may hold anything, so fields are counted from
	// the last parenthesis: state is the first behind it, utime the 12th.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat has too few fields")
	}
	var ticks uint64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHZ, nil
}
