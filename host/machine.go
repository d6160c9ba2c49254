package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Root is where Probe looks. The zero value is this machine; tests give a
// folder of hand-written files and a processor of their own.
type Root struct {
	Dir   string // stands for "/"
	CPUID CPUID  // nil: NativeCPUID
	// Platform gives the answer to SNP_PLATFORM_STATUS, KVM what KVM offers; nil:
	// /dev/sev and /dev/kvm of this machine are asked.
	Platform func() ([]byte, error)
	KVM      func() (KVMOffers, error)
	// MSR gives a register of the first processor; nil: /dev/cpu/0/msr is read.
	MSR func(number uint32) (uint64, error)
}

// Machine is what Probe found.
type Machine struct {
	CPU     CPU    `json:"cpu"`
	CBitPos uint8  `json:"cbitpos"` // as CBitPos gives it: what QEMU demands here
	Kernel  Kernel `json:"kernel"`
	KVM     Device `json:"kvm"` // /dev/kvm
	SEV     Device `json:"sev"` // /dev/sev, the AMD Secure Processor's host interface
	// SMT reports simultaneous multithreading in use: a guest policy must then
	// allow it (bit 16).
	SMT       bool         `json:"smt"`
	Registers Registers    `json:"registers"`
	Platform  Platform     `json:"platform"`
	Offers    KVMOffers    `json:"kvm_offers"`
	IOMMU     IOMMU        `json:"iommu"`
	Config    KernelConfig `json:"kernel_config"`
	ASIDs     ASIDs        `json:"asids"`
	FreeMiB   int          `json:"free_mib"` // memory that can be had without swapping; 0: not known
	Process   Process      `json:"process"`
	Checks    []Check      `json:"checks"`

	kernelLog    []byte
	kernelLogErr error
}

// ASIDs counts address space identifiers of SEV-ES and SNP guests, as the misc
// controller of control groups does (Documentation/admin-guide/cgroup-v2.rst).
type ASIDs struct {
	Known bool `json:"known"` // Capacity is
	Used  int  `json:"used"`  // -1: not told
	// Capacity is how many there are.
	Capacity int `json:"capacity"`
}

// CPU is the processor, from CPUID and the first one in /proc/cpuinfo.
type CPU struct {
	Vendor    string          `json:"vendor"` // "AuthenticAMD"
	ModelName string          `json:"model_name"`
	Family    int             `json:"family"`
	Model     int             `json:"model"`
	Stepping  int             `json:"stepping"`
	VM        bool            `json:"vm"` // runs under a hypervisor
	SEV       SEVCapabilities `json:"sev"`
	// SNPFlag is the kernel's flag sev_snp: the processor has SNP and the
	// kernel has not given it up.
	SNPFlag bool `json:"sev_snp_flag"`
}

// Kernel is the running kernel.
type Kernel struct {
	Release string `json:"release"` // "6.12.41+deb13-cloud-amd64"
	Major   int    `json:"major"`   // 0: Release was not understood
	Minor   int    `json:"minor"`
	CmdLine string `json:"cmdline"`
	// KVMAMD reports that kvm_amd is loaded or built in.
	KVMAMD bool `json:"kvm_amd"`
	// SNPParam is kvm_amd's parameter sev_snp: "Y", "N", or empty where
	// this kernel has none.
	SNPParam string `json:"kvm_amd_sev_snp"`
	// SEVParam, SEVESParam and DebugSwap are further parameters of kvm_amd, in the same
	// form.
	SEVParam   string `json:"kvm_amd_sev"`
	SEVESParam string `json:"kvm_amd_sev_es"`
	DebugSwap  string `json:"kvm_amd_debug_swap"`
	// UserNotif reports that seccomp filters may hand system calls to another
	// process.
	UserNotif bool `json:"seccomp_user_notif"`
	// PtraceScope is Yama's restriction of ptrace and process_vm_readv, 0 to
	// 3; -1 without Yama.
	PtraceScope int `json:"ptrace_scope"`
}

// AtLeast compares the version; it is false when that is not known.
func (k Kernel) AtLeast(major, minor int) bool {
	return k.Major > major || k.Major == major && k.Minor >= minor
}

// Device is a device file.
type Device struct {
	Present bool   `json:"present"`
	Usable  bool   `json:"usable"`          // this process may open it for reading and writing
	Error   string `json:"error,omitempty"` // why not
	Mode    string `json:"mode,omitempty"`  // permissions of one that does not open, as ls shows them
}

// Process is what this process may do, and so QEMU started from it.
type Process struct {
	// Seccomp is 0 without restriction, 1 in strict mode, 2 under filters.
	Seccomp        int  `json:"seccomp"`
	SeccompFilters int  `json:"seccomp_filters"`
	CapSysPtrace   bool `json:"cap_sys_ptrace"`
	// MemLock is the soft limit of locked memory, "unlimited" or bytes; empty: not known.
	MemLock string `json:"memlock"`
}

// Probe looks at the machine. It always returns a Machine: what cannot be
// read counts as absent. When ctx is done it reads no more.
func Probe(ctx context.Context, root Root) *Machine {
	if root.CPUID == nil {
		root.CPUID = NativeCPUID
	}
	p := probe{ctx, root}
	m := &Machine{
		CPU:     p.cpu(),
		CBitPos: cBitPos(root.CPUID),
		Kernel:  p.kernel(),
		KVM:     p.device("dev/kvm"),
		SEV:     p.device("dev/sev"),
		SMT:     p.word("sys/devices/system/cpu/smt/active") == "1",
		Process: p.process(),

		Registers: p.registers(),
		Platform:  p.platform(),
		Offers:    p.offers(),
		IOMMU:     p.iommu(),
		ASIDs:     p.asids(),
		// "MemAvailable:  1234 kB" (proc_meminfo(5)).
		FreeMiB: number(strings.TrimSuffix(field(p.read("proc/meminfo"), "MemAvailable"), " kB")) >> 10,
	}
	m.Config = p.kernelConfig(m.Kernel.Release)
	m.kernelLog, m.kernelLogErr = p.kernelLog()
	m.Checks = m.check(m.hardware())
	return m
}

type probe struct {
	ctx  context.Context
	root Root
}

func (p probe) path(name string) string { return filepath.Join("/", p.root.Dir, name) }

// read returns the beginning of a file, or nothing. The kernel's files here
// are short but for /proc/cpuinfo, of which the first processor is enough.
func (p probe) read(name string) string {
	if p.ctx.Err() != nil {
		return ""
	}
	f, err := os.Open(p.path(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(b)
}

func (p probe) word(name string) string { return strings.TrimSpace(p.read(name)) }

// field returns the value of the first "key : value" line, as in /proc/cpuinfo
// and /proc/self/status.
func field(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func (p probe) cpu() CPU {
	info := p.read("proc/cpuinfo")
	flags := map[string]bool{}
	for _, f := range strings.Fields(field(info, "flags")) {
		flags[f] = true
	}
	_, _, features, _ := p.root.CPUID(1, 0)
	return CPU{
		Vendor:    vendor(p.root.CPUID),
		ModelName: field(info, "model name"),
		Family:    number(field(info, "cpu family")),
		Model:     number(field(info, "model")),
		Stepping:  number(field(info, "stepping")),
		VM:        features&(1<<31) != 0 || flags["hypervisor"],
		SEV:       sevCapabilities(p.root.CPUID),
		SNPFlag:   flags["sev_snp"],
	}
}

func (p probe) kernel() Kernel {
	k := Kernel{
		Release:     p.word("proc/sys/kernel/osrelease"),
		CmdLine:     p.word("proc/cmdline"),
		SNPParam:    p.word("sys/module/kvm_amd/parameters/sev_snp"),
		SEVParam:    p.word("sys/module/kvm_amd/parameters/sev"),
		SEVESParam:  p.word("sys/module/kvm_amd/parameters/sev_es"),
		DebugSwap:   p.word("sys/module/kvm_amd/parameters/debug_swap"),
		PtraceScope: -1,
	}
	if n, err := fmt.Sscanf(k.Release, "%d.%d", &k.Major, &k.Minor); n != 2 || err != nil {
		k.Major, k.Minor = 0, 0
	}
	if _, err := os.Stat(p.path("sys/module/kvm_amd")); err == nil {
		k.KVMAMD = true
	}
	for _, action := range strings.Fields(p.read("proc/sys/kernel/seccomp/actions_avail")) {
		k.UserNotif = k.UserNotif || action == "user_notif"
	}
	if s := p.word("proc/sys/kernel/yama/ptrace_scope"); s != "" {
		k.PtraceScope = number(s)
	}
	return k
}

// device opens the file, because a container's device rules show only then.
// Opening /dev/kvm or /dev/sev changes nothing.
func (p probe) device(name string) Device {
	if err := p.ctx.Err(); err != nil {
		return Device{Error: err.Error()}
	}
	f, err := os.OpenFile(p.path(name), os.O_RDWR, 0)
	if err == nil {
		f.Close()
		return Device{Present: true, Usable: true}
	}
	d := Device{Present: !errors.Is(err, fs.ErrNotExist), Error: reasonOf(err)}
	if st, err := os.Stat(p.path(name)); err == nil {
		d.Mode = st.Mode().String()
	}
	return d
}

func (p probe) process() Process {
	const capSysPtrace = 19 // include/uapi/linux/capability.h
	status := p.read("proc/self/status")
	caps, _ := strconv.ParseUint(field(status, "CapEff"), 16, 64)
	return Process{
		Seccomp:        number(field(status, "Seccomp")),
		SeccompFilters: number(field(status, "Seccomp_filters")),
		CapSysPtrace:   caps&(1<<capSysPtrace) != 0,
		MemLock:        memLock(p.read("proc/self/limits")),
	}
}

// memLock finds the soft limit in /proc/self/limits (proc_pid_limits(5)).
func memLock(limits string) string {
	for line := range strings.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, "Max locked memory"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				return f[0]
			}
		}
	}
	return ""
}

// asids reads the line "sev_es N" of misc.capacity and misc.current.
func (p probe) asids() ASIDs {
	count := func(file string) (int, bool) {
		for line := range strings.Lines(p.read("sys/fs/cgroup/" + file)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "sev_es" {
				n, err := strconv.Atoi(f[1])
				return n, err == nil
			}
		}
		return 0, false
	}
	capacity, ok := count("misc.capacity")
	if !ok {
		return ASIDs{Used: -1}
	}
	used, ok := count("misc.current")
	if !ok {
		used = -1
	}
	return ASIDs{true, used, capacity}
}

// reasonOf leaves out of an error which file it is about.
func reasonOf(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
