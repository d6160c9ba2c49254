package diagnose

// rank orders what different lines of one output say: the lower, the closer
// to the cause.
type rank int

const (
	rankRoot        rank = iota - 1 // why the host cannot, which no launch gets round
	rankFailure                     // names what failed
	rankConsequence                 // follows a failure that QEMU mostly names as well
	rankEnd                         // QEMU's last words after any failure of that phase
	rankHarmless                    // looks like a failure and is none
)

// anyValue in launchEntry means that the number does not matter.
const anyValue = 1 << 30

// launchEntry explains a launch command's return values. The first entry that
// fits counts.
type launchEntry struct {
	id        string
	command   string // empty: any
	ret, fw   int
	and       pattern // must be found elsewhere in the output; its groups fill cause and advice
	cause     string
	advice    string
	reference string
	likely    bool // the cause was inferred, not confirmed where it was reported
}

// messageEntry explains a line that carries no return values. Its groups fill
// cause and advice.
type messageEntry struct {
	id     string
	rank   rank
	re     pattern
	exact  bool                       // the message is what re matches, not the rest of the line too
	when   func(groups []string) bool // nil: always
	and    pattern                    // must be found on a line of the log
	unless pattern                    // must not be

	cause     string
	advice    string
	reference string
	likely    bool // the cause was inferred, not confirmed where it was reported
}

// catalogue gives the lists of entries. A line may be explained by one entry of
// each.
func catalogue() [][]messageEntry {
	return [][]messageEntry{messages, hostMessages, bootMessages, toolMessages}
}

const (
	start  = "SNP_LAUNCH_START"
	update = "SNP_LAUNCH_UPDATE"
	finish = "SNP_LAUNCH_FINISH"
	init2  = "KVM_SEV_INIT2"
	status = "SNP_PLATFORM_STATUS"
)

const (
	kvmSEV    = "Linux arch/x86/kvm/svm/sev.c"
	qemuSEV   = "QEMU target/i386/sev.c"
	threads   = "https://github.com/AMDESE/AMDSEV/issues/"
	abiStart  = "AMD 56860, SNP_LAUNCH_START"
	abiUpdate = "AMD 56860, SNP_LAUNCH_UPDATE"
	abiFinish = "AMD 56860, SNP_LAUNCH_FINISH; order of its checks observed in SEV firmware 1.55.25"
)

// launches explains "COMMAND ret=R fw_error=F".
var launches = []launchEntry{
	// The firmware was not reached at all.
	{
		id: "no-firmware-call", ret: anyValue, fw: -1,
		cause:     "The host's kernel could not reach the AMD Secure Processor, so the firmware was never asked (fw_error -1, SEV_RET_NO_FW_CALL).",
		advice:    "See the host's kernel log for ccp and SEV-SNP: SNP must be on in the BIOS, the ccp module loaded and the SEV firmware initialised.",
		reference: "Linux drivers/crypto/ccp/sev-dev.c; " + threads + "170",
	},

	{
		id: "platform-state", command: status, ret: anyValue, fw: 1,
		cause:     "The SEV firmware is not initialised for SNP (INVALID_PLATFORM_STATE).",
		advice:    "Fix what the host's kernel log says of SEV-SNP (BIOS settings, RMP, IOMMU, SEV firmware), then load kvm_amd and ccp anew or restart the host.",
		reference: "AMD 56860, SNP_PLATFORM_STATUS; " + threads + "170",
	},

	// KVM_SEV_INIT2.
	{
		id: "init-arguments", command: init2, ret: -22, fw: 0,
		cause:     "KVM refused the arguments of KVM_SEV_INIT2 and never asked the firmware, as it does when QEMU and the host's kernel follow different versions of the SNP interface or the VMSA features are not allowed here.",
		advice:    "Use an upstream pair, Linux 6.11 or newer with QEMU 9.1 or newer, and no VMSA feature that kvm_amd does not offer.",
		reference: kvmSEV + ", __sev_guest_init; " + threads + "215",
	},
	{
		id: "init-disabled", command: init2, ret: -25, fw: 0,
		cause:     "KVM has SEV-SNP disabled, or it knows another version of the SNP interface than QEMU.",
		advice:    "Check that /sys/module/kvm_amd/parameters/sev_snp says Y and that the BIOS leaves ASIDs to SEV-ES and SNP (\"SEV-ES ASID space limit\"), and use Linux 6.11 or newer with QEMU 9.1 or newer.",
		reference: kvmSEV + "; " + threads + "258",
	},
	{
		id: "init-asids", command: init2, ret: -16, fw: 0,
		cause:     "No address space identifier (ASID) is free for one more SNP guest.",
		advice:    "Stop another SNP or SEV-ES guest, or raise \"SEV-ES ASID space limit\" in the BIOS.",
		reference: kvmSEV + ", sev_asid_new; https://github.com/enarx/enarx/pull/2589",
	},
	{
		id: "init-old-abi", command: init2, ret: -95, fw: 0,
		cause:     "The host's kernel knows only an SNP interface from before it went upstream.",
		advice:    "Use Linux 6.11 or newer with QEMU 9.1 or newer instead of a pair of development trees.",
		reference: "https://github.com/svsm-vtpm/linux-svsm/issues/7",
	},

	// SNP_LAUNCH_START.
	{
		id: "start-sev-policy", command: start, ret: -22, fw: 0,
		and:       expression(`policy(?:=|>|"?[:=] ?"?)(0x0*[0-9a-f]{1,4})\b`),
		cause:     "KVM refused the guest policy and never asked the firmware: $1 is a policy as SEV and SEV-ES have it, and one of SNP has bit 17 set.",
		advice:    "Launch with policy 0x30000 (in libvirt's launchSecurity of type sev-snp, <policy>0x30000</policy>).",
		reference: kvmSEV + ", snp_launch_start; " + threads + "253; https://github.com/apache/cloudstack/issues/10009",
		likely:    true,
	},
	{
		id: "start-pflash", command: start, ret: -22, fw: 0,
		and:       expression(`\b(?:if=pflash|pflash[01]=|memory-backend-memfd-private|sev-snp-guest,[^ ]*(?:discard|init-flags)=)[^ ]*`),
		cause:     "KVM refused the launch and never asked the firmware, and the command line is one of an older tree.",
		advice:    "Start QEMU as it is done today: the one-piece firmware with -bios, plain RAM or memory-backend-memfd, -object sev-snp-guest with upstream properties.",
		reference: threads + "223, 268",
	},
	{
		id: "start-arguments", command: start, ret: -22, fw: 0,
		cause:     "KVM refused the guest policy and never asked the firmware: bit 17 is clear, or MIGRATE_MA (bit 18) or a bit that this kernel or platform does not offer is set, or the kernel is an old one such as 6.12, which also refuses SMT (bit 16) clear and SINGLE_SOCKET (bit 20) set.",
		advice:    "Launch with policy 0x30000 (SMT and the reserved bit 17) and add only bits that the host's kernel takes; if 0x30000 itself fails, bring QEMU and the host's kernel to the same age.",
		reference: kvmSEV + ", snp_launch_start; " + threads + "240, 253",
	},
	{
		id: "start-context", command: start, ret: -25, fw: anyValue,
		cause:     "KVM has no SNP guest context for this VM: it is not an SNP VM to this kernel, or the firmware could not create the context.",
		advice:    "See the host's kernel log for \"Failed to create SEV-SNP context\", and bring QEMU and the host's kernel to the same age.",
		reference: kvmSEV + ", snp_launch_start and snp_context_create; " + threads + "216",
	},
	{
		id: "start-policy", command: start, ret: anyValue, fw: 0x07,
		cause:     "The firmware refused the guest policy: it asks for a newer firmware ABI (bits 15:0) than this host has, forbids SMT (bit 16 clear) on a host that runs with it, has a bit set that this firmware reserves, or asks for a single socket on a host with more.",
		advice:    "Launch with policy 0x30000, or update the SEV firmware, or turn SMT off in the BIOS if the policy has to forbid it.",
		reference: abiStart + " and Guest Policy; https://github.com/kata-containers/kata-containers/issues/5795",
	},
	{
		id: "start-platform", command: start, ret: anyValue, fw: 0x01,
		cause:     "The SEV firmware is not initialised for SNP (INVALID_PLATFORM_STATE).",
		advice:    "Fix what the host's kernel log says of SEV-SNP, then load kvm_amd and ccp anew or restart the host.",
		reference: abiStart + "; " + threads + "170",
	},

	// SNP_LAUNCH_UPDATE.
	{
		id: "update-cpuid", command: update, ret: -5, fw: 0x16,
		and:       expression(`SEV-SNP: CPUID validation failed for function (0x[0-9a-f]+), index: (0x[0-9a-f]+)[^\r\n]*`),
		cause:     "The firmware refused the CPUID page: in leaf $1, subleaf $2 the guest's CPU model promises what this processor's policy for SNP guests does not allow.",
		advice:    "Use a CPU model made for it (EPYC-v4, EPYC-Rome-v3, EPYC-Milan-v2, EPYC-Genoa; an unversioned EPYC means v1, whose cache leaf 0x8000001d is refused with machine types before pc-q35-9.1) and drop the feature that leaf $1 names.",
		reference: abiUpdate + ", CPUID page; https://github.com/NVIDIA/nvtrust/issues/91",
	},
	{
		id: "update-cpuid", command: update, ret: -5, fw: 0x16,
		and:       expression(`SEV-SNP: CPUID validation failed due to count mismatch[^\r\n]*|SEV-SNP: failed update CPUID page`),
		cause:     "The firmware refused the CPUID page.",
		advice:    "Use a CPU model made for it (EPYC-v4, EPYC-Rome-v3, EPYC-Milan-v2, EPYC-Genoa) without extra features.",
		reference: abiUpdate + ", CPUID page; https://github.com/NVIDIA/nvtrust/issues/91",
	},
	{
		id: "update-parameter", command: update, ret: anyValue, fw: 0x16,
		cause:     "The firmware refused a page's type or contents, in most cases the CPUID page.",
		advice:    "Use a CPU model such as EPYC-v4 without extra features, and run QEMU with -trace 'kvm_sev*' to see which page was the last.",
		reference: abiUpdate,
	},
	{
		id: "update-not-populated", command: update, ret: -5, fw: 0,
		cause:     "KVM could not put the page into the guest's private memory and never asked the firmware: the same guest address was given twice, or the page is not private or not in private memory.",
		advice:    "Run QEMU with -trace 'kvm_sev*': the last kvm_sev_snp_launch_update names the page; look for overlapping sections in the firmware's SEV metadata or in the IGVM file.",
		reference: kvmSEV + ", sev_gmem_post_populate; https://github.com/coconut-svsm/svsm/pull/1029",
	},
	{
		id: "update-arguments", command: update, ret: -22, fw: 0,
		cause:     "KVM refused the arguments of SNP_LAUNCH_UPDATE and never asked the firmware: length or address not a multiple of 4 KiB, a page type it does not know, or memory that is not backed by guest_memfd.",
		advice:    "Use QEMU 9.1 or newer with plain RAM or memory-backend-memfd, the firmware with -bios and never as pflash, and see the host's kernel log for kvm_amd.",
		reference: kvmSEV + ", snp_launch_update; " + threads + "166",
	},
	{
		id: "update-page-state", command: update, ret: anyValue, fw: 0x1A,
		cause:     "The firmware found the page in another state than pre-guest in the RMP (INVALID_PAGE_STATE).",
		advice:    "Look in the host's kernel log for RMP errors and use a newer host kernel.",
		reference: abiUpdate,
	},

	// SNP_LAUNCH_FINISH. Each refusal proves the checks before it passed.
	{
		id: "finish-debug-swap", command: finish, ret: anyValue, fw: 0x0B,
		and:       expression(`\bdebug_swap\b[^\n]{0,12}\b[Y1]\b`),
		cause:     "The launch digest of what QEMU loaded is not the one in the ID block, and kvm_amd has debug_swap on, which puts DebugSwap into every vCPU's SEV_FEATURES (0x21 instead of 0x1).",
		advice:    "Load kvm_amd with debug_swap=0, or compute the digest with guest features 0x21.",
		reference: threads + "195; https://github.com/virtee/sev-snp-measure/pull/32",
	},
	{
		id: "finish-measurement", command: finish, ret: anyValue, fw: 0x0B,
		cause:     "The launch digest of what QEMU loaded is not the one in the ID block; the ID block's policy and signatures were not looked at yet.",
		advice:    "Compute the digest again from the very firmware, kernel, initrd, command line, vCPU count and CPU model of this launch, and with the guest features that this host's kernel sets (0x21 instead of 0x1 where kvm_amd has debug_swap on).",
		reference: abiFinish + "; " + threads + "195, 212",
	},
	{
		id: "finish-policy", command: finish, ret: anyValue, fw: 0x07,
		cause:     "The policy in the ID block is not the policy that the guest was launched with; the launch digest in it is right.",
		advice:    "Sign an ID block with the same policy as in -object sev-snp-guest,policy=.",
		reference: abiFinish + "; https://github.com/AMDESE/sev-guest/issues/33",
	},
	{
		id: "finish-signature", command: finish, ret: anyValue, fw: 0x0A,
		cause:     "The signature of the ID block, or the author key's of the ID key, does not verify; launch digest, policy and key algorithms are right.",
		advice:    "Sign the ID block again with the key whose public half is in the ID authentication information (r and s little-endian, zero-padded to 72 bytes), and set author-key-enabled only when that holds an author key and its signature.",
		reference: abiFinish + "; https://github.com/virtee/sev-snp-measure/issues/28",
	},
	{
		id: "finish-parameter", command: finish, ret: anyValue, fw: 0x16,
		cause:     "The firmware refused a field of the ID block or of the ID authentication information, such as a key algorithm other than 1 (ECDSA P-384 with SHA-384); some older SEV firmware refuses in this way whatever has no author key.",
		advice:    "Check the algorithm fields; if they are 1, update the SEV firmware or add an author key with author-key-enabled=on.",
		reference: abiFinish + "; https://github.com/AMDESE/sev-guest/issues/13, 19",
	},
	{
		id: "finish-arguments", command: finish, ret: -22, fw: 0,
		cause:     "KVM refused the arguments of SNP_LAUNCH_FINISH and never asked the firmware: an ID block was given without ID authentication information, or a vCPU has a state that cannot be measured, such as debug registers in use.",
		advice:    "Give id-block and id-auth (4096 bytes) together or neither, and attach no debugger before the guest runs.",
		reference: kvmSEV + ", snp_launch_finish; https://github.com/kata-containers/kata-containers/pull/10889",
	},
	{
		id: "finish-busy", command: finish, ret: -16, fw: 0,
		cause:     "KVM was creating a vCPU at the same time and never asked the firmware.",
		advice:    "Start a new VM; never repeat SNP_LAUNCH_FINISH on the same one.",
		reference: kvmSEV + ", snp_launch_finish",
	},
}

// messages explains the other lines. The first entry that fits a line counts.
var messages = []messageEntry{
	// What the host or QEMU lacks.
	{
		id: "kvm-device", re: expression(`Could not access KVM kernel module: (.*)`),
		cause:     "QEMU cannot open /dev/kvm: $1.",
		advice:    "Load kvm_amd and join the group that owns /dev/kvm (usually kvm), or use the software SNP host.",
		reference: "QEMU accel/kvm/kvm-all.c",
	},
	{
		id: "kvm-no-snp", re: expression(`vm-type (?:SEV-SNP|snp) not supported by KVM`),
		cause:     "This host's KVM offers no SNP guests: no AMD EPYC processor with SNP, SNP off in the BIOS or in kvm_amd, or a kernel before 6.11.",
		advice:    "Use Linux 6.11 or newer on a host where /sys/module/kvm_amd/parameters/sev_snp says Y, or the software SNP host.",
		reference: "QEMU target/i386/kvm/kvm.c; Linux KVM_CAP_VM_TYPES; https://github.com/stefano-garzarella/snp-svsm-vtpm/issues/3",
	},
	{
		id: "kvm-no-guest-memfd", re: expression(`KVM does not support guest_memfd`),
		cause:     "The host's kernel was built without guest_memfd (CONFIG_KVM_PRIVATE_MEM), which SNP guests live in.",
		advice:    "Use Linux 6.11 or newer with CONFIG_KVM_AMD_SEV=y.",
		reference: "QEMU accel/kvm/kvm-all.c; https://github.com/coconut-svsm/svsm/issues/409",
	},
	{
		id: "guest-memfd", re: expression(`Error creating KVM guest_memfd: (.*)`),
		cause:     "KVM refused to create private memory for the guest: $1.",
		advice:    "Give the guest less memory than the host has free, and check the limits of the user and of the container.",
		reference: "QEMU accel/kvm/kvm-all.c",
	},
	{
		id: "kvm-required", re: expression(`cannot set up private guest memory for (\S+): KVM required`),
		cause:     "$1 needs KVM, and QEMU runs with another accelerator.",
		advice:    "Add -accel kvm, with the software SNP host where there is no SNP hardware.",
		reference: "QEMU hw/core/machine.c",
	},
	{
		id: "cbitpos", re: expression(`(?:\b(?:sev|kvm)_\w+: )?cbitpos check failed, host '(-?\d+)' requested '(-?\d+)'`),
		cause:     "cbitpos=$2 was given, and the processor says $1 (CPUID 0x8000001f, EBX bits 5:0).",
		advice:    "Use cbitpos=$1; it is not measured.",
		reference: qemuSEV + ", sev_common_kvm_init",
	},
	{
		id: "reduced-phys-bits-missing", re: expression(`Parameter 'reduced-phys-bits' is missing`),
		cause:     "-object sev-snp-guest was given without reduced-phys-bits.",
		advice:    "Add reduced-phys-bits=1; it is not measured.",
		reference: qemuSEV,
	},
	{
		id: "reduced-phys-bits-range", re: expression(`(?:\b(?:sev|kvm)_\w+: )?reduced_phys_bits check failed, it should be in the range of 1 to 63, requested '(-?\d+)'`),
		cause:     "reduced-phys-bits=$1 was given, and QEMU takes 1 to 63.",
		advice:    "Use reduced-phys-bits=1; it is not measured.",
		reference: qemuSEV + ", sev_common_kvm_init",
	},
	{
		id: "sev-device-missing", re: expression(`sev\w*_kvm_init: Failed to open (\S+) 'No such file or directory'`),
		cause:     "The device $1 of the AMD Secure Processor is not there: the ccp module is not loaded, SEV is off in the BIOS, or a container or libvirt's name space does not show it.",
		advice:    "Load it with modprobe ccp, pass the device into the container, or use the software SNP host.",
		reference: qemuSEV + ", sev_common_kvm_init; https://github.com/AMDESE/qemu/issues/12",
	},
	{
		id: "sev-device-permission", re: expression(`sev\w*_kvm_init: Failed to open (\S+) '(.*)'`),
		cause:     "QEMU cannot open $1: $2.",
		advice:    "Give QEMU's user read and write access to $1, with a udev rule or the device list of the container or of libvirt.",
		reference: qemuSEV + ", sev_common_kvm_init; https://github.com/AMDESE/qemu/issues/12",
	},
	{
		id: "sev-device-missing", re: expression(`Could not open '(/dev/[^']*)': No such file or directory`),
		cause:     "The device $1 is not there: the ccp module is not loaded, SEV is off in the BIOS, or a container or libvirt's name space does not show it.",
		advice:    "Load it with modprobe ccp, pass the device into the container, or use the software SNP host.",
		reference: qemuSEV + ", sev_common_kvm_init (QEMU 10.1 and newer)",
	},
	{
		id: "sev-device-permission", re: expression(`Could not open '(/dev/[^']*)': (.*)`),
		cause:     "QEMU cannot open $1: $2.",
		advice:    "Give QEMU's user read and write access to $1, with a udev rule or the device list of the container or of libvirt.",
		reference: qemuSEV + ", sev_common_kvm_init (QEMU 10.1 and newer)",
	},
	{
		id: "sev-features", re: expression(`(?:\b(?:sev|kvm)_\w+: )?(?:failed to query supported sev_features|host kernel does not support the requested SEV configuration)\b`),
		cause:     "The host's kernel does not offer the VMSA features that the guest asks for.",
		advice:    "Drop the extra SEV features, or use a newer host kernel.",
		reference: qemuSEV,
	},

	// The command line.
	{
		id: "no-snp-object", re: expression(`Parameter 'qom-type' does not accept value '(sev-snp-guest|memory-backend-memfd-private|igvm-cfg)'`),
		cause:     "This QEMU does not know the object $1: sev-snp-guest came with QEMU 9.1, igvm-cfg needs a build with IGVM, and memory-backend-memfd-private was never upstream.",
		advice:    "Use QEMU 9.1 or newer, and for memory plain RAM or memory-backend-memfd.",
		reference: "QEMU qapi/qom.json; https://github.com/coconut-svsm/svsm/issues/680, 375",
	},
	{
		id: "unknown-property", re: expression(`Invalid parameter '(kernel-hashes|certs-path|auth-key-enabled|init-flags|igvm-file|discard)'`),
		cause:     "This QEMU's sev-snp-guest has no property $1, which comes from another version or from a development tree.",
		advice:    "Use upstream names: author-key-enabled for auth-key-enabled, an igvm-cfg object for igvm-file, and none for certs-path, init-flags and discard.",
		reference: "QEMU qapi/qom.json; " + threads + "124",
	},
	{
		id: "kernel-header", re: expression(`qemu: (?:invalid kernel header|could not load kernel .*)$`),
		cause:     "The file given as the kernel is no Linux kernel.",
		advice:    "Give a bzImage or a unified kernel image (UKI) as the kernel.",
		reference: "QEMU hw/i386/x86-common.c, x86_load_linux",
	},
	{
		id: "kernel-file", re: expression(`could not open kernel file '([^']*)': (.*)`),
		cause:     "QEMU cannot open the kernel $1: $2.",
		advice:    "Give the path of a bzImage or a unified kernel image (UKI) that QEMU's user may read.",
		reference: "QEMU hw/i386/x86-common.c, x86_load_linux",
	},
	{
		id: "kernel-elf", re: expression(`Error while loading elf kernel|Error loading uncompressed kernel without PVH ELF Note`),
		cause:     "The kernel is an ELF file (vmlinux), which QEMU does not load through the firmware and makes no hashes of.",
		advice:    "Give the bzImage or a unified kernel image (UKI) that was built beside it.",
		reference: "QEMU hw/i386/x86-common.c, x86_load_linux",
	},
	{
		id: "kernel-initrd", re: expression(`linux kernel too old to load a ram disk`),
		cause:     "QEMU loads no initrd beside this kernel: it is a unified kernel image (UKI), or no Linux kernel at all.",
		advice:    "Put the initrd into the unified kernel image, or give a bzImage.",
		reference: "QEMU hw/i386/x86-common.c, x86_load_linux",
	},
	{
		id: "kernel-missing", re: expression(`(-append|-initrd) only allowed with -kernel option`),
		cause:     "$1 was given without -kernel.",
		advice:    "Give the kernel too, or let the firmware boot a disk with its own command line.",
		reference: "QEMU system/vl.c",
	},
	{
		id: "object-missing", re: expression(`(?:Device|No such memory encryption object) '([^']+)'(?: not found)?$`),
		cause:     "The command line refers to '$1', most likely in -machine confidential-guest-support=, and no object has that id.",
		advice:    "Use the same id in -machine confidential-guest-support= and in -object sev-snp-guest,id=.",
		reference: "QEMU hw/core/machine.c",
	},
	{
		id: "id-block-length", re: expression(`parameter length of (\d+) not equal to 96\b`),
		cause:     "id-block holds $1 bytes, and an ID block has 96.",
		advice:    "Give the base64 text of the 96 bytes themselves, not a path, and not the ID authentication information.",
		reference: qemuSEV + ", sev_snp_guest_set_id_block",
	},
	{
		id: "id-auth-length", re: expression(`parameter length:ID_AUTH (\d+) exceeds max of 4096\b`),
		cause:     "id-auth holds $1 bytes, and ID authentication information has 4096.",
		advice:    "Give the base64 text of the 4096 bytes themselves.",
		reference: qemuSEV + ", sev_snp_guest_set_id_auth",
	},
	{
		id: "host-data-length", re: expression(`parameter length of (\d+) not equal to 32\b`),
		cause:     "host-data holds $1 bytes, and HOST_DATA has 32.",
		advice:    "Give the base64 text of exactly 32 bytes, such as a SHA-256 digest.",
		reference: qemuSEV + ", sev_snp_guest_set_host_data",
	},
	{
		id: "workarounds-length", re: expression(`parameter length of (\d+) exceeds max of 16\b`),
		cause:     "guest-visible-workarounds holds $1 bytes, and GOSVW has 16.",
		advice:    "Give the base64 text of exactly 16 bytes (QEMU takes no fewer, whatever it says), or leave the property out.",
		reference: qemuSEV + ", sev_snp_guest_set_guest_visible_workarounds",
	},
	{
		id: "base64", re: expression(`Base64 data (?:contains invalid characters|contains embedded NUL characters|is not NUL terminated)`),
		cause:     "A property of sev-snp-guest that takes base64 (id-block, id-auth, host-data or guest-visible-workarounds) got something else, such as a path or hexadecimal digits.",
		advice:    "Give the base64 text of the bytes themselves.",
		reference: qemuSEV + "; QEMU util/base64.c",
	},
	{
		id: "smm", re: expression(`SEV-SNP does not support SMM\.?`),
		cause:     "The machine has system management mode on, which the hypervisor could use to look into the guest.",
		advice:    "Drop smm=on from -machine, or say smm=off.",
		reference: qemuSEV,
	},
	{
		id: "irqchip", re: expression(`(?:\b(?:sev|kvm)_\w+: )?SEV-ES guests require in-kernel irqchip ?support`),
		cause:     "The interrupt controllers are not wholly in the kernel (kernel-irqchip=split or off).",
		advice:    "Drop kernel-irqchip= from -machine and -accel, or say kernel-irqchip=on.",
		reference: qemuSEV,
	},

	{
		id: "igvm-platform", re: expression(`Invalid platform header count in IGVM file\. Error code: ([0-9A-Fa-f]+)`),
		cause:     "The IGVM file has no directives for this platform, or this QEMU was not told to launch it as SNP with privilege levels (init-flags=5 in the tree that has it).",
		advice:    "Launch an IGVM file with the script and the QEMU of the tree that made it.",
		reference: "https://github.com/coconut-svsm/svsm/issues/375",
	},
	{
		id: "registers-after-init", re: expression(`Failed to put registers after init: (.*)`),
		cause:     "KVM refused the registers of a vCPU once the guest was set up ($1), as QEMU trees made for IGVM and SVSM do when they are started without either.",
		advice:    "Use a newer QEMU, or start that tree with its IGVM file.",
		reference: "QEMU accel/kvm/kvm-all.c; https://github.com/coconut-svsm/svsm/issues/380",
	},
	{
		id: "cpu-model", re: expression(`unable to find CPU model '([^']*)'`),
		cause:     "This QEMU knows no CPU model $1.",
		advice:    "List them with qemu-system-x86_64 -cpu help; EPYC-v4, EPYC-Milan-v2 and EPYC-Genoa fit SNP guests.",
		reference: "QEMU hw/core/cpu-common.c",
	},
	{
		id: "split-irqchip", re: expression(`Could not enable split irqchip mode: (.*)`),
		cause:     "KVM does not let an SNP guest have its interrupt controllers partly in QEMU (kernel-irqchip=split): $1.",
		advice:    "Drop kernel-irqchip= from -machine and -accel, or say kernel-irqchip=on.",
		reference: "QEMU accel/kvm/kvm-all.c",
	},
	{
		id: "property-value", re: expression(`Parameter '([a-z-]+)' expects a (\S+) value`),
		cause:     "$1 takes a number ($2), and something else was given.",
		advice:    "Write the number with digits, such as policy=0x30000.",
		reference: "QEMU qapi",
	},

	// The firmware image.
	{
		id: "firmware-file", re: expression(`could not load PC BIOS '([^']*)'`),
		cause:     "QEMU cannot load the firmware $1: the file is not there, or its size is not a multiple of 64 KiB, as with an OVMF_CODE file that is only one half of a flash image.",
		advice:    "Give -bios the one-piece OVMF image (OVMF.fd, or OVMF.amdsev.fd for kernel hashes).",
		reference: "QEMU hw/i386/x86-common.c, x86_bios_rom_init",
	},
	{
		id: "firmware-no-table", re: expression(`SEV information block/Firmware GUID Table block not found in pflash rom`),
		cause:     "The firmware has no GUIDed table at its end, so it is not a whole OVMF image: a VARS file, SeaBIOS, a 32-bit or a truncated build.",
		advice:    "Give -bios the one-piece OVMF image (OVMF.fd, or OVMF.amdsev.fd for kernel hashes).",
		reference: qemuSEV + "; https://github.com/kata-containers/kata-containers/issues/9724",
	},
	{
		id: "firmware-no-metadata", re: expression(`(?:\b(?:sev|kvm)_\w+: )?Failed to locate SEV metadata header`),
		cause:     "The firmware has no SEV metadata, which lists the pages that SNP needs: it is older than OVMF's SNP support or was built without it.",
		advice:    "Use an OVMF with SEV-SNP support, built from edk2's OvmfPkgX64.dsc or AmdSevX64.dsc.",
		reference: qemuSEV + ", sev_snp_launch_finish",
	},
	{
		id: "memory-too-small", re: expression(`Failed to get HVA for GPA (0x[0-9a-f]+) sz (0x[0-9a-f]+)`),
		cause:     "The firmware's SEV metadata names the page range at $1 (size $2), where the guest has no memory.",
		advice:    "Give the guest more memory, or use a firmware whose metadata lie below its end.",
		reference: qemuSEV + ", snp_populate_metadata_pages",
	},
	{
		id: "firmware-no-hashes", re: expression(`SEV: (?:guest firmware hashes table area is invalid.*|kernel specified but guest firmware has no hashes table GUID)`),
		cause:     "kernel-hashes=on was given, and this firmware has no place for the table of kernel hashes: only the AmdSev build of OVMF has one.",
		advice:    "Use the firmware built from OvmfPkg/AmdSev/AmdSevX64.dsc (Debian's package ovmf-amdsev), or drop kernel-hashes=on and with it the proof of what kernel was loaded.",
		reference: qemuSEV + ", sev_add_kernel_loader_hashes; " + threads + "262, 93",
	},
	{
		id: "kernel-hashes-no-kernel", re: expression(`\S*: Assertion .sev_snp->kernel_hashes_data. failed\.?`),
		cause:     "kernel-hashes=on was given without a Linux kernel to hash: no -kernel, or one that QEMU's Linux loader does not take, such as ELF or multiboot.",
		advice:    "Give a bzImage or a unified kernel image with -kernel, or say kernel-hashes=off.",
		reference: qemuSEV + ", snp_launch_update_kernel_hashes; https://github.com/kata-containers/kata-containers/issues/11785",
	},
	{
		id: "pflash", re: expression(`(?:\b(?:sev|kvm)_\w+: )?KVM_SET_USER_MEMORY_REGION2 failed, slot=\d+, start=(0x[0-9a-f]+), size=(0x[0-9a-f]+), flags=0x2, .*`),
		cause:     "KVM refused read-only memory at $1 (size $2), as flash is: SNP guests cannot have any.",
		advice:    "Give the one-piece firmware with -bios and drop every pflash drive.",
		reference: "QEMU accel/kvm/kvm-all.c; " + threads + "236, 242",
	},
	{
		id: "pflash", re: expression(`pflash with kvm requires KVM readonly memory support`),
		cause:     "The firmware was given as pflash, which needs read-only memory, and SNP guests cannot have any.",
		advice:    "Give the one-piece firmware with -bios and drop every pflash drive.",
		reference: "QEMU hw/i386/pc_sysfw.c; Linux KVM_CAP_READONLY_MEM",
	},
	{
		id: "memory-region", re: expression(`(?:\b(?:sev|kvm)_\w+: )?KVM_SET_USER_MEMORY_REGION2 failed, slot=\d+, start=(0x[0-9a-f]+), size=(0x[0-9a-f]+), .*`),
		cause:     "KVM refused the guest memory at $1 (size $2).",
		advice:    "Use plain RAM or memory-backend-memfd, no overlapping devices, and a QEMU and host kernel of about the same age.",
		reference: "QEMU accel/kvm/kvm-all.c; Linux virt/kvm/kvm_main.c, __kvm_set_memory_region",
	},
	{
		id: "memory-attributes", re: expression(`failed to set memory \((0x[0-9a-f]+)\+(0x[0-9a-f]+)\) with attr 0x8 error '(.*)'`),
		cause:     "KVM refused to make the memory at $1 (size $2) private: $3.",
		advice:    "Use a host kernel with CONFIG_KVM_AMD_SEV=y and a QEMU of about the same age.",
		reference: "QEMU accel/kvm/kvm-all.c; Linux virt/kvm/kvm_main.c, KVM_SET_MEMORY_ATTRIBUTES",
	},

	{
		id: "memory-section", rank: rankConsequence, re: expression(`SEV-SNP: failed to configure initial ?private guest memory`),
		cause:     "A page that the launch begins with could not be made private: the firmware's metadata names something that is no whole page of guest memory.",
		advice:    "Use an OVMF whose SEV metadata is sound, and give the guest at least 256 MiB.",
		reference: qemuSEV + ", sev_snp_launch_update",
	},
	{
		id: "vcpu", re: expression(`(?:KVM_CREATE_VCPU IOCTL failed for vCPU (\d+)|kvm_init_vcpu: kvm_(?:create_vcpu|arch_init_vcpu|getting_mmap_size) failed \(\d+\)).*`),
		cause:     "KVM refused to make a vCPU for this guest.",
		advice:    "Give the guest fewer vCPUs and a CPU model that the host can offer, and use a QEMU and a host kernel of about the same age.",
		reference: "QEMU accel/kvm/kvm-all.c, kvm_init_vcpu",
	},
	{
		id: "irqchip-create", re: expression(`Create kernel irqchip failed: (.*)`),
		cause:     "KVM refused to make the guest's interrupt controllers: $1.",
		advice:    "Use a QEMU and a host kernel of about the same age.",
		reference: "QEMU accel/kvm/kvm-all.c, kvm_irqchip_create",
	},
	{
		id: "msrs", re: expression(`kvm_(?:init_msrs|put_msrs|buf_set_msrs): Assertion .*`),
		cause:     "KVM refused a processor register that this QEMU sets in every vCPU, and QEMU aborted.",
		advice:    "Use a QEMU and a host kernel of about the same age, and a CPU model rather than -cpu host.",
		reference: "QEMU target/i386/kvm/kvm.c",
	},

	// After the launch.
	{
		id: "reset", re: expression(`cpus are not resettable, terminating`),
		cause:     "The guest asked for a reset, or its kernel panicked, and the registers of an SNP guest cannot be reset.",
		advice:    "Read the guest's console for the reason, and start a new VM instead of rebooting.",
		reference: "QEMU system/runstate.c",
	},
	{
		id: "convert-two-backends", re: expression(`Convert non guest_memfd backed memory region \(`), and: expression(`-object \S*memory-backend-.* -object \S*memory-backend-`),
		cause:     "The guest made memory private or shared across the border of two memory backends, which QEMU converts only in part.",
		advice:    "Use one memory backend, or a QEMU whose kvm_convert_memory goes over all regions.",
		reference: "QEMU accel/kvm/kvm-all.c, kvm_convert_memory; kata-containers tag_patches/gpu-snp-20260430",
		likely:    true,
	},
	{
		id: "not-private-memory", likely: true, re: expression(`Convert non guest_memfd backed memory region \((0x[0-9a-f]+) ?,\+ ?(0x[0-9a-f]+)\) to (?:private|shared)`),
		cause:     "The guest asked to make the memory at $1 (size $2) private, where QEMU has a device or no private memory.",
		advice:    "Use a one-piece OVMF of about the age of this QEMU.",
		reference: "QEMU accel/kvm/kvm-all.c, kvm_convert_memory; " + threads + "236",
	},
	{
		id: "kvm-exit-terminated", re: expression(`KVM: unknown exit reason 24\b`),
		cause:     "KVM left the guest with a system event that this QEMU does not know (KVM_EXIT_SYSTEM_EVENT), which for an SNP guest is that it asked to be ended: its firmware or kernel does not go on with this host.",
		advice:    "Look in the host's kernel log for \"guest requested termination\", and use a QEMU, host kernel, OVMF and guest kernel of about the same age.",
		reference: "Linux include/uapi/linux/kvm.h, KVM_SYSTEM_EVENT_SEV_TERM; " + threads + "182",
		likely:    true,
	},
	{
		id: "kvm-exit-reason", re: expression(`KVM: unknown exit reason (\d+)`),
		cause:     "KVM left the guest for reason $1, which this QEMU does not know.",
		advice:    "Use a QEMU as new as the host's kernel.",
		reference: "Linux include/uapi/linux/kvm.h; " + threads + "182",
	},
	{
		id: "kvm-run", re: expression(`error: kvm run failed (.*)|KVM internal error\. Suberror: \d+`),
		cause:     "KVM could not go on running the guest; the registers that QEMU prints are not those of an SNP guest, whose state is encrypted.",
		advice:    "Look in the host's kernel log for RMP faults and unexpected #VC, and use an OVMF and a guest kernel (5.19 or newer) that fit the host.",
		reference: threads + "138, 232",
	},

	// Lines that follow a failure.
	{
		id: "no-encryption-context", rank: rankConsequence, re: expression(`(?:\b(?:sev|kvm)_\w+: )?failed to create encryption context`),
		cause:     "QEMU could not prepare the SNP guest and gives no return value: KVM refuses to pass the guest's page-state hypercalls to QEMU (KVM_CAP_EXIT_HYPERCALL).",
		advice:    "Use a host kernel with KVM's SNP support (6.11 or newer).",
		reference: qemuSEV + ", sev_snp_kvm_init",
	},
	{
		id: "memory-not-private", rank: rankConsequence, re: expression(`(?:\b(?:sev|kvm)_\w+: )?failed to set memory attribute private(?:: (.*))?`),
		cause:     "KVM refused to make guest memory private.",
		advice:    "Use a host kernel with CONFIG_KVM_AMD_SEV=y and a QEMU of about the same age.",
		reference: "QEMU accel/kvm/kvm-all.c",
	},
	{
		id: "cpuid-page", rank: rankConsequence, re: expression(`SEV-SNP: (?:CPUID validation failed|failed update CPUID page|failed to generate CPUID table information|CPUID entry count).*`),
		cause:     "The guest's CPUID page could not be made or was refused by the firmware.",
		advice:    "Use a CPU model made for it (EPYC-v4, EPYC-Rome-v3, EPYC-Milan-v2, EPYC-Genoa) without extra features.",
		reference: abiUpdate + ", CPUID page",
	},
	{
		id: "reset-vector", rank: rankConsequence, re: expression(`failed to locate and/or save reset vector`),
		cause:     "The firmware does not say where the other vCPUs start: it is not a whole OVMF image.",
		advice:    "Give -bios the one-piece OVMF image (OVMF.fd, or OVMF.amdsev.fd for kernel hashes).",
		reference: qemuSEV,
	},
	{
		id: "kvm-init", rank: rankEnd, re: expression(`failed to initialize kvm: (.*)`),
		cause:     "KVM could not be set up for this guest ($1), and the line that says why is missing.",
		advice:    "Keep the whole of QEMU's standard error: the reason is in the lines before.",
		reference: "QEMU accel/kvm/kvm-all.c",
	},

	// What devices want of the host.
	{
		id: "port-taken", re: expression(`Could not set up host forwarding rule '([^']*)'`),
		cause:     "QEMU cannot have the host's end of the port forward $1: something else listens there, or this user may not.",
		advice:    "Choose another host port for the forward, or auto for a free one.",
		reference: "QEMU net/slirp.c, slirp_hostfwd",
	},
	{
		id: "port-taken", re: expression(`Failed to find an available port: (.*)`),
		cause:     "QEMU cannot have a port that it is to listen at: $1.",
		advice:    "End what has the port, or choose another.",
		reference: "QEMU util/qemu-sockets.c, inet_listen_saddr",
	},
	{
		id: "disk-locked", re: expression(`Failed to get (?:"[^"]*"|shared "[^"]*") lock`),
		cause:     "Another process has the disk's image open, and one of the two writes to it.",
		advice:    "End the other guest, or give the disk to both as read-only.",
		reference: "QEMU block/file-posix.c, raw_apply_lock_bytes",
	},
	{
		id: "socket-not-made", re: expression(`Failed to bind socket to ([^:]*): (.*)`),
		cause:     "QEMU cannot make the socket $1: $2.",
		advice:    "Make the folder of the socket, writable for QEMU's user, or name another path.",
		reference: "QEMU util/qemu-sockets.c, unix_listen_saddr",
	},
	{
		id: "file-not-opened", re: expression(`Could not open '([^']*)': (.*)`),
		cause:     "QEMU cannot open $1: $2.",
		advice:    "Make the file or its folder, readable or writable for QEMU's user, or name another path.",
		reference: "QEMU block/file-posix.c; chardev/char-fd.c",
	},

	// Words that others print too.
	{
		id: "asids-busy", re: expression(`(?:SEV|SNP|sev_|snp_)[^\n]*[Dd]evice or resource busy`),
		cause:     "No address space identifier (ASID) is free for one more SNP guest.",
		advice:    "Stop another SNP or SEV-ES guest, or raise \"SEV-ES ASID space limit\" in the BIOS.",
		reference: kvmSEV + ", sev_asid_new; https://github.com/enarx/enarx/pull/2589",
		likely:    true,
	},
}
