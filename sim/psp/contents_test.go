package psp

import (
	"crypto/sha512"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// A NORMAL page of which only the digest is at hand is measured as the page itself, by the
// same rules; of no other type can a page be given so.
func TestContentsInPlaceOfAPage(t *testing.T) {
	p := platform(t, nil)
	page := make([]byte, snp.PageSize)
	page[7] = 9
	whole, digest := launching(t, p), launching(t, p)
	must(t, whole.LaunchUpdate(snp.PageNormal, 0x1000, page))
	must(t, digest.LaunchUpdateContents(0x1000, sha512.Sum384(page)))
	if whole.LaunchDigest() != digest.LaunchDigest() || len(digest.Updates()) != 1 {
		t.Errorf("digest %s, want %s", digest.LaunchDigest(), whole.LaunchDigest())
	}
	must(t, digest.LaunchFinish(FinishParams{}))
	if st := digest.LaunchUpdateContents(0x1000, snp.ContentDigest{}); st != snp.StatusInvalidGuestState {
		t.Errorf("after the launch: %s", st)
	}
	g := launching(t, p)
	for typ := snp.PageVMSA; typ <= snp.PageCPUID; typ++ {
		u := UpdateParams{Type: typ, Contents: &snp.ContentDigest{}, Aligned: true, Entry: RMPEntry{State: PagePreGuest, ASID: g.asid}}
		if st := g.Update(u); st != snp.StatusInvalidParam {
			t.Errorf("%s: %s", typ, st)
		}
	}
	if len(g.Updates()) != 0 {
		t.Error("a page that was refused has entered the digest")
	}
}
