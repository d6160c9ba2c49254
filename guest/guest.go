package guest

import (
	"time"

	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Guest describes one guest. The word in parentheses is the key of the YAML
// form, which messages use.
type Guest struct {
	Name string // (name) for messages and file names; may be empty

	Firmware string // (firmware) path of an OVMF image of one piece
	Kernel   string // (kernel) path; empty: the firmware boots what it finds
	Initrd   string // (initrd) path; empty: none
	Append   string // (append) kernel command line, taken to the byte

	// FirmwareSHA256 (firmware_sha256), where not nil, is what the firmware's SHA-256
	// must be.
	FirmwareSHA256 *[32]byte
	// SHA-256 of kernel, initrd, and command line with its NUL byte, as the
	// hashes table has them. Beside a file or a command line they must agree
	// with it; in its place they suffice to measure, not to launch.
	KernelSHA256 *[32]byte // (kernel_sha256)
	InitrdSHA256 *[32]byte // (initrd_sha256)
	AppendSHA256 *[32]byte // (append_sha256)

	VCPUs     int     // (vcpus)
	CPU       string  // (cpu) argument of QEMU's -cpu, e.g. EPYC-v4
	CPUSig    *uint32 // (cpu_sig) EAX of CPUID function 1; overrides CPU for measuring
	MemoryMiB int     // (memory_mib)

	// KernelHashes (kernel_hashes) asks for a measured table of kernel, initrd
	// and command line. It means nothing without a kernel; see UsesKernelHashes.
	KernelHashes bool
	// HostKernel (host_kernel) is the kernel of the host, as vmsa.LookupHost
	// takes it; empty means vmsa.DefaultHost. SetHostKernel sets it together with what it
	// means for GuestFeatures.
	HostKernel    string
	GuestFeatures uint64          // (guest_features) SEV_FEATURES of every vCPU
	Policy        snp.GuestPolicy // (policy)
	HostData      snp.HostData    // (host_data) zero unless HostDataSet
	HostDataSet   bool            // whether host data was given; QEMU gets none otherwise

	IDBlock IDBlock // (id_block)

	VCEKDisabled bool // (vcek_disabled) no report may be signed with the VCEK

	// GuestVisibleWorkarounds (guest_visible_workarounds) is GOSVW of
	// SNP_LAUNCH_START: at most 16 bytes, usually none.
	GuestVisibleWorkarounds []byte

	// What follows is not measured.

	Disks         []Disk        // (disks) in the order in which the guest sees them
	Network       Network       // (network)
	VsockCID      uint32        // (vsock) 0: no vsock; VsockAuto: a free one
	GDB           string        // (gdb) TCP port on the loopback or path of a socket of QEMU's GDB stub; empty: none
	FirmwareLog   string        // (firmware_log) path that OVMF's debug console is written to; empty: none
	MemoryBackend MemoryBackend // (memory_backend)
	QEMUArgs      []string      // (qemu_args) more arguments for the QEMU that runs the guest

	Files    Files         // (files) what is copied into the guest and out of it
	Command  []string      // (command) what to run in the guest; empty: only attest
	Env      []string      // (env) of the command, NAME=value, each name once
	Timeout  time.Duration // (timeout) for the whole run; 0: the launcher's own
	Timeouts Timeouts      // (timeouts) for its stages
}

// IDBlockMode says where the ID block comes from.
type IDBlockMode string

// Modes of an ID block.
const (
	IDBlockSign  IDBlockMode = "sign"  // made and signed for this launch
	IDBlockNone  IDBlockMode = "none"  // launched without one
	IDBlockFiles IDBlockMode = "files" // made elsewhere, read from files
)

// IDBlock says what ID block the guest is launched with.
type IDBlock struct {
	Mode IDBlockMode // (id_block.mode)

	// For IDBlockSign. An empty IDKey means a key that is made for one run and
	// never stored; an empty AuthorKey means no author key.
	IDKey     string       // (id_block.id_key) path
	AuthorKey string       // (id_block.author_key) path
	FamilyID  snp.FamilyID // (id_block.family_id)
	ImageID   snp.ImageID  // (id_block.image_id)
	GuestSVN  uint32       // (id_block.guest_svn)

	// For IDBlockFiles: raw or base64.
	IDBlockFile string // (id_block.id_block_file) path
	IDAuthFile  string // (id_block.id_auth_file) path
}

// Default is a guest with everything set but its files: one EPYC-v4 vCPU, 512
// MiB (a Debian cloud kernel with a u-root initramfs comes up in that), QEMU's
// default policy, kernel hashes on, an ID block signed with a key made for the
// run.
func Default() Guest {
	return Guest{
		VCPUs:         1,
		CPU:           "EPYC-v4",
		MemoryMiB:     512,
		KernelHashes:  true,
		GuestFeatures: vmsa.FeaturesDefault,
		Policy:        snp.PolicyDefault,
		IDBlock:       IDBlock{Mode: IDBlockSign},
	}
}

// SetHostKernel says which kernel the host runs and takes GuestFeatures from it.
func (g *Guest) SetHostKernel(name string) error {
	p, err := vmsa.LookupHost(name)
	if err != nil {
		return err
	}
	g.HostKernel, g.GuestFeatures = name, p.Features|vmsa.SNPActive
	return nil
}

// HostProfile is what HostKernel stands for.
func (g *Guest) HostProfile() (vmsa.HostProfile, error) { return vmsa.LookupHost(g.HostKernel) }

// HasKernel says whether there is a kernel, as a file or by its digest.
func (g *Guest) HasKernel() bool { return g.Kernel != "" || g.KernelSHA256 != nil }

// UsesKernelHashes says whether the table is made: hashes are asked for and
// there is a kernel. QEMU must get kernel-hashes=on exactly then, because with
// it and without a kernel it aborts (Assertion `sev_snp->kernel_hashes_data').
func (g *Guest) UsesKernelHashes() bool { return g.KernelHashes && g.HasKernel() }

// Signature is the CPU signature that is measured: CPUSig, or that of CPU.
func (g *Guest) Signature() (uint32, error) {
	if g.CPUSig != nil {
		return *g.CPUSig, nil
	}
	return vmsa.Lookup(g.CPU)
}
