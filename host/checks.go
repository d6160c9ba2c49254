package host

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Backends.
const (
	SNP  = "snp"  // the AMD Secure Processor of this machine
	Sim  = "sim"  // the software SNP host
	Auto = "auto" // whichever this machine is for
)

// hardware reports whether this machine is meant to run SNP guests: /dev/sev
// is there, or the processor has SNP. Inside a VM the processor's word does
// not count: an SNP guest's CPUID says SNP as well.
func (m *Machine) hardware() bool {
	return m.SEV.Present || m.CPU.SEV.SNP && !m.CPU.VM
}

// answers reports that a Secure Processor and KVM say that they launch SNP guests,
// whatever CPUID says: under the software SNP host it says what this machine is.
func (m *Machine) answers() bool {
	return m.Platform.Known && m.Platform.SNPInit && m.Offers.Known && m.Offers.SNP
}

// check judges what was found. Without SNP hardware, what the snp backend
// lacks does not apply, unless strict. Where the processor itself
// fails, what else is missing needs no remedy: there is none.
func (m *Machine) check(strict bool) []Check {
	checks := slices.Concat(m.processorChecks(), m.biosChecks(), m.firmwareChecks(), m.kernelChecks(), m.deviceChecks(), m.softwareHostChecks())
	for i := range checks {
		c := &checks[i]
		moot := !strict || i > 0 && checks[0].Verdict == Obstacle
		if c.Backend == SNP && moot && c.Verdict != OK {
			c.Verdict, c.Remedy = NotApplicable, ""
		}
	}
	return checks
}

func (m *Machine) processorChecks() []Check {
	s := m.CPU.SEV
	checks := []Check{m.checkCPU()}
	for _, f := range []struct {
		id, name, remedy string
		has              bool
		lack             Verdict
	}{
		{"cpu-sme", "SME", "use an EPYC processor", s.SME, Warning},
		{"cpu-sev", "SEV", "use an EPYC processor", s.SEV, Obstacle},
		{"cpu-sev-es", "SEV-ES", "use an EPYC of the second generation (Rome) or newer", s.SEVES, Obstacle},
		{"cpu-vmpl", "privilege levels (VMPL)", "use an EPYC of the third generation (Milan) or newer; only SVSMs need them", s.VMPL, Warning},
	} {
		c := Check{ID: f.id, Category: Processor, Name: f.name, Backend: SNP, Verdict: OK, Reason: "in CPUID 0x8000001f"}
		switch {
		case f.has:
		case m.answers():
			c.Verdict, c.Reason = NotApplicable, "not in CPUID, and the Secure Processor answers all the same"
		default:
			c.Verdict, c.Reason, c.Remedy = f.lack, "not in CPUID 0x8000001f", f.remedy
		}
		checks = append(checks, c)
	}
	checks[len(checks)-1].Reason += map[bool]string{true: fmt.Sprintf(", %d levels", s.VMPLs)}[s.VMPL]
	secureTSC := Check{ID: "cpu-secure-tsc", Category: Processor, Name: "Secure TSC", Backend: SNP, Verdict: OK, Reason: "in CPUID 0x8000001f"}
	if !s.SecureTSC {
		secureTSC.Verdict, secureTSC.Reason = NotApplicable, "not in CPUID 0x8000001f: guests cannot ask for it"
	}
	bits := Check{ID: "phys-bits", Category: Processor, Name: "address bits taken", Backend: SNP, Verdict: OK, Reason: fmt.Sprintf("%d while memory encryption is on", s.PhysAddrBits)}
	if s.PhysAddrBits == 0 {
		bits.Verdict, bits.Reason = NotApplicable, "none"
	}
	return append(checks, secureTSC, m.checkCBit(), bits, m.checkASIDs(), m.checkFreeASIDs(), m.checkSMT())
}

func (m *Machine) checkCPU() Check {
	c := Check{ID: "cpu", Category: Processor, Name: "processor", Backend: SNP, Verdict: OK, Reason: m.CPU.describe()}
	switch {
	case m.CPU.SEV.SNP && m.CPU.VM && !m.SEV.Present:
		c.Verdict = Obstacle
		c.Reason += "; this is itself an SNP guest"
		c.Remedy = "run on the host, or use the software SNP host"
	case m.CPU.SEV.SNP:
	case m.answers():
		c.Reason += "; the Secure Processor answers all the same, as under the software SNP host"
	case m.CPU.Vendor == "AuthenticAMD" && !m.CPU.VM:
		c.Verdict = Obstacle
		c.Remedy = "use an EPYC of the third generation (Milan) or newer, with SMEE and SEV-SNP support on in the BIOS"
	default:
		c.Verdict = Obstacle
		c.Remedy = "use an EPYC of the third generation (Milan) or newer, not inside a VM"
	}
	return c
}

// describe gives the processor in words.
func (c CPU) describe() string {
	name := c.ModelName
	if name == "" {
		name = "unknown model"
	}
	var has []string
	for _, f := range []struct {
		on   bool
		name string
	}{{c.SEV.SEV, "SEV"}, {c.SEV.SEVES, "SEV-ES"}, {c.SEV.SNP, "SEV-SNP"}} {
		if f.on {
			has = append(has, f.name)
		}
	}
	if has == nil {
		has = []string{"no SEV"}
	}
	where := ""
	if c.VM {
		where = ", inside a VM"
	}
	return fmt.Sprintf("%s %s (family %d, model %d, stepping %d), %s%s", c.Vendor, name, c.Family, c.Model, c.Stepping, strings.Join(has, " "), where)
}

func (m *Machine) checkCBit() Check {
	return Check{ID: "cbit", Category: Processor, Name: "C-bit position", Verdict: OK, Reason: fmt.Sprint(m.CBitPos)}
}

func (m *Machine) checkASIDs() Check {
	c := Check{ID: "asids", Category: Processor, Name: "ASIDs for SEV-ES and SNP", Backend: SNP, Verdict: OK,
		Reason: fmt.Sprintf("%d of %d", m.CPU.SEV.SNPGuestASIDs, m.CPU.SEV.EncryptedVMs)}
	if m.CPU.SEV.SNPGuestASIDs == 0 && !m.answers() {
		c.Verdict = Obstacle
		c.Remedy = "set \"SEV-ES ASID space limit\" in the BIOS to more than 1"
	} else if m.CPU.SEV.SNPGuestASIDs == 0 {
		c.Verdict, c.Reason = NotApplicable, "not in CPUID"
	}
	return c
}

func (m *Machine) checkFreeASIDs() Check {
	c := Check{ID: "asids-free", Category: Processor, Name: "free ASIDs", Backend: SNP, Verdict: OK}
	a := m.ASIDs
	switch {
	case !a.Known:
		c.Verdict, c.Reason = Unknown, "no sev_es in /sys/fs/cgroup/misc.capacity"
	case a.Used < 0:
		c.Reason = fmt.Sprintf("%d in all; how many are in use is not told", a.Capacity)
	case a.Used >= a.Capacity:
		c.Verdict, c.Reason = Obstacle, fmt.Sprintf("all %d are in use", a.Capacity)
		c.Remedy = "stop another SNP or SEV-ES guest, or raise \"SEV-ES ASID space limit\" in the BIOS"
	default:
		c.Reason = fmt.Sprintf("%d of %d", a.Capacity-a.Used, a.Capacity)
	}
	return c
}

func (m *Machine) checkSMT() Check {
	c := Check{ID: "smt", Category: Processor, Name: "SMT", Verdict: OK, Reason: "off: a guest policy may forbid it"}
	if m.SMT {
		c.Reason = "on: a guest policy must allow it (bit 16)"
	}
	return c
}

// The supervisor answers open with SECCOMP_ADDFD_FLAG_SEND, which came with
// Linux 5.14.
func (m *Machine) checkKernel() Check {
	c := Check{ID: "kernel", Name: "Kernel", Backend: Sim, Verdict: OK, Reason: "Linux " + m.Kernel.Release}
	switch {
	case m.Kernel.Major == 0:
		c.Verdict, c.Reason = Warning, fmt.Sprintf("unknown release %q", m.Kernel.Release)
		c.Remedy = "use Linux 5.14 or newer, with /proc mounted"
	case !m.Kernel.AtLeast(5, 14):
		c.Verdict = Obstacle
		c.Remedy = "use Linux 5.14 or newer"
	}
	return c
}

func (m *Machine) checkArchitecture() Check {
	return architecture(runtime.GOOS, runtime.GOARCH)
}

func architecture(goos, goarch string) Check {
	c := Check{ID: "architecture", Name: "Architecture", Backend: Sim, Verdict: OK, Reason: goos + "/" + goarch}
	if c.Reason != "linux/amd64" {
		c.Verdict = Obstacle
		c.Remedy = "use Linux on x86-64: QEMU takes -accel kvm for an x86 guest nowhere else"
	}
	return c
}

func (m *Machine) checkUserNotif() Check {
	c := Check{ID: "seccomp-notify", Name: "Seccomp user notification", Backend: Sim, Verdict: OK, Reason: "available"}
	if !m.Kernel.UserNotif {
		c.Verdict, c.Reason = Obstacle, "not among the actions in /proc/sys/kernel/seccomp/actions_avail"
		c.Remedy = "use a kernel with CONFIG_SECCOMP_FILTER=y, and a sandbox that shows its /proc/sys"
	}
	return c
}

func (m *Machine) checkFilters() Check {
	c := Check{ID: "seccomp-filters", Name: "Seccomp filters", Backend: Sim, Verdict: OK, Reason: "none on this process"}
	switch m.Process.Seccomp {
	case 0:
	case 2:
		c.Verdict, c.Reason = Warning, fmt.Sprintf("%d on this process, as in a container", max(m.Process.SeccompFilters, 1))
		c.Remedy = "if the software SNP host then fails, start the container with --security-opt seccomp=unconfined: the filter may forbid seccomp or process_vm_readv, or have a listener already"
	default:
		c.Verdict, c.Reason = Obstacle, fmt.Sprintf("mode %d on this process", m.Process.Seccomp)
		c.Remedy = "run outside that sandbox"
	}
	return c
}

// process_vm_readv asks for permission to attach, which Yama restricts
// (Documentation/admin-guide/LSM/Yama.rst). The supervisor is QEMU's parent,
// so that mode 1 does no harm.
func (m *Machine) checkPtrace() Check {
	c := Check{ID: "ptrace", Name: "Access to QEMU's memory", Backend: Sim, Verdict: OK}
	scope := m.Kernel.PtraceScope
	switch {
	case scope < 0:
		c.Reason = "not restricted by Yama"
	case scope < 2:
		c.Reason = fmt.Sprintf("kernel.yama.ptrace_scope=%d lets a parent read its child", scope)
	case scope == 2 && m.Process.CapSysPtrace:
		c.Reason = "kernel.yama.ptrace_scope=2, and this process has CAP_SYS_PTRACE"
	case scope == 2:
		c.Verdict, c.Reason = Obstacle, "kernel.yama.ptrace_scope=2 lets only CAP_SYS_PTRACE read another process"
		c.Remedy = "run sysctl kernel.yama.ptrace_scope=1 as root, or run with CAP_SYS_PTRACE"
	default:
		c.Verdict, c.Reason = Obstacle, fmt.Sprintf("kernel.yama.ptrace_scope=%d lets nobody read another process", scope)
		c.Remedy = "set kernel.yama.ptrace_scope to 1 in /etc/sysctl.d and restart the machine"
	}
	return c
}

func (m *Machine) softwareHostChecks() []Check {
	checks := []Check{m.checkKernel(), m.checkArchitecture(), m.checkUserNotif(), m.checkFilters(), m.checkPtrace()}
	for i := range checks {
		checks[i].Category = SoftwareHost
	}
	return checks
}

// ChecksFor are the checks as they are for a backend, whether or not this machine is
// meant for it.
func (m *Machine) ChecksFor(backend string) []Check { return m.check(backend == SNP) }

// Obstacles are the obstacles to a backend, whether or not this
// machine is meant for it.
func (m *Machine) Obstacles(backend string) []Check {
	return slices.DeleteFunc(m.check(true), func(c Check) bool {
		return c.Backend != backend || c.Verdict != Obstacle
	})
}
