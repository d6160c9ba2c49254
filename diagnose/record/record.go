package record

import (
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// Version is the version of the form that File.Write writes and Read takes.
const Version = 1

// Source says who was listened to.
type Source string

const (
	SourceKernel   Source = "kernel"        // the machine's own kernel answered
	SourceSoftware Source = "software-host" // the software SNP host answered: nothing of it is real
	SourceTrace    Source = "qemu-trace"    // read from QEMU's trace
	SourceReport   Source = "report"        // read from what `sim exec --report` wrote
)

// File is a record.
type File struct {
	Tool    string   // what wrote it: "snplaunch 1.2"
	Source  Source   //
	Command []string // that was run
	// OtherVMs is how many VMs were made that are no SNP guests; nothing is kept of them.
	OtherVMs int
	Launches []Launch
	// Pages are the bytes of pages, by their SHA-384; of some pages only, see
	// docs/records.md. A page of zeros is never among them.
	Pages map[snp.ContentDigest][]byte
}

// Launch is one launch of a guest: one VM.
type Launch struct {
	Program Program
	VMType  uint64 // argument of KVM_CREATE_VM; 4 is KVM_X86_SNP_VM
	// Calls are what was asked of the VM, in order, to the end of the launch.
	Calls []Call
	// VCPUs, in the order in which they were made, which is that of their save areas.
	VCPUs []VCPU
	// SaveAreas are VMSA pages, where the source has them instead of registers.
	SaveAreas [][]byte
	End       End
	// Host is what the software host said of this launch; nil elsewhere.
	Host *Host
}

// Program is what launched the guest.
type Program struct {
	Path    string   `json:"path,omitempty"`    // of its file
	Version string   `json:"version,omitempty"` // QEMU's first line for --version
	Args    []string `json:"args,omitempty"`    // args[0] first
}

// VCPU is a vCPU and what its registers were set to.
type VCPU struct {
	ID   uint32 // APIC id
	Sets []RegisterSet
}

// RegisterSet is one call that set registers.
type RegisterSet struct {
	Call string // KVM_SET_REGS…
	Data []byte // its structure
}

// Call is something that the kernel was asked of a VM. Result is set for launch
// commands only; every other call is taken to have succeeded if more followed.
type Call struct {
	With   Payload
	Result *Result
}

// Payload is what a call asks for: one of the types below.
type Payload interface{ Name() string }

// Init is KVM_SEV_INIT2, struct kvm_sev_init.
type Init struct {
	VMSAFeatures Hex    `json:"vmsa_features"`
	Flags        Hex    `json:"flags"`
	GHCBVersion  uint16 `json:"ghcb_version"`
}

// Start is KVM_SEV_SNP_LAUNCH_START.
type Start struct {
	Policy snp.GuestPolicy `json:"-"`
	GOSVW  [16]byte        `json:"-"`
	Flags  uint16          `json:"-"`
}

// Update is KVM_SEV_SNP_LAUNCH_UPDATE: as much of it as one call was meant to
// launch. Where KVM took it in several steps this is all of them.
type Update struct {
	Type   snp.PageType
	GPA    uint64
	Length uint64 // bytes
	Flags  uint16
	// VMPLs are the permissions of VMPL 1 to 3 as the call gives them; KVM's interface
	// has no place for them, so that they are zero.
	VMPLs [3]uint8
	// Contents has, for each page, the SHA-384 of what stood there when the call was
	// made, also of the types of which the firmware does not measure the contents. It is nil
	// for ZERO pages, and where the source does not tell (QEMU's trace).
	Contents []snp.ContentDigest
}

// Finish is KVM_SEV_SNP_LAUNCH_FINISH.
type Finish struct {
	IDBlock        []byte       // as the caller gave them; nil without
	IDAuth         []byte       //
	IDBlockEnabled bool         //
	AuthorKey      bool         // auth_key_en
	VCEKDisabled   bool         //
	HostData       snp.HostData //
	Flags          uint16       //
}

// Other is a command of KVM_MEMORY_ENCRYPT_OP that no SNP launch needs, or a
// SEV_ISSUE_CMD of /dev/sev.
type Other struct {
	Device  string `json:"device"` // "kvm" or "sev"
	Command uint32 `json:"command"`
}

// CreateVCPU is KVM_CREATE_VCPU.
type CreateVCPU struct {
	ID uint32 `json:"id"`
}

// CreateMemfd is KVM_CREATE_GUEST_MEMFD.
type CreateMemfd struct {
	Size  Hex `json:"size"`
	Flags Hex `json:"flags"`
}

// SetSlot is KVM_SET_USER_MEMORY_REGION or …2. The address in user space is left out: it says nothing elsewhere.
type SetSlot struct {
	Slot   uint32 `json:"slot"`
	Flags  Hex    `json:"flags"`
	GPA    Hex    `json:"gpa"`
	Size   Hex    `json:"size"`
	Memfd  int    `json:"memfd"` // which KVM_CREATE_GUEST_MEMFD of this VM, from 1; 0: none
	Offset Hex    `json:"offset"`
	Old    bool   `json:"old,omitempty"` // KVM_SET_USER_MEMORY_REGION
}

// SetAttributes is KVM_SET_MEMORY_ATTRIBUTES.
type SetAttributes struct {
	GPA        Hex `json:"gpa"`
	Size       Hex `json:"size"`
	Attributes Hex `json:"attributes"`
}

func (Init) Name() string          { return "KVM_SEV_INIT2" }
func (Start) Name() string         { return "SNP_LAUNCH_START" }
func (Update) Name() string        { return "SNP_LAUNCH_UPDATE" }
func (Finish) Name() string        { return "SNP_LAUNCH_FINISH" }
func (Other) Name() string         { return "other" }
func (CreateVCPU) Name() string    { return "KVM_CREATE_VCPU" }
func (CreateMemfd) Name() string   { return "KVM_CREATE_GUEST_MEMFD" }
func (SetSlot) Name() string       { return "KVM_SET_USER_MEMORY_REGION" }
func (SetAttributes) Name() string { return "KVM_SET_MEMORY_ATTRIBUTES" }

// Hex is a number that is written in hexadecimal.
type Hex uint64

// From says how a result is known. Nobody tells a listener what the kernel
// answered: all but FromHost is inferred.
type From string

const (
	FromNextCall From = "next-call" // the program went on, as it does only after success
	FromStderr   From = "stderr"    // the program said it on its standard error
	FromExit     From = "exit"      // the program ended with status 0, or was at work when it was ended
	FromTrace    From = "trace"     // QEMU's trace says that it went on
	FromHost     From = "host"      // the software host that answered says so
	FromNothing  From = "unknown"   // nothing tells
)

// Result is how a launch command ended. Errno and FWError mean nothing where From is
// FromNothing.
type Result struct {
	Errno   int  // 0: success
	FWError int  // firmware status; -1: the firmware was not reached
	From    From //
}

// OK says whether the command is known to have succeeded.
func (r *Result) OK() bool { return r != nil && r.From != FromNothing && r.Errno == 0 }

// Failed says whether the command is known to have failed.
func (r *Result) Failed() bool { return r != nil && r.From != FromNothing && r.Errno != 0 }

// End is how the program ended, as far as was heard.
type End struct {
	// Exit is the status it gave to exit_group(2); nil where it gave none: it was
	// ended by a signal, or was at work when the record ended.
	Exit *int `json:"exit,omitempty"`
	// Signal says that the process ended without an exit_group.
	Signal bool `json:"signal,omitempty"`
	// Stderr is the end of what the program wrote on descriptor 2.
	Stderr string `json:"stderr,omitempty"`
}

// Host is what the software host that answered knows of a launch.
type Host struct {
	Product       string            `json:"product"`
	Firmware      string            `json:"firmware"`
	KernelProfile string            `json:"kernel_profile"`
	Command       string            `json:"command"` // that the launch ended with
	Errno         int               `json:"errno"`
	FWError       int               `json:"fw_error"`
	LaunchDigest  *snp.LaunchDigest `json:"launch_digest,omitempty"`
}

// Last gives the last launch command, -1 where there was none.
func (l *Launch) Last() (at int) {
	for i := len(l.Calls) - 1; i >= 0; i-- {
		if l.Calls[i].Result != nil {
			return i
		}
	}
	return -1
}

// Launched says whether the launch is known to have succeeded: SNP_LAUNCH_FINISH
// did.
func (l *Launch) Launched() bool {
	for _, c := range l.Calls {
		if _, finish := c.With.(*Finish); finish && c.Result.OK() {
			return true
		}
	}
	return false
}

// sevCommands are the commands of SEV_ISSUE_CMD that QEMU gives (psp-sev.h).
var sevCommands = map[uint32]string{1: "PLATFORM_STATUS", 5: "PDH_CERT_EXPORT", 8: "GET_ID2", 9: "SNP_PLATFORM_STATUS"}

// Describe names the command.
func (o *Other) Describe() string {
	name := sevCommands[o.Command]
	switch {
	case o.Device != "sev":
		return fmt.Sprintf("KVM_MEMORY_ENCRYPT_OP %d", o.Command)
	case name == "":
		return fmt.Sprintf("SEV_ISSUE_CMD %d", o.Command)
	}
	return name
}

// SNP says whether this is an SNP guest, or was to be one.
func (l *Launch) SNP() bool { return l.VMType == VMTypeSNP }

// Describe says in a few words how a launch command ended.
func (r *Result) Describe() string {
	if r == nil {
		return ""
	}
	how := map[From]string{
		FromNextCall: "inferred from the next call", FromStderr: "as the program said on stderr", FromExit: "inferred from how the program ended",
		FromTrace: "inferred from QEMU's trace", FromHost: "as the software host says",
	}[r.From]
	switch {
	case r.From == FromNothing:
		return "nothing tells how it ended"
	case r.Errno == 0:
		return "succeeded (" + how + ")"
	}
	return fmt.Sprintf("failed with errno %d, fw_error %d (%s)", r.Errno, r.FWError, how)
}
