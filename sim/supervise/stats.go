package supervise

import (
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Call is a kind of system call that was held: an ioctl by its request
// number, any other by the system call alone.
type Call struct {
	NR      int32  // system call number of x86-64
	Request uint32 // of an ioctl, else 0
}

// CallStats says how often one kind of call was held and for how long. A vCPU
// that waits in KVM_RUN is counted until the wait begins.
type CallStats struct {
	Call
	// Count is how often; a call that was interrupted before its answer was taken, and
	// made once more, counts once.
	Count int
	Ours  int // of these, answered here and not passed on to the kernel
	Time  time.Duration
	Max   time.Duration
}

// Stats says what a supervisor has done so far.
type Stats struct {
	Calls []CallStats   // the costliest first
	CPU   time.Duration // processor time of the thread that answers, once it has ended
}

// Total adds all kinds up.
func (s Stats) Total() (count int, held time.Duration) {
	for _, c := range s.Calls {
		count += c.Count
		held += c.Time
	}
	return count, held
}

// counters collects Stats; the loop writes, anyone may read.
type counters struct {
	mu    sync.Mutex
	calls map[Call]*CallStats
	cpu   time.Duration
}

// add counts a call; lost says that nobody took its answer.
func (c *counters) add(call Call, ours, lost bool, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.calls[call]
	if s == nil {
		s = &CallStats{Call: call}
		c.calls[call] = s
	}
	if !lost {
		s.Count++
		if ours {
			s.Ours++
		}
	}
	s.Time += took
	s.Max = max(s.Max, took)
}

// threadTime gives the processor time that the calling thread has used so far.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

func (c *counters) used(cpu time.Duration) {
	c.mu.Lock()
	c.cpu = cpu
	c.mu.Unlock()
}

func (c *counters) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{CPU: c.cpu}
	for _, call := range c.calls {
		s.Calls = append(s.Calls, *call)
	}
	sort.Slice(s.Calls, func(i, j int) bool {
		a, b := s.Calls[i], s.Calls[j]
		if a.Time != b.Time {
			return a.Time > b.Time
		}
		return a.NR < b.NR || a.NR == b.NR && a.Request < b.Request
	})
	return s
}
