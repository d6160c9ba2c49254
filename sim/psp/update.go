package psp

import (
	"crypto/sha512"

	"github.com/snplaunch/snplaunch/snp"
)

// LargePageSize is the size in bytes of a 2 MiB page.
const LargePageSize = 2 << 20

// PageState is the state of a page of memory in the reverse map table (RMP).
type PageState int

const (
	PageHypervisor PageState = iota
	PageFirmware             // given to the firmware, which makes contexts of it
	PageContext              // holds a guest context
	PagePreGuest             // assigned to a guest, not yet launched
	PageGuest                // belongs to a guest
)

// RMPEntry is what the RMP says of a page.
type RMPEntry struct {
	State  PageState
	TwoMiB bool
	ASID   uint32
	GPA    uint64 // where the guest sees the page, bytes
}

// UpdateParams are the parameters of SNP_LAUNCH_UPDATE, with the page that
// PAGE_PADDR names.
type UpdateParams struct {
	Type    snp.PageType
	TwoMiB  bool // PAGE_SIZE
	IMIPage bool
	// VMPL1 to VMPL3 are the permissions of the levels: bit 0 read, 1 write, 2
	// user execute, 3 supervisor execute.
	VMPL1, VMPL2, VMPL3 uint8

	Entry RMPEntry
	// Aligned says that PAGE_PADDR is a multiple of the page's size.
	Aligned bool
	// Page has snp.PageSize or LargePageSize bytes, as PAGE_SIZE says. It is
	// changed as the firmware changes it: zeroed, filled with secrets, or
	// with the CPUID entries corrected (then the status is StatusInvalidParam).
	Page []byte
	// Contents, when set, is the SHA-384 of a NORMAL page of 4 KiB whose bytes are not
	// at hand, as in a record of a launch; Page is nil then.
	Contents *snp.ContentDigest
}

// LaunchUpdate is SNP_LAUNCH_UPDATE of one 4 KiB page that is assigned to the
// guest, with no VMPL permissions and no IMI, as KVM calls it.
func (g *Guest) LaunchUpdate(t snp.PageType, gpa uint64, page []byte) snp.Status {
	return g.Update(UpdateParams{
		Type: t, Page: page, Aligned: true,
		Entry: RMPEntry{State: PagePreGuest, ASID: g.asid, GPA: gpa},
	})
}

// LaunchUpdateContents is LaunchUpdate of a NORMAL page of which only the SHA-384 is
// at hand.
func (g *Guest) LaunchUpdateContents(gpa uint64, contents snp.ContentDigest) snp.Status {
	return g.Update(UpdateParams{
		Type: snp.PageNormal, Contents: &contents, Aligned: true,
		Entry: RMPEntry{State: PagePreGuest, ASID: g.asid, GPA: gpa},
	})
}

// Update is SNP_LAUNCH_UPDATE. The order of its checks is that observed in SEV
// firmware 1.55.25. A page of 2 MiB is measured as its 512 pages of 4 KiB.
func (g *Guest) Update(u UpdateParams) snp.Status {
	if st := g.usable(); st != snp.StatusSuccess {
		return st
	}
	size := snp.PageSize
	if u.TwoMiB {
		size = LargePageSize
	}
	switch {
	case u.Entry.State != PagePreGuest:
		return snp.StatusInvalidPageState
	case u.TwoMiB != u.Entry.TwoMiB, u.Contents == nil && len(u.Page) != size:
		return snp.StatusInvalidPageSize
	case !u.Aligned:
		return snp.StatusInvalidAddress
	case u.TwoMiB && (u.Type == snp.PageVMSA || u.Type == snp.PageSecrets || u.Type == snp.PageCPUID):
		return snp.StatusInvalidPageSize
	case u.Type < snp.PageNormal || u.Type > snp.PageCPUID:
		return snp.StatusInvalidParam
	case g.state != stateLaunch:
		return snp.StatusInvalidGuestState
	case g.asid == 0:
		return snp.StatusInactive
	case g.asid != u.Entry.ASID:
		return snp.StatusInvalidPageOwner
	case g.imiEnabled && !u.IMIPage:
		return snp.StatusInvalidParam
	case u.Contents != nil && (u.Type != snp.PageNormal || u.TwoMiB):
		return snp.StatusInvalidParam // no firmware's answer: nobody asks one so
	case u.Type == snp.PageCPUID:
		if st := g.platform.checkCPUID(u.Page); st != snp.StatusSuccess {
			return st
		}
	}
	if u.Contents != nil {
		g.measure(u, u.Entry.GPA, nil)
		return snp.StatusSuccess
	}
	for at := 0; at < size; at += snp.PageSize {
		g.measure(u, u.Entry.GPA+uint64(at), u.Page[at:at+snp.PageSize])
	}
	return snp.StatusSuccess
}

// measure takes one page of 4 KiB into the launch digest, and into the digest of
// the migration image where it belongs to that too.
func (g *Guest) measure(u UpdateParams, gpa uint64, page []byte) {
	var contents snp.ContentDigest
	switch u.Type {
	case snp.PageNormal:
		if u.Contents != nil {
			contents = *u.Contents
			break
		}
		contents = g.hashed.digest(page)
	case snp.PageVMSA:
		contents = vmsaDigest(page)
	case snp.PageZero:
		clear(page)
	case snp.PageSecrets:
		g.fillSecrets(page)
	}
	fold := func(current snp.LaunchDigest) snp.LaunchDigest {
		info := snp.PageInfo{
			DigestCur: current, Contents: contents, Type: u.Type, IMIPage: u.IMIPage,
			VMPL1: u.VMPL1, VMPL2: u.VMPL2, VMPL3: u.VMPL3, GPA: gpa,
		}
		sabotage(&info)
		b := info.Bytes()
		return sha512.Sum384(b[:])
	}
	g.ld = fold(g.ld)
	if g.imiEnabled {
		g.imd = fold(g.imd)
	}
	g.updates = append(g.updates, snp.Update{Type: u.Type, GPA: gpa, Length: snp.PageSize, Contents: contents})
}
