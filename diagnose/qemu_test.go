package diagnose

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/snplaunch/snplaunch/snp"
)

// The lines are QEMU's own: seen from QEMU 10.0.2, on a host without SNP or
// with every KVM and firmware answer injected, unless another origin is named.
var parseTests = []struct {
	name   string
	stderr string
	id     string
	// of the launch command
	command string
	ret, fw int
	asked   bool
	status  snp.Status
	// of the text
	message       string
	cause, advice string // words that must be there
}{
	{
		name: "policy refused by the firmware",
		stderr: `qemu-system-x86_64: -accel kvm: sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=7 'Policy is not allowed'
qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to create encryption context
qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted`,
		id: "start-policy", command: "SNP_LAUNCH_START", ret: -5, fw: 7, asked: true, status: snp.StatusPolicyFailure,
		message: "sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=7 'Policy is not allowed'",
		cause:   "The firmware refused the guest policy", advice: "0x30000",
	},
	{
		name: "policy refused by KVM",
		stderr: `qemu-system-x86_64: -accel kvm: sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''
qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to create encryption context
qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted`,
		id: "start-arguments", command: "SNP_LAUNCH_START", ret: -22, fw: 0, status: snp.StatusNoFWCall,
		message: "sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''",
		cause:   "never asked the firmware: bit 17 is clear, or MIGRATE_MA", advice: "0x30000",
	},
	{
		name:   "no SNP context",
		stderr: `qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-25 fw_error=0 ''`,
		id:     "start-context", command: "SNP_LAUNCH_START", ret: -25, status: snp.StatusNoFWCall,
		message: "sev_snp_launch_start: SNP_LAUNCH_START ret=-25 fw_error=0 ''",
		cause:   "no SNP guest context", advice: "Failed to create SEV-SNP context",
	},
	{
		name:   "firmware not initialised at START",
		stderr: `qemu-system-x86_64: -accel kvm: sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=1 'Platform state is invalid'`,
		id:     "start-platform", command: "SNP_LAUNCH_START", ret: -5, fw: 1, asked: true, status: snp.StatusInvalidPlatformState,
		message: "sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=1 'Platform state is invalid'",
		cause:   "not initialised", advice: "kernel log",
	},
	{
		name:   "START refused by the firmware in a way the catalogue has no entry for",
		stderr: `qemu-system-x86_64: -accel kvm: sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=13 'Invalid ASID'`,
		id:     "firmware-refused", command: "SNP_LAUNCH_START", ret: -5, fw: 13, asked: true, status: snp.StatusInvalidASID,
		message: "sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=13 'Invalid ASID'",
		cause:   "refused SNP_LAUNCH_START with INVALID_ASID (0xd)", advice: "INVALID_ASID for SNP_LAUNCH_START",
	},
	{
		// QEMU's table of names ends at 0x18 and its numbers after it differ
		// from the firmware's: 0x20 must not be called by QEMU's name.
		name:   "status that QEMU has no name for",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-5 fw_error=32 'unknown error'`,
		id:     "firmware-refused", command: "SNP_LAUNCH_UPDATE", ret: -5, fw: 32, asked: true, status: snp.StatusRMPInitRequired,
		message: "SNP_LAUNCH_UPDATE ret=-5 fw_error=32 'unknown error'",
		cause:   "RMP_INIT_REQUIRED (0x20)", advice: "56860",
	},
	{
		name:   "firmware never called",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-19 fw_error=-1 'unknown error'`,
		id:     "no-firmware-call", command: "SNP_LAUNCH_FINISH", ret: -19, fw: -1, status: snp.StatusNoFWCall,
		message: "SNP_LAUNCH_FINISH ret=-19 fw_error=-1 'unknown error'",
		cause:   "never asked", advice: "ccp",
	},
	{
		name:   "KVM's refusal without an entry",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-25 fw_error=0 ''`,
		id:     "kvm-refused", command: "SNP_LAUNCH_FINISH", ret: -25, status: snp.StatusNoFWCall,
		message: "SNP_LAUNCH_FINISH ret=-25 fw_error=0 ''",
		cause:   "refused SNP_LAUNCH_FINISH (errno 25, inappropriate ioctl for device)", advice: "kernel log",
	},
	{
		name: "platform status",
		stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to get platform status ret=-1 fw_error='1: Platform state is invalid'
qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted`,
		id: "platform-state", command: "SNP_PLATFORM_STATUS", ret: -1, fw: 1, asked: true, status: snp.StatusInvalidPlatformState,
		message: "sev_common_kvm_init: failed to get platform status ret=-1 fw_error='1: Platform state is invalid'",
		cause:   "not initialised for SNP", advice: "RMP",
	},
	{
		name: "INIT2 arguments",
		stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to initialize ret=-22 fw_error=0 ''
qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted`,
		id: "init-arguments", command: "KVM_SEV_INIT2", ret: -22, status: snp.StatusNoFWCall,
		message: "sev_common_kvm_init: failed to initialize ret=-22 fw_error=0 ''",
		cause:   "arguments of KVM_SEV_INIT2", advice: "QEMU 9.1",
	},
	{
		name:   "INIT2 disabled (AMDSEV issue 258)",
		stderr: `qemu-system-x86_64: sev_kvm_init: failed to initialize ret=-25 fw_error=0 ''`,
		id:     "init-disabled", command: "KVM_SEV_INIT2", ret: -25, status: snp.StatusNoFWCall,
		message: "sev_kvm_init: failed to initialize ret=-25 fw_error=0 ''",
		cause:   "SEV-SNP disabled", advice: "SEV-ES ASID space limit",
	},
	{
		name:   "INIT2 without a free ASID",
		stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to initialize ret=-16 fw_error=0 ''`,
		id:     "init-asids", command: "KVM_SEV_INIT2", ret: -16, status: snp.StatusNoFWCall,
		message: "sev_common_kvm_init: failed to initialize ret=-16 fw_error=0 ''",
		cause:   "ASID", advice: "Stop another",
	},
	{
		name:   "INIT2 of another ABI (svsm-vtpm/linux-svsm issue 7)",
		stderr: `qemu-system-x86_64: sev_kvm_init: failed to initialize ret=-95 fw_error=0 ''`,
		id:     "init-old-abi", command: "KVM_SEV_INIT2", ret: -95, status: snp.StatusNoFWCall,
		message: "sev_kvm_init: failed to initialize ret=-95 fw_error=0 ''",
		cause:   "before it went upstream", advice: "6.11",
	},
	{
		name: "CPUID page",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'
qemu-system-x86_64: SEV-SNP: CPUID validation failed for function 0x8000001d, index: 0x3, provided: eax:0x00000163, ebx: 0x03c0003f, ecx: 0x00001fff, edx: 0x00000006, expected: eax:0x00000163, ebx: 0x03c0003f, ecx: 0x00001fff, edx: 0x00000002
qemu-system-x86_64: SEV-SNP: failed update CPUID page`,
		id: "update-cpuid", command: "SNP_LAUNCH_UPDATE", ret: -5, fw: 22, asked: true, status: snp.StatusInvalidParam,
		message: "SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'; SEV-SNP: CPUID validation failed for function 0x8000001d, index: 0x3, provided: eax:0x00000163, ebx: 0x03c0003f, ecx: 0x00001fff, edx: 0x00000006, expected: eax:0x00000163, ebx: 0x03c0003f, ecx: 0x00001fff, edx: 0x00000002",
		cause:   "leaf 0x8000001d, subleaf 0x3", advice: "EPYC-v4",
	},
	{
		name: "CPUID page, another number of leaves",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'
qemu-system-x86_64: SEV-SNP: CPUID validation failed due to count mismatch, provided: 27, expected: 26`,
		id: "update-cpuid", command: "SNP_LAUNCH_UPDATE", ret: -5, fw: 22, asked: true, status: snp.StatusInvalidParam,
		message: "SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'; SEV-SNP: CPUID validation failed due to count mismatch, provided: 27, expected: 26",
		cause:   "CPUID page", advice: "EPYC-v4",
	},
	{
		name:   "page with a bad parameter",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'`,
		id:     "update-parameter", command: "SNP_LAUNCH_UPDATE", ret: -5, fw: 22, asked: true, status: snp.StatusInvalidParam,
		message: "SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'",
		cause:   "type or contents", advice: "-trace 'kvm_sev*'",
	},
	{
		name:   "page not private or there already",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-5 fw_error=0 ''`,
		id:     "update-not-populated", command: "SNP_LAUNCH_UPDATE", ret: -5, status: snp.StatusNoFWCall,
		message: "SNP_LAUNCH_UPDATE ret=-5 fw_error=0 ''",
		cause:   "never asked the firmware: the same guest address", advice: "-trace 'kvm_sev*'",
	},
	{
		name:   "page type",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-22 fw_error=0 ''`,
		id:     "update-arguments", command: "SNP_LAUNCH_UPDATE", ret: -22, status: snp.StatusNoFWCall,
		message: "SNP_LAUNCH_UPDATE ret=-22 fw_error=0 ''",
		cause:   "a page type it does not know", advice: "-bios",
	},
	{
		name:   "page state",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-5 fw_error=26 'unknown error'`,
		id:     "update-page-state", command: "SNP_LAUNCH_UPDATE", ret: -5, fw: 26, asked: true, status: snp.StatusInvalidPageState,
		message: "SNP_LAUNCH_UPDATE ret=-5 fw_error=26 'unknown error'",
		cause:   "INVALID_PAGE_STATE", advice: "RMP",
	},
	{
		name:   "digest",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'`,
		id:     "finish-measurement", command: "SNP_LAUNCH_FINISH", ret: -5, fw: 11, asked: true, status: snp.StatusBadMeasurement,
		message: "SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'",
		cause:   "policy and signatures were not looked at yet", advice: "0x21",
	},
	{
		name:   "policy in the ID block",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-5 fw_error=7 'Policy is not allowed'`,
		id:     "finish-policy", command: "SNP_LAUNCH_FINISH", ret: -5, fw: 7, asked: true, status: snp.StatusPolicyFailure,
		message: "SNP_LAUNCH_FINISH ret=-5 fw_error=7 'Policy is not allowed'",
		cause:   "the launch digest in it is right", advice: "same policy",
	},
	{
		name:   "signature",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-5 fw_error=10 'Bad signature'`,
		id:     "finish-signature", command: "SNP_LAUNCH_FINISH", ret: -5, fw: 10, asked: true, status: snp.StatusBadSignature,
		message: "SNP_LAUNCH_FINISH ret=-5 fw_error=10 'Bad signature'",
		cause:   "launch digest, policy and key algorithms are right", advice: "author-key-enabled",
	},
	{
		name:   "algorithm field (with the function's name, as AMD's QEMU prints it)",
		stderr: `qemu-system-x86_64: sev_snp_launch_finish: SNP_LAUNCH_FINISH ret=-5 fw_error=22 'Invalid parameter'`,
		id:     "finish-parameter", command: "SNP_LAUNCH_FINISH", ret: -5, fw: 22, asked: true, status: snp.StatusInvalidParam,
		message: "sev_snp_launch_finish: SNP_LAUNCH_FINISH ret=-5 fw_error=22 'Invalid parameter'",
		cause:   "key algorithm", advice: "author key",
	},
	{
		name:   "ID block without ID auth",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-22 fw_error=0 ''`,
		id:     "finish-arguments", command: "SNP_LAUNCH_FINISH", ret: -22, status: snp.StatusNoFWCall,
		message: "SNP_LAUNCH_FINISH ret=-22 fw_error=0 ''",
		cause:   "without ID authentication information", advice: "together or neither",
	},
	{
		name:   "vCPU created during FINISH",
		stderr: `qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-16 fw_error=0 ''`,
		id:     "finish-busy", command: "SNP_LAUNCH_FINISH", ret: -16, status: snp.StatusNoFWCall,
		message: "SNP_LAUNCH_FINISH ret=-16 fw_error=0 ''",
		cause:   "creating a vCPU", advice: "new VM",
	},

	{
		name: "no /dev/kvm", stderr: "Could not access KVM kernel module: Permission denied\nqemu-system-x86_64: failed to initialize kvm: Permission denied",
		id: "kvm-device", message: "Could not access KVM kernel module: Permission denied",
		cause: "/dev/kvm: Permission denied", advice: "group",
	},
	{
		name: "no SNP VM type", stderr: `qemu-system-x86_64: -accel kvm: vm-type SEV-SNP not supported by KVM`,
		id: "kvm-no-snp", message: "vm-type SEV-SNP not supported by KVM", cause: "before 6.11", advice: "sev_snp",
	},
	{
		name: "no guest_memfd", stderr: `qemu-system-x86_64: -accel kvm: KVM does not support guest_memfd`,
		id: "kvm-no-guest-memfd", message: "KVM does not support guest_memfd", cause: "without guest_memfd", advice: "CONFIG_KVM_AMD_SEV",
	},
	{
		name: "guest_memfd refused", stderr: `qemu-system-x86_64: Error creating KVM guest_memfd: Cannot allocate memory`,
		id: "guest-memfd", message: "Error creating KVM guest_memfd: Cannot allocate memory", cause: "for the guest: Cannot allocate memory", advice: "less memory",
	},
	{
		name: "TCG", stderr: `qemu-system-x86_64: cannot set up private guest memory for sev-snp-guest: KVM required`,
		id: "kvm-required", message: "cannot set up private guest memory for sev-snp-guest: KVM required", cause: "sev-snp-guest needs KVM", advice: "-accel kvm",
	},
	{
		name: "C-bit",
		stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: cbitpos check failed, host '0' requested '51'
qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted`,
		id: "cbitpos", message: "sev_common_kvm_init: cbitpos check failed, host '0' requested '51'",
		cause: "cbitpos=51 was given, and the processor says 0", advice: "Use cbitpos=0;",
	},
	{
		name: "reduced-phys-bits omitted", stderr: `qemu-system-x86_64: -object sev-snp-guest,id=sev0,cbitpos=0: Parameter 'reduced-phys-bits' is missing`,
		id: "reduced-phys-bits-missing", message: "Parameter 'reduced-phys-bits' is missing", cause: "without reduced-phys-bits", advice: "reduced-phys-bits=1",
	},
	{
		name: "reduced-phys-bits 64", stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: reduced_phys_bits check failed, it should be in the range of 1 to 63, requested '64'`,
		id: "reduced-phys-bits-range", message: "sev_common_kvm_init: reduced_phys_bits check failed, it should be in the range of 1 to 63, requested '64'",
		cause: "reduced-phys-bits=64", advice: "reduced-phys-bits=1",
	},
	{
		name: "no /dev/sev", stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: Failed to open /dev/sev 'No such file or directory'`,
		id: "sev-device-missing", message: "sev_common_kvm_init: Failed to open /dev/sev 'No such file or directory'", cause: "The device /dev/sev", advice: "modprobe ccp",
	},
	{
		name: "/dev/sev forbidden", stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: Failed to open /dev/sev 'Permission denied'`,
		id: "sev-device-permission", message: "sev_common_kvm_init: Failed to open /dev/sev 'Permission denied'", cause: "cannot open /dev/sev: Permission denied", advice: "access to /dev/sev,",
	},
	{
		name: "VMSA features (QEMU 10.1 and newer)", stderr: `qemu-system-x86_64: -accel kvm: failed to query supported sev_features`,
		id: "sev-features", message: "failed to query supported sev_features", cause: "VMSA features", advice: "newer host kernel",
	},
	{
		name: "old QEMU", stderr: `qemu-system-x86_64: -object sev-snp-guest,id=sev0: Parameter 'qom-type' does not accept value 'sev-snp-guest'`,
		id: "no-snp-object", message: "Parameter 'qom-type' does not accept value 'sev-snp-guest'", cause: "does not know the object sev-snp-guest", advice: "QEMU 9.1",
	},
	{
		name: "fork's property", stderr: `qemu-system-x86_64: -object sev-snp-guest,id=sev0,cbitpos=0,reduced-phys-bits=1,certs-path=x: Invalid parameter 'certs-path'`,
		id: "unknown-property", message: "Invalid parameter 'certs-path'", cause: "no property certs-path", advice: "author-key-enabled",
	},
	{
		name: "text for a kernel", stderr: "qemu: invalid kernel header",
		id: "kernel-header", message: "qemu: invalid kernel header", cause: "no Linux kernel", advice: "bzImage",
	},
	{
		name: "no kernel", stderr: "qemu: could not load kernel '/dev/null': Success",
		id: "kernel-header", message: "qemu: could not load kernel '/dev/null': Success", cause: "no Linux kernel", advice: "bzImage",
	},
	{
		name: "wrong id", stderr: `qemu-system-x86_64: Device 'sev1' not found`,
		id: "object-missing", message: "Device 'sev1' not found", cause: "'sev1'", advice: "same id",
	},
	{
		name: "wrong id, the older option", stderr: `qemu-system-x86_64: No such memory encryption object 'sev1'`,
		id: "object-missing", message: "No such memory encryption object 'sev1'", cause: "'sev1'", advice: "same id",
	},
	{
		name: "id-block", stderr: `qemu-system-x86_64: parameter length of 3 not equal to 96`,
		id: "id-block-length", message: "parameter length of 3 not equal to 96", cause: "id-block holds 3 bytes", advice: "base64",
	},
	{
		name: "id-auth", stderr: `qemu-system-x86_64: parameter length:ID_AUTH 4097 exceeds max of 4096`,
		id: "id-auth-length", message: "parameter length:ID_AUTH 4097 exceeds max of 4096", cause: "id-auth holds 4097 bytes", advice: "base64",
	},
	{
		name: "host-data", stderr: `qemu-system-x86_64: parameter length of 3 not equal to 32`,
		id: "host-data-length", message: "parameter length of 3 not equal to 32", cause: "host-data holds 3 bytes", advice: "exactly 32 bytes",
	},
	{
		name: "gosvw", stderr: `qemu-system-x86_64: parameter length of 17 exceeds max of 16`,
		id: "workarounds-length", message: "parameter length of 17 exceeds max of 16", cause: "holds 17 bytes", advice: "exactly 16",
	},
	{
		name: "base64", stderr: `qemu-system-x86_64: Base64 data contains invalid characters`,
		id: "base64", message: "Base64 data contains invalid characters", cause: "a path", advice: "base64",
	},
	{
		name: "SMM", stderr: `qemu-system-x86_64: -accel kvm: SEV-SNP does not support SMM.`,
		id: "smm", message: "SEV-SNP does not support SMM.", cause: "system management mode", advice: "smm=off",
	},
	{
		name: "split irqchip", stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: SEV-ES guests require in-kernel irqchipsupport`,
		id: "irqchip", message: "sev_common_kvm_init: SEV-ES guests require in-kernel irqchipsupport", cause: "kernel-irqchip=split", advice: "kernel-irqchip=on",
	},
	{
		name: "CODE-only firmware", stderr: `qemu: could not load PC BIOS '/usr/share/OVMF/OVMF_CODE_4M.fd'`,
		id: "firmware-file", message: "could not load PC BIOS '/usr/share/OVMF/OVMF_CODE_4M.fd'", cause: "firmware /usr/share/OVMF/OVMF_CODE_4M.fd:", advice: "one-piece",
	},
	{
		name: "no GUIDed table",
		stderr: `qemu-system-x86_64: SEV information block/Firmware GUID Table block not found in pflash rom
qemu-system-x86_64: failed to locate and/or save reset vector`,
		id: "firmware-no-table", message: "SEV information block/Firmware GUID Table block not found in pflash rom", cause: "GUIDed table", advice: "one-piece",
	},
	{
		name: "no metadata", stderr: `qemu-system-x86_64: sev_snp_launch_finish: Failed to locate SEV metadata header`,
		id: "firmware-no-metadata", message: "sev_snp_launch_finish: Failed to locate SEV metadata header", cause: "no SEV metadata", advice: "AmdSevX64.dsc",
	},
	{
		name: "kernel hashes with OvmfPkgX64", stderr: `qemu-system-x86_64: SEV: guest firmware hashes table area is invalid (base=0x0 size=0x0)`,
		id: "firmware-no-hashes", message: "SEV: guest firmware hashes table area is invalid (base=0x0 size=0x0)", cause: "AmdSev build", advice: "ovmf-amdsev",
	},
	{
		name: "kernel hashes without the GUID", stderr: `qemu-system-x86_64: SEV: kernel specified but guest firmware has no hashes table GUID`,
		id: "firmware-no-hashes", message: "SEV: kernel specified but guest firmware has no hashes table GUID", cause: "AmdSev build", advice: "ovmf-amdsev",
	},
	{
		name:   "kernel hashes without a kernel (kata-containers issue 11785)",
		stderr: "qemu-system-x86_64: ../target/i386/sev.c:1577: snp_launch_update_kernel_hashes: Assertion `sev_snp->kernel_hashes_data' failed.",
		id:     "kernel-hashes-no-kernel", message: "snp_launch_update_kernel_hashes: Assertion `sev_snp->kernel_hashes_data' failed.",
		cause: "no -kernel", advice: "bzImage",
	},
	{
		name:   "pflash (AMDSEV issue 236)",
		stderr: `qemu-system-x86_64: kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=2, start=0xffc84000, size=0x37c000, flags=0x2, guest_memfd=-1, guest_memfd_offset=0x0: Invalid argument`,
		id:     "pflash", message: "kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=2, start=0xffc84000, size=0x37c000, flags=0x2, guest_memfd=-1, guest_memfd_offset=0x0: Invalid argument",
		cause: "at 0xffc84000 (size 0x37c000)", advice: "-bios",
	},
	{
		name:   "memory region",
		stderr: `qemu-system-x86_64: kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=0, start=0x0, size=0x20000000, flags=0x4, guest_memfd=12, guest_memfd_offset=0x0: Invalid argument`,
		id:     "memory-region", message: "kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=0, start=0x0, size=0x20000000, flags=0x4, guest_memfd=12, guest_memfd_offset=0x0: Invalid argument",
		cause: "at 0x0 (size 0x20000000)", advice: "memory-backend-memfd",
	},
	{
		name: "attributes",
		stderr: `qemu-system-x86_64: failed to set memory (0x0+0x20000000) with attr 0x8 error 'Invalid argument'
qemu-system-x86_64: kvm_set_phys_mem: failed to set memory attribute private: Invalid argument`,
		id: "memory-attributes", message: "failed to set memory (0x0+0x20000000) with attr 0x8 error 'Invalid argument'",
		cause: "private: Invalid argument", advice: "CONFIG_KVM_AMD_SEV",
	},
	{
		name: "reset", stderr: `qemu-system-x86_64: cpus are not resettable, terminating`,
		id: "reset", message: "cpus are not resettable, terminating", cause: "reset", advice: "console",
	},
	{
		name: "old OVMF (AMDSEV issue 236)", stderr: `Convert non guest_memfd backed memory region (0xfee00000 ,+ 0x1000) to private`,
		id: "not-private-memory", message: "Convert non guest_memfd backed memory region (0xfee00000 ,+ 0x1000) to private", cause: "0xfee00000 (size 0x1000)", advice: "OVMF",
	},
	{
		name: "unknown exit (AMDSEV issue 182)", stderr: `KVM: unknown exit reason 24`,
		id: "kvm-exit-terminated", message: "KVM: unknown exit reason 24", cause: "asked to be ended", advice: "QEMU",
	},
	{
		name: "run failed (AMDSEV issue 138)", stderr: "error: kvm run failed Invalid argument\nEAX=00000000 EBX=00000000 ECX=00000000 EDX=00000000",
		id: "kvm-run", message: "error: kvm run failed Invalid argument", cause: "could not go on", advice: "RMP faults",
	},
	{
		name: "internal error", stderr: "KVM internal error. Suberror: 1\nemulation failure",
		id: "kvm-run", message: "KVM internal error. Suberror: 1", cause: "could not go on", advice: "kernel log",
	},
	{
		name: "KVM_CAP_EXIT_HYPERCALL refused",
		stderr: `qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to create encryption context
qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted`,
		id: "no-encryption-context", message: "sev_common_kvm_init: failed to create encryption context", cause: "KVM_CAP_EXIT_HYPERCALL", advice: "6.11",
	},
	{
		name: "attribute, cut output", stderr: `qemu-system-x86_64: kvm_set_phys_mem: failed to set memory attribute private: Invalid argument`,
		id: "memory-not-private", message: "kvm_set_phys_mem: failed to set memory attribute private: Invalid argument", cause: "private", advice: "CONFIG_KVM_AMD_SEV",
	},
	{
		name: "CPUID page, cut output", stderr: `qemu-system-x86_64: SEV-SNP: failed update CPUID page`,
		id: "cpuid-page", message: "SEV-SNP: failed update CPUID page", cause: "CPUID page", advice: "EPYC-v4",
	},
	{
		name: "reset vector, cut output", stderr: `qemu-system-x86_64: failed to locate and/or save reset vector`,
		id: "reset-vector", message: "failed to locate and/or save reset vector", cause: "other vCPUs start", advice: "one-piece",
	},
	{
		name: "last words only", stderr: `qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted`,
		id: "kvm-init", message: "failed to initialize kvm: Operation not permitted", cause: "Operation not permitted", advice: "lines before",
	},
}

func TestParseQEMU(t *testing.T) {
	wrappings := map[string]func(string) string{
		"alone":    func(s string) string { return s },
		"newline":  func(s string) string { return s + "\n" },
		"terminal": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") + "\r\n" },
		"-msg timestamp=on": func(s string) string {
			return regexp.MustCompile(`(?m)^`).ReplaceAllString(s, "2026-11-03T08:15:42.123456Z ")
		},
		"journal": func(s string) string {
			return regexp.MustCompile(`(?m)^`).ReplaceAllString(s, `Nov 03 08:15:42 host libvirtd[712]: time="2026-11-03" level=error msg=`)
		},
		"among other output": func(s string) string {
			return "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]\n" +
				"\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001\n\n" + s + "\n2026-11-03 08:15:43.000+0000: shutting down, reason=failed\n"
		},
	}
	for _, tc := range parseTests {
		t.Run(tc.name, func(t *testing.T) {
			for how, wrap := range wrappings {
				f := ParseQEMU(wrap(tc.stderr))
				if f == nil {
					t.Fatalf("%s: not recognised", how)
				}
				status := tc.status
				if tc.command == "" {
					status = snp.StatusNoFWCall
				}
				if f.ID != tc.id || f.Command != tc.command || f.Ret != tc.ret || f.FWError != tc.fw ||
					f.FWAsked != tc.asked || f.FWStatus != status {
					t.Errorf("%s: got %s: %q ret=%d fw_error=%d asked %v %v\nwant %s: %q ret=%d fw_error=%d asked %v %v", how,
						f.ID, f.Command, f.Ret, f.FWError, f.FWAsked, f.FWStatus,
						tc.id, tc.command, tc.ret, tc.fw, tc.asked, status)
				}
				if f.Message != tc.message {
					t.Errorf("%s: message %q\nwant %q", how, f.Message, tc.message)
				}
				if !strings.Contains(f.Cause, tc.cause) || !strings.Contains(f.Advice, tc.advice) {
					t.Errorf("%s: the text lacks %q or %q:\n%s", how, tc.cause, tc.advice, f)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// Every entry is reached by a test, and is one plain sentence and one advice.
func TestCatalogue(t *testing.T) {
	tested := map[string]bool{}
	for _, tc := range parseTests {
		tested[tc.id] = true
		wellFormed(t, tc.name, ParseQEMU(tc.stderr))
	}
	for _, p := range pastes {
		tested[p.id] = true
		tested[p.also] = true
	}
	for _, e := range launches {
		if e.and != nil {
			e.and() // panics where it is no regular expression
		}
		if !tested[e.id] {
			t.Errorf("no test for %s", e.id)
		}
	}
	for _, list := range catalogue() {
		if len(list) == 0 {
			t.Error("a list of the catalogue is empty")
		}
		for _, e := range list {
			if !tested[e.id] {
				t.Errorf("no test for %s", e.id)
			}
		}
	}
	if len(launches) == 0 {
		t.Error("the catalogue is empty")
	}
}

var sentenceEnd = regexp.MustCompile(`[.!?] [A-Z]`)

func wellFormed(t *testing.T, name string, f *Failure) {
	t.Helper()
	for what, s := range map[string]string{"cause": f.Cause, "advice": f.Advice} {
		if !strings.HasSuffix(s, ".") || sentenceEnd.MatchString(s) {
			t.Errorf("%s: the %s is not one sentence: %s", name, what, s)
		}
		if strings.Contains(s, "$") {
			t.Errorf("%s: the %s has a hole: %s", name, what, s)
		}
	}
	if f.ID == "" || f.Message == "" || f.Reference == "" {
		t.Errorf("%s: something is empty: %+v", name, f)
	}
}

func TestParseQEMUNothing(t *testing.T) {
	for _, s := range []string{
		"", "\n\n", "qemu-system-x86_64: terminating on signal 15 from pid 1\n",
		"qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]",
		"SNP_LAUNCH_START ret=? fw_error=?", "SNP_LAUNCH_START ret=-22",
		"SNP_LAUNCH_START ret=-99999999999999999999 fw_error=0 ''",
		"qemu-system-x86_64: parameter length of 3 not equal to 967",
		"qemu-system-x86_64: Failed to open /etc/passwd 'No such file or directory'",
	} {
		if f := ParseQEMU(s); f != nil {
			t.Errorf("%q is taken for %+v", s, f)
		}
	}
}

// The first failure counts, and a consequence does not hide a cause that comes
// later.
func TestParseQEMUOrder(t *testing.T) {
	const (
		end   = "qemu: failed to initialize kvm: Operation not permitted\n"
		first = "qemu: SNP_LAUNCH_UPDATE ret=-5 fw_error=0 ''\n"
		then  = "qemu: SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'\n"
		after = "qemu: sev_common_kvm_init: failed to create encryption context\n"
	)
	for _, tc := range []struct{ in, want string }{
		{first + then, "update-not-populated"},
		{then + first, "finish-measurement"},
		{end + after + then, "finish-measurement"},
		{end + after, "no-encryption-context"},
	} {
		if f := ParseQEMU(tc.in); f == nil || f.ID != tc.want {
			t.Errorf("%q: got %+v, want %s", tc.in, f, tc.want)
		}
	}
}

// QEMU repeats options as it got them: a message is bounded and cannot
// command the terminal.
func TestMessageIsClean(t *testing.T) {
	f := ParseQEMU("qemu: vm-type SEV-SNP not supported by KVM\x1b]0;title\x07 \u009b31m" + strings.Repeat("é", 5000))
	if f == nil || len(f.Message) > longestMessage+len("…") || strings.ContainsFunc(f.Message, unicode.IsControl) {
		t.Errorf("got %+v", f)
	}
}

func FuzzParseQEMU(f *testing.F) {
	for _, tc := range parseTests {
		f.Add(tc.stderr)
	}
	f.Fuzz(func(t *testing.T, stderr string) {
		got := ParseQEMU(stderr)
		if got == nil {
			return
		}
		if got.ID == "" || got.Message == "" || got.Reference == "" || got.Cause == "" || got.Advice == "" {
			t.Errorf("something is empty: %+v", got)
		}
		if got.FWAsked != (got.FWError > 0) || got.FWAsked != (got.FWStatus != snp.StatusNoFWCall) {
			t.Errorf("whether the firmware was asked is contradictory: %+v", got)
		}
		if got.Command == "" && (got.Ret != 0 || got.FWError != 0) {
			t.Errorf("numbers without a command: %+v", got)
		}
		for _, s := range []string{got.Message, got.Cause, got.Advice} {
			if strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("control characters in %q", s)
			}
		}
		if again := ParseQEMU("nothing to see here\n" + stderr); again == nil || *again != *got {
			t.Errorf("a line before it changes the result to %+v, was %+v", again, got)
		}
	})
}
