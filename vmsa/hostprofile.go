package vmsa

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// HostProfile is what a range of host kernels puts in the save areas that
// QEMU's guests are launched with. Nothing else of the host takes part in a
// launch digest, so a profile is all that a digest assumes about the host.
type HostProfile struct {
	Name string // "6.11+", "amd-6.6-6.7": what LookupHost takes, too
	What string // the kernels that are meant, in words
	SNP  bool   // whether these kernels launch SNP guests; others are for SEV-ES

	Features uint64 // SEV_FEATURES; without SNPActive where SNP is false
	NoFPU    bool   // MXCSR and FCW are zero: the FPU state is not copied

	amd         bool // one of AMD's trees
	first, last kernelVersion
}

// kernelVersion is the part of a kernel's version that matters: 6.11.
type kernelVersion struct{ major, minor int }

func (v kernelVersion) less(w kernelVersion) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

func (v kernelVersion) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

// noLast stands for the kernels to come.
var noLast = kernelVersion{1 << 30, 0}

// hostProfiles: the first is the default. Commits are Linux's, all about
// arch/x86/kvm/svm/sev.c; what AMD's trees do is from those who ran them.
var hostProfiles = []HostProfile{
	// KVM_SEV_INIT2 takes vmsa_features from the VMM and QEMU gives 0, so that
	// only SNPActive is left, which KVM adds (4f5defae7089, 4dd5ecacb9a4);
	// sev_es_sync_vmsa copies the FPU state of VMs that were made by INIT2.
	// Linux 6.11 is the first release with SNP_LAUNCH_START.
	{Name: "6.11+", What: "Linux 6.11 and later", SNP: true, Features: SNPActive,
		first: kernelVersion{6, 11}, last: noLast},
	// virtee/sev-snp-measure#48 and #49; amd/sev-utils#11 (6.9.0-rc7-snp).
	{Name: "amd-6.9+", What: "AMD's SNP host trees based on Linux 6.9 and later", SNP: true, Features: SNPActive,
		amd: true, first: kernelVersion{6, 9}, last: noLast},
	// DebugSwap is off by default (5abf6dceb066, virtee/sev-snp-measure#44);
	// the FPU state is copied from after 6.8-rc5 on (virtee/sev-snp-measure#49).
	{Name: "amd-6.8", What: "AMD's SNP host tree based on Linux 6.8", SNP: true, Features: SNPActive, NoFPU: true,
		amd: true, first: kernelVersion{6, 8}, last: kernelVersion{6, 8}},
	// DebugSwap wherever the processor has it (d1f85fbe836e; AMDESE/AMDSEV#195,
	// virtee/sev-snp-measure#30 and #32).
	{Name: "amd-6.6-6.7", What: "AMD's SNP host trees based on Linux 6.6 and 6.7", SNP: true, Features: SNPActive | DebugSwap, NoFPU: true,
		amd: true, first: kernelVersion{6, 6}, last: kernelVersion{6, 7}},
	// What virtee/sev-snp-measure computed before 0.0.9.
	{Name: "amd-5.19-6.5", What: "AMD's SNP host trees based on Linux 5.19 to 6.5", SNP: true, Features: SNPActive, NoFPU: true,
		amd: true, first: kernelVersion{5, 19}, last: kernelVersion{6, 5}},

	// These launch SEV-ES guests only, which begin with Linux 5.11.
	{Name: "6.10", What: "Linux 6.10, where QEMU makes the VM by KVM_SEV_INIT2", // 4f5defae7089
		first: kernelVersion{6, 10}, last: kernelVersion{6, 10}},
	{Name: "6.8-6.9", What: "Linux 6.8 and 6.9", NoFPU: true, // 5abf6dceb066
		first: kernelVersion{6, 8}, last: kernelVersion{6, 9}},
	{Name: "6.6-6.7", What: "Linux 6.6 and 6.7 on a processor with DebugSwap", Features: DebugSwap, NoFPU: true, // d1f85fbe836e
		first: kernelVersion{6, 6}, last: kernelVersion{6, 7}},
	{Name: "5.11-6.5", What: "Linux 5.11 to 6.5", NoFPU: true,
		first: kernelVersion{5, 11}, last: kernelVersion{6, 5}},
}

// DefaultHost is the profile that is assumed where nobody says which kernel
// the host runs: 6.11+.
func DefaultHost() HostProfile { return hostProfiles[0] }

// HostProfiles lists all profiles, the default first.
func HostProfiles() []HostProfile { return append([]HostProfile(nil), hostProfiles...) }

// LookupHost gives the profile of a host kernel: a profile's name ("6.11+"), a
// version ("6.12", "7.2"), a version of AMD's trees ("amd-6.6"), or what
// `uname -r` prints there ("6.12.95-amd64", "6.9.0-rc7-snp-host-05b10142ac6a").
// Empty means the default.
func LookupHost(name string) (HostProfile, error) {
	if name == "" {
		return DefaultHost(), nil
	}
	for _, p := range hostProfiles {
		if strings.EqualFold(p.Name, name) {
			return p, nil
		}
	}
	lower := strings.ToLower(name)
	digits, amd := strings.CutPrefix(lower, "amd-")
	v, ok := parseKernel(digits)
	if !ok {
		return HostProfile{}, fmt.Errorf("host kernel %q is unknown (%s)", name, suggest.Remedy(name, hostNames()))
	}
	// AMD's trees name themselves so.
	amd = amd || strings.Contains(lower, "-snp")
	for _, p := range hostProfiles {
		if p.amd == amd && !v.less(p.first) && !p.last.less(v) {
			return p, nil
		}
	}
	return HostProfile{}, fmt.Errorf("host kernel %q is older than any that launches SEV-ES or SNP guests (use one of %s)", name, strings.Join(hostNames(), ", "))
}

func hostNames() []string {
	var out []string
	for _, p := range hostProfiles {
		out = append(out, p.Name)
	}
	return out
}

// parseKernel reads the beginning of a kernel release: 6.12, 6.12.95-amd64, 6.11+.
func parseKernel(s string) (kernelVersion, bool) {
	major, rest, ok := strings.Cut(s, ".")
	if !ok {
		return kernelVersion{}, false
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	if tail := rest[end:]; tail != "" && tail != "+" && !strings.ContainsRune(".-_", rune(tail[0])) {
		return kernelVersion{}, false
	}
	m, err := strconv.ParseUint(major, 10, 8)
	n, err2 := strconv.ParseUint(rest[:end], 10, 16)
	return kernelVersion{int(m), int(n)}, err == nil && err2 == nil
}

// CheckSNP says why SNP guests cannot run on these kernels; nil where they can.
func (p HostProfile) CheckSNP() error {
	if p.SNP {
		return nil
	}
	return fmt.Errorf("host kernel %s launches no SNP guests, which Linux does since 6.11 (use %s, or for one of AMD's trees its version with amd- before it, e.g. amd-6.8)", p.Name, hostProfiles[0].Name)
}

// Describe gives the profile in one line: "6.11+ (Linux 6.11 and later): SEV_FEATURES 0x1
// (SNPActive), FPU reset state".
func (p HostProfile) Describe() string {
	return fmt.Sprintf("%s (%s): SEV_FEATURES %s, %s", p.Name, p.What, DescribeFeatures(p.Features), p.FPU())
}

// FPU says in words what the save areas hold of the FPU.
func (p HostProfile) FPU() string {
	if p.NoFPU {
		return "FPU state zero"
	}
	return "FPU reset state"
}
