package host

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/snp"
)

// errNotAsked is why a question has no answer that only this machine itself can give.
var errNotAsked = errors.New("not asked: another root folder than this machine's")

// Platform is what the SEV firmware says of itself (SNP_PLATFORM_STATUS).
type Platform struct {
	Known      bool   `json:"known"`
	Error      string `json:"error,omitempty"` // why it is not known
	APIMajor   uint8  `json:"api_major"`
	APIMinor   uint8  `json:"api_minor"`
	Build      uint32 `json:"build"`
	SNPInit    bool   `json:"snp_init"` // initialised for SNP
	RMPInit    bool   `json:"rmp_init"`
	AliasCheck bool   `json:"alias_check_complete"` // memory was checked for aliases (CVE-2024-21944)
	MaskChipID bool   `json:"mask_chip_id"`
	Guests     uint32 `json:"guests"`
	// CurrentTCB is what runs, ReportedTCB what reports are signed for.
	CurrentTCB  snp.TCBVersion `json:"current_tcb"`
	ReportedTCB snp.TCBVersion `json:"reported_tcb"`
}

// Version gives e.g. "1.55 build 21".
func (p Platform) Version() string {
	return fmt.Sprintf("%d.%d build %d", p.APIMajor, p.APIMinor, p.Build)
}

// API is the version as a guest policy has it, major in the higher byte.
func (p Platform) API() uint16 { return uint16(p.APIMajor)<<8 | uint16(p.APIMinor) }

// snpStatusSize is the length of struct sev_user_data_snp_status (Linux
// include/uapi/linux/psp-sev.h).
const snpStatusSize = 32

// parsePlatform reads a sev_user_data_snp_status: API major, minor and state u8,
// then u8 with RMP_INITIALIZED in bit 0 and ALIAS_CHECK_COMPLETE in bit 1, build id u32,
// flags u32, guest count u32, current and reported TCB u64.
func parsePlatform(b []byte) Platform {
	le := binary.LittleEndian
	return Platform{
		Known: true, APIMajor: b[0], APIMinor: b[1], SNPInit: b[2] == 1, RMPInit: b[3]&1 != 0, AliasCheck: b[3]&2 != 0,
		Build: le.Uint32(b[4:]), MaskChipID: le.Uint32(b[8:])&1 != 0, Guests: le.Uint32(b[12:]),
		CurrentTCB: snp.TCBVersion(le.Uint64(b[16:])), ReportedTCB: snp.TCBVersion(le.Uint64(b[24:])),
	}
}

// platform asks the firmware through /dev/sev.
func (p probe) platform() Platform {
	if err := p.ctx.Err(); err != nil {
		return Platform{Error: err.Error()}
	}
	ask := p.root.Platform
	if ask == nil {
		ask = p.askPlatform
	}
	b, err := ask()
	switch {
	case err != nil:
		return Platform{Error: reasonOf(err)}
	case len(b) != snpStatusSize:
		return Platform{Error: fmt.Sprintf("an answer of %d bytes", len(b))}
	}
	return parsePlatform(b)
}

// KVMOffers is what KVM says of SNP guests (KVM_CHECK_EXTENSION and
// KVM_GET_DEVICE_ATTR on /dev/kvm).
type KVMOffers struct {
	Known      bool   `json:"known"`
	Error      string `json:"error,omitempty"`
	SNP        bool   `json:"snp"` // VMs of type SNP
	GuestMemfd bool   `json:"guest_memfd"`
	// PolicyBits are the bits of a guest policy that KVM passes on; 0 where it does
	// not tell, as kernels before 6.19.
	PolicyBits snp.GuestPolicy `json:"policy_bits"`
}

func (p probe) offers() KVMOffers {
	if err := p.ctx.Err(); err != nil {
		return KVMOffers{Error: err.Error()}
	}
	ask := p.root.KVM
	if ask == nil {
		ask = p.askKVM
	}
	o, err := ask()
	if err != nil {
		return KVMOffers{Error: reasonOf(err)}
	}
	o.Known = true
	return o
}
