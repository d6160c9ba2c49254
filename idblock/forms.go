package idblock

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// Pair is an ID block and its ID auth to the byte, with what else the host has
// to say for them to be accepted.
type Pair struct {
	Block []byte // snp.IDBlockSize bytes
	Auth  []byte // snp.IDAuthSize bytes
	// AuthorKeyEnabled is QEMU's author-key-enabled: without it the firmware
	// does not look at the author key.
	AuthorKeyEnabled bool
	Policy           snp.GuestPolicy // the launch must have the block's

	// The rest is of the host and of the launch, and none of it is in the block.

	CBitPos         int // QEMU's cbitpos: 51 on every processor with SNP so far
	ReducedPhysBits int // QEMU's reduced-phys-bits: 1
	KernelHashes    bool
	VCEKDisabled    bool
	HostData        *snp.HostData // nil: none
}

// NewPair gives the pair of an ID block and its ID auth, for a host as they are.
func NewPair(block *snp.IDBlock, auth *snp.IDAuth) *Pair {
	b := block.Bytes()
	return &Pair{Block: b[:], Auth: auth.Bytes(), AuthorKeyEnabled: HasAuthorKey(auth), Policy: block.Policy, CBitPos: 51, ReducedPhysBits: 1}
}

// Options gives what is added to a sev-snp-guest object of QEMU:
// "id-block=…,id-auth=…", and ",author-key-enabled=on" where it has to be.
func (p *Pair) Options() string {
	s := "id-block=" + Base64(p.Block) + ",id-auth=" + Base64(p.Auth)
	if p.AuthorKeyEnabled {
		s += ",author-key-enabled=on"
	}
	return s
}

// Object gives the argument of QEMU's -object.
func (p *Pair) Object() string {
	o := []string{"sev-snp-guest", "id=sev0", "cbitpos=" + strconv.Itoa(p.CBitPos), "reduced-phys-bits=" + strconv.Itoa(p.ReducedPhysBits), "policy=" + p.Policy.String()}
	if p.KernelHashes {
		o = append(o, "kernel-hashes=on")
	}
	if p.HostData != nil {
		o = append(o, "host-data="+Base64(p.HostData[:]))
	}
	if p.VCEKDisabled {
		o = append(o, "vcek-disabled=on")
	}
	return strings.Join(append(o, p.Options()), ",")
}

// ObjectJSON gives the argument of QEMU's -object in JSON.
func (p *Pair) ObjectJSON() (string, error) {
	raw, err := json.Marshal(struct {
		Type            string          `json:"qom-type"`
		ID              string          `json:"id"`
		CBitPos         int             `json:"cbitpos"`
		ReducedPhysBits int             `json:"reduced-phys-bits"`
		Policy          snp.GuestPolicy `json:"policy"` // a number, as QEMU wants it
		KernelHashes    bool            `json:"kernel-hashes,omitempty"`
		HostData        []byte          `json:"host-data,omitempty"`
		VCEKDisabled    bool            `json:"vcek-disabled,omitempty"`
		Block           []byte          `json:"id-block"`
		Auth            []byte          `json:"id-auth"`
		AuthorKey       bool            `json:"author-key-enabled,omitempty"`
	}{"sev-snp-guest", "sev0", p.CBitPos, p.ReducedPhysBits, p.Policy, p.KernelHashes, p.hostData(), p.VCEKDisabled, p.Block, p.Auth, p.AuthorKeyEnabled})
	return string(raw), err
}

// Libvirt gives the <launchSecurity> of a libvirt domain (10.5 and later). It
// leaves out cbitpos and reducedPhysBits, which libvirt knows of its host.
func (p *Pair) Libvirt() (string, error) {
	yes := func(on bool) string {
		if on {
			return "yes"
		}
		return ""
	}
	vcek := ""
	if p.VCEKDisabled {
		vcek = "no"
	}
	raw, err := xml.MarshalIndent(struct {
		XMLName      xml.Name `xml:"launchSecurity"`
		Type         string   `xml:"type,attr"`
		KernelHashes string   `xml:"kernelHashes,attr,omitempty"`
		AuthorKey    string   `xml:"authorKey,attr,omitempty"`
		VCEK         string   `xml:"vcek,attr,omitempty"`
		Policy       string   `xml:"policy"`
		Block        string   `xml:"idBlock"`
		Auth         string   `xml:"idAuth"`
		HostData     string   `xml:"hostData,omitempty"`
	}{xml.Name{}, "sev-snp", yes(p.KernelHashes), yes(p.AuthorKeyEnabled), vcek, fmt.Sprintf("0x%08x", uint64(p.Policy)), Base64(p.Block), Base64(p.Auth), Base64(p.hostData())}, "", "  ")
	return string(raw), err
}

// SNPGuest gives the four lines that `snpguest generate id-block` prints.
func (p *Pair) SNPGuest() string {
	return "ID-BLOCK:\n" + Base64(p.Block) + "\nAUTH-BLOCK:\n" + Base64(p.Auth)
}

func (p *Pair) hostData() []byte {
	if p.HostData == nil {
		return nil
	}
	return p.HostData[:]
}
