package diagnose

const (
	sevCommon = "Linux arch/x86/include/asm/sev-common.h; GHCB specification (AMD 56421), termination request"
	hashesOn  = "Switch kernel hashes on (kernel-hashes=on), or use the generic OVMF.fd, which boots any kernel."
)

// bootMessages explains what a guest says, or is said of it, after its launch: its
// firmware's, its kernel's and an SVSM's words, and KVM's of its end.
var bootMessages = []messageEntry{
	// OVMF.
	{
		id: "boot-kernel-denied", re: expression(`BdsDxe: failed to load (Boot[0-9A-F]{4}) "[^"]*" from Fv\(7CB8BDC9-[^ ]*: Not Found`),
		cause:     "This is the AmdSev build of OVMF, which boots a kernel only if a measured table vouches for it; there is none, so it went on to the boot loader built into it, which is empty.",
		advice:    hashesOn,
		reference: threads + "142; EDK2 OvmfPkg/AmdSev",
	},
	{
		id: "boot-nothing", re: expression(`BdsDxe: No bootable option`), unless: expression(`from Fv\(7CB8BDC9-`),
		cause:     "The firmware found nothing to boot and waits for ever: no kernel was given, or it was denied, and no disk has a boot loader.",
		advice:    "Give a kernel or a bootable disk, and with the AmdSev build of OVMF a kernel with kernel hashes on.",
		reference: "EDK2 MdeModulePkg/Universal/BdsDxe; " + threads + "142",
	},
	{
		id: "boot-blob-hash", re: expression(`VerifyBlob: Hash comparison failed for "([^"]*)"`),
		cause:     "The $1 that the firmware was given is not the one in the measured table: a file was exchanged, or QEMU changed it after hashing, as 7.2 does to the kernel's header.",
		advice:    "Use QEMU 8 or newer, and the very files that were hashed.",
		reference: "EDK2 OvmfPkg/AmdSev/BlobVerifierLibSevHashes; https://github.com/AMDESE/qemu/issues/10; https://github.com/kata-containers/kata-containers/issues/9148",
	},
	{
		id: "boot-nvvarstore", re: expression(`NvVarStore FV headers were invalid`),
		cause:     "This OVMF was built with Secure Boot and found no variable store, which SEV guests without flash do not have.",
		advice:    "Use an OVMF built without SECURE_BOOT_ENABLE, or a newer EDK2.",
		reference: "https://github.com/tianocore/edk2/issues/10527, 10392",
	},
	{
		id: "boot-mmio-encrypted", re: expression(`MMIO using encrypted memory: ([0-9A-Fa-f]+)`),
		cause:     "The firmware reached for the device memory at 0x$1 as if it were encrypted: it does not fit the SNP support of this host.",
		advice:    "Use an OVMF of about the age of QEMU and the host's kernel.",
		reference: threads + "92",
	},

	// The guest's kernel.
	{
		id: "boot-vc-opcode", re: expression(`Wrong/unhandled opcode bytes.*exit_code: 0x404`),
		cause:     "A program in the guest has mapped memory of the BIOS as if it were encrypted, and its access cannot be emulated.",
		advice:    "Keep the program from mapping it, as dmidecode and the like do through /dev/mem.",
		reference: threads + "255; Linux arch/x86/coco/sev",
	},
	{
		id: "boot-smp", re: expression(`Parallel CPU startup disabled.*`), unless: expression(`smp: Brought up \d+ node|Run \S+ as init process`),
		cause:     "The guest's kernel stopped while it started its other vCPUs: the machine has room for more of them than it starts with (maxcpus), or its firmware does not wake them in the way that SNP needs.",
		advice:    "Give -smp a number without maxcpus, and use a newer OVMF and guest kernel.",
		reference: threads + "159, 264",
		likely:    true,
	},
	{
		id: "boot-virtiofs", re: expression(`(?:virtio-?fs|vhost-user-fs)\b[^\n]*(?:failed|not found|[Ee]rror|timed out|wrong fs type)`), and: aboutSNPGuest,
		cause:     "The guest cannot use virtiofs: its device works in a process outside QEMU, which does not reach an SNP guest's memory.",
		advice:    "Share files with virtio-blk or over virtio-serial instead.",
		reference: threads + "269",
		likely:    true,
	},
	{
		id: "svsm-init", re: expression(`\[SVSM\] Failed to launch /init`),
		cause:     "The SVSM does not get along with the host's kernel or QEMU: the three come from different trees.",
		advice:    "Build SVSM, QEMU and host kernel from the trees that the SVSM's documentation names together.",
		reference: "https://github.com/coconut-svsm/svsm/issues/479, 384",
	},

	// KVM tells that the guest gave up: "termination: SET:CODE".
	{
		id: "guest-features-unknown", re: expression(`SEV-ES guest requested termination: 0x0:0x2\b`),
		cause:     "The guest's kernel ended itself because SEV_FEATURES has a feature that it must know and does not (GHCB_SNP_UNSUPPORTED).",
		advice:    "Use a newer guest kernel, or launch without that feature.",
		reference: sevCommon + "; https://www.phoronix.com/news/AMD-SEV-SNP-Feature-Negotiate",
	},
	{
		id: "guest-terminated", re: expression(`SEV-ES guest requested termination: 0x0:0x1\b`), exact: true,
		cause:     "The guest ended itself because it and the host have no version of the GHCB protocol in common.",
		advice:    "Use a guest kernel, a firmware and a host kernel of about the same age.",
		reference: sevCommon,
	},
	{
		id: "guest-terminated", re: expression(`SEV-ES guest requested termination: 0x1:0x([12])\b`), exact: true,
		cause:     "The guest's kernel ended itself because a page could not be made private or shared, or not be accepted (reason 0x1:0x$1).",
		advice:    "Look at the host's kernel log for RMP errors, and use a newer host kernel.",
		reference: sevCommon,
	},
	{
		id: "guest-terminated", re: expression(`SEV-ES guest requested termination: 0x1:0x([378])\b`), exact: true,
		cause:     "The guest's kernel ended itself because it does not run at the privilege level (VMPL) that it expects (reason 0x1:0x$1).",
		advice:    "Use a guest kernel that knows SVSMs, at the VMPL that the SVSM gives it.",
		reference: sevCommon,
	},
	{
		id: "guest-terminated", re: expression(`SEV-ES guest requested termination: 0x1:0x([45])\b`), exact: true,
		cause:     "The guest's kernel ended itself because it could not rely on its CPUID table (reason 0x1:0x$1).",
		advice:    "Use a CPU model made for SNP, such as EPYC-v4, and a firmware with a CPUID section.",
		reference: sevCommon,
	},
	{
		id: "guest-terminated-early", re: expression(`SEV-ES guest requested termination: 0x0:0x0\b`), exact: true,
		cause:     "The guest ended itself without a reason; without a word on its console that is a kernel booted without its EFI stub that does not know its own privilege level (from 68a501d7fd82 on), or one that met an exception too early.",
		advice:    "Boot through OVMF's EFI, or use a guest kernel with that fixed.",
		reference: sevCommon + "; https://lkml.iu.edu/hypermail/linux/kernel/2602.3/04369.html",
		likely:    true,
	},
	{
		id: "guest-terminated", re: expression(`SEV-ES guest requested termination: (0x[0-9a-f]+):(0x[0-9a-f]+)`), exact: true,
		cause:     "The guest ended itself, with reason $2 of set $1.",
		advice:    "Look the reason up in the source of the guest's firmware or kernel, and read its console.",
		reference: sevCommon,
	},
}

// aboutSNPGuest is what the log of an SNP guest, or of its launch, says.
var aboutSNPGuest = expression(`Memory Encryption Features active:.*SEV-SNP|sev-snp-guest|SNP_LAUNCH`)

// toolMessages explains what measuring and attesting tools say, on the host and in
// the guest.
var toolMessages = []messageEntry{
	{
		id: "measure-no-hashes-section", re: expression(`Kernel specified but OVMF metadata doesn't include SNP_KERNEL_HASHES section`),
		cause:     "A kernel is to be measured with a firmware that has no place for the table of kernel hashes: only the AmdSev build of OVMF has one.",
		advice:    "Measure, and launch, with the firmware built from OvmfPkg/AmdSev/AmdSevX64.dsc (Debian's package ovmf-amdsev).",
		reference: "https://github.com/virtee/sev-snp-measure/issues/26",
	},
	{
		id: "measure-no-reset-block", re: expression(`Can't find SEV_ES_RESET_BLOCK_GUID entry in OVMF table`),
		cause:     "The file is no whole OVMF image: a VARS file, another firmware, or none at all.",
		advice:    "Give the one-piece OVMF image (OVMF.fd, or OVMF.amdsev.fd for kernel hashes).",
		reference: "https://github.com/virtee/sev-snp-measure/issues/51",
	},
	{
		id: "measurement-differs", re: expression(`[Mm]easurement[^\n]{0,200}(?:do(?:es)? not match|doesn't match|mismatch)|report field MEASUREMENT is |\bmeasurement [0-9a-f]{96} is not the computed one`),
		cause:     "The measurement in the report is not the computed one: what was computed from is not what was launched, or the tool is older than the firmware's metadata, the host's kernel or the CPU model.",
		advice:    "Compute it again from the very files, vCPU count, CPU model and host kernel of the launch, following the sections in the firmware's own order.",
		reference: "https://github.com/amd/sev-utils/issues/8; https://github.com/virtee/sev/issues/194; https://github.com/tianocore/edk2/pull/6054; https://github.com/virtee/sev-snp-measure/issues/37",
	},
	{
		id: "guest-no-device", re: expression(`/dev/sev-guest\b[^\n]*(?:[Nn]o such file or directory|not found|does not exist|No such device)`),
		cause:     "The guest's kernel offers no /dev/sev-guest: the module sev-guest is not loaded, or not in the initramfs, or this is no SNP guest.",
		advice:    "Run modprobe sev-guest in the guest, and put configfs, tsm and sev-guest, unpacked and in this order, into an initramfs of your own.",
		reference: threads + "198, 118",
	},
	{
		id: "guest-vmpl", re: expression(`[Ff]irmware [Ee]rror:? ?(?:0x0*16|22)\b`),
		cause:     "The firmware refused the request from the guest (INVALID_PARAM), as it does where a report is asked for at a more privileged level (VMPL) than the one that asks, such as VMPL0 under an SVSM.",
		advice:    "Ask for the VMPL that the guest runs at, such as snpguest report --vmpl 1.",
		reference: "https://github.com/AMDESE/sev-guest/issues/26; AMD 56860, MSG_REPORT_REQ",
	},
	{
		id: "guest-aead", re: expression(`[Ff]irmware [Ee]rror:? ?(?:0x0*1[dD]|29)\b`),
		cause:     "The guest's messages to the firmware carry a sequence number that was used before (AEAD_OFLOW): the tool makes its own messages and does not keep count.",
		advice:    "Get reports through snpguest, go-sev-guest or configfs-tsm, which leave the count to the kernel.",
		reference: "https://github.com/AMDESE/sev-guest/issues/40",
	},
	{
		id: "guest-vmpck-disabled", re: expression(`Disabling VMPCK\d communication key to prevent IV reuse`),
		cause:     "The guest's kernel has given up its key for messages to the firmware, because it no longer knows which sequence number is next; no more reports can be had from it.",
		advice:    "Restart the guest, and look for the error before this line.",
		reference: "Linux drivers/virt/coco/sev-guest/sev-guest.c",
	},
}
