package kvm

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// Record is a launch as this host saw it, to be written as JSON: everything
// that went into the digest and what came of it. Numbers whose bits matter are
// hexadecimal strings, digests hexadecimal, longer bytes base64.
type Record struct {
	Simulated     bool   `json:"simulated"` // always true
	Product       string `json:"product"`   // of the processor: "Genoa"
	Firmware      string `json:"firmware"`  // "1.55.25"
	KernelProfile string `json:"kernel_profile"`
	PID           int    `json:"pid"` // thread that made the last call

	// Command is the one that the launch ended with, SNP_LAUNCH_FINISH where all
	// went well; Errno is 0 then.
	Command   string `json:"command"`
	Errno     int    `json:"errno"`
	ErrnoName string `json:"errno_name,omitempty"`
	// FirmwareStatus is what the firmware refused with; 0 where it did not.
	FirmwareStatus     int    `json:"firmware_status"`
	FirmwareStatusName string `json:"firmware_status_name,omitempty"`

	LaunchDigest *snp.LaunchDigest `json:"launch_digest,omitempty"` // so far
	Policy       string            `json:"policy,omitempty"`
	GOSVW        string            `json:"gosvw,omitempty"` // 16 bytes, hexadecimal
	SEVFeatures  string            `json:"sev_features,omitempty"`

	Updates []UpdateRecord `json:"updates"`
	VMSAs   []VMSARecord   `json:"vmsas"`

	HostData         *snp.HostData `json:"host_data,omitempty"`
	IDBlock          []byte        `json:"id_block,omitempty"`
	IDAuth           []byte        `json:"id_auth,omitempty"`
	AuthorKeyEnabled bool          `json:"author_key_enabled,omitempty"`
	VCEKDisabled     bool          `json:"vcek_disabled,omitempty"`
}

// UpdateRecord is a page that entered the digest, in order.
type UpdateRecord struct {
	Type     string            `json:"type"`
	GPA      string            `json:"gpa"`
	Length   int               `json:"length"`
	Contents snp.ContentDigest `json:"contents"`
	Digest   snp.LaunchDigest  `json:"digest"` // with this page
}

// VMSARecord is a save area, in the order of measurement.
type VMSARecord struct {
	VCPU      uint32             `json:"vcpu"` // APIC id
	Bytes     []byte             `json:"bytes"`
	Segments  map[string]Segment `json:"segments"`
	Registers map[string]string  `json:"registers"` // all but zeros
}

// Segment is a segment register in a save area.
type Segment struct {
	Selector   string `json:"selector"`
	Attributes string `json:"attributes"`
	Limit      string `json:"limit"`
	Base       string `json:"base"`
}

// eventCommands are what a launch can end with.
var eventCommands = map[EventKind]string{
	EventInit: "KVM_SEV_INIT2", EventStart: cmdLaunchStart, EventUpdate: cmdLaunchUpdate, EventFinish: cmdLaunchFinish,
}

// Record gives the launch that ended with an event. ok is false for events that
// end none: success before SNP_LAUNCH_FINISH, and EAGAIN, after which the
// caller tries again.
func (e Event) Record() (r Record, ok bool) {
	command, ends := eventCommands[e.Kind]
	if !ends || e.Errno == 0 && e.Kind != EventFinish || unix.Errno(e.Errno) == unix.EAGAIN {
		return Record{}, false
	}
	vm := e.VM
	c := vm.host.platform.Config()
	v := c.FirmwareVersion
	r = Record{
		Simulated: true, Product: c.Product, Firmware: fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Build),
		KernelProfile: vm.host.opts.Profile.String(), PID: e.PID,
		Command: command, Errno: e.Errno, FirmwareStatus: int(e.Status),
		Updates: []UpdateRecord{}, VMSAs: []VMSARecord{},
	}
	if e.Errno != 0 {
		r.ErrnoName = unix.ErrnoName(unix.Errno(e.Errno))
	}
	if e.Status != snp.StatusSuccess {
		r.FirmwareStatusName = e.Status.String()
	}
	if vm.vmsaFeatures != 0 {
		r.SEVFeatures = hexNumber(vm.vmsaFeatures)
	}
	if s := vm.started; s != nil {
		r.Policy, r.GOSVW = hexNumber(uint64(s.policy)), hex.EncodeToString(s.gosvw[:])
	}
	if vm.guest != nil {
		d := vm.guest.LaunchDigest()
		r.LaunchDigest, r.Updates = &d, updateRecords(vm.guest.Updates())
	}
	for _, cpu := range vm.vcpus {
		if cpu.vmsa != nil {
			r.VMSAs = append(r.VMSAs, vmsaRecord(cpu.id, cpu.vmsa))
		}
	}
	if p := vm.finished; p != nil {
		r.HostData, r.VCEKDisabled, r.AuthorKeyEnabled = &p.HostData, p.VCEKDisabled, p.AuthorKeyEnabled
		r.IDBlock, r.IDAuth = p.IDBlock, p.IDAuth
	}
	return r, true
}

func hexNumber(v uint64) string { return fmt.Sprintf("0x%x", v) }

// updateRecords follows the digest page by page.
func updateRecords(updates []snp.Update) []UpdateRecord {
	out := make([]UpdateRecord, len(updates))
	var ld snp.LaunchDigest
	for i, u := range updates {
		info := snp.PageInfo{DigestCur: ld, Contents: u.Contents, Type: u.Type, GPA: u.GPA}
		b := info.Bytes()
		ld = sha512.Sum384(b[:])
		out[i] = UpdateRecord{Type: u.Type.String(), GPA: hexNumber(u.GPA), Length: int(u.Length), Contents: u.Contents, Digest: ld}
	}
	return out
}

// vmsaFields are the registers of a save area that have a name here (AMD64
// APM volume 2, table B-4): offset and size in bytes.
var vmsaFields = []struct {
	name         string
	offset, size int
}{
	{"vmpl", 0xCA, 1}, {"cpl", 0xCB, 1}, {"efer", 0xD0, 8}, {"xss", 0x140, 8}, {"cr4", 0x148, 8}, {"cr3", 0x150, 8}, {"cr0", 0x158, 8},
	{"dr7", 0x160, 8}, {"dr6", 0x168, 8}, {"rflags", 0x170, 8}, {"rip", 0x178, 8}, {"rsp", 0x1D8, 8}, {"rax", 0x1F8, 8},
	{"star", 0x200, 8}, {"lstar", 0x208, 8}, {"cstar", 0x210, 8}, {"sfmask", 0x218, 8}, {"kernel_gs_base", 0x220, 8},
	{"sysenter_cs", 0x228, 8}, {"sysenter_esp", 0x230, 8}, {"sysenter_eip", 0x238, 8}, {"cr2", 0x240, 8}, {"g_pat", 0x268, 8},
	{"pkru", 0x2E8, 4}, {"tsc_aux", 0x2EC, 4},
	{"rcx", 0x308, 8}, {"rdx", 0x310, 8}, {"rbx", 0x318, 8}, {"rbp", 0x328, 8}, {"rsi", 0x330, 8}, {"rdi", 0x338, 8},
	{"r8", 0x340, 8}, {"r9", 0x348, 8}, {"r10", 0x350, 8}, {"r11", 0x358, 8}, {"r12", 0x360, 8}, {"r13", 0x368, 8}, {"r14", 0x370, 8}, {"r15", 0x378, 8},
	{"sev_features", 0x3B0, 8}, {"xcr0", 0x3E8, 8}, {"mxcsr", 0x408, 4}, {"x87_ftw", 0x40C, 2}, {"x87_fsw", 0x40E, 2}, {"x87_fcw", 0x410, 2}, {"x87_fop", 0x412, 2},
}

var vmsaSegments = []struct {
	name   string
	offset int
}{
	{"es", 0x00}, {"cs", 0x10}, {"ss", 0x20}, {"ds", 0x30}, {"fs", 0x40}, {"gs", 0x50}, {"gdtr", 0x60}, {"ldtr", 0x70}, {"idtr", 0x80}, {"tr", 0x90},
}

func vmsaRecord(id uint32, page []byte) VMSARecord {
	r := VMSARecord{VCPU: id, Bytes: page, Segments: map[string]Segment{}, Registers: map[string]string{}}
	for _, s := range vmsaSegments {
		b := page[s.offset:]
		r.Segments[s.name] = Segment{hexNumber(uint64(readU16(b))), hexNumber(uint64(readU16(b[2:]))), hexNumber(uint64(readU32(b[4:]))), hexNumber(readU64(b[8:]))}
	}
	for _, f := range vmsaFields {
		var v uint64
		for i := f.size - 1; i >= 0; i-- {
			v = v<<8 | uint64(page[f.offset+i])
		}
		if v != 0 {
			r.Registers[f.name] = hexNumber(v)
		}
	}
	return r
}
