package launcher

import (
	"io"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/certs"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// DefaultTimeout bounds a run whose description sets no time: a guest of the
// default size is up in seconds, on a busy machine in tens of them.
const DefaultTimeout = 3 * time.Minute

// Options say how a guest is launched. None of them is measured.
type Options struct {
	Backend string // BackendSNP or BackendSim
	QEMU    string // path of qemu-system-x86_64
	// CBitPos is what CPUID says on this machine (Fn8000_001F EBX[5:0]).
	CBitPos int
	// DataDir keeps the simulated root key of this user.
	DataDir string
	// KeyPassword, when set, gives the password of a key file that turns out
	// to be encrypted.
	KeyPassword func(path string) ([]byte, error)
	// Conditions are what the launch meets on this machine, for BackendSNP; the
	// software host's own are known.
	Conditions host.Conditions
	// Force launches although something was found that stands in the way: to see what
	// QEMU, KVM and the firmware say of it.
	Force bool
	// LaunchOnly stops after SNP_LAUNCH_FINISH: nothing is booted.
	LaunchOnly bool
	// NoDiagnosis leaves out the search for what a wrong digest was made of, for who
	// means it to be wrong: it takes up to a second of all processors.
	NoDiagnosis bool
	// Console, Stdout and Stderr take what the guest's serial port and its
	// command write; nil drops it.
	Console, Stdout, Stderr io.Writer
	// Keyboard is what is typed into the guest's serial port; nil: nothing. A Read
	// under way when the guest ends is left behind.
	Keyboard io.Reader
	// Stdin is what the guest's command reads; nil: nothing.
	Stdin io.Reader
	// Shared, when set, is what this launch has in common with others.
	Shared *Shared
	// Certs finds certificates that do not come with the guest's report, and revocation
	// lists; nil: only what comes with it, and AMD's own authorities.
	Certs *certs.Finder
	// Tool names the program in evidence bundles, "snplaunch 1.0"; empty: this module.
	Tool string
	// Simulation says which machine the software host is, for BackendSim.
	Simulation Simulation
	// Progress, when set, is told what is being done.
	Progress func(string)
	// Began and Ended, when set, hear of the parts of a run. A part that lies
	// within others, or that is only recognised afterwards, is not announced.
	Began func(name string)
	Ended func(Stage)
	// Hooks tamper with a launch, for tests that must see it caught.
	Hooks Hooks
}

// Simulation is a machine of the software host. Its zero value is the default
// platform under the default kernel, where nothing goes wrong.
type Simulation struct {
	Platform *psp.Config // nil: psp.DefaultConfig
	Kernel   kvm.Profile
	Faults   []kvm.Fault
}

// Hooks change something between two steps that must agree. They exist to
// show that the disagreement is caught; no flag of the program sets one.
type Hooks struct {
	// IDBlock changes the ID block before it is signed.
	IDBlock func(*snp.IDBlock)
	// SignedIDBlock changes the 96 and 4096 bytes that QEMU is given.
	SignedIDBlock func(block, auth []byte)
	// Launched changes what the QEMU that is launched is given, after the
	// description was measured and its ID block signed: a count, another file.
	Launched func(*guest.Guest)
	// Booted does so with what the software host boots after the launch.
	Booted func(*guest.Guest)
	// Report changes the report on its way from the guest.
	Report func([]byte)
	// ExpectNonce changes the nonce that the report is held against.
	ExpectNonce func(*snp.ReportData)
	// Certificates changes the certificate table on its way from the guest.
	Certificates func([]byte)
	// Expect changes what the report is held against.
	Expect func(*report.Expect)
	// TrustAMDOnly verifies as one who was not told about simulated roots.
	TrustAMDOnly bool
	// Stage, when set, is called when a stage begins: "launch", "boot", "attest".
	Stage func(name string)
}
