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
// pointer in every sample, is not halted, uses the processor all the while, and
// nobody else does. The last two count because on a busy machine a vCPU shows the
// same instruction pointer too when it waits for its turn, or when it waits in
// a loop for another vCPU that does.
const (
	sampleEvery    = 150 * time.Millisecond
	stalledSamples = 8
	stalledRunning = time.Second
	othersRunning  = stalledRunning / 10
)

// kernelHalf is below every address that Linux itself runs at, and above all that the
// firmware, which maps memory one to one, does.
const kernelHalf = 1 << 63

// watchRefusal gives an error when the firmware of a guest under TCG stands
// still. It ends without one when ctx does or QEMU no longer answers.
func watchRefusal(ctx context.Context, v *vm) error {
	threads, err := v.qmp.VCPUThreads(ctx)
	if err != nil || len(threads) == 0 {
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
		look := look{rip: regs.RIP, halted: regs.Halted}
		for i, tid := range threads {
			used, err := threadTime(tid)
			if err != nil {
				return nil
			}
			if i == 0 {
				look.used = used
			} else if tid != threads[0] { // one thread may run them all
				look.others += used
			}
		}
		if regs.RIP > kernelHalf {
			s = stall{} // a kernel runs, whether its console shows it or not
			continue
		}
		if s.sample(look) {
			return errRefused
		}
	}
}

// look is one sample of the bootstrap vCPU.
type look struct {
	rip          uint64
	halted       bool
	used, others time.Duration // processor time of its thread, and of all other vCPUs' threads
}

// stall is what the samples have shown since the vCPU last moved.
type stall struct {
	first   look
	samples int
}

// sample says whether the vCPU has given up, judging by one look more.
func (s *stall) sample(l look) bool {
	if s.samples == 0 || l.rip != s.first.rip || l.halted || l.others-s.first.others > othersRunning {
		*s = stall{first: l, samples: 1}
		return false
	}
	s.samples++
	return s.samples > stalledSamples && l.used-s.first.used >= stalledRunning
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
