package images

// Options says where to look and what the user has already chosen.
type Options struct {
	// CacheDir holds what is fetched and built; DefaultCacheDir where empty.
	CacheDir string

	// QEMU, Firmware, GenericFirmware, Kernel and Initrd are files that the
	// user named; what is named is taken as it is and neither looked for nor
	// fetched. QEMU may be a name to be looked up in PATH.
	QEMU, Firmware, GenericFirmware, Kernel, Initrd string
	// ModulesDir is lib/modules/VERSION of Kernel; without it an initrd for
	// that kernel brings no modules.
	ModulesDir string
	// SourceDir is the folder with snplaunch's go.mod, from which Setup builds
	// the initrd; FindSource looks for it where it is empty.
	SourceDir string

	// InstallQEMU lets Setup install QEMU with apt, which takes root.
	InstallQEMU bool
	// QEMUNext asks for the newest QEMU of the distribution beside the
	// machine's own, unpacked and not installed; PlainFirmware for an OVMF
	// without SNP metadata, which no SNP guest starts from; Libvirt for a
	// libvirt that knows SNP, unpacked. They are for tests.
	QEMUNext, PlainFirmware, Libvirt bool
	// Refresh makes Setup fetch again what it fetched before.
	Refresh bool

	// Progress, which may be nil, gets a line before each step that takes
	// more than a moment.
	Progress func(string)
}

func (o *Options) progress(s string) {
	if o.Progress != nil {
		o.Progress(s)
	}
}

// QEMUInfo is a QEMU for x86-64.
type QEMUInfo struct {
	Path    string `json:"path"`
	Version string `json:"version"` // such as 10.0.2

	// Package, its version and the SHA-256 of the program, for a QEMU that
	// Setup unpacked; empty where the machine provides it.
	Package        string `json:"package,omitempty"`
	PackageVersion string `json:"package_version,omitempty"`
	SHA256         string `json:"sha256,omitempty"`
}

// Set is what a guest is made of. Whatever was not found is empty, and Missing
// says so.
type Set struct {
	QEMU QEMUInfo `json:"qemu"`
	// Firmware is an AmdSev build of OVMF, which boots only the kernel that
	// its hashes table names.
	Firmware Artifact `json:"firmware"`
	// GenericFirmware is a one-piece OVMF with SNP metadata that boots
	// anything.
	GenericFirmware Artifact `json:"generic_firmware"`
	Kernel          Artifact `json:"kernel"`
	Initrd          Artifact `json:"initrd"`
	// QEMUNext, PlainFirmware and Libvirt are what the options of these names
	// ask for; nil otherwise. Libvirt is the daemon, in a part whose folder usr
	// is to be laid over the machine's.
	QEMUNext      *QEMUInfo `json:"qemu_next,omitempty"`
	PlainFirmware *Artifact `json:"plain_firmware,omitempty"`
	Libvirt       *Artifact `json:"libvirt,omitempty"`
	// ModulesDir is lib/modules/VERSION of Kernel; empty where the user named
	// a kernel without one.
	ModulesDir string `json:"modules_dir,omitempty"`
	// Notes are sentences about what is there but less than it could be.
	Notes []string `json:"notes,omitempty"`

	missing []string
}

// Missing gives a sentence for each thing that was not found: what it is and
// how to provide it.
func (s *Set) Missing() []string { return s.missing }

func (s *Set) miss(sentence string) { s.missing = append(s.missing, sentence) }
