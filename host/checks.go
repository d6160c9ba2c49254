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

// check judges what was found. Without SNP hardware, what the snp backend
// lacks is told but is no failure, unless strict. Where the processor itself
// fails, what else is missing needs no remedy: there is none.
func (m *Machine) check(strict bool) []Check {
	checks := []Check{
		m.checkCPU(), m.checkCBit(), m.checkASIDs(), m.checkKVM(), m.checkSEV(), m.checkKVMAMD(), m.checkIOMMU(), m.checkSMT(),
		m.checkKernel(), m.checkArchitecture(), m.checkUserNotif(), m.checkFilters(), m.checkPtrace(),
	}
	for i := range checks {
		c := &checks[i]
		moot := !strict || i > 0 && checks[0].Verdict == Fail
		if c.Backend == SNP && moot && (c.Verdict == Fail || c.Verdict == Warn) {
			c.Verdict, c.Remedy = Info, ""
		}
	}
	return checks
}

func (m *Machine) checkCPU() Check {
	c := Check{ID: "cpu", Name: "Processor", Backend: SNP, Verdict: OK, Found: m.CPU.describe()}
	switch {
	case m.CPU.SEV.SNP && m.CPU.VM && !m.SEV.Present:
		c.Verdict = Fail
		c.Found += "; this is itself an SNP guest"
		c.Remedy = "run on the host, or use the software SNP host"
	case !m.CPU.SEV.SNP && m.CPU.Vendor == "AuthenticAMD" && !m.CPU.VM:
		c.Verdict = Fail
		c.Remedy = "use an EPYC of the third generation (Milan) or newer, with SMEE and SEV-SNP support on in the BIOS"
	case !m.CPU.SEV.SNP:
		c.Verdict = Fail
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
	return Check{ID: "cbit", Name: "C-bit position", Verdict: Info, Found: fmt.Sprint(m.CBitPos)}
}

func (m *Machine) checkASIDs() Check {
	c := Check{ID: "asids", Name: "ASIDs for SEV-ES and SNP", Backend: SNP, Verdict: OK, Found: fmt.Sprint(m.CPU.SEV.SNPGuestASIDs)}
	if m.CPU.SEV.SNPGuestASIDs == 0 {
		c.Verdict = Fail
		c.Remedy = "set \"SEV-ES ASID space limit\" in the BIOS to more than 1"
	}
	return c
}

func (m *Machine) checkKVM() Check {
	c := Check{ID: "kvm-device", Name: "/dev/kvm", Backend: SNP}
	c.judgeDevice(m.KVM, "load kvm_amd, with virtualization on in the BIOS", "join the group that owns /dev/kvm (usually kvm)")
	return c
}

func (m *Machine) checkSEV() Check {
	c := Check{ID: "sev-device", Name: "/dev/sev", Backend: SNP}
	c.judgeDevice(m.SEV, "load ccp, and see the kernel log for ccp and SEV", "give this user read and write access to /dev/sev, with a udev rule or the container's device list")
	return c
}

func (c *Check) judgeDevice(d Device, absent, forbidden string) {
	switch {
	case d.Usable:
		c.Verdict, c.Found = OK, "opens for reading and writing"
	case !d.Present:
		c.Verdict, c.Found, c.Remedy = Fail, "absent", absent
	default:
		c.Verdict, c.Found, c.Remedy = Fail, d.Error, forbidden
	}
}

func (m *Machine) checkKVMAMD() Check {
	c := Check{ID: "kvm-amd-snp", Name: "KVM's SNP support", Backend: SNP, Verdict: Fail}
	k := m.Kernel
	switch {
	case k.SNPParam == "Y":
		c.Verdict, c.Found = OK, "kvm_amd.sev_snp=Y on Linux "+k.Release
	case k.SNPParam != "":
		c.Found = "kvm_amd.sev_snp=" + k.SNPParam
		c.Remedy = "turn on SEV-SNP and full RMP coverage in the BIOS, see the kernel log for SEV-SNP, then load kvm_amd with sev_snp=1"
	case !k.KVMAMD:
		c.Found = "kvm_amd is not loaded"
		c.Remedy = "load it: modprobe kvm_amd"
	default:
		c.Found = "the kvm_amd of Linux " + k.Release + " knows no SNP"
		c.Remedy = "use Linux 6.11 or newer with CONFIG_KVM_AMD_SEV=y"
	}
	return c
}

// The kernel refuses SNP with the IOMMU off or in pass-through mode
// (drivers/iommu/amd/init.c, iommu_snp_enable; parameters in
// Documentation/admin-guide/kernel-parameters.txt).
func (m *Machine) checkIOMMU() Check {
	c := Check{ID: "iommu", Name: "IOMMU", Backend: SNP, Verdict: OK, Found: "not turned off or passed through on the kernel's command line"}
	for _, arg := range strings.Fields(m.Kernel.CmdLine) {
		switch arg {
		case "iommu=pt", "iommu=off", "amd_iommu=off", "iommu.passthrough=1", "iommu.passthrough=on":
			c.Verdict, c.Found = Warn, arg+" on the kernel's command line"
			c.Remedy = "remove " + arg + ": SNP needs the IOMMU to translate"
		}
	}
	return c
}

func (m *Machine) checkSMT() Check {
	c := Check{ID: "smt", Name: "SMT", Backend: SNP, Verdict: Info, Found: "off: a guest policy may forbid it"}
	if m.SMT {
		c.Found = "on: a guest policy must allow it (bit 16)"
	}
	return c
}

// The supervisor answers open with SECCOMP_ADDFD_FLAG_SEND, which came with
// Linux 5.14.
func (m *Machine) checkKernel() Check {
	c := Check{ID: "kernel", Name: "Kernel", Backend: Sim, Verdict: OK, Found: "Linux " + m.Kernel.Release}
	switch {
	case m.Kernel.Major == 0:
		c.Verdict, c.Found = Warn, fmt.Sprintf("unknown release %q", m.Kernel.Release)
		c.Remedy = "use Linux 5.14 or newer, with /proc mounted"
	case !m.Kernel.AtLeast(5, 14):
		c.Verdict = Fail
		c.Remedy = "use Linux 5.14 or newer"
	}
	return c
}

func (m *Machine) checkArchitecture() Check {
	return architecture(runtime.GOOS, runtime.GOARCH)
}

func architecture(goos, goarch string) Check {
	c := Check{ID: "architecture", Name: "Architecture", Backend: Sim, Verdict: OK, Found: goos + "/" + goarch}
	if c.Found != "linux/amd64" {
		c.Verdict = Fail
		c.Remedy = "use Linux on x86-64: QEMU takes -accel kvm for an x86 guest nowhere else"
	}
	return c
}

func (m *Machine) checkUserNotif() Check {
	c := Check{ID: "seccomp-notify", Name: "Seccomp user notification", Backend: Sim, Verdict: OK, Found: "available"}
	if !m.Kernel.UserNotif {
		c.Verdict, c.Found = Fail, "not among the actions in /proc/sys/kernel/seccomp/actions_avail"
		c.Remedy = "use a kernel with CONFIG_SECCOMP_FILTER=y, and a sandbox that shows its /proc/sys"
	}
	return c
}

func (m *Machine) checkFilters() Check {
	c := Check{ID: "seccomp-filters", Name: "Seccomp filters", Backend: Sim, Verdict: OK, Found: "none on this process"}
	switch m.Process.Seccomp {
	case 0:
	case 2:
		c.Verdict, c.Found = Warn, fmt.Sprintf("%d on this process, as in a container", max(m.Process.SeccompFilters, 1))
		c.Remedy = "if the software SNP host then fails, start the container with --security-opt seccomp=unconfined: the filter may forbid seccomp or process_vm_readv, or have a listener already"
	default:
		c.Verdict, c.Found = Fail, fmt.Sprintf("mode %d on this process", m.Process.Seccomp)
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
		c.Found = "not restricted by Yama"
	case scope < 2:
		c.Found = fmt.Sprintf("kernel.yama.ptrace_scope=%d lets a parent read its child", scope)
	case scope == 2 && m.Process.CapSysPtrace:
		c.Found = "kernel.yama.ptrace_scope=2, and this process has CAP_SYS_PTRACE"
	case scope == 2:
		c.Verdict, c.Found = Fail, "kernel.yama.ptrace_scope=2 lets only CAP_SYS_PTRACE read another process"
		c.Remedy = "run sysctl kernel.yama.ptrace_scope=1 as root, or run with CAP_SYS_PTRACE"
	default:
		c.Verdict, c.Found = Fail, fmt.Sprintf("kernel.yama.ptrace_scope=%d lets nobody read another process", scope)
		c.Remedy = "set kernel.yama.ptrace_scope to 1 in /etc/sysctl.d and restart the machine"
	}
	return c
}

// Obstacles are the checks that fail for a backend, whether or not this
// machine is meant for it.
func (m *Machine) Obstacles(backend string) []Check {
	return slices.DeleteFunc(m.check(true), func(c Check) bool {
		return c.Backend != backend || c.Verdict != Fail
	})
}
