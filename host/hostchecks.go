package host

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/diagnose"
	"github.com/snplaunch/snplaunch/snp"
)

// rootOnly is what to type where only root may look.
const rootOnly = "run doctor as root to have it looked at"

// biosChecks look at what the BIOS has set up, in the processor's registers and in
// the kernel's log of its own start.
func (m *Machine) biosChecks() []Check {
	sme := Check{ID: "syscfg-sme", Category: BIOS, Name: "memory encryption (SYSCFG bit 23)", Backend: SNP, Verdict: OK, Reason: "on"}
	paging := Check{ID: "syscfg-snp", Category: BIOS, Name: "SNP (SYSCFG bit 24)", Backend: SNP, Verdict: OK, Reason: "on"}
	rmp := Check{ID: "rmp", Category: BIOS, Name: "reverse map table (RMP)", Backend: SNP, Verdict: OK}
	r := m.Registers
	switch {
	case !r.Known:
		remedy := rootOnly
		if strings.Contains(r.Error, "no such file") {
			remedy = "run modprobe msr as root to have it looked at"
		}
		for _, c := range []*Check{&sme, &paging, &rmp} {
			c.Verdict, c.Reason, c.Remedy = Unknown, "/dev/cpu/0/msr: "+r.Error, remedy
		}
	default:
		if r.SYSCFG&syscfgMemEncryption == 0 {
			sme.Verdict, sme.Reason, sme.Remedy = Obstacle, "off", "turn on SMEE (or \"SEV support\") in the BIOS"
		}
		if r.SYSCFG&syscfgSNP == 0 {
			paging.Verdict, paging.Reason = Obstacle, "off: the kernel has given SNP up, or the BIOS has it off"
			paging.Remedy = "turn on SEV-SNP and full RMP coverage in the BIOS, and see the kernel log for SEV-SNP"
		}
		switch {
		case r.SegmentedRMP:
			rmp.Reason = "in segments"
		case r.RMPEnd > r.RMPBase && r.RMPBase != 0:
			rmp.Reason = fmt.Sprintf("0x%x-0x%x (%d MiB)", r.RMPBase, r.RMPEnd, (r.RMPEnd-r.RMPBase+1)>>20)
		default:
			rmp.Verdict, rmp.Reason = Obstacle, "the BIOS has reserved none"
			rmp.Remedy = "turn on SNP memory coverage (RMP table) in the BIOS, for all memory"
		}
	}
	return []Check{sme, paging, rmp, m.checkKernelLog(), m.checkIOMMU(), m.checkIOMMUFeatures()}
}

// checkKernelLog lets the failure catalogue read the kernel's log: why SNP was given up
// stands nowhere else.
func (m *Machine) checkKernelLog() Check {
	c := Check{ID: "kernel-log", Category: BIOS, Name: "kernel log", Backend: SNP, Verdict: OK, Reason: "tells of no failure of SNP"}
	if m.kernelLogErr != nil {
		c.Verdict, c.Reason = Unknown, "/dev/kmsg: "+reasonOf(m.kernelLogErr)
		c.Remedy = "run doctor as root, or give `dmesg` to `snplaunch diagnose --log -`"
		return c
	}
	found, err := diagnose.ReadLog(bytes.NewReader(m.kernelLog))
	if err != nil || len(found) == 0 {
		return c
	}
	f := found[0]
	c.Verdict, c.Reason, c.Remedy = Warning, fmt.Sprintf("%q: %s", f.Message, strings.TrimSuffix(f.Cause, ".")), strings.TrimSuffix(f.Advice, ".")
	if f.Root && m.Kernel.SNPParam != "Y" {
		c.Verdict = Obstacle
	}
	return c
}

// The kernel refuses SNP with the IOMMU off or in pass-through mode
// (drivers/iommu/amd/init.c, iommu_snp_enable; parameters in
// Documentation/admin-guide/kernel-parameters.txt).
func (m *Machine) checkIOMMU() Check {
	c := Check{ID: "iommu", Category: BIOS, Name: "IOMMU", Backend: SNP, Verdict: OK, Reason: "not turned off or passed through on the kernel's command line"}
	for _, arg := range strings.Fields(m.Kernel.CmdLine) {
		switch arg {
		case "iommu=pt", "iommu=off", "amd_iommu=off", "iommu.passthrough=1", "iommu.passthrough=on":
			c.Verdict, c.Reason = Warning, arg+" on the kernel's command line"
			c.Remedy = "remove " + arg + ": SNP needs the IOMMU to translate"
			return c
		}
	}
	switch {
	case m.IOMMU.PassThrough:
		c.Verdict, c.Reason = Warning, "passes devices through (the first group of /sys/kernel/iommu_groups is of type identity)"
		c.Remedy = "boot with iommu.passthrough=0, or a kernel without CONFIG_IOMMU_DEFAULT_PASSTHROUGH: SNP needs the IOMMU to translate"
	case m.IOMMU.Present:
		c.Reason = "on, and translates"
	}
	return c
}

func (m *Machine) checkIOMMUFeatures() Check {
	c := Check{ID: "iommu-snp", Category: BIOS, Name: "IOMMU's SNPSup (EFR bit 63)", Backend: SNP, Verdict: OK}
	switch {
	case !m.IOMMU.FeaturesKnown:
		c.Verdict, c.Reason = Unknown, "no amd-iommu/features under /sys/class/iommu"
		if m.SEV.Present {
			c.Remedy = "turn the IOMMU on in the BIOS if the kernel log has no line of AMD-Vi"
		}
	case m.IOMMU.Features&efrSNPSup == 0:
		c.Verdict, c.Reason = Obstacle, fmt.Sprintf("clear (EFR 0x%x)", m.IOMMU.Features)
		c.Remedy = "turn on SEV-SNP support under NBIO in the BIOS, with a newer BIOS where it is missing"
	default:
		c.Reason = fmt.Sprintf("set (EFR 0x%x)", m.IOMMU.Features)
	}
	return c
}

// oldestFirmware is the first SEV firmware that Linux takes for SNP.
const oldestFirmware = 1<<8 | 51

// firmwareChecks ask the Secure Processor.
func (m *Machine) firmwareChecks() []Check {
	version := Check{ID: "sev-firmware", Category: Firmware, Name: "SEV firmware", Backend: SNP, Verdict: OK}
	state := Check{ID: "sev-state", Category: Firmware, Name: "SEV firmware's state", Backend: SNP, Verdict: OK}
	rmp := Check{ID: "sev-rmp", Category: Firmware, Name: "RMP, by the firmware", Backend: SNP, Verdict: OK, Reason: "initialised"}
	tcb := Check{ID: "sev-tcb", Category: Firmware, Name: "TCB", Backend: SNP, Verdict: OK}
	alias := Check{ID: "sev-alias", Category: Firmware, Name: "memory alias check", Backend: SNP, Verdict: OK, Reason: "complete"}
	all := []*Check{&version, &state, &rmp, &tcb, &alias}
	p := m.Platform
	if !p.Known {
		for _, c := range all {
			c.Verdict, c.Reason = Unknown, "the firmware cannot be asked: "+p.Error
		}
		return []Check{version, state, rmp, tcb, alias}
	}
	version.Reason = p.Version()
	if p.API() < oldestFirmware {
		version.Verdict = Obstacle
		version.Remedy = "put the processor's newest firmware file into /lib/firmware/amd, or update the BIOS, and load ccp anew; SNP wants 1.51"
	}
	state.Reason = fmt.Sprintf("initialised for SNP, %d guests", p.Guests)
	if !p.SNPInit {
		state.Verdict, state.Reason = Obstacle, "not initialised for SNP"
		state.Remedy = "see the kernel log for ccp and SEV-SNP, repair what it says, and load kvm_amd and ccp anew or restart"
	}
	if !p.RMPInit {
		rmp.Verdict, rmp.Reason = Obstacle, "not initialised"
		rmp.Remedy = "see the kernel log for SEV-SNP: the reverse map table was not set up"
	}
	if !p.AliasCheck {
		alias.Verdict, alias.Reason = Unknown, "not reported as complete; firmware before its fix for CVE-2024-21944 does not tell"
		alias.Remedy = "update the BIOS and the SEV firmware where untrusted people can reach the memory modules"
	}
	layout := snp.TCBLayoutMilan
	if m.CPU.Family >= 0x1A {
		layout = snp.TCBLayoutTurin
	}
	tcb.Reason = fmt.Sprintf("reports are signed for %s, which is what runs", p.ReportedTCB)
	if p.ReportedTCB != p.CurrentTCB {
		tcb.Reason = fmt.Sprintf("reports are signed for %s, and %s runs", p.ReportedTCB, p.CurrentTCB)
		if !layout.Unpack(p.ReportedTCB).AtMost(layout.Unpack(p.CurrentTCB)) {
			tcb.Verdict, tcb.Remedy = Warning, "the reported TCB is above what runs: restart, or set it with `snphost config set`"
		} else {
			tcb.Verdict, tcb.Remedy = Warning, "verifiers see the older TCB; once certificates for the newer are there, run `snphost config reset` and `snphost commit`"
		}
	}
	return []Check{version, state, rmp, tcb, alias}
}

// kernelChecks look at Linux and at KVM.
func (m *Machine) kernelChecks() []Check {
	k := m.Kernel
	version := Check{ID: "kernel-snp", Category: KernelSide, Name: "Linux with SNP hosts", Backend: SNP, Verdict: OK, Reason: "Linux " + k.Release}
	switch {
	case m.answers():
	case k.Major == 0:
		version.Verdict, version.Reason = Unknown, fmt.Sprintf("unknown release %q", k.Release)
	case !k.AtLeast(6, 11) && k.SNPParam != "":
		version.Verdict, version.Remedy = Warning, "use Linux 6.11 or newer: development trees of SNP have other ioctls than QEMU's"
		version.Reason += ", and yet kvm_amd knows SNP: a development tree"
	case !k.AtLeast(6, 11):
		version.Verdict, version.Remedy = Obstacle, "use Linux 6.11 or newer with CONFIG_KVM_AMD_SEV=y"
	}
	checks := []Check{version, m.checkConfig(), m.checkKVMAMD()}
	for _, p := range []struct{ id, name, value string }{{"kvm-amd-sev", "sev", k.SEVParam}, {"kvm-amd-sev-es", "sev_es", k.SEVESParam}} {
		c := Check{ID: p.id, Category: KernelSide, Name: "kvm_amd." + p.name, Backend: SNP, Verdict: OK, Reason: p.value}
		switch p.value {
		case "Y", "1":
		case "":
			c.Verdict, c.Reason = Unknown, "kvm_amd shows no such parameter"
		default:
			c.Verdict, c.Remedy = Obstacle, "load kvm_amd with "+p.name+"=1, and look for an option that says otherwise in /etc/modprobe.d"
		}
		checks = append(checks, c)
	}
	return append(checks, m.checkDebugSwap(), m.checkVMType(), m.checkGuestMemfd())
}

func (m *Machine) checkConfig() Check {
	c := Check{ID: "kernel-config", Category: KernelSide, Name: "kernel configuration", Backend: SNP, Verdict: OK}
	k := m.Config
	if k.Path == "" {
		c.Verdict, c.Reason = Unknown, "neither /proc/config.gz nor /boot/config-"+m.Kernel.Release+" can be read"
		return c
	}
	if m.answers() {
		c.Reason = "KVM offers what it is for (" + k.Path + ")"
		return c
	}
	var lacks []string
	for _, option := range []string{"CONFIG_KVM_AMD", "CONFIG_KVM_AMD_SEV", "CONFIG_CRYPTO_DEV_SP_PSP", "CONFIG_AMD_IOMMU"} {
		if !k.has(option) {
			lacks = append(lacks, option)
		}
	}
	if !k.has("CONFIG_KVM_PRIVATE_MEM") && !k.has("CONFIG_KVM_GUEST_MEMFD") {
		lacks = append(lacks, "CONFIG_KVM_PRIVATE_MEM (CONFIG_KVM_GUEST_MEMFD since 6.17)")
	}
	c.Reason = "has what SNP hosts need (" + k.Path + ")"
	if lacks != nil {
		c.Verdict, c.Reason = Obstacle, "lacks "+strings.Join(lacks, ", ")+" ("+k.Path+")"
		c.Remedy = "use a kernel with them, as distributions' own are from Linux 6.11 on"
	}
	return c
}

func (m *Machine) checkKVMAMD() Check {
	c := Check{ID: "kvm-amd-snp", Category: KernelSide, Name: "KVM's SNP support", Backend: SNP, Verdict: Obstacle}
	k := m.Kernel
	switch {
	case k.SNPParam == "Y":
		c.Verdict, c.Reason = OK, "kvm_amd.sev_snp=Y on Linux "+k.Release
	case k.SNPParam != "":
		c.Reason = "kvm_amd.sev_snp=" + k.SNPParam
		c.Remedy = "turn on SEV-SNP and full RMP coverage in the BIOS, see the kernel log for SEV-SNP, then load kvm_amd with sev_snp=1"
	case m.answers():
		c.Verdict, c.Reason = OK, "KVM offers VMs of type SNP"
	case !k.KVMAMD:
		c.Reason = "kvm_amd is not loaded"
		c.Remedy = "load it: modprobe kvm_amd"
	default:
		c.Reason = "the kvm_amd of Linux " + k.Release + " knows no SNP"
		c.Remedy = "use Linux 6.11 or newer with CONFIG_KVM_AMD_SEV=y"
	}
	return c
}

// debug_swap put DebugSwap into every save area in kernels before KVM_SEV_INIT2
// (6.10); since then it only says what may be asked for.
func (m *Machine) checkDebugSwap() Check {
	c := Check{ID: "debug-swap", Category: KernelSide, Name: "kvm_amd.debug_swap", Backend: SNP, Verdict: OK, Reason: m.Kernel.DebugSwap}
	switch {
	case m.Kernel.DebugSwap == "":
		c.Reason = "no such parameter: it is in no save area that does not ask for it"
	case m.Kernel.DebugSwap == "Y" && m.Kernel.Major > 0 && !m.Kernel.AtLeast(6, 10):
		c.Verdict, c.Reason = Warning, "Y: DebugSwap is in every save area, and so in every launch digest"
		c.Remedy = "measure with --host-kernel amd-6.6 (guest features 0x21), or load kvm_amd with debug_swap=0"
	case m.Kernel.DebugSwap == "Y":
		c.Reason = "Y: guests may ask for it, and no launch digest has it unasked"
	}
	return c
}

func (m *Machine) checkVMType() Check {
	c := Check{ID: "kvm-vm-type", Category: KernelSide, Name: "KVM's VM type SNP", Backend: SNP, Verdict: OK, Reason: "offered"}
	switch {
	case !m.Offers.Known:
		c.Verdict, c.Reason = Unknown, "KVM cannot be asked: "+m.Offers.Error
	case !m.Offers.SNP:
		c.Verdict, c.Reason = Obstacle, "not offered"
		c.Remedy = "use Linux 6.11 or newer where kvm_amd.sev_snp is Y"
	}
	return c
}

func (m *Machine) checkGuestMemfd() Check {
	c := Check{ID: "guest-memfd", Category: KernelSide, Name: "guest_memfd", Backend: SNP, Verdict: OK, Reason: "offered"}
	switch {
	case !m.Offers.Known:
		c.Verdict, c.Reason = Unknown, "KVM cannot be asked: "+m.Offers.Error
	case !m.Offers.GuestMemfd:
		c.Verdict, c.Reason = Obstacle, "not offered"
		c.Remedy = "use Linux 6.11 or newer with CONFIG_KVM_AMD_SEV=y and CONFIG_KVM_PRIVATE_MEM=y"
	}
	return c
}

// deviceChecks look at device files and limits.
func (m *Machine) deviceChecks() []Check {
	kvm := Check{ID: "kvm-device", Category: Devices, Name: "/dev/kvm", Backend: SNP}
	kvm.judgeDevice(m.KVM, "load kvm_amd, with virtualization on in the BIOS", "join the group that owns /dev/kvm (usually kvm)")
	sev := Check{ID: "sev-device", Category: Devices, Name: "/dev/sev", Backend: SNP}
	sev.judgeDevice(m.SEV, "load ccp, and see the kernel log for ccp and SEV", "give this user read and write access to /dev/sev, with a udev rule or the container's device list")
	lock := Check{ID: "memlock", Category: Devices, Name: "locked memory", Backend: SNP, Verdict: OK, Reason: m.Process.MemLock}
	switch m.Process.MemLock {
	case "":
		lock.Verdict, lock.Reason = Unknown, "/proc/self/limits does not tell"
	case "unlimited":
	default:
		lock.Reason += " bytes; guest_memfd does not count, devices that are passed through do"
	}
	return []Check{kvm, sev, lock}
}

func (c *Check) judgeDevice(d Device, absent, forbidden string) {
	switch {
	case d.Usable:
		c.Verdict, c.Reason = OK, "opens for reading and writing"
	case !d.Present:
		c.Verdict, c.Reason, c.Remedy = Obstacle, "absent", absent
	default:
		c.Verdict, c.Reason, c.Remedy = Obstacle, d.Error, forbidden
		if d.Mode != "" {
			c.Reason += " (" + d.Mode + ")"
		}
	}
}
