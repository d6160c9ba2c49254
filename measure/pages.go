package measure

import (
	"crypto/sha512"
	"fmt"
	"io"

	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Page is one update and where it comes from: "firmware", "metadata 3: CPUID",
// "kernel hashes", "vCPU 0 VMSA". Metadata sections count from 0.
type Page struct {
	snp.Update
	Source string `json:"source"`
}

// Sources of pages that have no number.
const (
	sourceFirmware = "firmware"
	sourceSVSM     = "SVSM"
	sourceHashes   = "kernel hashes"
)

// firmwareBuffer is how much of a firmware image is read at once, in bytes.
const firmwareBuffer = 32 << 10

// FirmwarePages reads a firmware image: one NORMAL update for each page, from
// img.BaseGPA on. Images are mostly padding, so a page that equals its
// predecessor takes its digest.
func FirmwarePages(r io.ReaderAt, img *ovmf.Image) ([]Page, error) {
	if img.Size%snp.PageSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes, want whole pages of %d", ovmf.ErrSize, img.Size, snp.PageSize)
	}
	// Room for what follows, too: most firmware has some 50 pages in its
	// sections, and a guest a few vCPUs.
	const more = 64
	pages := make([]Page, 0, img.Size/snp.PageSize+more)
	buf := make([]byte, min(firmwareBuffer, img.Size))
	var last [snp.PageSize]byte
	var digest snp.ContentDigest
	for off := int64(0); off < img.Size; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), img.Size-off)]
		if n, err := r.ReadAt(buf, off); n < len(buf) {
			return nil, fmt.Errorf("reading firmware at 0x%x: %w", off+int64(n), err)
		}
		for at := 0; at < len(buf); at += snp.PageSize {
			page := (*[snp.PageSize]byte)(buf[at:])
			if len(pages) == 0 || last != *page {
				last, digest = *page, sha512.Sum384(page[:])
			}
			pages = append(pages, Page{normal(img.BaseGPA+uint64(len(pages))*snp.PageSize, digest), sourceFirmware})
		}
	}
	return pages, nil
}

// HashPage is the page of the kernel hashes table and where it goes.
type HashPage struct {
	GPA      uint64
	Contents [snp.PageSize]byte
}

// SectionPages lists the updates for the SEV metadata sections of an image.
// hash nil means that there are no kernel hashes: their section is then
// launched as zeros.
func SectionPages(img *ovmf.Image, hash *HashPage, vmm vmsa.VMM) []Page {
	var pages, last []Page
	for n, s := range img.Sections {
		source := fmt.Sprintf("metadata %d: %s", n, s.Type)
		dst := &pages
		if vmm == vmsa.EC2 && s.Type == ovmf.CPUID {
			dst = &last // EC2 launches the CPUID page after all others
		}
		for gpa := uint64(s.GPA); gpa < s.End(); gpa += snp.PageSize {
			u := snp.Update{Type: sectionPageType(s.Type, vmm), GPA: gpa, Length: snp.PageSize}
			if s.Type == ovmf.SNPKernelHashes && hash != nil {
				// QEMU fills the rest of a larger section with zeros and
				// measures that, too.
				var page [snp.PageSize]byte
				if gpa == hash.GPA {
					page = hash.Contents
				}
				u, source = normal(gpa, sha512.Sum384(page[:])), sourceHashes
			}
			*dst = append(*dst, Page{u, source})
		}
	}
	return append(pages, last...)
}

// sectionPageType gives the page type with which a section is launched. QEMU
// launches what it does not know as zeros (snp_metadata_desc_to_page_type).
func sectionPageType(t ovmf.SectionType, vmm vmsa.VMM) snp.PageType {
	switch {
	case t == ovmf.SNPSecrets:
		return snp.PageSecrets
	case t == ovmf.CPUID:
		return snp.PageCPUID
	case t == ovmf.SNPSecMem && vmm == vmsa.GCE:
		return snp.PageUnmeasured
	}
	return snp.PageZero
}

func normal(gpa uint64, contents snp.ContentDigest) snp.Update {
	return snp.Update{Type: snp.PageNormal, GPA: gpa, Length: snp.PageSize, Contents: contents}
}
