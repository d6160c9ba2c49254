package host

import "strings"

// Verdict is what a check means for the use of this machine.
type Verdict string

const (
	OK            Verdict = "ok"
	Warning       Verdict = "warning"        // may be in the way
	Obstacle      Verdict = "obstacle"       // is in the way of Check.Backend
	NotApplicable Verdict = "not applicable" // says nothing on this machine
	Unknown       Verdict = "unknown"        // could not be looked at
)

// Category is what a check is about.
type Category string

const (
	Processor    Category = "processor"     // what CPUID and its registers say
	BIOS         Category = "bios"          // what the BIOS and the kernel's start have left
	Firmware     Category = "firmware"      // of the Secure Processor
	KernelSide   Category = "kernel"        // Linux and KVM
	Devices      Category = "devices"       // device files and limits
	SoftwareHost Category = "software host" // what the software SNP host needs
	Parts        Category = "parts"         // QEMU, firmware image, kernel, initramfs
	Launch       Category = "launch"        // of one guest
)

// Check is one thing that was looked at.
type Check struct {
	ID       string   `json:"id"` // does not change, e.g. "sev-device"
	Category Category `json:"category"`
	Name     string   `json:"name"`              // for people, e.g. "/dev/sev"
	Backend  string   `json:"backend,omitempty"` // the backend that it matters to; empty: to any
	Verdict  Verdict  `json:"verdict"`
	Reason   string   `json:"reason"`           // what is there
	Remedy   string   `json:"remedy,omitempty"` // what to do; always with Warning and Obstacle, and never with OK
}

// ObstacleError reports that something cannot work on this machine.
type ObstacleError struct {
	Backend string  // "snp" or "sim"; empty: the launch of one guest
	Checks  []Check // the obstacles
}

func (e *ObstacleError) Error() string {
	var b strings.Builder
	if e.Backend != "" {
		b.WriteString("backend " + e.Backend + " cannot work on this machine: ")
	} else {
		b.WriteString("this launch cannot work: ")
	}
	for i, c := range e.Checks {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.Name + ": " + c.Reason + " (" + c.Remedy + ")")
	}
	return b.String()
}

// Worst is the gravest of some verdicts: Obstacle, Warning, or OK for the others.
func Worst(checks []Check) Verdict {
	worst := OK
	for _, c := range checks {
		switch {
		case c.Verdict == Obstacle:
			return Obstacle
		case c.Verdict == Warning:
			worst = Warning
		}
	}
	return worst
}
