package kvm

import (
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// injector lets the faults of a Host happen, each at its call.
type injector struct {
	faults []Fault
	calls  map[string]int // so far, by target
	dead   bool           // the Secure Processor answers no more
}

func newInjector(faults []Fault) *injector {
	return &injector{faults: faults, calls: map[string]int{}}
}

// lacks says whether the host is without something.
func (i *injector) lacks(what string) bool {
	for _, f := range i.faults {
		if f.Target == what {
			return true
		}
	}
	return false
}

// next counts a call of target and gives the faults that hit it.
func (i *injector) next(target string) (hit []Fault) {
	if len(i.faults) == 0 {
		return nil
	}
	i.calls[target]++
	for _, f := range i.faults {
		if f.Target == target && (f.Call == 0 || f.Call == i.calls[target]) {
			hit = append(hit, f)
		}
	}
	return hit
}

// errno counts a call of an ioctl or a device and gives what it fails with, 0
// for one that is let through.
func (i *injector) errno(target string) unix.Errno {
	for _, f := range i.next(target) {
		if f.Errno != 0 {
			return f.Errno
		}
	}
	return 0
}

// checkpoint remembers how often what was called: a call that is undone was
// never made, and the fault that hit it hits it again.
func (i *injector) checkpoint() (restore func()) {
	calls, dead := maps.Clone(i.calls), i.dead
	return func() { i.calls, i.dead = calls, dead }
}

// reply is how a command to the Secure Processor ended for the kernel.
type reply struct {
	errno  unix.Errno // of sev_do_cmd: 0, EIO with a status, or another without one
	status snp.Status
	told   bool // the kernel has a status to tell, if only 0
	forced bool // errno is for the system call, whatever the kernel makes of other failures
}

func (r reply) failed() bool { return r.errno != 0 }

// hung says that the Secure Processor did not answer.
func (r reply) hung() bool { return !r.forced && (r.errno == unix.EBUSY || r.errno == unix.ETIMEDOUT) }

// firmware gives a command to the Secure Processor, as sev_do_cmd in Linux
// drivers/crypto/ccp/sev-dev.c does. A fault may answer in its place; then
// nothing has happened there.
func (h *Host) firmware(command string, do func() snp.Status) reply {
	if h.inject.dead {
		return reply{errno: unix.EBUSY}
	}
	for _, f := range h.inject.next(command) {
		switch {
		case f.Dead:
			h.inject.dead = true
			return reply{errno: unix.ETIMEDOUT, told: true}
		case f.Delay != 0:
			h.sleep(f.Delay)
		case f.Errno != 0:
			return reply{errno: f.Errno, forced: true}
		default:
			return reply{errno: unix.EIO, status: f.Status, told: true}
		}
	}
	if st := do(); st != snp.StatusSuccess {
		return reply{errno: unix.EIO, status: st, told: true}
	}
	return reply{told: true}
}

// sleep waits, but not longer than the host lives.
func (h *Host) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-h.ended:
	}
}

// serve answers an ioctl unless a fault on it does, and sees that undoing the
// call undoes what was counted for it.
func (h *Host) serve(request uint32, answer func() Answer) Answer {
	if len(h.inject.faults) == 0 {
		return answer()
	}
	restore := h.inject.checkpoint()
	var a Answer
	if e := h.inject.errno(ioctlName(request)); e != 0 {
		a = fail(e)
	} else {
		a = answer()
	}
	undo, made := a.Undo, a.New
	a.Undo = func() {
		switch {
		case undo != nil:
			undo()
		case made != nil:
			made.Close()
		}
		restore()
	}
	return a
}
