package measure

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

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

// firmwareBuffer is how much of a firmware image is read at once, in bytes: whole
// pages.
const firmwareBuffer = 32 << 10

// FirmwarePages reads a firmware image: one NORMAL update for each page, from
// img.BaseGPA on. r is read by several goroutines.
func FirmwarePages(r io.ReaderAt, img *ovmf.Image) ([]Page, error) {
	if img.Size%snp.PageSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes, want whole pages of %d", ovmf.ErrSize, img.Size, snp.PageSize)
	}
	// Room for what follows, too: most firmware has some 50 pages in its
	// sections, and a guest a few vCPUs.
	const more = 64
	count := img.Size / snp.PageSize
	pages := make([]Page, count, count+more)
	pieces := (img.Size + firmwareBuffer - 1) / firmwareBuffer
	errs := make([]error, min(pieces, int64(runtime.GOMAXPROCS(0))))
	var next atomic.Int64
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() {
			h := pageHasher{buf: make([]byte, min(firmwareBuffer, img.Size))}
			for piece := next.Add(1) - 1; piece < pieces && errs[n] == nil; piece = next.Add(1) - 1 {
				errs[n] = h.pages(r, img, piece*firmwareBuffer, pages)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return pages, nil
}

// pageHasher hashes pages. Images are mostly padding, so a page that equals the
// one before takes its digest.
type pageHasher struct {
	buf    []byte
	last   [snp.PageSize]byte
	digest snp.ContentDigest
	any    bool // last and digest are those of a page
}

// pages fills in the pages of the piece of an image that begins at off.
func (h *pageHasher) pages(r io.ReaderAt, img *ovmf.Image, off int64, pages []Page) error {
	buf := h.buf[:min(int64(len(h.buf)), img.Size-off)]
	if n, err := r.ReadAt(buf, off); n < len(buf) {
		return fmt.Errorf("reading firmware at 0x%x: %w", off+int64(n), err)
	}
	for ; len(buf) > 0; buf, off = buf[snp.PageSize:], off+snp.PageSize {
		if page := (*[snp.PageSize]byte)(buf); !h.any || h.last != *page {
			h.last, h.digest, h.any = *page, sha512.Sum384(page[:]), true
		}
		pages[off/snp.PageSize] = Page{normal(img.BaseGPA+uint64(off), h.digest), sourceFirmware}
	}
	return nil
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
	return sabotage(append(pages, last...))
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
