package launcher

import (
	"fmt"
	"io"
	"strings"

	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/snp"
)

// Phase is a part of a launch.
type Phase string

// Phases, in their order.
const (
	PhaseCommandLine Phase = "command line" // QEMU had not asked KVM for anything yet
	PhaseInit        Phase = "INIT"         // KVM_SEV_INIT2
	PhaseStart       Phase = "START"        // SNP_LAUNCH_START
	PhaseUpdate      Phase = "UPDATE"       // SNP_LAUNCH_UPDATE
	PhaseFinish      Phase = "FINISH"       // SNP_LAUNCH_FINISH
)

// FailedPage is a page that could not be launched.
type FailedPage struct {
	Type   snp.PageType `json:"type"`
	GPA    uint64       `json:"gpa"`
	Length uint64       `json:"length"` // bytes; more than a page where only the call is known
	// Source is what is launched there: "firmware", "metadata 3: CPUID", "kernel
	// hashes", "vCPU 0 VMSA"; empty where nothing should be.
	Source string `json:"source,omitempty"`
}

func (p *FailedPage) String() string {
	s := fmt.Sprintf("%s page at guest address 0x%x", p.Type, p.GPA)
	if p.Length > snp.PageSize {
		s = fmt.Sprintf("%s page among the %d from guest address 0x%x", p.Type, p.Length/snp.PageSize, p.GPA)
	}
	if p.Source != "" {
		s += " (" + p.Source + ")"
	}
	return s
}

// phases are the phases by the command that fails in them.
var phases = map[string]Phase{
	"KVM_SEV_INIT2": PhaseInit, "SNP_LAUNCH_START": PhaseStart, "SNP_LAUNCH_UPDATE": PhaseUpdate, "SNP_LAUNCH_FINISH": PhaseFinish,
}

// phaseOf tells in which phase A's launch failed: from the software host's own record
// of it, and on hardware from what QEMU said and when it ended. command is the one
// that QEMU says failed, empty where it names none.
func (r *run) phaseOf(command string) (Phase, *FailedPage) {
	if r.sim != nil {
		if e := r.sim.firstFailure(); e != nil {
			phase := map[kvm.EventKind]Phase{
				kvm.EventInit: PhaseInit, kvm.EventStart: PhaseStart, kvm.EventUpdate: PhaseUpdate, kvm.EventFinish: PhaseFinish}[e.Kind]
			return phase, r.failedPage(e.Page)
		}
	}
	phase := phases[command]
	switch {
	case phase == PhaseUpdate && r.trace != nil:
		return phase, r.failedPage(lastUpdate(r.traced()))
	case phase != "":
		return phase, nil
	case r.a.qmp == nil: // it ended before its greeting
		return PhaseCommandLine, nil
	}
	return "", nil
}

// traced is what QEMU's trace of the launch holds; empty where it cannot be read.
func (r *run) traced() string {
	if r.trace == nil {
		return ""
	}
	b, err := io.ReadAll(io.NewSectionReader(r.trace, 0, keptOutput))
	if err != nil {
		return ""
	}
	return string(b)
}

func (r *run) failedPage(u *snp.Update) *FailedPage {
	if u == nil {
		return nil
	}
	p := &FailedPage{Type: u.Type, GPA: u.GPA, Length: u.Length}
	for _, m := range r.measured.Pages {
		if m.GPA == u.GPA && m.Type == u.Type {
			p.Source = m.Source
		}
	}
	return p
}

// traceTypes are the page types as QEMU's trace names them (target/i386/sev.c,
// snp_page_type_to_str).
var traceTypes = map[string]snp.PageType{
	"Normal page": snp.PageNormal, "Zero page": snp.PageZero, "Unmeasured page": snp.PageUnmeasured,
	"Secrets page": snp.PageSecrets, "Cpuid page": snp.PageCPUID,
}

// traceEvent is QEMU's, written before each update.
const traceEvent = "kvm_sev_snp_launch_update "

// lastUpdate finds the last update in QEMU's trace; nil where there is none.
// Its lines are "… src 0x… gpa 0x… len 0x… (name)".
func lastUpdate(trace string) *snp.Update {
	at := strings.LastIndex(trace, traceEvent)
	if at < 0 {
		return nil
	}
	line, _, _ := strings.Cut(trace[at+len(traceEvent):], "\n")
	var u snp.Update
	fields := strings.Fields(line)
	for i := 0; i+1 < len(fields); i++ {
		var target *uint64
		switch fields[i] {
		case "gpa":
			target = &u.GPA
		case "len":
			target = &u.Length
		default:
			continue
		}
		if _, err := fmt.Sscanf(fields[i+1], "0x%x", target); err != nil {
			return nil
		}
	}
	for name, t := range traceTypes {
		if strings.Contains(line, name) {
			u.Type = t
			return &u
		}
	}
	return nil
}
