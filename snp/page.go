package snp

import (
	"encoding/binary"
	"fmt"
)

// PageSize is the size in bytes of the pages that KVM launches a guest with.
const PageSize = 4096

// VMSAGPA is the guest-physical address that KVM gives for every VMSA page
// (Linux arch/x86/kvm/svm/sev.c, snp_launch_update_vmsa): gfn -1, cut to the
// 52 bits of a physical address.
const VMSAGPA = 0xFFFFFFFFF000

// PageType is PAGE_TYPE of SNP_LAUNCH_UPDATE.
type PageType uint8

// Page types (56860, SNP_LAUNCH_UPDATE; values of KVM_SEV_SNP_PAGE_TYPE_*).
const (
	PageNormal     PageType = 1 // contents measured
	PageVMSA       PageType = 2 // contents measured, never accepted from user space by KVM
	PageZero       PageType = 3 // zeroed by the firmware
	PageUnmeasured PageType = 4 // contents not measured, address measured
	PageSecrets    PageType = 5 // filled by the firmware
	PageCPUID      PageType = 6 // checked by the firmware
)

// String gives the name that the specification uses.
func (t PageType) String() string {
	switch t {
	case PageNormal:
		return "NORMAL"
	case PageVMSA:
		return "VMSA"
	case PageZero:
		return "ZERO"
	case PageUnmeasured:
		return "UNMEASURED"
	case PageSecrets:
		return "SECRETS"
	case PageCPUID:
		return "CPUID"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// MarshalText makes a page type appear by name in JSON.
func (t PageType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Measured says whether CONTENTS holds the SHA-384 of the page; for other
// types it is 48 zero bytes.
func (t PageType) Measured() bool { return t == PageNormal || t == PageVMSA }

// Update is one page that the firmware is told about, as it enters the launch
// digest. A prediction (measure), the software host (sim) and a record of a
// launch made elsewhere are all lists of Updates, which is what lets them be
// compared page by page.
type Update struct {
	Type     PageType      `json:"type"`
	GPA      uint64        `json:"gpa"`      // guest-physical address, bytes
	Length   uint64        `json:"length"`   // bytes; KVM always launches by PageSize
	Contents ContentDigest `json:"contents"` // zero unless Type.Measured()
}

// MarshalText makes a content digest appear as hexadecimal in JSON.
func (d ContentDigest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 96 hexadecimal digits.
func (d *ContentDigest) UnmarshalText(text []byte) error {
	return decodeHex(d[:], string(text), "content digest")
}

// UnmarshalText reads a page type by name.
func (t *PageType) UnmarshalText(text []byte) error {
	for c := PageNormal; c <= PageCPUID; c++ {
		if c.String() == string(text) {
			*t = c
			return nil
		}
	}
	return fmt.Errorf("page type %q is not one of NORMAL, VMSA, ZERO, UNMEASURED, SECRETS, CPUID", text)
}

// PageInfoSize is the size in bytes of PAGE_INFO.
const PageInfoSize = 0x70

// PageInfo is PAGE_INFO, the structure whose SHA-384 becomes the next launch
// digest (56860, SNP_LAUNCH_UPDATE, "PAGE_INFO").
type PageInfo struct {
	DigestCur LaunchDigest
	Contents  ContentDigest
	Type      PageType
	IMIPage   bool
	VMPL1     uint8 // permissions: bit 0 read, 1 write, 2 user execute, 3 supervisor execute
	VMPL2     uint8
	VMPL3     uint8
	GPA       uint64
}

// Bytes gives the 0x70 bytes of PAGE_INFO.
func (p *PageInfo) Bytes() [PageInfoSize]byte {
	var b [PageInfoSize]byte
	copy(b[0x00:], p.DigestCur[:])
	copy(b[0x30:], p.Contents[:])
	binary.LittleEndian.PutUint16(b[0x60:], PageInfoSize)
	b[0x62] = uint8(p.Type)
	if p.IMIPage {
		b[0x63] = 1
	}
	b[0x65], b[0x66], b[0x67] = p.VMPL1, p.VMPL2, p.VMPL3
	binary.LittleEndian.PutUint64(b[0x68:], p.GPA)
	return b
}
