package e2e_test

import (
	"crypto/ecdsa"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// Sources of the rows. What QEMU says was read off QEMU 10.0.2 and 11.1.3 and is
// said at these places.
const (
	atSEV     = "QEMU target/i386/sev.c"
	atKVM     = "QEMU accel/kvm/kvm-all.c"
	atX86KVM  = "QEMU target/i386/kvm/kvm.c"
	atRAM     = "QEMU system/physmem.c"
	atOptions = "QEMU qapi, qom"
	atLoader  = "QEMU hw/i386/x86-common.c, pc_sysfw.c, pc_sysfw_ovmf.c"
	inKernel  = "Linux arch/x86/kvm/svm/sev.c, " + atSEV
	inDriver  = "Linux drivers/crypto/ccp/sev-dev.c, " + atSEV
	inFW      = "AMD 56860, SEV firmware 1.55.25, " + atSEV
)

// commandLine is what rows of the matrix change.
type commandLine struct {
	machine, accel, bios, kernel, cpu string
	cbitpos, physBits                 string
	object                            []string // further properties of the sev-snp-guest
	extra                             []string
}

func (c *commandLine) arguments() []string {
	object := slices.DeleteFunc(append([]string{"sev-snp-guest,id=sev0", c.cbitpos, c.physBits}, c.object...), func(s string) bool { return s == "" })
	args := append(bareArguments(), "-accel", c.accel, "-machine", c.machine, "-object", strings.Join(object, ","), "-cpu", c.cpu, "-m", "256M")
	if c.bios != "" {
		args = append(args, "-bios", c.bios)
	}
	if c.kernel != "" {
		args = append(args, "-kernel", c.kernel)
	}
	return append(args, c.extra...)
}

// said is all that QEMU prints and how it ends.
type said struct {
	stderr string
	status string
}

const prefix = "qemu-system-x86_64: "

// exits are words before which QEMU puts its name, with exit status 1.
func exits(lines ...string) said { return said{prefix + strings.Join(lines, "\n"+prefix), "exit 1"} }

// unnamed are words without QEMU's name before them.
func unnamed(line string) said { return said{line, "exit 1"} }

// noAccelerator is how everything ends that fails while KVM is set up.
func noAccelerator(why ...string) said {
	var lines []string
	for _, w := range append(why, "failed to initialize kvm: Operation not permitted") {
		lines = append(lines, "-accel kvm: "+w)
	}
	return exits(lines...)
}

func startFails(ret, fw int, text string) said {
	return noAccelerator(fmt.Sprintf("sev_snp_launch_start: SNP_LAUNCH_START ret=%d fw_error=%d '%s'", ret, fw, text),
		"sev_common_kvm_init: failed to create encryption context")
}

func updateFails(ret, fw int, text string) said {
	return exits(fmt.Sprintf("SNP_LAUNCH_UPDATE ret=%d fw_error=%d '%s'", ret, fw, text))
}

func finishFails(ret, fw int, text string) said {
	return exits(fmt.Sprintf("SNP_LAUNCH_FINISH ret=%d fw_error=%d '%s'", ret, fw, text))
}

var launches = said{"", "exit 0"}

// row is a launch that goes wrong, or that looks as if it should.
type row struct {
	name   string
	source string
	change func(*commandLine)
	faults []string
	config func(*psp.Config)
	want   said
	next   *said // from QEMU 11 on; nil: the same
}

// What differs between builds and runs of QEMU and is no part of the words.
var (
	sourceLine    = regexp.MustCompile(`(\.c:)\d+`)
	memfdNumber   = regexp.MustCompile(`(guest_memfd=)\d+`)
	otherRegister = regexp.MustCompile(`(e[bcd]x: ?)0x[0-9a-f]{8}`)
)

func wordsOf(stderr, dir string) string {
	s := strings.TrimSpace(stderr)
	s = strings.ReplaceAll(s, dir+"/", "")
	s = sourceLine.ReplaceAllString(s, "${1}LINE")
	s = memfdNumber.ReplaceAllString(s, "${1}N")
	return otherRegister.ReplaceAllString(s, "${1}N")
}

// Each row is launched with the real QEMU, and all that it prints and its exit status
// are compared with the table, word for word.
func TestMessagesOfQEMU(t *testing.T) {
	dir := t.TempDir()
	rows := slices.Concat(commandLineRows(), firmwareFileRows(t, dir), hostRows(), startRows(), updateRows(t, dir), finishRows(t))
	names := map[string]bool{}
	for _, r := range rows {
		if names[r.name] || r.source == "" || r.want.status == "" {
			t.Errorf("row %q is named twice, has no source or no end", r.name)
		}
		names[r.name] = true
	}
	for _, q := range qemus(t) {
		t.Run("QEMU "+q.name, func(t *testing.T) {
			together(len(rows), runtime.NumCPU(), func(i int) {
				r := rows[i]
				line := &commandLine{
					machine: "q35,smm=off,confidential-guest-support=sev0", accel: "kvm", bios: parts(t).Firmware.Path, cpu: "EPYC-v4",
					cbitpos: fmt.Sprintf("cbitpos=%d", host.CBitPos()), physBits: "reduced-phys-bits=1",
				}
				if r.change != nil {
					r.change(line)
				}
				got, err := direct{qemu: q, args: line.arguments(), faults: r.faults, config: r.config}.launch(t.Context(), nil)
				if err != nil {
					t.Errorf("%s: %v", r.name, err)
					return
				}
				words := said{wordsOf(got.stderr, dir), got.status}
				if got.status != launches.status {
					recognised(t, r, got.stderr)
				}
				want := []said{r.want}
				if r.next != nil && q.major >= 11 {
					want = []said{*r.next}
				} else if r.next != nil && !q.isVersion("10.0.") {
					want = append(want, *r.next) // somewhere between the two it changed
				}
				if !slices.Contains(want, words) {
					t.Errorf("%s (%s): %s\n%s\nwant %s\n%s", r.name, r.source, words.status, words.stderr, want[0].status, want[0].stderr)
				}
			})
		})
	}
	t.Logf("%d rows", len(rows))
}

// property adds properties of the sev-snp-guest.
func property(p ...string) func(*commandLine) {
	return func(c *commandLine) { c.object = append(c.object, p...) }
}

func machine(old, with string) func(*commandLine) {
	return func(c *commandLine) { c.machine = strings.Replace(c.machine, old, with, 1) }
}

func zeros(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

// commandLineRows are mistakes on the command line that need no firmware to be found.
func commandLineRows() []row {
	here := host.CBitPos()
	wrong := here ^ 1
	object := fmt.Sprintf("-object sev-snp-guest,id=sev0,cbitpos=%d,reduced-phys-bits=1,", here)
	notBase64 := exits("Base64 data contains invalid characters")
	physBits := func(n string) said {
		return noAccelerator("sev_common_kvm_init: reduced_phys_bits check failed, it should be in the range of 1 to 63, requested '" + n + "'")
	}
	return []row{
		{name: "nothing wrong", source: atSEV, want: launches},
		{name: "C-bit of another machine", source: atSEV, change: func(c *commandLine) { c.cbitpos = fmt.Sprintf("cbitpos=%d", wrong) },
			want: noAccelerator(fmt.Sprintf("sev_common_kvm_init: cbitpos check failed, host '%d' requested '%d'", here, wrong))},
		{name: "no reduced-phys-bits", source: atOptions, change: func(c *commandLine) { c.physBits = "" },
			want: exits(fmt.Sprintf("-object sev-snp-guest,id=sev0,cbitpos=%d: Parameter 'reduced-phys-bits' is missing", here))},
		{name: "reduced-phys-bits=0", source: atSEV, change: func(c *commandLine) { c.physBits = "reduced-phys-bits=0" }, want: physBits("0")},
		{name: "reduced-phys-bits=64", source: atSEV, change: func(c *commandLine) { c.physBits = "reduced-phys-bits=64" }, want: physBits("64")},
		{name: "policy in words", source: atOptions, change: property("policy=smt"), want: exits(object + "policy=smt: Parameter 'policy' expects a uint64 value")},
		{name: "property of another tree", source: atOptions, change: property("init-flags=5"),
			want: exits(object + "init-flags=5: Invalid parameter 'init-flags'")},
		{name: "IGVM where it is not built in", source: atOptions, change: func(c *commandLine) { c.extra = []string{"-object", "igvm-cfg,id=igvm0,file=x"} },
			want: exits("-object igvm-cfg,id=igvm0,file=x: Parameter 'qom-type' does not accept value 'igvm-cfg'")},
		{name: "memory backend of AMD's older tree", source: atOptions,
			change: func(c *commandLine) { c.extra = []string{"-object", "memory-backend-memfd-private,id=ram1,size=1M"} },
			want:   exits("-object memory-backend-memfd-private,id=ram1,size=1M: Parameter 'qom-type' does not accept value 'memory-backend-memfd-private'")},
		{name: "machine names another object", source: atOptions, change: machine("sev0", "sev1"), want: exits("Device 'sev1' not found")},
		{name: "unknown CPU model", source: "QEMU hw/core/cpu-common.c", change: func(c *commandLine) { c.cpu = "EPYC-Unheard" },
			want: exits("unable to find CPU model 'EPYC-Unheard'")},

		{name: "ID block of 3 bytes", source: atSEV, change: property("id-block=" + zeros(3)), want: exits("parameter length of 3 not equal to 96")},
		{name: "ID block of 97 bytes", source: atSEV, change: property("id-block=" + zeros(97)), want: exits("parameter length of 97 not equal to 96")},
		{name: "empty ID block", source: atSEV, change: property("id-block="), want: exits("parameter length of 0 not equal to 96")},
		{name: "ID auth of 4097 bytes", source: atSEV, change: property("id-auth=" + zeros(4097)),
			want: exits("parameter length:ID_AUTH 4097 exceeds max of 4096")},
		{name: "host data of 3 bytes", source: atSEV, change: property("host-data=" + zeros(3)), want: exits("parameter length of 3 not equal to 32")},
		{name: "host data of 33 bytes", source: atSEV, change: property("host-data=" + zeros(33)), want: exits("parameter length of 33 not equal to 32")},
		{name: "workarounds of 17 bytes", source: atSEV, change: property("guest-visible-workarounds=" + zeros(17)),
			want: exits("parameter length of 17 exceeds max of 16")},
		{name: "workarounds of 3 bytes", source: atSEV, change: property("guest-visible-workarounds=" + zeros(3)), // though it says so
			want: exits("parameter length of 3 exceeds max of 16")},
		{name: "workarounds of 16 bytes", source: atSEV, change: property("guest-visible-workarounds=" + zeros(16)), want: launches},
		{name: "a file's name for the ID block", source: "QEMU util/base64.c", change: property("id-block=/tmp/id_block.bin"), want: notBase64},
		{name: "a file's name for the ID auth", source: "QEMU util/base64.c", change: property("id-auth=@auth.bin"), want: notBase64},
		{name: "host data in another alphabet", source: "QEMU util/base64.c", change: property("host-data=%%%%"), want: notBase64},
		{name: "base64 cut short", source: "QEMU util/base64.c", change: property("host-data=AAA"), want: exits("parameter length of 0 not equal to 32")},
		{name: "author key without an ID block", source: inKernel, change: property("author-key-enabled=on"), want: launches},

		{name: "SMM", source: atSEV, change: machine("smm=off", "smm=on"), want: noAccelerator("SEV-SNP does not support SMM.")},
		{name: "SMM left to QEMU", source: atX86KVM, change: machine("smm=off,", ""), want: launches},
		{name: "split interrupt controllers", source: atKVM, change: machine("q35", "q35,kernel-irqchip=split"),
			want: exits("-accel kvm: Could not enable split irqchip mode: Invalid argument")},
		{name: "interrupt controllers in QEMU", source: atSEV, change: machine("q35", "q35,kernel-irqchip=off"),
			want: noAccelerator("sev_common_kvm_init: SEV-ES guests require in-kernel irqchipsupport")},
		{name: "TCG", source: atRAM, change: func(c *commandLine) { c.accel = "tcg" },
			want: exits("cannot set up private guest memory for sev-snp-guest: KVM required")},
		{name: "another device node", source: atSEV, change: property("sev-device=/dev/nonexistent"),
			want: noAccelerator("sev_common_kvm_init: Failed to open /dev/nonexistent 'No such file or directory'"),
			next: next(noAccelerator("Could not open '/dev/nonexistent': No such file or directory"))},
	}
}

func next(s said) *said { return &s }

// firmwareFileRows are firmware images and kernels that do not fit.
func firmwareFileRows(t testing.TB, dir string) []row {
	p := parts(t)
	plain := plainFirmware(t)
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bios := func(name string, content []byte) func(*commandLine) {
		path := file(name, content)
		return func(c *commandLine) { c.bios = path }
	}
	// hashed asks for kernel hashes of a kernel.
	hashed := func(kernel string, extra ...string) func(*commandLine) {
		return func(c *commandLine) {
			c.object, c.kernel, c.extra = append(c.object, "kernel-hashes=on"), kernel, extra
		}
	}
	both := func(f ...func(*commandLine)) func(*commandLine) {
		return func(c *commandLine) {
			for _, f := range f {
				f(c)
			}
		}
	}
	withoutHashTable := ovmftest.AmdSev()
	withoutHashTable.HashTable = nil
	beyondMemory := ovmftest.Generic()
	beyondMemory.Sections = []ovmf.Section{{GPA: 0x4000_0000, Size: 0x1000, Type: 1}}
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9000)...)
	pe := append([]byte("MZ"), make([]byte, 20000)...)
	cut := slices.Clone(pe)
	cut[0x1F1] = 0xFF
	noTable := exits("SEV information block/Firmware GUID Table block not found in pflash rom", "failed to locate and/or save reset vector")
	return []row{
		{name: "firmware of an odd size", source: atLoader, change: bios("odd.fd", make([]byte, 100_000)), want: unnamed("qemu: could not load PC BIOS 'odd.fd'")},
		{name: "firmware that is not there", source: atLoader, change: func(c *commandLine) { c.bios = filepath.Join(dir, "gone.fd") },
			want: unnamed("qemu: could not load PC BIOS 'gone.fd'")},
		{name: "firmware without tables", source: atLoader, change: bios("zeros.fd", make([]byte, 64<<10)), want: noTable},
		{name: "firmware without a reset block", source: atLoader, change: bios("noreset.fd", ovmftest.Spec{NoMetadata: true}.Build()), want: noTable},
		{name: "SeaBIOS", source: atLoader, change: func(c *commandLine) { c.bios = "" }, want: noTable},
		{name: "OVMF without SNP metadata", source: atSEV, change: func(c *commandLine) { c.bios = plain },
			want: exits("sev_snp_launch_finish: Failed to locate SEV metadata header")},
		{name: "pflash", source: "QEMU hw/i386/pc_sysfw.c; Linux kvm_vm_ioctl_check_extension (READONLY_MEM)", change: func(c *commandLine) {
			c.bios, c.extra = "", []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + p.Firmware.Path}
		}, want: exits("pflash with kvm requires KVM readonly memory support")},
		{name: "metadata beyond the guest's memory", source: atSEV, change: bios("beyond.fd", beyondMemory.Build()),
			want: exits("snp_populate_metadata_pages: Failed to get HVA for GPA 0x40000000 sz 0x1000")},
		{name: "guest smaller than its firmware's metadata", source: atSEV, change: func(c *commandLine) { c.extra = []string{"-m", "4M"} },
			want: exits("snp_populate_metadata_pages: Failed to get HVA for GPA 0x800000 sz 0x9000")},

		{name: "hashes without a kernel", source: atSEV, change: hashed(""),
			want: said{prefix + "target/i386/sev.c:LINE: snp_launch_update_kernel_hashes: Assertion `sev_snp->kernel_hashes_data' failed.", "SIGABRT"}},
		{name: "hashes with a firmware that has no place for them", source: atSEV, change: both(hashed(p.Kernel.Path), bios("generic.fd", ovmftest.Generic().Build())),
			want: exits("SEV: guest firmware hashes table area is invalid (base=0x0 size=0x0)")},
		{name: "hashes with a firmware that does not know of them", source: atSEV, change: both(hashed(p.Kernel.Path), bios("nohashes.fd", withoutHashTable.Build())),
			want: exits("SEV: kernel specified but guest firmware has no hashes table GUID")},
		{name: "kernel that is an ELF file", source: atLoader, change: hashed(file("elf", elf)), want: exits("Error while loading elf kernel")},
		{name: "kernel of ten bytes", source: atLoader, change: hashed(file("tiny", make([]byte, 10))), want: unnamed("qemu: invalid kernel header")},
		{name: "unified kernel image that tells of more sectors than it has", source: atLoader, change: hashed(file("cut.efi", cut)), want: unnamed("qemu: invalid kernel header")},
		{name: "unified kernel image with an initrd", source: atLoader, change: hashed(file("uki.efi", pe), "-initrd", p.Initrd.Path),
			want: unnamed("qemu: linux kernel too old to load a ram disk")},
		{name: "kernel that is not there", source: atLoader, change: hashed(filepath.Join(dir, "vmlinuz")),
			want: unnamed("qemu: could not open kernel file 'vmlinuz': No such file or directory")},
		{name: "command line without a kernel", source: "QEMU system/vl.c", change: func(c *commandLine) { c.extra = []string{"-append", "x"} },
			want: exits("-append only allowed with -kernel option")},
	}
}

// hostRows are hosts that lack something or whose kernel fails, up to SNP_LAUNCH_START.
func hostRows() []row {
	createVM := func(text string) said {
		return exits("-accel kvm: ioctl(KVM_CREATE_VM) failed: "+text, "-accel kvm: failed to initialize kvm: "+text)
	}
	noKVM := func(text string) said {
		return exits("-accel kvm: Could not access KVM kernel module: "+text, "-accel kvm: failed to initialize kvm: "+text)
	}
	noSEV := func(text string) (said, *said) {
		return noAccelerator("sev_common_kvm_init: Failed to open /dev/sev '" + text + "'"), next(noAccelerator("Could not open '/dev/sev': " + text))
	}
	status := func(fw string) said {
		return noAccelerator("sev_common_kvm_init: failed to get platform status ret=-1 fw_error='" + fw + "'")
	}
	init2 := func(ret, fw int, text string) said {
		return noAccelerator(fmt.Sprintf("sev_common_kvm_init: failed to initialize ret=%d fw_error=%d '%s'", ret, fw, text))
	}
	one := func(fault string) []string { return []string{fault} }
	rows := []row{
		{name: "no /dev/kvm", source: atKVM, faults: one("/dev/kvm=ENOENT"), want: noKVM("No such file or directory")},
		{name: "/dev/kvm of others", source: atKVM, faults: one("/dev/kvm=EACCES"), want: noKVM("Permission denied")},
		{name: "no SNP", source: atX86KVM, faults: one("no-snp-vm-type"), want: exits("-accel kvm: vm-type SEV-SNP not supported by KVM")},
		{name: "no SEV", source: atX86KVM, faults: one("no-sev"), want: exits("-accel kvm: vm-type SEV-SNP not supported by KVM")},
		{name: "no guest_memfd", source: atKVM, faults: one("no-guest-memfd"), want: exits("KVM does not support guest_memfd")},
		{name: "KVM in use by another hypervisor", source: atKVM, faults: one("KVM_CREATE_VM=EBUSY"), want: createVM("Device or resource busy")},
		{name: "no memory for a VM", source: atKVM, faults: one("KVM_CREATE_VM=ENOMEM"), want: createVM("Cannot allocate memory")},

		{name: "PLATFORM_STATUS: platform not initialised", source: inDriver, faults: one("PLATFORM_STATUS=INVALID_PLATFORM_STATE"), want: status("1: Platform state is invalid")},
		{name: "PLATFORM_STATUS: no Secure Processor", source: inDriver, faults: one("PLATFORM_STATUS=ENODEV"), want: status("0: ")},
		{name: "PLATFORM_STATUS: a status without words", source: atSEV, faults: one("PLATFORM_STATUS=INVALID_KEY"), want: status("39: unknown error")},
		{name: "INIT2: EINVAL", source: inKernel, faults: one("INIT2=EINVAL"), want: init2(-22, 0, "")},
		{name: "INIT2: no ASID is free", source: inKernel, faults: one("INIT2=EBUSY"), want: init2(-16, 0, "")},
		{name: "INIT2: SEV is off", source: inKernel, faults: one("INIT2=ENOTTY"), want: init2(-25, 0, "")},
		{name: "INIT2: no Secure Processor", source: inKernel, faults: one("INIT2=ENODEV"), want: init2(-19, 0, "")},
		{name: "INIT2: the platform cannot be set up", source: inKernel, faults: one("INIT2=INVALID_CONFIG"), want: init2(-5, 3, "Platform configuration is invalid")},
		{name: "INIT2: a status without words", source: atSEV, faults: one("INIT2=RMP_INIT_FAILED"), want: init2(-5, 38, "unknown error")},
		{name: "kernel that does not tell its SEV features", source: "QEMU target/i386/sev.c sev_init_supported_features, since 10.1", faults: one("KVM_GET_DEVICE_ATTR:1=ENXIO"),
			want: launches, next: next(noAccelerator("sev_init_supported_features: failed to query supported sev_features"))},
		{name: "no exits for hypercalls", source: "QEMU target/i386/sev.c sev_snp_launch_start", faults: one("KVM_ENABLE_CAP:1=EINVAL"),
			want: noAccelerator("sev_common_kvm_init: failed to create encryption context")},

		{name: "no guest_memfd to be had", source: atKVM, faults: one("KVM_CREATE_GUEST_MEMFD=ENOMEM"), want: exits("Error creating KVM guest_memfd: Cannot allocate memory")},
		{name: "second guest_memfd refused", source: atKVM, faults: one("KVM_CREATE_GUEST_MEMFD:2=EINVAL"), want: exits("Error creating KVM guest_memfd: Invalid argument")},
		{name: "memory slot refused", source: atKVM, faults: one("KVM_SET_USER_MEMORY_REGION2:1=EINVAL"), want: said{
			prefix + "kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=0, start=0x0, size=0x10000000, flags=0x4, guest_memfd=N, guest_memfd_offset=0x0: Invalid argument\n" +
				"kvm_set_phys_mem: error registering slot: Invalid argument", "SIGABRT"}},
		{name: "private attribute refused", source: atKVM, faults: one("KVM_SET_MEMORY_ATTRIBUTES:1=EINVAL"), want: exits(
			"failed to set memory (0x0+0x10000000) with attr 0x8 error 'Invalid argument'",
			"kvm_set_phys_mem: failed to set memory attribute private: Invalid argument")},
		{name: "private attribute of the firmware refused", source: atKVM, faults: one("KVM_SET_MEMORY_ATTRIBUTES:2=ENOMEM"), want: exits(
			"failed to set memory (0xffc00000+0x400000) with attr 0x8 error 'Cannot allocate memory'",
			"kvm_set_phys_mem: failed to set memory attribute private: Cannot allocate memory")},
		{name: "vCPU refused", source: atKVM, faults: one("KVM_CREATE_VCPU=EINVAL"), want: exits(
			"KVM_CREATE_VCPU IOCTL failed for vCPU 0", "kvm_init_vcpu: kvm_create_vcpu failed (0): Invalid argument")},
		{name: "CPUID refused", source: atKVM, faults: one("KVM_SET_CPUID2=EINVAL"), want: exits("kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument")},
		{name: "interrupt controllers refused", source: atKVM, faults: one("KVM_CREATE_IRQCHIP=EINVAL"), want: unnamed("Create kernel irqchip failed: Invalid argument")},
		{name: "MSRs refused", source: atX86KVM, faults: one("KVM_SET_MSRS=EINVAL"), want: said{
			prefix + "target/i386/kvm/kvm.c:LINE: kvm_init_msrs: Assertion `kvm_buf_set_msrs(cpu) == 0' failed.", "SIGABRT"}},
	}
	for errno, text := range map[string]string{"ENOENT": "No such file or directory", "EACCES": "Permission denied", "EBUSY": "Device or resource busy"} {
		r := row{name: "/dev/sev: " + errno, source: atSEV, faults: one("/dev/sev=" + errno)}
		r.want, r.next = noSEV(text)
		rows = append(rows, r)
	}
	return rows
}

// startRows are refusals of SNP_LAUNCH_START, by the kernel and by the firmware.
func startRows() []row {
	var rows []row
	for name, policy := range map[string]string{
		"without bit 17": "0x10000", "without SMT": "0x20000", "with MIGRATE_MA": "0x70000", "with SINGLE_SOCKET": "0x130000",
		"of SEV": "0x5", "with a reserved bit": "0x8000000000030000",
	} {
		rows = append(rows, row{name: "policy " + name, source: inKernel, change: property("policy=" + policy), want: startFails(-22, 0, "")})
	}
	return append(rows,
		row{name: "policy with DEBUG", source: inFW, change: property("policy=0xb0000"), want: launches},
		row{name: "policy of a newer firmware", source: inFW, change: property("policy=0x301ff"), want: startFails(-5, 7, "Policy is not allowed")},
		row{name: "policy of a newer firmware, major", source: inFW, change: property("policy=0x3ff00"), want: startFails(-5, 7, "Policy is not allowed")},
		row{name: "START: platform lost", source: inFW, faults: []string{"SNP_LAUNCH_START=INVALID_PLATFORM_STATE"}, want: startFails(-5, 1, "Platform state is invalid")},
		row{name: "START: QEMU and kernel not of one age", source: inKernel, faults: []string{"SNP_LAUNCH_START=ENOTTY"}, want: startFails(-25, 0, "")},
		row{name: "START: the firmware does not answer", source: inDriver, faults: []string{"SNP_LAUNCH_START=dead"}, want: startFails(-110, 0, "")},
		row{name: "GCTX_CREATE refused", source: inKernel, faults: []string{"SNP_GCTX_CREATE=RESOURCE_LIMIT"}, want: startFails(-25, 23, "Required firmware resource depleted")},
		row{name: "ACTIVATE: the platform's configuration", source: inFW, faults: []string{"SNP_ACTIVATE=INVALID_CONFIG"}, want: startFails(-5, 3, "Platform configuration is invalid")},
		row{name: "ACTIVATE: ASID owned", source: inFW, faults: []string{"SNP_ACTIVATE=ASID_OWNED"}, want: startFails(-5, 12, "ASID is already owned")},
		row{name: "ACTIVATE: ASID invalid", source: inFW, faults: []string{"SNP_ACTIVATE=INVALID_ASID"}, want: startFails(-5, 13, "Invalid ASID")},
		row{name: "ACTIVATE: no DF_FLUSH", source: inFW, faults: []string{"SNP_ACTIVATE=DFFLUSH_REQUIRED"}, want: startFails(-5, 15, "DF_FLUSH is required")},
		row{name: "ACTIVATE: active", source: inFW, faults: []string{"SNP_ACTIVATE=ACTIVE"}, want: startFails(-5, 18, "Guest is active")},
	)
}

// updateRows are refusals of SNP_LAUNCH_UPDATE.
func updateRows(t testing.TB, dir string) []row {
	twice := ovmftest.Generic()
	twice.Sections = append(twice.Sections, twice.Sections[0])
	unaligned := ovmftest.Generic()
	unaligned.Sections = []ovmf.Section{{GPA: 0x800000, Size: 0x800, Type: 1}}
	var paths []string
	for name, s := range map[string]ovmftest.Spec{"twice.fd": twice, "unaligned.fd": unaligned} {
		paths = append(paths, filepath.Join(dir, name))
		if err := os.WriteFile(filepath.Join(dir, name), s.Build(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(paths)
	rows := []row{
		{name: "metadata that names a page twice", source: inKernel, change: func(c *commandLine) { c.bios = paths[0] }, want: updateFails(-5, 0, "")},
		{name: "metadata that names half a page", source: atKVM + ", " + atSEV, change: func(c *commandLine) { c.bios = paths[1] }, want: exits(
			"failed to set memory (0x800000+0x800) with attr 0x8 error 'Invalid argument'", "SEV-SNP: failed to configure initialprivate guest memory")},
		{name: "UPDATE: interrupted", source: inKernel, faults: []string{"SNP_LAUNCH_UPDATE:1=EAGAIN"}, want: launches},
		{name: "UPDATE: EINVAL", source: inKernel, faults: []string{"SNP_LAUNCH_UPDATE:1=EINVAL"}, want: updateFails(-22, 0, "")},
		{name: "UPDATE: the firmware does not answer", source: inDriver, faults: []string{"SNP_LAUNCH_UPDATE:1=dead"}, want: updateFails(-5, 0, "")},
		{name: "UPDATE: a later page", source: inFW, faults: []string{"SNP_LAUNCH_UPDATE:4=INVALID_PAGE_STATE"}, want: updateFails(-5, 26, "unknown error")},
		{name: "CPUID of a newer processor", source: inFW, change: func(c *commandLine) { c.cpu = "EPYC-Milan-v2,stepping=2" }, config: milan, want: exits(
			"SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'",
			"SEV-SNP: CPUID validation failed for function 0x1, index: 0x0, provided: eax:0x00a00f12, ebx: N, ecx: N, edx: N, expected: eax:0x00a00f11, ebx: N, ecx: N, edx: N",
			"SEV-SNP: failed update CPUID page")},
	}
	for _, c := range []struct {
		status snp.Status
		text   string
	}{
		{snp.StatusInvalidPlatformState, "Platform state is invalid"}, {snp.StatusInvalidGuestState, "Guest state is invalid"},
		{snp.StatusInactive, "Guest is not active"}, {snp.StatusInvalidAddress, "Invalid address"}, {snp.StatusInvalidGuest, "Guest handle is invalid"},
		{snp.StatusInvalidParam, "Invalid parameter"}, {snp.StatusInvalidPageSize, "unknown error"}, {snp.StatusInvalidPageState, "unknown error"},
		{snp.StatusInvalidPageOwner, "unknown error"}, {snp.StatusNoFWCall, "unknown error"},
	} {
		rows = append(rows, row{name: "UPDATE: " + c.status.String(), source: inFW, faults: []string{"SNP_LAUNCH_UPDATE:1=" + c.status.String()},
			want: updateFails(-5, int(c.status), c.text)})
	}
	return rows
}

func milan(c *psp.Config) {
	if m, err := psp.ParsePlatform("milan"); err == nil {
		*c = m
	}
}

// finishRows are refusals of SNP_LAUNCH_FINISH, most of them of ID blocks that were
// made for this very launch and then spoilt.
func finishRows(t testing.TB) []row {
	g := guest.Default()
	g.Firmware = parts(t).Firmware.Path
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	measured, err := measure.Measure(&g, in)
	if err != nil {
		t.Fatal(err)
	}
	id, author := newKey(t), newKey(t)
	// properties of a signed block, changed before and after it is signed.
	block := func(authorKey *ecdsa.PrivateKey, before func(*snp.IDBlock), after func(auth []byte), more ...string) func(*commandLine) {
		b := &snp.IDBlock{LD: measured.LaunchDigest, Version: 1, Policy: 0x30000}
		if before != nil {
			before(b)
		}
		auth, err := idblock.Sign(b, id, authorKey)
		if err != nil {
			t.Fatal(err)
		}
		raw, rawAuth := b.Bytes(), auth.Bytes()
		if after != nil {
			after(rawAuth)
		}
		return property(append(more, "id-block="+idblock.Base64(raw[:]), "id-auth="+idblock.Base64(rawAuth))...)
	}
	const authorOn = "author-key-enabled=on"
	rows := []row{
		{name: "ID block", source: inFW, change: block(nil, nil, nil), want: launches},
		{name: "ID block, author key", source: inFW, change: block(author, nil, nil, authorOn), want: launches},
		{name: "ID block of another digest", source: inFW, change: block(nil, func(b *snp.IDBlock) { b.LD[47] ^= 1 }, nil), want: finishFails(-5, 11, "Bad measurement")},
		{name: "ID block of another policy", source: inFW, change: block(nil, func(b *snp.IDBlock) { b.Policy |= snp.PolicyDebug }, nil), want: finishFails(-5, 7, "Policy is not allowed")},
		{name: "ID block of a launch with another policy", source: inFW, change: block(nil, nil, nil, "policy=0xb0000"), want: finishFails(-5, 7, "Policy is not allowed")},
		{name: "ID block with a spoilt signature", source: inFW, change: block(nil, nil, func(a []byte) { a[idBlockSigOffset] ^= 1 }), want: finishFails(-5, 10, "Bad signature")},
		{name: "ID block with an unknown algorithm", source: inFW, change: block(nil, nil, func(a []byte) { a[0] = 2 }), want: finishFails(-5, 22, "Invalid parameter")},
		{name: "ID block with a key of another curve", source: inFW, change: block(nil, nil, func(a []byte) { a[0x240] = 1 }), want: finishFails(-5, 10, "Bad signature")},
		{name: "author key with a spoilt signature", source: inFW, change: block(author, nil, func(a []byte) { a[idKeySigOffset] ^= 1 }, authorOn), want: finishFails(-5, 10, "Bad signature")},
		{name: "author key with an unknown algorithm", source: inFW, change: block(author, nil, func(a []byte) { a[4] = 2 }, authorOn), want: finishFails(-5, 22, "Invalid parameter")},
		{name: "author key that is not there", source: inFW, change: block(nil, nil, nil, authorOn), want: finishFails(-5, 22, "Invalid parameter")},
		{name: "author key that is spoilt and off", source: inFW, change: block(author, nil, func(a []byte) { a[idKeySigOffset] ^= 1 }), want: launches},
		{name: "ID block without ID auth", source: inKernel, change: property("id-block=" + zeros(96)), want: finishFails(-22, 0, "")},
		{name: "ID auth without ID block", source: inKernel, change: property("id-auth=" + zeros(4096)), want: launches},

		{name: "FINISH: EINVAL", source: inKernel, faults: []string{"SNP_LAUNCH_FINISH=EINVAL"}, want: finishFails(-22, 0, "")},
		{name: "FINISH: a vCPU is being created", source: inKernel, faults: []string{"SNP_LAUNCH_FINISH=EBUSY"}, want: finishFails(-16, 0, "")},
		{name: "FINISH: ID auth cannot be read", source: inKernel, faults: []string{"SNP_LAUNCH_FINISH=EFAULT"}, want: finishFails(-14, 0, "")},
		{name: "FINISH: the firmware does not answer", source: inDriver, faults: []string{"SNP_LAUNCH_FINISH=dead"}, want: finishFails(-110, 0, "")},
		{name: "FINISH: a save area is refused", source: inFW, faults: []string{"SNP_LAUNCH_UPDATE_VMSA:1=INVALID_PAGE_STATE"}, want: finishFails(-5, 26, "unknown error")},
	}
	for _, c := range []struct {
		status snp.Status
		text   string
	}{
		{snp.StatusInvalidPlatformState, "Platform state is invalid"}, {snp.StatusInvalidGuestState, "Guest state is invalid"}, {snp.StatusInactive, "Guest is not active"},
		{snp.StatusInvalidGuest, "Guest handle is invalid"}, {snp.StatusInvalidPageSize, "unknown error"},
	} {
		rows = append(rows, row{name: "FINISH: " + c.status.String(), source: inFW, faults: []string{"SNP_LAUNCH_FINISH=" + c.status.String()},
			want: finishFails(-5, int(c.status), c.text)})
	}
	return rows
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := idblock.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A reset ends a guest of QEMU 10; QEMU 11 makes a new VM for it, which is launched again.
func TestMessageOfAReset(t *testing.T) {
	words := map[bool]said{
		// Within a QMP command QEMU does not put its name before what it says.
		false: {"cpus are not resettable, terminating", "exit 0"},
		true:  {prefix + "info: virtual machine state has been rebuilt with new guest file handle.", "exit 0"},
	}
	for _, q := range qemus(t) {
		t.Run("QEMU "+q.name, func(t *testing.T) {
			want := words[q.major >= 11]
			args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-accel", "kvm", "-machine", "q35,smm=off,confidential-guest-support=sev0",
				"-object", sevObject(), "-cpu", "EPYC-v4", "-m", "256M", "-bios", parts(t).Firmware.Path, "-qmp", "stdio", "-S"}
			got, err := direct{qemu: q, args: args, talk: func(stdin io.Writer, said func() string) {
				fmt.Fprint(stdin, `{"execute":"qmp_capabilities"}{"execute":"cont"}{"execute":"system_reset"}`)
				for range 600 {
					if contains(said(), "\n") {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
				fmt.Fprint(stdin, `{"execute":"quit"}`)
			}}.launch(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if wordsOf(got.stderr, t.TempDir()) != want.stderr || got.status != want.status {
				t.Errorf("%s\n%s\nwant %s\n%s", got.status, got.stderr, want.status, want.stderr)
			}
		})
	}
}

// QEMU takes workarounds of 16 bytes only, whatever it says of shorter ones; the
// launcher fills them up.
func TestShortWorkaroundsAreLaunched(t *testing.T) {
	g := aGuest(t)
	g.GuestVisibleWorkarounds = []byte{1}
	o := options(t)
	o.LaunchOnly = true
	if res := launch(t, g, o); res.Verdict != launcher.VerdictMatch {
		t.Errorf("verdict %s: %+v\n%s", res.Verdict, res.Error, res.Stderr)
	}
}
