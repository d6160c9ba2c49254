package host

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tree is a root folder: path to contents. A path that ends in a slash is a
// folder.
type tree map[string]string

// with returns a copy with some files changed; an empty string removes one.
func (tr tree) with(changes tree) tree {
	c := maps.Clone(tr)
	for name, text := range changes {
		if c[name] = text; text == "" {
			delete(c, name)
		}
	}
	return c
}

func (tr tree) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tr {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The formats of the files are the kernel's:
//
//	/proc/cpuinfo                            arch/x86/kernel/cpu/proc.c, show_cpuinfo; flags from arch/x86/include/asm/cpufeatures.h
//	/proc/self/status                        Documentation/filesystems/proc.rst, table 1-2
//	/proc/sys/kernel/osrelease               Documentation/admin-guide/sysctl/kernel.rst
//	/proc/sys/kernel/seccomp/actions_avail   Documentation/userspace-api/seccomp_filter.rst, "Sysctls"
//	/proc/sys/kernel/yama/ptrace_scope       Documentation/admin-guide/LSM/Yama.rst
//	/sys/module/kvm_amd/parameters/sev_snp   a bool parameter, "Y" or "N": kernel/params.c, param_get_bool
//	/sys/devices/system/cpu/smt/active       Documentation/ABI/testing/sysfs-devices-system-cpu
//	/dev/kmsg                                Documentation/ABI/testing/dev-kmsg; the messages are those of arch/x86/virt/svm/sev.c,
//	                                         drivers/iommu/amd/init.c, drivers/crypto/ccp/sev-dev.c and arch/x86/kvm/svm/sev.c
//	/boot/config-RELEASE                     scripts/kconfig, as distributions install it
//	/proc/self/limits                        proc_pid_limits(5)
//	/sys/class/iommu/ivhd0/amd-iommu/features  drivers/iommu/amd/init.c, amd_iommu_show_features: "EFR2:EFR"
//	/sys/kernel/iommu_groups/0/type          Documentation/ABI/testing/sysfs-kernel-iommu_groups
//	/sys/fs/cgroup/misc.capacity, .current   Documentation/admin-guide/cgroup-v2.rst, "Misc"
//
// Nothing here was recorded on a machine.
// Devices are plain files here; only whether they open is asked.
var (
	milan = tree{
		"dev/kvm": "kvm", "dev/sev": "sev",
		"proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7763 64-Core Processor\nstepping\t: 1\n" +
			"flags\t\t: fpu vme de pse tsc sme sev sev_es sev_snp\nbugs\t\t: sysret_ss_attrs\n\n" +
			"processor\t: 1\nvendor_id\t: AuthenticAMD\ncpu family\t: 99\nflags\t\t: hypervisor\n",
		"proc/cmdline":                             "BOOT_IMAGE=/boot/vmlinuz-6.12 root=UUID=1 ro quiet\n",
		"proc/self/status":                         "Name:\tsnplaunch\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n",
		"proc/sys/kernel/osrelease":                "6.12.41+deb13-amd64\n",
		"proc/sys/kernel/seccomp/actions_avail":    "kill_process kill_thread trap errno user_notif trace log allow\n",
		"proc/sys/kernel/yama/ptrace_scope":        "1\n",
		"sys/module/kvm_amd/parameters/sev_snp":    "Y\n",
		"sys/devices/system/cpu/smt/active":        "1\n",
		"sys/module/kvm_amd/parameters/sev":        "Y\n",
		"sys/module/kvm_amd/parameters/sev_es":     "Y\n",
		"sys/devices/system/cpu/smt/control":       "on\n",
		"proc/sys/kernel/seccomp/actions_logged":   "kill_process kill_thread trap errno user_notif trace log\n",
		"sys/module/kvm_amd/parameters/debug_swap": "Y\n",
		"dev/kmsg": "6,1,0,-;SEV-SNP: RMP table physical range [0x000000bf7e600000 - 0x000000c05f0fffff]\n" +
			"6,2,511301,-;AMD-Vi: Using global IVHD EFR:0xa5bf732fa2295afe, EFR2:0x1d\n" +
			"6,3,9021999,-;ccp 0000:01:00.5: SEV-SNP API:1.55 build:21\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.5\n" +
			"6,4,9130544,-;kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)\n",
		"boot/config-6.12.41+deb13-amd64": "CONFIG_KVM_AMD=m\nCONFIG_KVM_AMD_SEV=y\n# CONFIG_KVM_XEN is not set\nCONFIG_KVM_PRIVATE_MEM=y\n" +
			"CONFIG_CRYPTO_DEV_SP_PSP=y\nCONFIG_AMD_IOMMU=y\n",
		"proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units     \n" +
			"Max locked memory         8388608              8388608              bytes     \n",
		"sys/class/iommu/ivhd0/amd-iommu/features": "1d:a5bf732fa2295afe\n",
		"sys/kernel/iommu_groups/0/type":           "DMA-FQ\n",
		"sys/fs/cgroup/misc.capacity":              "sev 410\nsev_es 99\n",
		"sys/fs/cgroup/misc.current":               "sev 0\nsev_es 3\n",
	}
	laptop = tree{
		"dev/kvm":                               "kvm",
		"proc/cpuinfo":                          "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 140\nmodel name\t: 11th Gen Intel(R) Core(TM) i7-1165G7\nstepping\t: 1\nflags\t\t: fpu vme de\n",
		"proc/self/status":                      milan["proc/self/status"],
		"proc/sys/kernel/osrelease":             "6.1.0-37-amd64\n",
		"proc/sys/kernel/seccomp/actions_avail": milan["proc/sys/kernel/seccomp/actions_avail"],
	}
)

// registers are those of a host with SNP on and a reverse map table.
var registers = map[uint32]uint64{msrSYSCFG: 0x3f40000, msrRMPBase: 0xbf7e600000, msrRMPEnd: 0xc05f0fffff}

func readRegister(number uint32) (uint64, error) {
	v, ok := registers[number]
	if !ok {
		return 0, syscall.EIO // as for one that the processor does not have
	}
	return v, nil
}

// soundStatus is the answer of a firmware 1.55 that is initialised for SNP (struct
// sev_user_data_snp_status, include/uapi/linux/psp-sev.h).
func soundStatus() []byte {
	b := make([]byte, 32)
	b[0], b[1], b[2], b[3], b[4] = 1, 55, 1, 3, 21
	binary.LittleEndian.PutUint32(b[12:], 3)
	binary.LittleEndian.PutUint64(b[16:], 0xd315000000000004)
	binary.LittleEndian.PutUint64(b[24:], 0xd315000000000004)
	return b
}

// host is a sound SNP host but for what is changed.
func (tr tree) host(t *testing.T, cpuid CPUID) Root {
	return Root{Dir: tr.write(t), CPUID: cpuid,
		Platform: func() ([]byte, error) { return soundStatus(), nil },
		KVM: func() (KVMOffers, error) {
			return KVMOffers{SNP: true, GuestMemfd: true}, nil
		}, MSR: readRegister}
}

// fakeCPUID answers as a processor with the given leaf 0x8000001f; EBX 0x4173
// is Milan's: C-bit 51, 5 address bits taken, 4 VMPLs.
func fakeCPUID(vendor string, vm bool, eax, ebx, ecx, edx uint32) CPUID {
	return func(leaf, subleaf uint32) (uint32, uint32, uint32, uint32) {
		switch leaf {
		case 0:
			le := binary.LittleEndian
			return 0x10, le.Uint32([]byte(vendor[0:])), le.Uint32([]byte(vendor[8:])), le.Uint32([]byte(vendor[4:]))
		case 1:
			if vm {
				return 0, 0, 1 << 31, 0
			}
			return 0, 0, 0, 0
		case 0x80000000:
			if eax == 0 {
				return 0x80000008, 0, 0, 0
			}
			return 0x80000021, 0, 0, 0
		case 0x8000001f:
			return eax, ebx, ecx, edx
		}
		return 0, 0, 0, 0
	}
}

var (
	milanCPUID  = fakeCPUID("AuthenticAMD", false, 1<<0|1<<1|1<<3|1<<4|1<<5, 0x4173, 509, 100)
	intelCPUID  = fakeCPUID("GenuineIntel", false, 0, 0x7d, 7, 9) // leaves that are absent give another's contents
	guestCPUID  = fakeCPUID("AuthenticAMD", true, 1<<1|1<<3|1<<4, 0x4173, 0, 0)
	noASIDCPUID = fakeCPUID("AuthenticAMD", false, 1<<0|1<<1|1<<3|1<<4|1<<5, 0x4173, 509, 1)
	naples      = fakeCPUID("AuthenticAMD", false, 1<<0|1<<1, 0x16f, 15, 1)
)

// A script in QEMU's place that waits for what it has started holds nobody up: neither who
// asks it nor who waits for the same answer.
func TestAskQEMUThatDoesNotAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nsleep 1000\necho late\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	answers := make(chan *QEMU, 2)
	for range 2 {
		go func() { answers <- AskQEMU(ctx, path) }()
	}
	for range 2 {
		select {
		case q := <-answers:
			if q.Err == nil || !strings.Contains(q.Err.Error(), "did not answer") {
				t.Errorf("%+v", q)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("it waits for the script's child")
		}
	}
}

func TestProbeMilan(t *testing.T) {
	m := Probe(t.Context(), milan.host(t, milanCPUID))
	wantCPU := CPU{
		Vendor: "AuthenticAMD", ModelName: "AMD EPYC 7763 64-Core Processor", Family: 25, Model: 1, Stepping: 1, SNPFlag: true,
		SEV: SEVCapabilities{SME: true, SEV: true, SEVES: true, SNP: true, VMPL: true, VMPLs: 4, PhysAddrBits: 5, EncryptedVMs: 509, MinSEVASID: 100, SNPGuestASIDs: 99},
	}
	if m.CPU != wantCPU {
		t.Errorf("CPU %+v\nwant %+v", m.CPU, wantCPU)
	}
	wantKernel := Kernel{
		Release: "6.12.41+deb13-amd64", Major: 6, Minor: 12, CmdLine: "BOOT_IMAGE=/boot/vmlinuz-6.12 root=UUID=1 ro quiet",
		KVMAMD: true, SNPParam: "Y", SEVParam: "Y", SEVESParam: "Y", DebugSwap: "Y", UserNotif: true, PtraceScope: 1,
	}
	if m.Kernel != wantKernel {
		t.Errorf("Kernel %+v\nwant %+v", m.Kernel, wantKernel)
	}
	usable := Device{Present: true, Usable: true}
	if m.KVM != usable || m.SEV != usable || !m.SMT || m.CBitPos != 51 || m.Process != (Process{MemLock: "8388608"}) {
		t.Errorf("KVM %+v, SEV %+v, SMT %v, C-bit %d, process %+v", m.KVM, m.SEV, m.SMT, m.CBitPos, m.Process)
	}
	wantPlatform := Platform{Known: true, APIMajor: 1, APIMinor: 55, Build: 21, SNPInit: true, RMPInit: true, AliasCheck: true, Guests: 3,
		CurrentTCB: 0xd315000000000004, ReportedTCB: 0xd315000000000004}
	if m.Platform != wantPlatform {
		t.Errorf("Platform %+v\nwant %+v", m.Platform, wantPlatform)
	}
	if want := (Registers{Known: true, SYSCFG: 0x3f40000, RMPBase: 0xbf7e600000, RMPEnd: 0xc05f0fffff}); m.Registers != want {
		t.Errorf("Registers %+v\nwant %+v", m.Registers, want)
	}
	if want := (IOMMU{Present: true, FeaturesKnown: true, Features: 0xa5bf732fa2295afe}); m.IOMMU != want {
		t.Errorf("IOMMU %+v\nwant %+v", m.IOMMU, want)
	}
	if want := (ASIDs{true, 3, 99}); m.ASIDs != want {
		t.Errorf("ASIDs %+v, want %+v", m.ASIDs, want)
	}
	for _, c := range m.Checks {
		if c.Verdict != OK && c.ID != "cpu-secure-tsc" { // Milan has none
			t.Errorf("a sound host has %+v", c)
		}
	}
}

func find(t *testing.T, m *Machine, id string) Check {
	t.Helper()
	for _, c := range m.Checks {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %q", id)
	return Check{}
}

// follows are the obstacles that one more thing brings with it.
var follows = map[string][]string{
	"kernel without SNP":      {"kernel-snp"},
	"older kernel":            {"kernel-snp"},
	"oldest kernel that does": {"kernel-snp"},
	"SEV only":                {"cpu-sev-es"},
}

// One thing is wrong at a time.
func TestChecks(t *testing.T) {
	status := func(seccomp, filters, caps string) string {
		return "CapEff:\t" + caps + "\nSeccomp:\t" + seccomp + "\nSeccomp_filters:\t" + filters + "\n"
	}
	const noCaps, sysPtrace = "0000000000000000", "0000000000080000"
	for _, tc := range []struct {
		name    string
		changes tree
		cpuid   CPUID
		id      string
		verdict Verdict
		found   string
		remedy  string
	}{
		{"no /dev/kvm", tree{"dev/kvm": ""}, nil, "kvm-device", Obstacle, "absent", "load kvm_amd"},
		{"no /dev/sev", tree{"dev/sev": ""}, nil, "sev-device", Obstacle, "absent", "load ccp"},
		{"/dev/sev does not open", tree{"dev/sev": "", "dev/sev/": " "}, nil, "sev-device", Obstacle, "is a directory", "udev"},
		{"SNP off in kvm_amd", tree{"sys/module/kvm_amd/parameters/sev_snp": "N\n"}, nil, "kvm-amd-snp", Obstacle, "sev_snp=N", "RMP coverage"},
		{"kernel without SNP", tree{"sys/module/kvm_amd/parameters/sev_snp": "", "proc/sys/kernel/osrelease": "6.1.0-37-amd64"}, nil, "kvm-amd-snp", Obstacle, "Linux 6.1.0-37-amd64 knows no SNP", "6.11"},
		{"kvm_amd not loaded", tree{"sys/module/kvm_amd/parameters/sev_snp": "", "sys/module/kvm_amd/parameters/sev": "", "sys/module/kvm_amd/parameters/sev_es": "", "sys/module/kvm_amd/parameters/debug_swap": ""}, nil, "kvm-amd-snp", Obstacle, "not loaded", "modprobe kvm_amd"},
		{"IOMMU passed through", tree{"proc/cmdline": "quiet iommu=pt\n"}, nil, "iommu", Warning, "iommu=pt", "remove iommu=pt"},
		{"another word with iommu=pt in it", tree{"proc/cmdline": "quiet xiommu=pt amd_iommu=on\n"}, nil, "iommu", OK, "", ""},
		{"SMT off", tree{"sys/devices/system/cpu/smt/active": "0\n"}, nil, "smt", OK, "off", ""},
		{"no ASIDs", nil, noASIDCPUID, "asids", Obstacle, "0 of 509", "ASID space limit"},
		{"SEV only", nil, naples, "cpu", Obstacle, ", SEV", "Milan"},

		{"oldest kernel that does", tree{"proc/sys/kernel/osrelease": "5.14.0\n"}, nil, "kernel", OK, "Linux 5.14.0", ""},
		{"older kernel", tree{"proc/sys/kernel/osrelease": "5.13.19-generic\n"}, nil, "kernel", Obstacle, "5.13", "5.14"},
		{"unknown kernel", tree{"proc/sys/kernel/osrelease": "mainline\n"}, nil, "kernel", Warning, `"mainline"`, "5.14"},
		{"no /proc", tree{"proc/sys/kernel/osrelease": ""}, nil, "kernel", Warning, `""`, "5.14"},
		{"no user notification", tree{"proc/sys/kernel/seccomp/actions_avail": "kill_process errno trace log allow\n"}, nil, "seccomp-notify", Obstacle, "actions_avail", "CONFIG_SECCOMP_FILTER"},
		{"no seccomp", tree{"proc/sys/kernel/seccomp/actions_avail": ""}, nil, "seccomp-notify", Obstacle, "actions_avail", "CONFIG_SECCOMP_FILTER"},
		{"container", tree{"proc/self/status": status("2", "3", noCaps)}, nil, "seccomp-filters", Warning, "3 on this process", "seccomp=unconfined"},
		{"strict mode", tree{"proc/self/status": status("1", "0", noCaps)}, nil, "seccomp-filters", Obstacle, "mode 1", "sandbox"},
		{"no Yama", tree{"proc/sys/kernel/yama/ptrace_scope": ""}, nil, "ptrace", OK, "not restricted", ""},
		{"Yama 0", tree{"proc/sys/kernel/yama/ptrace_scope": "0\n"}, nil, "ptrace", OK, "ptrace_scope=0", ""},
		{"Yama 2", tree{"proc/sys/kernel/yama/ptrace_scope": "2\n"}, nil, "ptrace", Obstacle, "only CAP_SYS_PTRACE", "sysctl"},
		{"Yama 2, root", tree{"proc/sys/kernel/yama/ptrace_scope": "2\n", "proc/self/status": status("0", "0", sysPtrace)}, nil, "ptrace", OK, "has CAP_SYS_PTRACE", ""},
		{"Yama 3, root", tree{"proc/sys/kernel/yama/ptrace_scope": "3\n", "proc/self/status": status("0", "0", sysPtrace)}, nil, "ptrace", Obstacle, "nobody", "restart"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.cpuid == nil {
				tc.cpuid = milanCPUID
			}
			root := milan.with(tc.changes).host(t, tc.cpuid)
			if strings.HasPrefix(tc.id, "asids") || tc.id == "cpu" || tc.id == "kvm-amd-snp" || strings.HasPrefix(tc.id, "kvm-vm") {
				// A firmware that answers is believed.
				root.Platform, root.KVM = nil, nil
			}
			m := Probe(t.Context(), root)
			c := find(t, m, tc.id)
			if c.Verdict != tc.verdict || !strings.Contains(c.Reason, tc.found) || !strings.Contains(c.Remedy, tc.remedy) {
				t.Errorf("got %+v\nwant %s, found %q, remedy %q", c, tc.verdict, tc.found, tc.remedy)
			}
			for _, c := range m.Checks {
				if c.ID == "" || c.Name == "" || c.Reason == "" {
					t.Errorf("something is empty in %+v", c)
				}
				if (c.Verdict == Warning || c.Verdict == Obstacle) && c.Remedy == "" || (c.Verdict == OK || c.Verdict == NotApplicable) && c.Remedy != "" {
					t.Errorf("%s %s comes with remedy %q", c.ID, c.Verdict, c.Remedy)
				}
				if c.Category == "" {
					t.Errorf("%s has no category", c.ID)
				}
				if c.ID != tc.id && c.Verdict == Obstacle && !slices.Contains(follows[tc.name], c.ID) {
					t.Errorf("%s fails as well: %s", c.ID, c.Reason)
				}
			}
		})
	}
}

// What SNP lacks is no failure of a machine that is not made for it.
func TestLaptop(t *testing.T) {
	m := Probe(t.Context(), Root{Dir: laptop.write(t), CPUID: intelCPUID})
	for _, c := range m.Checks {
		if c.Verdict != OK && c.Verdict != NotApplicable {
			t.Errorf("a laptop has %+v", c)
		}
	}
	if m.CPU.SEV != (SEVCapabilities{}) {
		t.Errorf("an Intel processor has %+v", m.CPU.SEV)
	}
	// QEMU compares with what the instruction gives, whatever it means there.
	if m.CBitPos != 0x3d {
		t.Errorf("C-bit position %d, want %d", m.CBitPos, 0x3d)
	}
}

func TestChoose(t *testing.T) {
	for _, tc := range []struct {
		name      string
		tree      tree
		cpuid     CPUID
		requested string
		backend   string
		reason    string
		err       string // empty: none
	}{
		{"EPYC", milan, milanCPUID, Auto, SNP, "/dev/sev is there", ""},
		{"EPYC, default", milan, milanCPUID, "", SNP, "/dev/sev is there", ""},
		{"EPYC, sim", milan, milanCPUID, Sim, Sim, "asked for", ""},
		{"EPYC without the driver is a broken host, not a simulated one", milan.with(tree{"dev/sev": ""}), milanCPUID, Auto, SNP, "processor has SEV-SNP", "backend snp cannot work on this machine: /dev/sev: absent (load ccp"},
		{"EPYC with SNP off in KVM", milan.with(tree{"sys/module/kvm_amd/parameters/sev_snp": "N\n"}), milanCPUID, Auto, SNP, "/dev/sev is there", "kvm_amd.sev_snp=N"},
		{"EPYC of the first generation", milan, naples, Auto, SNP, "/dev/sev is there", "processor: AuthenticAMD"},
		{"laptop", laptop, intelCPUID, Auto, Sim, "no /dev/sev and no processor", ""},
		{"laptop, snp", laptop, intelCPUID, SNP, SNP, "asked for", "11th Gen Intel(R) Core(TM) i7-1165G7 (family 6, model 140, stepping 1), no SEV (use an EPYC of the third generation (Milan) or newer, not inside a VM)"},
		{"laptop with an old kernel", laptop.with(tree{"proc/sys/kernel/osrelease": "4.19.0\n"}), intelCPUID, Auto, Sim, "no /dev/sev", "backend sim cannot work on this machine: Kernel: Linux 4.19.0 (use Linux 5.14 or newer)"},
		{"SNP guest", laptop, guestCPUID, Auto, Sim, "that of an SNP guest", ""},
		{"SNP guest, snp", laptop, guestCPUID, SNP, SNP, "asked for", "this is itself an SNP guest"},
		{"SNP host inside a VM", milan, fakeCPUID("AuthenticAMD", true, 1<<1|1<<3|1<<4, 0x4173, 509, 100), Auto, SNP, "/dev/sev is there", ""},
		{"unknown", laptop, intelCPUID, "tdx", "", "", `backend "tdx" is unknown: use auto, snp or sim`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if runtime.GOARCH != "amd64" && tc.backend == Sim {
				t.Skip("the software SNP host is for x86-64 only; this is " + runtime.GOARCH)
			}
			m := Probe(t.Context(), Root{Dir: tc.tree.write(t), CPUID: tc.cpuid})
			backend, reason, err := Choose(tc.requested, m)
			if backend != tc.backend || !strings.Contains(reason, tc.reason) {
				t.Errorf("got %q because %q, want %q because %q", backend, reason, tc.backend, tc.reason)
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			var obstacle *ObstacleError
			if tc.backend != "" && err != nil && (!errors.As(err, &obstacle) || obstacle.Backend != tc.backend) {
				t.Errorf("error %#v is not an ObstacleError of %s", err, tc.backend)
			}
		})
	}
}

func TestArchitecture(t *testing.T) {
	if c := architecture("linux", "amd64"); c.Verdict != OK {
		t.Errorf("got %+v", c)
	}
	if c := architecture("linux", "arm64"); c.Verdict != Obstacle || c.Remedy == "" {
		t.Errorf("got %+v", c)
	}
}

func TestProbeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := Probe(ctx, Root{Dir: milan.write(t), CPUID: milanCPUID})
	if m.KVM.Present || m.Kernel.Release != "" || len(m.Checks) == 0 {
		t.Errorf("a cancelled probe read on: %+v", m)
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(Check{ID: "a", Category: Launch, Name: "b", Verdict: OK, Reason: "c"})
	if want := `{"id":"a","category":"launch","name":"b","verdict":"ok","reason":"c"}`; err != nil || string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
}

// This very machine, whatever it is: CPUID agrees with what the kernel says.
func TestNative(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		if CBitPos() != 0 {
			t.Error("a C-bit without CPUID")
		}
		return
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := vendor(NativeCPUID), field(string(info), "vendor_id"); got != want {
		t.Errorf("CPUID says %q, /proc/cpuinfo %q", got, want)
	}
	m := Probe(t.Context(), Root{})
	if m.Kernel.Major == 0 || m.CPU.Family == 0 || m.CBitPos != CBitPos() {
		t.Errorf("this machine: %+v", m)
	}
}

// The kernel's cpuid driver executes the same instruction: a read of 16 bytes
// at (subleaf << 32 | leaf) gives EAX, EBX, ECX, EDX (arch/x86/kernel/cpuid.c).
// Only root may ask it.
func TestNativeAgainstDriver(t *testing.T) {
	f, err := os.Open("/dev/cpu/0/cpuid")
	if err != nil {
		t.Skipf("needs root and the cpuid module (modprobe cpuid): %v", err)
	}
	defer f.Close()
	// Leaf 1 differs between processors (APIC id), and leaf 7 has subleaves.
	for _, leaf := range []struct{ leaf, subleaf uint32 }{{0, 0}, {7, 0}, {7, 1}, {0x80000000, 0}, {0x80000002, 0}, {0x8000001f, 0}} {
		var b [16]byte
		if _, err := f.ReadAt(b[:], int64(leaf.subleaf)<<32|int64(leaf.leaf)); err != nil {
			t.Fatal(err)
		}
		var got [16]byte
		eax, ebx, ecx, edx := NativeCPUID(leaf.leaf, leaf.subleaf)
		for i, r := range []uint32{eax, ebx, ecx, edx} {
			binary.LittleEndian.PutUint32(got[4*i:], r)
		}
		if got != b {
			t.Errorf("leaf %#x.%d: % x, the kernel's driver says % x", leaf.leaf, leaf.subleaf, got, b)
		}
		if leaf.leaf == 0x8000001f {
			if want := b[4] & 0x3f; CBitPos() != want {
				t.Errorf("CBitPos %d, want %d", CBitPos(), want)
			}
		}
	}
}
