package launcher

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// simulated is a software SNP host that was made for one run: one Secure
// Processor, one kernel, one guest.
type simulated struct {
	platform *psp.Platform
	host     *kvm.Host

	mu       sync.Mutex
	guest    *psp.Guest
	launched *snp.LaunchDigest
	updates  []snp.Update
	failed   *kvm.Event    // the first call that failed for good
	finished chan struct{} // closed at a successful SNP_LAUNCH_FINISH
	once     sync.Once
}

// newSimulated makes the host. The simulated root key is made on first use and
// kept in the data folder.
func newSimulated(o Options) (*simulated, error) {
	machine := o.Simulation
	ca, err := o.Shared.root(o.DataDir, func() { o.Progress("making a root key for the software SNP host (once per user)") })
	if err != nil {
		return nil, err
	}
	config := psp.DefaultConfig()
	if machine.Platform != nil {
		config = *machine.Platform
	}
	platform, err := psp.New(config, ca)
	if err != nil {
		return nil, fmt.Errorf("software SNP host: %w", err)
	}
	s := &simulated{platform: platform, finished: make(chan struct{})}
	s.host = kvm.NewHost(platform, kvm.Options{Hold: true, Profile: machine.Kernel, Faults: machine.Faults, Observe: s.observe})
	return s, nil
}

// observe hears of the launch on the goroutine that answers the ioctls.
func (s *simulated) observe(e kvm.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Kind == kvm.EventUndone:
		s.failed = nil
	case e.Errno != 0 && unix.Errno(e.Errno) != unix.EAGAIN && s.failed == nil:
		s.failed = &e
	}
	if e.Kind != kvm.EventFinish {
		return
	}
	d := e.Guest.LaunchDigest()
	s.guest, s.launched, s.updates = e.Guest, &d, e.Guest.Updates()
	if e.Errno == 0 {
		s.once.Do(func() { close(s.finished) })
	}
}

// heard gives what the host heard: the digest at SNP_LAUNCH_FINISH, whether or
// not that succeeded, and the pages; nil when it was never called.
func (s *simulated) heard() (*snp.LaunchDigest, []snp.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.launched, s.updates
}

// firstFailure is the call that failed; nil where none did.
func (s *simulated) firstFailure() *kvm.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// GuestRequest and CertTable implement guestdev.Handler for the launched guest.
func (s *simulated) GuestRequest(msgType, msgVersion uint8, payload []byte) (uint8, []byte, snp.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guest == nil {
		return 0, nil, snp.StatusInvalidGuestState
	}
	return s.guest.GuestRequest(msgType, msgVersion, payload)
}

// CertTable gives the certificates of the simulated chip.
func (s *simulated) CertTable() []byte { return s.platform.Certificates().Table() }

// waitFinished waits until the launch has finished.
func (s *simulated) waitFinished(ctx context.Context, qemuEnded <-chan struct{}) error {
	select {
	case <-s.finished:
		return nil
	case <-qemuEnded:
		select {
		case <-s.finished:
			return nil
		default:
		}
		return errQEMUEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}
