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
	"strings"
	"testing"
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
//
// Devices are plain files here; only whether they open is asked.
var (
	milan = tree{
		"dev/kvm": "kvm", "dev/sev": "sev",
		"proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7763 64-Core Processor\nstepping\t: 1\n" +
			"flags\t\t: fpu vme de pse tsc sme sev sev_es sev_snp\nbugs\t\t: sysret_ss_attrs\n\n" +
			"processor\t: 1\nvendor_id\t: AuthenticAMD\ncpu family\t: 99\nflags\t\t: hypervisor\n",
		"proc/cmdline":                           "BOOT_IMAGE=/boot/vmlinuz-6.12 root=UUID=1 ro quiet\n",
		"proc/self/status":                       "Name:\tsnplaunch\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n",
		"proc/sys/kernel/osrelease":              "6.12.41+deb13-amd64\n",
		"proc/sys/kernel/seccomp/actions_avail":  "kill_process kill_thread trap errno user_notif trace log allow\n",
		"proc/sys/kernel/yama/ptrace_scope":      "1\n",
		"sys/module/kvm_amd/parameters/sev_snp":  "Y\n",
		"sys/devices/system/cpu/smt/active":      "1\n",
		"sys/module/kvm_amd/parameters/sev":      "Y\n",
		"sys/module/kvm_amd/parameters/sev_es":   "Y\n",
		"sys/devices/system/cpu/smt/control":     "on\n",
		"proc/sys/kernel/seccomp/actions_logged": "kill_process kill_thread trap errno user_notif trace log\n",
	}
	laptop = tree{
		"dev/kvm":                               "kvm",
		"proc/cpuinfo":                          "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 140\nmodel name\t: 11th Gen Intel(R) Core(TM) i7-1165G7\nstepping\t: 1\nflags\t\t: fpu vme de\n",
		"proc/self/status":                      milan["proc/self/status"],
		"proc/sys/kernel/osrelease":             "6.1.0-37-amd64\n",
		"proc/sys/kernel/seccomp/actions_avail": milan["proc/sys/kernel/seccomp/actions_avail"],
	}
)

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
	milanCPUID  = fakeCPUID("AuthenticAMD", false, 1<<0|1<<1|1<<3|1<<4, 0x4173, 509, 100)
	intelCPUID  = fakeCPUID("GenuineIntel", false, 0, 0x7d, 7, 9) // leaves that are absent give another's contents
	guestCPUID  = fakeCPUID("AuthenticAMD", true, 1<<1|1<<3|1<<4, 0x4173, 0, 0)
	noASIDCPUID = fakeCPUID("AuthenticAMD", false, 1<<0|1<<1|1<<3|1<<4, 0x4173, 509, 1)
	naples      = fakeCPUID("AuthenticAMD", false, 1<<0|1<<1, 0x16f, 15, 1)
)

func TestProbeMilan(t *testing.T) {
	m := Probe(t.Context(), Root{Dir: milan.write(t), CPUID: milanCPUID})
	wantCPU := CPU{
		Vendor: "AuthenticAMD", ModelName: "AMD EPYC 7763 64-Core Processor", Family: 25, Model: 1, Stepping: 1, SNPFlag: true,
		SEV: SEVCapabilities{SEV: true, SEVES: true, SNP: true, PhysAddrBits: 5, EncryptedVMs: 509, MinSEVASID: 100, SNPGuestASIDs: 99},
	}
	if m.CPU != wantCPU {
		t.Errorf("CPU %+v\nwant %+v", m.CPU, wantCPU)
	}
	wantKernel := Kernel{
		Release: "6.12.41+deb13-amd64", Major: 6, Minor: 12, CmdLine: "BOOT_IMAGE=/boot/vmlinuz-6.12 root=UUID=1 ro quiet",
		KVMAMD: true, SNPParam: "Y", UserNotif: true, PtraceScope: 1,
	}
	if m.Kernel != wantKernel {
		t.Errorf("Kernel %+v\nwant %+v", m.Kernel, wantKernel)
	}
	usable := Device{Present: true, Usable: true}
	if m.KVM != usable || m.SEV != usable || !m.SMT || m.CBitPos != 51 || m.Process != (Process{}) {
		t.Errorf("KVM %+v, SEV %+v, SMT %v, C-bit %d, process %+v", m.KVM, m.SEV, m.SMT, m.CBitPos, m.Process)
	}
	for _, c := range m.Checks {
		if c.Verdict != OK && c.Verdict != Info {
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
		{"no /dev/kvm", tree{"dev/kvm": ""}, nil, "kvm-device", Fail, "absent", "load kvm_amd"},
		{"no /dev/sev", tree{"dev/sev": ""}, nil, "sev-device", Fail, "absent", "load ccp"},
		{"/dev/sev does not open", tree{"dev/sev": "", "dev/sev/": " "}, nil, "sev-device", Fail, "is a directory", "udev"},
		{"SNP off in kvm_amd", tree{"sys/module/kvm_amd/parameters/sev_snp": "N\n"}, nil, "kvm-amd-snp", Fail, "sev_snp=N", "RMP coverage"},
		{"kernel without SNP", tree{"sys/module/kvm_amd/parameters/sev_snp": "", "proc/sys/kernel/osrelease": "6.1.0-37-amd64"}, nil, "kvm-amd-snp", Fail, "Linux 6.1.0-37-amd64 knows no SNP", "6.11"},
		{"kvm_amd not loaded", tree{"sys/module/kvm_amd/parameters/sev_snp": "", "sys/module/kvm_amd/parameters/sev": "", "sys/module/kvm_amd/parameters/sev_es": ""}, nil, "kvm-amd-snp", Fail, "not loaded", "modprobe kvm_amd"},
		{"IOMMU passed through", tree{"proc/cmdline": "quiet iommu=pt\n"}, nil, "iommu", Warn, "iommu=pt", "remove iommu=pt"},
		{"another word with iommu=pt in it", tree{"proc/cmdline": "quiet xiommu=pt amd_iommu=on\n"}, nil, "iommu", OK, "", ""},
		{"SMT off", tree{"sys/devices/system/cpu/smt/active": "0\n"}, nil, "smt", Info, "off", ""},
		{"no ASIDs", nil, noASIDCPUID, "asids", Fail, "0", "ASID space limit"},
		{"SEV only", nil, naples, "cpu", Fail, ", SEV", "Milan"},

		{"oldest kernel that does", tree{"proc/sys/kernel/osrelease": "5.14.0\n"}, nil, "kernel", OK, "Linux 5.14.0", ""},
		{"older kernel", tree{"proc/sys/kernel/osrelease": "5.13.19-generic\n"}, nil, "kernel", Fail, "5.13", "5.14"},
		{"unknown kernel", tree{"proc/sys/kernel/osrelease": "mainline\n"}, nil, "kernel", Warn, `"mainline"`, "5.14"},
		{"no /proc", tree{"proc/sys/kernel/osrelease": ""}, nil, "kernel", Warn, `""`, "5.14"},
		{"no user notification", tree{"proc/sys/kernel/seccomp/actions_avail": "kill_process errno trace log allow\n"}, nil, "seccomp-notify", Fail, "actions_avail", "CONFIG_SECCOMP_FILTER"},
		{"no seccomp", tree{"proc/sys/kernel/seccomp/actions_avail": ""}, nil, "seccomp-notify", Fail, "actions_avail", "CONFIG_SECCOMP_FILTER"},
		{"container", tree{"proc/self/status": status("2", "3", noCaps)}, nil, "seccomp-filters", Warn, "3 on this process", "seccomp=unconfined"},
		{"strict mode", tree{"proc/self/status": status("1", "0", noCaps)}, nil, "seccomp-filters", Fail, "mode 1", "sandbox"},
		{"no Yama", tree{"proc/sys/kernel/yama/ptrace_scope": ""}, nil, "ptrace", OK, "not restricted", ""},
		{"Yama 0", tree{"proc/sys/kernel/yama/ptrace_scope": "0\n"}, nil, "ptrace", OK, "ptrace_scope=0", ""},
		{"Yama 2", tree{"proc/sys/kernel/yama/ptrace_scope": "2\n"}, nil, "ptrace", Fail, "only CAP_SYS_PTRACE", "sysctl"},
		{"Yama 2, root", tree{"proc/sys/kernel/yama/ptrace_scope": "2\n", "proc/self/status": status("0", "0", sysPtrace)}, nil, "ptrace", OK, "has CAP_SYS_PTRACE", ""},
		{"Yama 3, root", tree{"proc/sys/kernel/yama/ptrace_scope": "3\n", "proc/self/status": status("0", "0", sysPtrace)}, nil, "ptrace", Fail, "nobody", "restart"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.cpuid == nil {
				tc.cpuid = milanCPUID
			}
			m := Probe(t.Context(), Root{Dir: milan.with(tc.changes).write(t), CPUID: tc.cpuid})
			c := find(t, m, tc.id)
			if c.Verdict != tc.verdict || !strings.Contains(c.Found, tc.found) || !strings.Contains(c.Remedy, tc.remedy) {
				t.Errorf("got %+v\nwant %s, found %q, remedy %q", c, tc.verdict, tc.found, tc.remedy)
			}
			for _, c := range m.Checks {
				if c.ID == "" || c.Name == "" || c.Found == "" {
					t.Errorf("something is empty in %+v", c)
				}
				if (c.Remedy != "") != (c.Verdict == Warn || c.Verdict == Fail) {
					t.Errorf("%s comes with remedy %q", c.Verdict, c.Remedy)
				}
				if c.ID != tc.id && c.Verdict == Fail {
					t.Errorf("%s fails as well: %s", c.ID, c.Found)
				}
			}
		})
	}
}

// What SNP lacks is no failure of a machine that is not made for it.
func TestLaptop(t *testing.T) {
	m := Probe(t.Context(), Root{Dir: laptop.write(t), CPUID: intelCPUID})
	for _, c := range m.Checks {
		if c.Verdict != OK && c.Verdict != Info {
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
		{"EPYC of the first generation", milan, naples, Auto, SNP, "/dev/sev is there", "Processor: AuthenticAMD"},
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
	if c := architecture("linux", "arm64"); c.Verdict != Fail || c.Remedy == "" {
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
	b, err := json.Marshal(Check{ID: "a", Name: "b", Verdict: OK, Found: "c"})
	if want := `{"id":"a","name":"b","verdict":"ok","found":"c"}`; err != nil || string(b) != want {
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
