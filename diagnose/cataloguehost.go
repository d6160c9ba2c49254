package diagnose

import "strconv"

const (
	svmSEV  = "Linux arch/x86/virt/svm/sev.c"
	ccpSEV  = "Linux drivers/crypto/ccp/sev-dev.c"
	amdVi   = "Linux drivers/iommu/amd/init.c"
	restart = "then shut the machine down and cut its power for a moment rather than only restart it"
)

// aboutSNP is what a log says that has to do with SNP at all: on other machines the
// same line means nothing.
var aboutSNP = expression(`SEV-SNP|SNP_LAUNCH|sev-snp-guest|kvm_amd\.sev_snp|sev_snp=`)

// hostMessages explains lines of a host's kernel log and of tools that look at a host.
var hostMessages = []messageEntry{
	// The BIOS and the reverse map table (RMP).
	{
		id: "rmp-not-reserved", rank: rankRoot, re: expression(`SEV-SNP: Memory for the RMP table has not been reserved by BIOS`),
		cause:     "The BIOS has set no memory aside for the reverse map table (RMP), so that this host has no SNP.",
		advice:    "In the BIOS turn on SMEE, SNP memory coverage (RMP table) and, under NBIO, SEV-SNP support, with a newer BIOS where one of them is missing.",
		reference: svmSEV + "; " + threads + "68, 197",
	},
	{
		id: "rmp-coverage", rank: rankRoot, re: expression(`Memory reserved for the RMP table does not cover full system RAM(?: \(expected (\S+) got (\S+)\))?`),
		cause:     "The reverse map table (RMP) that the BIOS reserved is too small for this machine's memory, which Linux accepted by mistake in early SNP kernels and refuses since.",
		advice:    "Set the BIOS's SNP memory coverage to all memory (\"Enabled\", not \"Custom\").",
		reference: svmSEV + ", snp_rmptable_init; " + threads + "226",
	},
	{
		id: "snp-off-in-msr", rank: rankRoot, re: expression(`SNP: Disabled in MSR`),
		cause:     "The SNP bit of the processor's SYSCFG register is clear: the kernel gave SNP up while it started, as it does when the reverse map table covers less than all memory.",
		advice:    "Set the BIOS's SNP memory coverage to all memory (\"Enabled\", not \"Custom\"), and see the host's kernel log for SEV-SNP.",
		reference: svmSEV + "; " + threads + "226",
	},

	// The IOMMU.
	{
		id: "iommu-passthrough", rank: rankRoot, re: expression(`AMD-Vi: (?:SEV-)?SNP: IOMMU (?:is )?(?:either )?disabled or configured in passthrough mode`),
		cause:     "The IOMMU is off or passes devices through, and the kernel gives SNP up without it.",
		advice:    "Remove iommu=pt, iommu=off and amd_iommu=off from the kernel's command line, and turn the IOMMU on in the BIOS.",
		reference: amdVi + ", iommu_snp_enable; " + threads + "88, 113",
	},
	{
		id: "iommu-no-snp", rank: rankRoot, re: expression(`AMD-Vi: SNP: IOMMU SNP feature not enabled`),
		cause:     "The IOMMU says that it does not support SNP (SNPSup of its extended features).",
		advice:    "Turn on SEV-SNP support under NBIO in the BIOS, with a newer BIOS where it is missing.",
		reference: amdVi + ", iommu_snp_enable; " + threads + "155",
	},
	{
		id: "iommu-no-snp", rank: rankRoot, re: expression(`AMD-Vi: Using global IVHD EFR:(0x[0-9a-f]{1,16})`), and: aboutSNP,
		when: func(g []string) bool {
			efr, err := strconv.ParseUint(g[1], 0, 64)
			return err == nil && efr>>63 == 0
		},
		cause:     "The IOMMU's extended features $1 lack SNPSup (bit 63), without which the kernel gives SNP up in silence.",
		advice:    "Turn on SEV-SNP support under NBIO in the BIOS, with a newer BIOS where it is missing.",
		reference: "AMD 48882, MMIO offset 0x30; " + amdVi + "; " + threads + "155",
	},

	// The Secure Processor's firmware.
	{
		id: "firmware-version", rank: rankRoot, re: expression(`SEV-SNP support requires firmware version >= (\d+):(\d+)`),
		cause:     "The SEV firmware is older than $1.$2, the first that the kernel takes for SNP.",
		advice:    "Put the processor's newest firmware file into /lib/firmware/amd, or update the BIOS, and load ccp anew.",
		reference: ccpSEV + "; https://github.com/AMDESE/linux-svsm/issues/9",
	},
	{
		id: "snp-init-config", rank: rankRoot, re: expression(`SEV-SNP: failed to INIT(?:_EX)? rc -?\d+, error 0x3\b`),
		cause:     "The SEV firmware refused to initialise SNP because of how the platform is set up (INVALID_CONFIG): SMT forced off by the kernel's command line, or BIOS settings (RMP, TSME) that do not go together.",
		advice:    "Remove nosmt from the kernel's command line, update SEV firmware and BIOS, " + restart + ".",
		reference: "AMD 56860, SNP_INIT; " + threads + "154, 107, 176, 189",
	},
	{
		id: "snp-init", rank: rankRoot, re: expression(`SEV-SNP: failed to INIT(?:_EX)? rc (-?\d+), error (0x[0-9a-f]+)`),
		cause:     "The SEV firmware refused to initialise SNP, with status $2 (the driver's return value is $1).",
		advice:    "Update SEV firmware and BIOS, check the BIOS's SNP settings, " + restart + ".",
		reference: "AMD 56860, SNP_INIT; " + threads + "154",
	},
	{
		id: "sev-init-wbinvd", rank: rankRoot, re: expression(`SEV: failed to INIT(?:_EX)? error 0xe\b`),
		cause:     "The SEV firmware wants caches written back before it starts (WBINVD_REQUIRED), which the kernel has done: BIOS and SEV firmware do not go together.",
		advice:    "Install the newest SEV firmware for this processor, and a BIOS of the same age.",
		reference: ccpSEV + "; " + threads + "202",
	},
	{
		id: "sev-init", rank: rankConsequence, re: expression(`SEV: failed to INIT(?:_EX)? error (0x[0-9a-f]+), rc (-?\d+)`),
		cause:     "The SEV firmware did not initialise (status $1); where SNP failed before, that is why.",
		advice:    "Look at what the kernel log says of SEV-SNP before this line, and update SEV firmware and BIOS.",
		reference: ccpSEV + "; " + threads + "154",
	},
	{
		id: "init-0x9003", rank: rankRoot, re: expression(`\b(?:error|rc|ret)[ :=]{0,2}0x9003\b`), and: aboutSNP,
		cause:     "The firmware of this machine refuses SNP with 0x9003, as it was seen on rented bare metal whose owner had not opened SNP.",
		advice:    "Ask whoever runs the hardware: nothing that is installed on the machine changes it.",
		reference: threads + "181",
	},

	// KVM.
	{
		id: "no-es-asids", rank: rankRoot, re: expression(`SEV-(?:ES|SNP) (?:disabled|unusable) \(ASIDs 0 - (?:0|4294967295)\)`),
		cause:     "The BIOS gives every ASID to plain SEV guests, so that none is left for SEV-ES and SNP.",
		advice:    "Set \"SEV-ES ASID space limit\" in the BIOS to more than 1, such as 100.",
		reference: kvmSEV + ", sev_hardware_setup; " + threads + "258, 33, 137",
	},
	{
		id: "no-es-asids", rank: rankRoot, re: expression(`SEV supported: (\d+) ASIDs`), unless: expression(`SEV-(?:ES|SNP) (?:supported: [1-9]|enabled)`),
		cause:     "KVM found $1 ASIDs for SEV and says nothing of SEV-ES or SNP: the BIOS gives every ASID to plain SEV guests.",
		advice:    "Set \"SEV-ES ASID space limit\" in the BIOS to more than 1, such as 100.",
		reference: kvmSEV + ", sev_hardware_setup; " + threads + "258, 33, 137",
	},
	{
		id: "kvm-snp-disabled", rank: rankConsequence, re: expression(`kvm_amd: SEV-SNP disabled \(ASIDs \d+ - \d+\)`),
		cause:     "KVM has ASIDs for SNP guests and offers none: SNP was given up before, or kvm_amd was loaded with sev_snp=0.",
		advice:    "Look at what the kernel log says of SEV-SNP, AMD-Vi and ccp before this line, and at the options of kvm_amd in /etc/modprobe.d.",
		reference: kvmSEV + ", sev_hardware_setup",
	},
	{
		id: "kvm-no-private-memory", rank: rankRoot, re: expression(`kvm_amd: SEV-SNP requires private memory support via guest_memfd`),
		cause:     "The guest's memory is not backed by guest_memfd: the host's kernel was built without CONFIG_KVM_PRIVATE_MEM, or QEMU is too old to use it.",
		advice:    "Use a host kernel with CONFIG_KVM_AMD_SEV=y and CONFIG_KVM_PRIVATE_MEM=y, and QEMU 9.1 or newer.",
		reference: "https://github.com/coconut-svsm/svsm/issues/409",
	},
	{
		id: "kvm-no-restricted-memory", rank: rankRoot, re: expression(`kvm_amd: SEV-SNP requires restricted memory`),
		cause:     "The host runs an SNP development kernel from before guest_memfd, which wants its own kind of memory backend, and QEMU gave ordinary memory.",
		advice:    "Use Linux 6.11 or newer with QEMU 9.1 or newer, or the memory backend and the QEMU of that very tree.",
		reference: threads + "166; https://github.com/kata-containers/kata-containers/issues/9092, 8783",
	},
	{
		id: "launch-finished-twice", rank: rankRoot, re: expression(`sev_es_sync_vmsa(?:\+0x[0-9a-f]+)?`), exact: true, and: expression(`RMP violation`),
		cause:     "The host's kernel wrote to a save area that the guest already owned: SNP_LAUNCH_FINISH or SNP_LAUNCH_UPDATE was issued again after the launch had finished, which kernels up to 6.18 do not refuse.",
		advice:    "Make a new VM for each attempt and never repeat SNP_LAUNCH_FINISH on one, and update the host's kernel.",
		reference: "https://lkml.iu.edu/hypermail/linux/kernel/2602.3/03780.html",
	},
	{
		id: "rmp-update", rank: rankRoot, re: expression(`sev_gmem_prepare(?:\+0x[0-9a-f]+)?`), exact: true, and: expression(`\b(?:rmpupdate|rmp_make_private)\b`),
		cause:     "The host's kernel failed to hand a page to the guest in the reverse map table (a bug of Linux 6.11 with huge pages), and the guest dies at a random moment.",
		advice:    "Use a newer host kernel.",
		reference: threads + "245, 264",
	},

	// Tools.
	{
		id: "msr-module", rank: rankHarmless, re: expression(`MSR read failed: Error Reading MSR`),
		cause:     "The checker could not read a processor register because the module msr is not loaded, which says nothing about SNP.",
		advice:    "Run modprobe msr and check again.",
		reference: threads + "238; https://github.com/amd/sev-utils/issues/20",
	},
	{
		id: "parallel-start", re: expression(`SNP Launcher start failed: Platform configuration invalid`),
		cause:     "The firmware refused to start a guest because of the platform's state, as it was seen now and then when several guests are launched at once.",
		advice:    "Launch one guest after another, and update the host's kernel and SEV firmware.",
		reference: "https://github.com/enarx/enarx/issues/1545",
		likely:    true,
	},
}
