package diagnose

import (
	"strings"
	"testing"
)

// pastes are failures as people post them: the words of the symptom, with what such a log
// has around them. The symptoms are those of the reference of each entry; what is
// around them was written for these tests.
var pastes = []struct {
	name string
	log  string
	id   string // of the first finding
	also string // of a finding after it
}{
	// The host.
	{name: "no RMP", id: "rmp-not-reserved", also: "kvm-no-snp", log: `
$ sudo dmesg | grep -i -e rmp -e sev
[    0.000000] Linux version 6.11.0-rc3-snp-host (root@epyc) #1 SMP PREEMPT_DYNAMIC
[    0.613351] SEV-SNP: Memory for the RMP table has not been reserved by BIOS
[    9.123312] ccp 0000:22:00.1: sev enabled
[    9.130541] kvm_amd: SEV enabled (ASIDs 100 - 509)
[    9.130543] kvm_amd: SEV-ES enabled (ASIDs 1 - 99)
[    9.130544] kvm_amd: SEV-SNP disabled (ASIDs 1 - 99)
$ sudo ./launch-qemu.sh -sev-snp -hda ubuntu.qcow2
qemu-system-x86_64: -accel kvm: vm-type SEV-SNP not supported by KVM`},
	{name: "iommu=pt", id: "iommu-passthrough", log: `
[    0.000000] Command line: BOOT_IMAGE=/vmlinuz-6.11.0 root=/dev/sda2 ro iommu=pt quiet
[    1.873114] AMD-Vi: SNP: IOMMU is disabled or configured in passthrough mode, SNP cannot be supported`},
	{name: "iommu=pt, newer words", id: "iommu-passthrough", log: `Nov 03 08:15:42 epyc kernel: AMD-Vi: SNP: IOMMU disabled or configured in passthrough mode, SNP cannot be supported.`},
	{name: "iommu=pt, older words", id: "iommu-passthrough", log: `[    1.02] AMD-Vi: SEV-SNP: IOMMU is either disabled or configured in passthrough mode.`},
	{name: "IOMMU without SNP", id: "iommu-no-snp", log: `[    1.02] AMD-Vi: SNP: IOMMU SNP feature not enabled, SNP cannot be supported.`},
	{name: "IOMMU without SNP, in silence", id: "iommu-no-snp", log: `
# dmesg | grep -e AMD-Vi -e SEV
[    0.511301] AMD-Vi: Using global IVHD EFR:0x25bf732fa2295afe, EFR2:0x1d
[    3.240911] pci 0000:60:00.2: AMD-Vi: Found IOMMU cap 0x40
# cat /proc/cmdline
BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 kvm_amd.sev_snp=1`},
	{name: "nosmt", id: "snp-init-config", also: "sev-init", log: `
[   10.041231] ccp 0000:47:00.1: enabling device (0000 -> 0002)
[   10.043411] ccp 0000:47:00.1: sev enabled
[   12.411232] ccp 0000:47:00.1: SEV-SNP: failed to INIT rc -5, error 0x3
[   12.413311] ccp 0000:47:00.1: SEV API:1.55 build:21
[   12.522341] ccp 0000:47:00.1: SEV: failed to INIT error 0x1, rc -5`},
	{name: "another status", id: "snp-init", log: `[   12.411232] ccp 0000:47:00.1: SEV-SNP: failed to INIT rc -5, error 0x26`},
	{name: "SEV only", id: "sev-init", log: `[   12.411232] ccp 0000:47:00.1: SEV: failed to INIT error 0x1, rc -5`},
	{name: "old firmware", id: "firmware-version", log: `
[    3.021999] ccp 0000:01:00.5: sev enabled
[    3.032510] ccp 0000:01:00.5: SEV-SNP support requires firmware version >= 1:51
[    3.040012] ccp 0000:01:00.5: SEV API:1.15 build:0`},
	{name: "WBINVD", id: "sev-init-wbinvd", log: `[    8.123] ccp 0000:42:00.1: SEV: failed to INIT error 0xe, rc -5`},
	{name: "RMP too small", id: "rmp-coverage", log: `
[    0.000000] SEV-SNP: RMP table physical range [0x000000bf7e600000 - 0x000000c05f0fffff]
[    0.712312] SEV-SNP: Memory reserved for the RMP table does not cover full system RAM (expected 0xe0c00000 got 0xe0b00000)`},
	{name: "RMP too small, by the tool", id: "snp-off-in-msr", log: `
[ PASS ] - AMD CPU
[ PASS ]   - SEV Firmware Version: Sev firmware version: 1.55
[ FAIL ]   - SNP: Disabled in MSR
[ FAIL ] - RMP table addresses: Failed to read the RMP_BASE MSR`},
	{name: "no module msr", id: "msr-module", log: `
[ PASS ] - AMD CPU
[ PASS ]   - Microcode support
[ FAIL ]     - SME: MSR read failed: Error Reading MSR
[ FAIL ]     - SNP: MSR read failed: Error Reading MSR`},
	{name: "no ASIDs", id: "no-es-asids", also: "init-disabled", log: `
[    5.311232] kvm_amd: TSC scaling supported
[    5.311239] kvm_amd: Nested Virtualization enabled
[    5.311245] SVM: kvm: Nested Paging enabled
[    5.316341] kvm_amd: SEV supported: 253 ASIDs
qemu-system-x86_64: sev_kvm_init: failed to initialize ret=-25 fw_error=0 ''`},
	{name: "no ASIDs, newer words", id: "no-es-asids", log: `
[    5.316341] kvm_amd: SEV enabled (ASIDs 1 - 253)
[    5.316343] kvm_amd: SEV-ES disabled (ASIDs 0 - 0)
[    5.316344] kvm_amd: SEV-SNP disabled (ASIDs 0 - 0)`},
	{name: "SNP off in KVM", id: "kvm-snp-disabled", log: `[    5.316344] kvm_amd: SEV-SNP disabled (ASIDs 1 - 99)`},
	{name: "no guest_memfd", id: "kvm-no-private-memory", also: "update-arguments", log: `
qemu-system-x86_64: SNP_LAUNCH_UPDATE ret=-22 fw_error=0 ''
$ dmesg | tail -1
[  412.110932] kvm_amd: SEV-SNP requires private memory support via guest_memfd.`},
	{name: "memory of an older tree (AMDSEV issue 166)", id: "kvm-no-restricted-memory", also: "update-arguments", log: `
time="2023-11-20T10:01:12Z" level=error msg="qemu-system-x86_64: sev_snp_launch_update: SNP_LAUNCH_UPDATE ret=-22 fw_error=0 ''" name=containerd-shim-v2
kernel: kvm_amd: SEV-SNP requires restricted memory.`},
	{name: "rented metal", id: "init-0x9003", log: `
[   11.01] ccp 0000:a4:00.5: SEV-SNP: failed, error 0x9003
SEV-SNP init and guest launch fail, error 0x9003`},
	{name: "ASIDs used up", id: "asids-busy", log: `Error: failed to start SNP guest 16: Device or resource busy (os error 16)`},
	{name: "parallel tests", id: "parallel-start", log: `
test snp::attestation ... FAILED
thread 'main' panicked at 'called Result::unwrap() on an Err value: SNP Launcher start failed: Platform configuration invalid'`},
	{name: "FINISH again", id: "launch-finished-twice", log: `
[ 1043.118231] BUG: unable to handle page fault for address: ff1100021b8f1000
[ 1043.118240] #PF: supervisor write access in kernel mode
[ 1043.118243] #PF: error_code(0x80000003) - RMP violation
[ 1043.118251] SEV-SNP: PFN 0x21b8f1, RMP entry: [0x6001000000000001 - 0x000000000000001f]
[ 1043.118262] Oops: Oops: 80000003 [#1] SMP NOPTI
[ 1043.118270] CPU: 12 UID: 0 PID: 4411 Comm: qemu-system-x86 Not tainted 6.18.0 #1
[ 1043.118275] RIP: 0010:sev_es_sync_vmsa+0x54/0x4c0 [kvm_amd]`},
	{name: "RMP and huge pages", id: "rmp-update", also: "kvm-run", log: `
[ 2211.120011] RMPUPDATE failed for PFN 4a1e00, pg_level: 2, ret: 4
[ 2211.120042] Call Trace:
[ 2211.120045]  <TASK>
[ 2211.120051]  ? rmpupdate+0x1c2/0x220
[ 2211.120056]  rmp_make_private+0x4c/0x80
[ 2211.120062]  sev_gmem_prepare+0x1e3/0x2c0 [kvm_amd]
[ 2211.120071]  kvm_gmem_get_pfn+0x171/0x1b0 [kvm]
error: kvm run failed Bad address`},

	// QEMU, beside what parseTests has.
	{name: "pflash (AMDSEV issue 231)", id: "pflash", log: `qemu-system-x86_64: pflash with kvm requires KVM readonly memory support`},
	{name: "IGVM", id: "igvm-platform", log: `qemu-system-x86_64: Invalid platform header count in IGVM file. Error code: FFFFFFFF`},
	{name: "SVSM tree without IGVM", id: "registers-after-init", log: `
kvm: vcpu init
qemu-system-x86_64: Failed to put registers after init: Invalid argument`},
	{name: "SEV policy in libvirt", id: "start-sev-policy", log: `
    <launchSecurity type='sev-snp'>
      <policy>0x0005</policy>
    </launchSecurity>
error: Failed to start domain 'snp1'
error: internal error: QEMU unexpectedly closed the monitor (vm='snp1'): 2024-12-02T09:12:14.881Z qemu-system-x86_64: -accel kvm: sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''`},
	{name: "SEV policy on the command line", id: "start-sev-policy", log: `
+ qemu-system-x86_64 -enable-kvm -object sev-snp-guest,id=sev0,policy=0x5,cbitpos=51,reduced-phys-bits=1
qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''`},
	{name: "SNP policy outside KVM's mask", id: "start-arguments", log: `
+ qemu-system-x86_64 -object sev-snp-guest,id=sev0,policy=0x70000,cbitpos=51,reduced-phys-bits=1
qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''`},
	{name: "old command line (AMDSEV issue 223)", id: "start-pflash", log: `
qemu-system-x86_64 -drive if=pflash,format=raw,unit=0,file=OVMF_CODE.fd,readonly -object sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,discard=none
qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''`},
	{name: "debug_swap (AMDSEV issue 195)", id: "finish-debug-swap", log: `
$ cat /sys/module/kvm_amd/parameters/debug_swap
Y
$ grep . /sys/module/kvm_amd/parameters/debug_swap /dev/null
/sys/module/kvm_amd/parameters/debug_swap:Y
qemu-system-x86_64: sev_snp_launch_finish: SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'`},
	{name: "two memory backends", id: "convert-two-backends", log: `
qemu-system-x86_64 -object memory-backend-ram,id=m0,size=4G -object memory-backend-ram,id=m1,size=4G -numa node,memdev=m0 -numa node,memdev=m1
Convert non guest_memfd backed memory region (0x100000000 ,+ 0x80000000) to shared`},
	{name: "guest ended itself", id: "kvm-exit-terminated", log: `
KVM: unknown exit reason 24
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00800f12`},
	{name: "another exit", id: "kvm-exit-reason", log: `KVM: unknown exit reason 39`},
	{name: "CPU model", id: "cpu-model", log: `qemu-system-x86_64: unable to find CPU model 'EPYC-Turin'`},
	{name: "split irqchip", id: "split-irqchip", log: `qemu-system-x86_64: -accel kvm: Could not enable split irqchip mode: Invalid argument`},
	{name: "policy in words", id: "property-value", log: `qemu-system-x86_64: -object sev-snp-guest,id=sev0,policy=smt: Parameter 'policy' expects a uint64 value`},
	{name: "half a page", id: "memory-section", log: `qemu-system-x86_64: SEV-SNP: failed to configure initialprivate guest memory`},
	{name: "vCPU", id: "vcpu", log: "qemu-system-x86_64: KVM_CREATE_VCPU IOCTL failed for vCPU 3\nqemu-system-x86_64: kvm_init_vcpu: kvm_create_vcpu failed (3): Invalid argument"},
	{name: "interrupt controllers", id: "irqchip-create", log: `Create kernel irqchip failed: Invalid argument`},
	{name: "MSRs", id: "msrs", log: "qemu-system-x86_64: ../target/i386/kvm/kvm.c:3821: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed."},
	{name: "/dev/sev, newer QEMU", id: "sev-device-missing", log: `qemu-system-x86_64: -accel kvm: Could not open '/dev/sev': No such file or directory`},
	{name: "/dev/sev in a container, newer QEMU", id: "sev-device-permission", log: `qemu-system-x86_64: -accel kvm: Could not open '/dev/sev': Operation not permitted`},
	{name: "forwarded port", id: "port-taken", log: `qemu-system-x86_64: -netdev user,id=n,hostfwd=tcp:127.0.0.1:2222-:22: Could not set up host forwarding rule 'tcp:127.0.0.1:2222-:22'`},
	{name: "GDB's port", id: "port-taken", log: `
qemu-system-x86_64: -gdb tcp:127.0.0.1:1234: Failed to find an available port: Address already in use
qemu-system-x86_64: -gdb tcp:127.0.0.1:1234: gdbstub: couldn't create chardev`},
	{name: "disk of two guests", id: "disk-locked", log: `
qemu-system-x86_64: -drive file=disk.img,format=raw,if=virtio: Failed to get "write" lock
Is another process using the image [disk.img]?`},
	{name: "disk that somebody writes", id: "disk-locked", log: `qemu-system-x86_64: -blockdev driver=raw,node-name=d: Failed to get shared "write" lock`},
	{name: "socket without a folder", id: "socket-not-made", log: `qemu-system-x86_64: -gdb unix:/run/vm/gdb,server=on,wait=off: Failed to bind socket to /run/vm/gdb: No such file or directory`},
	{name: "log without a folder", id: "file-not-opened", log: `qemu-system-x86_64: -chardev file,id=fw,path=/logs/ovmf.log: Could not open '/logs/ovmf.log': No such file or directory`},
	{name: "kernel that is not there", id: "kernel-file", log: `qemu: could not open kernel file '/boot/vmlinuz': No such file or directory`},
	{name: "vmlinux", id: "kernel-elf", log: `qemu-system-x86_64: Error loading uncompressed kernel without PVH ELF Note`},
	{name: "UKI with an initrd", id: "kernel-initrd", log: `qemu: linux kernel too old to load a ram disk`},
	{name: "initrd alone", id: "kernel-missing", log: `qemu-system-x86_64: -initrd only allowed with -kernel option`},
	{name: "too little memory", id: "memory-too-small", log: `qemu-system-x86_64: snp_populate_metadata_pages: Failed to get HVA for GPA 0x800000 sz 0x9000`},

	// The boot.
	{name: "AmdSev firmware without hashes (AMDSEV issue 142)", id: "boot-kernel-denied", log: "\x1b[2J\x1b[01;01H\x1b[=3h" + `BdsDxe: loading Boot0002 "Grub Bootloader" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)/FvFile(B5AE312C-BC8A-43B1-9C62-EBB826DD5D07)
BdsDxe: failed to load Boot0002 "Grub Bootloader" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)/FvFile(B5AE312C-BC8A-43B1-9C62-EBB826DD5D07): Not Found
BdsDxe: No bootable option or device was found.
BdsDxe: Press any key to enter the Boot Manager Menu.`},
	{name: "nothing to boot", id: "boot-nothing", log: `
BdsDxe: failed to load Boot0001 "UEFI QEMU DVD-ROM QM00005 " from PciRoot(0x0)/Pci(0x1F,0x2)/Sata(0x2,0xFFFF,0x0): Not Found
BdsDxe: No bootable option or device was found.`},
	{name: "kernel changed after hashing", id: "boot-blob-hash", log: `
Select Item: 0x17
VerifyBlob: Found GUID 4DE79437-ABD2-427F-B835-D5B172D2045B in table
VerifyBlob: Hash comparison failed for "kernel"`},
	{name: "Secure Boot build", id: "boot-nvvarstore", log: `
NvVarStore FV headers were invalid.
ASSERT_EFI_ERROR (Status = Not Found)
ASSERT [PlatformPei] /build/edk2/OvmfPkg/PlatformPei/Platform.c(890): !(((INTN)(RETURN_STATUS)(Status)) < 0)`},
	{name: "MMIO", id: "boot-mmio-encrypted", log: `
MMIO using encrypted memory: B00F8040
!!!! X64 Exception Type - 0D(#GP - General Protection)  CPU Apic ID - 00000000 !!!!`},
	{name: "dmidecode", id: "boot-vc-opcode", log: `[   21.310] SEV: Wrong/unhandled opcode bytes: 0x8b, exit_code: 0x404, rIP: 0x7f2f3d1b8c05`},
	{name: "other vCPUs", id: "boot-smp", log: `
[    0.392113] smpboot: CPU0: AMD EPYC-v4 Processor (family: 0x17, model: 0x1, stepping: 0x2)
[    0.402340] smp: Bringing up secondary CPUs ...
[    0.403981] smpboot: Parallel CPU startup disabled by the platform
[    0.404312] smpboot: x86: Booting SMP configuration:`},
	{name: "virtiofs (AMDSEV issue 269)", id: "boot-virtiofs", log: `
[    0.310] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP
[    4.811] virtio-fs: tag <host0> not found
mount: /mnt: wrong fs type, bad option, bad superblock on host0`},
	{name: "SVSM", id: "svsm-init", log: `
[SVSM] COCONUT Secure Virtual Machine Service Module Version 0.1.0
[SVSM] Failed to launch /init`},
	{name: "features that the guest does not know", id: "guest-features-unknown", log: `[  981.2] kvm_amd: SEV-ES guest requested termination: 0x0:0x2`},
	{name: "page state", id: "guest-terminated", log: `[  981.2] kvm_amd: SEV-ES guest requested termination: 0x1:0x1`},
	{name: "GHCB protocol", id: "guest-terminated", log: `[  981.2] kvm_amd: SEV-ES guest requested termination: 0x0:0x1`},
	{name: "VMPL", id: "guest-terminated", log: `[  981.2] kvm_amd: SEV-ES guest requested termination: 0x1:0x3`},
	{name: "CPUID", id: "guest-terminated", log: `[  981.2] kvm_amd: SEV-ES guest requested termination: 0x1:0x4`},
	{name: "another reason", id: "guest-terminated", log: `[  981.2] kvm_amd: SEV-ES guest requested termination: 0x2:0x1f`},
	{name: "without a word", id: "guest-terminated-early", also: "kvm-exit-terminated", log: `
[  981.2] kvm_amd: SEV-ES guest requested termination: 0x0:0x0
KVM: unknown exit reason 24`},

	// Tools.
	{name: "sev-snp-measure with the generic firmware", id: "measure-no-hashes-section", log: `
Traceback (most recent call last):
  File "/usr/local/bin/sev-snp-measure", line 8, in <module>
    sys.exit(main())
RuntimeError: Kernel specified but OVMF metadata doesn't include SNP_KERNEL_HASHES section`},
	{name: "sev-snp-measure with VARS", id: "measure-no-reset-block", log: `RuntimeError: Can't find SEV_ES_RESET_BLOCK_GUID entry in OVMF table`},
	{name: "another measurement", id: "measurement-differs", log: `
Expected Measurement (sev-snp-measure): 0x0a1b
Measurement from SNP Attestation Report: 0x1c2d
The expected measurement does not match the snp guest report measurement!`},
	{name: "another measurement, go-sev-guest", id: "measurement-differs", log: `could not validate attestation report: report field MEASUREMENT is 01. Expect 02`},
	{name: "no /dev/sev-guest", id: "guest-no-device", log: `
$ dmesg | grep -i snp
[    0.310] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP
$ sudo ./sev-guest-get-report report.bin
open /dev/sev-guest: No such file or directory`},
	{name: "VMPL0 from VMPL1", id: "guest-vmpl", log: `
ioctl: Invalid argument
firmware error 0x16`},
	{name: "second report", id: "guest-aead", log: `
ioctl: Input/output error
firmware error 29`},
	{name: "key given up", id: "guest-vmpck-disabled", log: `[  112.9] sev-guest sev-guest: Disabling VMPCK0 communication key to prevent IV reuse.`},
}

// Each is recognised, root cause first, also between lines that have nothing to do
// with it.
func TestPastes(t *testing.T) {
	for _, p := range pastes {
		t.Run(p.name, func(t *testing.T) {
			for _, log := range []string{p.log, "lorem ipsum\r\n" + strings.ReplaceAll(p.log, "\n", "\r\n") + "\r\ndolor sit\r\n"} {
				found := read(t, log)
				if len(found) == 0 || found[0].ID != p.id {
					t.Fatalf("got %+v, want %s", found, p.id)
				}
				also := p.also == ""
				for _, f := range found {
					wellFormed(t, p.name, &f.Failure)
					also = also || f.ID == p.also
				}
				if !also {
					t.Errorf("%s is not among %+v", p.also, found)
				}
			}
		})
	}
}

// What looks like a failure and is none.
func TestSoundLogs(t *testing.T) {
	for name, log := range map[string]string{
		"a sound host": `
[    0.000000] SEV-SNP: RMP table physical range [0x000000bf7e600000 - 0x000000c05f0fffff]
[    0.511301] AMD-Vi: Using global IVHD EFR:0xa5bf732fa2295afe, EFR2:0x1d
[    9.021999] ccp 0000:01:00.5: SEV-SNP API:1.55 build:21
[    9.130541] kvm_amd: SEV enabled (ASIDs 100 - 509)
[    9.130543] kvm_amd: SEV-ES enabled (ASIDs 1 - 99)
[    9.130544] kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)`,
		"an older sound host": `
kvm_amd: SEV supported: 410 ASIDs
kvm_amd: SEV-ES and SEV-SNP supported: 99 ASIDs`,
		"a laptop's IOMMU": `AMD-Vi: Using global IVHD EFR:0x246577efa2254afa, EFR2:0x0`,
		"a sound guest": `
smpboot: Parallel CPU startup disabled by the platform
smp: Brought up 1 node, 4 CPUs
Run /init as init process
virtio-fs: mounted`,
		"virtiofs of another guest": `virtio-fs: tag <host0> not found`,
		"another busy device":       `umount: /mnt: Device or resource busy`,
		"a trace of something else": `[ 1.2]  sev_gmem_prepare+0x1e3/0x2c0 [kvm_amd]`,
	} {
		if found := read(t, log); len(found) > 0 {
			t.Errorf("%s: got %+v", name, found)
		}
	}
}

// A guest's console alone says why it did not boot.
func TestFromConsole(t *testing.T) {
	for _, p := range pastes {
		f := FromConsole(p.log)
		if strings.HasPrefix(p.id, "boot-") && (f == nil || f.ID != p.id) {
			t.Errorf("%s: got %+v, want %s", p.name, f, p.id)
		}
	}
	for _, s := range []string{"", "Linux version 6.12\nRun /init as init process\n", "measurement does not match"} {
		if f := FromConsole(s); f != nil {
			t.Errorf("%q is taken for %+v", s, f)
		}
	}
}
