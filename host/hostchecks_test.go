package host

import (
	"bytes"
	"compress/gzip"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// One thing is wrong at a time with an SNP host, and what it brings with it. The kernel's words are
// those of the files named above milan, and of the public logs that package diagnose refers to.
func TestHostChecks(t *testing.T) {
	with := func(change func([]byte)) func(*Root) {
		return func(r *Root) {
			r.Platform = func() ([]byte, error) {
				b := soundStatus()
				change(b)
				return b, nil
			}
		}
	}
	fails := func(err error) func(*Root) {
		return func(r *Root) { r.Platform = func() ([]byte, error) { return nil, err } }
	}
	register := func(number uint32, value uint64, err error) func(*Root) {
		return func(r *Root) {
			r.MSR = func(n uint32) (uint64, error) {
				if n == number {
					return value, err
				}
				return readRegister(n)
			}
		}
	}
	kvm := func(o KVMOffers, err error) func(*Root) {
		return func(r *Root) { r.KVM = func() (KVMOffers, error) { return o, err } }
	}
	record := func(s string) tree { return tree{"dev/kmsg": "4,9,13,-;" + s + "\n"} }
	const config = "boot/config-6.12.41+deb13-amd64"
	for _, tc := range []struct {
		name    string
		changes tree
		root    func(*Root)
		cpuid   CPUID
		id      string
		verdict Verdict
		reason  string
		remedy  string
	}{
		{"no msr module", nil, func(r *Root) { r.MSR = nil }, nil, "syscfg-snp", Unknown, "no such file", "modprobe msr"},
		{"msr for root only", nil, register(msrSYSCFG, 0, syscall.EPERM), nil, "rmp", Unknown, "not permitted", "as root"},
		{"SMEE off", nil, register(msrSYSCFG, 0x3f40000&^syscfgMemEncryption, nil), nil, "syscfg-sme", Obstacle, "off", "SMEE"},
		{"SNP off in SYSCFG", nil, register(msrSYSCFG, 0x3f40000&^syscfgSNP, nil), nil, "syscfg-snp", Obstacle, "given SNP up", "RMP coverage"},
		{"no RMP", nil, register(msrRMPBase, 0, nil), nil, "rmp", Obstacle, "reserved none", "memory coverage"},
		{"RMP", nil, nil, nil, "rmp", OK, "0xbf7e600000-0xc05f0fffff (3595 MiB)", ""},
		{"RMP in segments", nil, register(msrRMPCfg, 1, nil), nil, "rmp", OK, "segments", ""},

		{"RMP not reserved", record("SEV-SNP: Memory for the RMP table has not been reserved by BIOS").with(tree{"sys/module/kvm_amd/parameters/sev_snp": "N\n"}), nil, nil, "kernel-log", Obstacle, "set no memory aside", "SNP memory coverage"},
		{"an old complaint", record("SEV-SNP: Memory for the RMP table has not been reserved by BIOS"), nil, nil, "kernel-log", Warning, "set no memory aside", "SNP memory coverage"},
		{"IOMMU, by the log", record("AMD-Vi: SNP: IOMMU disabled or configured in passthrough mode, SNP cannot be supported.").with(tree{"sys/module/kvm_amd/parameters/sev_snp": "N\n"}), nil, nil, "kernel-log", Obstacle, "passes devices through", "iommu=pt"},
		{"a guest that ended", record("kvm_amd: SEV-ES guest requested termination: 0x1:0x1"), nil, nil, "kernel-log", Warning, "could not be made private", "RMP"},
		{"no kernel log", tree{"dev/kmsg": ""}, nil, nil, "kernel-log", Unknown, "no such file", "dmesg"},

		{"IOMMU passes through by default", tree{"sys/kernel/iommu_groups/0/type": "identity\n"}, nil, nil, "iommu", Warning, "identity", "iommu.passthrough=0"},
		{"IOMMU without SNP", tree{"sys/class/iommu/ivhd0/amd-iommu/features": "0:25bf732fa2295afe\n"}, nil, nil, "iommu-snp", Obstacle, "clear (EFR 0x25bf732fa2295afe)", "NBIO"},
		{"IOMMU, an older kernel's form", tree{"sys/class/iommu/ivhd0/amd-iommu/features": "a5bf732fa2295afe\n"}, nil, nil, "iommu-snp", OK, "set", ""},
		{"no IOMMU in /sys", tree{"sys/class/iommu/ivhd0/amd-iommu/features": ""}, nil, nil, "iommu-snp", Unknown, "/sys/class/iommu", "AMD-Vi"},

		{"old firmware", nil, with(func(b []byte) { b[1] = 15 }), nil, "sev-firmware", Obstacle, "1.15", "/lib/firmware/amd"},
		{"platform not initialised", nil, with(func(b []byte) { b[2] = 0 }), nil, "sev-state", Obstacle, "not initialised", "kernel log"},
		{"RMP not initialised", nil, with(func(b []byte) { b[3] = 2 }), nil, "sev-rmp", Obstacle, "not initialised", "kernel log"},
		{"no alias check", nil, with(func(b []byte) { b[3] = 1 }), nil, "sev-alias", Unknown, "CVE-2024-21944", "update the BIOS"},
		{"reports for an older TCB", nil, with(func(b []byte) { b[24+6]-- }), nil, "sev-tcb", Warning, "0xd314000000000004, and 0xd315000000000004 runs", "snphost"},
		{"reports for a newer TCB", nil, with(func(b []byte) { b[24]++ }), nil, "sev-tcb", Warning, "0xd315000000000005, and", "above what runs"},
		{"firmware does not answer", nil, fails(syscall.ENODEV), nil, "sev-state", Unknown, "no such device", ""},
		{"firmware answers half", nil, func(r *Root) { r.Platform = func() ([]byte, error) { return make([]byte, 12), nil } }, nil, "sev-tcb", Unknown, "12 bytes", ""},

		{"kernel too old", tree{"proc/sys/kernel/osrelease": "6.8.0-31-generic\n"}, nil, nil, "kernel-snp", Warning, "development tree", "6.11"},
		{"no configuration", tree{config: ""}, nil, nil, "kernel-config", Unknown, "/proc/config.gz", ""},
		{"without KVM_AMD_SEV", tree{config: "CONFIG_KVM_AMD=m\nCONFIG_KVM_PRIVATE_MEM=y\nCONFIG_CRYPTO_DEV_SP_PSP=y\nCONFIG_AMD_IOMMU=y\n# CONFIG_KVM_AMD_SEV is not set\n"}, nil, nil, "kernel-config", Obstacle, "lacks CONFIG_KVM_AMD_SEV", "use a kernel"},
		{"guest_memfd by its newer name", tree{config: strings.ReplaceAll(milan[config], "PRIVATE_MEM", "GUEST_MEMFD")}, nil, nil, "kernel-config", OK, "", ""},
		{"without guest_memfd", tree{config: strings.ReplaceAll(milan[config], "PRIVATE_MEM", "OTHER")}, nil, nil, "kernel-config", Obstacle, "CONFIG_KVM_PRIVATE_MEM", "use a kernel"},
		{"packed configuration", tree{config: "", "proc/config.gz": zipped(milan[config])}, nil, nil, "kernel-config", OK, "/proc/config.gz", ""},
		{"SEV-ES off", tree{"sys/module/kvm_amd/parameters/sev_es": "N\n"}, nil, nil, "kvm-amd-sev-es", Obstacle, "N", "sev_es=1"},
		{"debug_swap in a development tree", tree{"proc/sys/kernel/osrelease": "6.6.0-rc1-snp-host\n"}, nil, nil, "debug-swap", Warning, "every launch digest", "amd-6.6"},
		{"debug_swap", nil, nil, nil, "debug-swap", OK, "unasked", ""},
		{"no VMs of type SNP", nil, kvm(KVMOffers{GuestMemfd: true}, nil), nil, "kvm-vm-type", Obstacle, "not offered", "6.11"},
		{"no guest_memfd", nil, kvm(KVMOffers{SNP: true}, nil), nil, "guest-memfd", Obstacle, "not offered", "PRIVATE_MEM"},
		{"KVM cannot be asked", nil, kvm(KVMOffers{}, errors.New("busy")), nil, "guest-memfd", Unknown, "busy", ""},

		{"no ASID is free", tree{"sys/fs/cgroup/misc.current": "sev_es 99\n"}, nil, nil, "asids-free", Obstacle, "all 99", "stop another"},
		{"ASIDs are not told", tree{"sys/fs/cgroup/misc.capacity": ""}, nil, nil, "asids-free", Unknown, "misc.capacity", ""},
		{"ASIDs in use are not told", tree{"sys/fs/cgroup/misc.current": ""}, nil, nil, "asids-free", OK, "99 in all", ""},
		{"no limits", tree{"proc/self/limits": ""}, nil, nil, "memlock", Unknown, "/proc/self/limits", ""},
		{"no limit", tree{"proc/self/limits": "Max locked memory         unlimited            unlimited            bytes\n"}, nil, nil, "memlock", OK, "unlimited", ""},
		{"CPUID of another machine", nil, nil, intelCPUID, "cpu", OK, "answers all the same", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cpuid := tc.cpuid
			if cpuid == nil {
				cpuid = milanCPUID
			}
			root := milan.with(tc.changes).host(t, cpuid)
			if strings.HasPrefix(tc.id, "kernel-") {
				// A firmware and a KVM that answer are believed.
				root.Platform, root.KVM = nil, nil
			}
			if tc.root != nil {
				tc.root(&root)
			}
			m := Probe(t.Context(), root)
			c := find(t, m, tc.id)
			if c.Verdict != tc.verdict || !strings.Contains(c.Reason, tc.reason) || !strings.Contains(c.Remedy, tc.remedy) || (c.Remedy == "") != (tc.remedy == "") {
				t.Errorf("got %+v\nwant %s, reason %q, remedy %q", c, tc.verdict, tc.reason, tc.remedy)
			}
			if c.Verdict == Obstacle && !slices.ContainsFunc(m.Obstacles(SNP), func(o Check) bool { return o.ID == tc.id }) {
				t.Errorf("%s is no obstacle to the backend", tc.id)
			}
		})
	}
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// Turin has its components elsewhere: what is newer on Milan is not there.
func TestTCBOfTurin(t *testing.T) {
	root := milan.with(tree{"proc/cpuinfo": strings.Replace(milan["proc/cpuinfo"], "cpu family\t: 25", "cpu family\t: 26", 1)}).host(t, milanCPUID)
	root.Platform = func() ([]byte, error) {
		b := soundStatus()
		copy(b[16:], []byte{1, 1, 1, 5, 0, 0, 0, 9})
		copy(b[24:], []byte{1, 1, 1, 4, 0, 0, 7, 9}) // byte 6 is Milan's SNP and nothing on Turin
		return b, nil
	}
	if c := find(t, Probe(t.Context(), root), "sev-tcb"); !strings.Contains(c.Remedy, "older TCB") {
		t.Errorf("got %+v", c)
	}
}

// Check ids are for scripts: none is given twice, all are named, and Worst is the
// gravest of them.
func TestCheckIDs(t *testing.T) {
	m := Probe(t.Context(), milan.host(t, milanCPUID))
	seen := map[string]bool{}
	for _, c := range m.Checks {
		if seen[c.ID] || strings.ToLower(c.ID) != c.ID || strings.ContainsAny(c.ID, " _") {
			t.Errorf("id %q", c.ID)
		}
		seen[c.ID] = true
	}
	for _, tc := range []struct {
		verdicts []Verdict
		want     Verdict
	}{
		{nil, OK}, {[]Verdict{OK, Unknown, NotApplicable}, OK}, {[]Verdict{OK, Warning, Unknown}, Warning}, {[]Verdict{Warning, Obstacle, OK}, Obstacle},
	} {
		var checks []Check
		for _, v := range tc.verdicts {
			checks = append(checks, Check{Verdict: v})
		}
		if got := Worst(checks); got != tc.want {
			t.Errorf("%q: got %s", tc.verdicts, got)
		}
	}
}

func TestReadMSR(t *testing.T) {
	b := append(make([]byte, 16), 1, 2, 3, 4, 5, 6, 7, 8)
	if v, err := readMSR(bytes.NewReader(b), 16); err != nil || v != 0x0807060504030201 {
		t.Errorf("got 0x%x, %v", v, err)
	}
	if _, err := readMSR(bytes.NewReader(b), 20); err == nil {
		t.Error("half a register is read")
	}
}

func TestPlatformVersion(t *testing.T) {
	p := parsePlatform(soundStatus())
	if p.Version() != "1.55 build 21" || p.API() != 0x137 || p.ReportedTCB != snp.TCBVersion(0xd315000000000004) {
		t.Errorf("got %s, 0x%x, %s", p.Version(), p.API(), p.ReportedTCB)
	}
}
