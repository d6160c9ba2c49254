package launcher

import (
	"fmt"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/certs"
	"github.com/snplaunch/snplaunch/snp"
)

// Verdict is the outcome of a run in one word.
type Verdict string

// Verdicts.
const (
	VerdictMatch           Verdict = "match"            // computed, launched and reported agree, and the report holds
	VerdictMismatch        Verdict = "mismatch"         // the measurement is another one
	VerdictReportInvalid   Verdict = "report-invalid"   // signature, chain, nonce or a field of the report is wrong
	VerdictLaunchFailed    Verdict = "launch-failed"    // QEMU, KVM or the Secure Processor refused the launch
	VerdictFirmwareRefused Verdict = "firmware-refused" // OVMF refused kernel, initrd or command line
	VerdictNotAttested     Verdict = "not-attested"     // the guest ran but sent no report
	VerdictTimeout         Verdict = "timeout"          // it took too long
	VerdictNotLaunched     Verdict = "not-launched"     // only of run --json: it came to an end before QEMU was started
)

// Backends.
const (
	BackendSNP = "snp" // this machine's Secure Processor
	BackendSim = "sim" // the software SNP host
)

// Result is what a run found. Its JSON form is the output of `run --json`.
type Result struct {
	Verdict        Verdict           `json:"verdict"`
	Outcome        Outcome           `json:"outcome"`
	LastSeen       string            `json:"last_seen,omitempty"` // of a guest that ran
	Backend        string            `json:"backend"`
	Simulated      bool              `json:"simulated"`
	Computed       snp.LaunchDigest  `json:"computed"`
	Launched       *snp.LaunchDigest `json:"launched"` // what the software host heard; null on hardware
	Reported       *snp.LaunchDigest `json:"reported"` // MEASUREMENT of the report
	ReportVerified bool              `json:"report_verified"`
	// ReportData is what the report was asked with: the nonce.
	ReportData *snp.ReportData `json:"report_data"`
	// CertificateOrigins says where the certificates are from that the report was verified
	// with, and RevocationLists in which lists they were looked for.
	CertificateOrigins []certs.Origin          `json:"certificates,omitempty"`
	RevocationLists    []report.RevocationList `json:"revocation_lists,omitempty"`
	QEMUVersion        string                  `json:"qemu_version"`
	FirmwareSHA256     string                  `json:"firmware_sha256"`
	VCPUs              int                     `json:"vcpus"`
	CPU                string                  `json:"cpu"`
	HostKernel         string                  `json:"host_kernel"` // profile that the computed digest assumes
	Policy             string                  `json:"policy"`
	HostData           *snp.HostData           `json:"host_data"`
	IDKeyDigest        *snp.KeyDigest          `json:"id_key_digest"`
	AuthorDigest       *snp.KeyDigest          `json:"author_key_digest"`
	Forwards           []string                `json:"forwards,omitempty"`  // as guest.Forward, with the host's ports
	VsockCID           uint32                  `json:"vsock_cid,omitempty"` // of the guest
	GuestExit          *int                    `json:"guest_exit"`          // null when nothing was run
	DurationMS         map[string]int64        `json:"duration_ms"`
	Stages             []Stage                 `json:"stages"`
	Error              *Failure                `json:"error,omitempty"`
	// Diagnosis is what a digest was made of that is not the computed one, where one came up.
	Diagnosis *Diagnosis `json:"diagnosis,omitempty"`

	// Report is the raw attestation report and Certificates its certificate
	// table, where the guest sent them.
	Report       []byte `json:"-"`
	Certificates []byte `json:"-"`
	// Trusted is the fingerprint of the simulated root that the report was
	// verified against; empty on hardware.
	Trusted string `json:"-"`
	// Console is the end of what the guest printed, Stderr what QEMU did.
	Console string `json:"-"`
	Stderr  string `json:"-"`
	// QEMU is how each QEMU was started.
	QEMU []Invocation `json:"-"`

	started            time.Time
	ended              func(Stage)
	guest              *guest.Guest
	computed, launched []snp.Update
	evidence           evidence
	trace              string // of the launch, by QEMU
}

// Failure says why there is no match.
type Failure struct {
	// Phase is how far a launch came, where one failed.
	Phase Phase `json:"phase,omitempty"`
	// Page is the page that SNP_LAUNCH_UPDATE failed at, where that is known.
	Page     *FailedPage `json:"page,omitempty"`
	Command  string      `json:"command,omitempty"`   // SNP_LAUNCH_START, …, where one failed
	Ret      int         `json:"ret,omitempty"`       // what the ioctl gave, -errno
	FWError  int         `json:"fw_error"`            // firmware status; 0 also where the firmware was not asked
	FWStatus string      `json:"fw_status,omitempty"` // its name
	Message  string      `json:"message"`             // what happened, QEMU's own words where it said any
	Advice   string      `json:"advice,omitempty"`    // one sentence on what to do
}

// Stage is a part of a run, in the order of their ends, for a timeline. Parts
// may lie within others.
type Stage struct {
	Name    string `json:"name"`
	StartMS int64  `json:"start_ms"` // after the run began
	EndMS   int64  `json:"end_ms"`
}

// stage notes that a part of the run ends now.
func (r *Result) stage(name string, since time.Time) { r.part(name, since, time.Now()) }

// part notes a part of the run.
func (r *Result) part(name string, since, end time.Time) {
	s := Stage{name, since.Sub(r.started).Milliseconds(), end.Sub(r.started).Milliseconds()}
	r.DurationMS[name] += s.EndMS - s.StartMS
	r.Stages = append(r.Stages, s)
	if r.ended != nil {
		r.ended(s)
	}
}

// fail sets a verdict other than match, unless one is set already: the first
// thing that went wrong is the one to report. A match ends with what goes wrong
// after it: another report that does not hold, a guest that takes too long.
func (r *Result) fail(v Verdict, message, advice string) {
	if r.Verdict != "" && r.Verdict != VerdictMatch {
		return
	}
	r.Verdict = v
	r.Error = &Failure{Message: message, Advice: advice}
}

// Table gives the result for a reader: computed, launched, reported,
// signature, policy, ID block.
func (r *Result) Table() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	if r.Simulated {
		b.WriteString("SIMULATED by the software SNP host: this says nothing about any AMD hardware\n")
	} else {
		b.WriteString("AMD Secure Processor of this machine\n")
	}
	digest := func(d *snp.LaunchDigest, none string) string {
		switch {
		case d == nil:
			return none
		case *d == r.Computed:
			return d.String()
		}
		return d.String() + "  DIFFERS"
	}
	line("computed", "%s", r.Computed)
	if r.Simulated {
		line("launched", "%s", digest(r.Launched, "-"))
	}
	line("reported", "%s", digest(r.Reported, "-"))
	switch {
	case r.ReportVerified:
		line("signature", "good, report and chain%s", map[bool]string{true: " (simulated root " + short(r.Trusted) + ")"}[r.Simulated])
	case r.Reported != nil:
		line("signature", "NOT accepted")
	default:
		line("signature", "-")
	}
	if s := r.revocation(); r.ReportVerified && s != "" {
		line("revocation", "%s", s)
	}
	line("policy", "%s", r.Policy)
	switch {
	case r.IDKeyDigest == nil:
		line("ID block", "none")
	case r.AuthorDigest == nil:
		line("ID block", "id key %s", short(r.IDKeyDigest.String()))
	default:
		line("ID block", "id key %s, author key %s", short(r.IDKeyDigest.String()), short(r.AuthorDigest.String()))
	}
	if r.GuestExit != nil {
		line("command", "exit %d", *r.GuestExit)
	}
	line("verdict", "%s", r.Verdict)
	return b.String()
}

// short gives the first digits of a digest, enough to tell two apart by eye.
func short(s string) string {
	if len(s) > 16 {
		return s[:16] + "…"
	}
	return s
}
