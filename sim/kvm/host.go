package kvm

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// Options of a Host.
type Options struct {
	// Hold keeps the vCPUs of a launched VM waiting in KVM_RUN until EndAll;
	// without it the VM is told to shut down as soon as it runs.
	Hold bool
	// Profile is the host's kernel; the zero value is DefaultProfile.
	Profile Profile
	// Faults go wrong on purpose.
	Faults []Fault
	// KeepPages keeps the bytes of each page that is measured, for VM.Pages.
	KeepPages bool
	// Observe, when set, hears what happens to VMs, in order, on the
	// goroutine that answers the ioctls: it must be quick.
	Observe func(Event)
	// Logf, when set, hears of requests that this host does not know.
	Logf func(format string, args ...any)
}

// Host is one simulated machine: a kernel with KVM and a Secure Processor.
// Its methods and those of its objects may be called from one goroutine at a
// time, but for EndAll, which any goroutine may call.
type Host struct {
	platform *psp.Platform
	opts     Options
	asids    asids
	inject   *injector
	cpu      machineCPU

	mu      sync.Mutex
	ended   chan struct{}
	isEnded bool
}

// EventKind says what happened to a VM.
type EventKind int

// Events, in the order of a launch.
const (
	EventInit   EventKind = iota + 1 // a KVM_SEV_INIT2 that failed
	EventStart                       // SNP_LAUNCH_START answered
	EventUpdate                      // an SNP_LAUNCH_UPDATE that failed
	EventFinish                      // SNP_LAUNCH_FINISH answered
	EventRun                         // a vCPU of a launched VM entered KVM_RUN
	// EventUndone takes the VM's last event back: its call was interrupted before
	// the answer was taken, and will be made again.
	EventUndone
)

// Event is something that happened to a VM.
type Event struct {
	Kind   EventKind
	PID    int // thread that made the call
	VM     *VM
	Errno  int         // 0, or the errno that the call gave
	Status snp.Status  // firmware status
	Guest  *psp.Guest  // the VM's guest context
	Page   *snp.Update // EventUpdate: where it failed
}

// NewHost makes a machine around a Secure Processor.
func NewHost(p *psp.Platform, o Options) *Host {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	o.Profile = o.Profile.orDefault()
	cpu, err := newMachineCPU(p.Config(), o.Profile)
	if err != nil {
		panic(err) // every product that psp.New takes is known
	}
	return &Host{platform: p, opts: o, inject: newInjector(o.Faults), cpu: cpu, asids: newASIDs(p.Config().MaxASID), ended: make(chan struct{})}
}

// EndAll tells every VM that waits or will wait in KVM_RUN to shut down.
func (h *Host) EndAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isEnded {
		h.isEnded = true
		close(h.ended)
	}
}

func (h *Host) observe(e Event) {
	if h.opts.Observe != nil {
		h.opts.Observe(e)
	}
}

// Device nodes.
const (
	devKVM = "/dev/kvm"
	devSEV = "/dev/sev"
)

// Open gives the object behind a device node, nil for a path that this host
// does not answer for. An error that is a unix.Errno is open(2)'s answer.
func (h *Host) Open(path string) (Object, error) {
	if path != devKVM && path != devSEV {
		return nil, nil
	}
	if path == devSEV && h.inject.lacks(LackSEV) {
		return nil, unix.ENOENT
	}
	if e := h.inject.errno(path); e != 0 {
		return nil, e
	}
	switch path {
	case devKVM:
		f, err := newFile("snplaunch-kvm", 0)
		if err != nil {
			return nil, fmt.Errorf("software SNP host: cannot make a file for /dev/kvm: %w", err)
		}
		return &System{host: h, file: f}, nil
	default:
		f, err := newFile("snplaunch-sev", 0)
		if err != nil {
			return nil, fmt.Errorf("software SNP host: cannot make a file for /dev/sev: %w", err)
		}
		return &SEV{host: h, file: f}, nil
	}
}
