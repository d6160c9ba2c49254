// Package pagediff lays two launches side by side and says where they part: the
// first page that differs, and what in it. Start with Compare.
package pagediff

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Launch is one side: the pages in the order of launching.
type Launch struct {
	Name  string
	Pages []Page
	// Firmware is the image, where it is at hand.
	Firmware []byte
}

// Page is one page.
type Page struct {
	snp.Update
	What string // where it comes from; empty where that is not known
	// Unknown says that the page is measured and its Contents were not told, as by a trace.
	Unknown bool
	Bytes   []byte // snp.PageSize of them; nil where they are not at hand
}

// Diff is where two launches part.
type Diff struct {
	Equal bool   `json:"equal"`
	A     string `json:"a"`
	B     string `json:"b"`
	// Index of the first page that differs, from 0, and the page on either side; nil
	// where a launch has ended before.
	Index int         `json:"index"`
	PageA *snp.Update `json:"page_a"`
	PageB *snp.Update `json:"page_b"`
	What  string      `json:"what,omitempty"` // what the page is
	// Differing counts the pages that differ, Pages those of the longer launch.
	Differing int `json:"differing"`
	Pages     int `json:"pages"`
	// Fields are what differs inside, where the contents are at hand.
	Fields []Field `json:"fields,omitempty"`
	// Known says whether they are.
	Known bool `json:"contents_known"`
}

// Field is one thing that differs inside a page.
type Field struct {
	Name   string `json:"name"`
	Offset int    `json:"offset"` // in the page, bytes
	A      string `json:"a"`
	B      string `json:"b"`
	// MeansA and MeansB say it in words, where there are any.
	MeansA string `json:"a_means,omitempty"`
	MeansB string `json:"b_means,omitempty"`
}

// Of gives the launch that was computed. firmware is read for the contents of
// its pages; nil leaves them out.
func Of(name string, r *measure.Result, firmware io.ReaderAt) (Launch, error) {
	l := Launch{Name: name}
	if firmware != nil && r.Image != nil && r.Image.Size > 0 {
		l.Firmware = make([]byte, r.Image.Size)
		if n, err := firmware.ReadAt(l.Firmware, 0); n < len(l.Firmware) {
			return l, fmt.Errorf("reading the firmware: %w", err)
		}
	}
	cpu := 0
	for _, p := range r.Pages {
		page := Page{Update: p.Update, What: p.Source}
		switch {
		case p.Type == snp.PageVMSA:
			if b, err := r.SaveArea(cpu); err == nil {
				page.Bytes = b[:]
			}
			cpu++
		case r.HashPage != nil && p.GPA == r.HashPageGPA && p.Type == snp.PageNormal:
			page.Bytes = r.HashPage[:]
		case l.Firmware != nil && p.Type == snp.PageNormal && p.GPA >= r.Image.BaseGPA:
			if off := p.GPA - r.Image.BaseGPA; off+snp.PageSize <= uint64(len(l.Firmware)) {
				page.Bytes = l.Firmware[off : off+snp.PageSize]
			}
		}
		l.Pages = append(l.Pages, page)
	}
	return l, nil
}

// OfUpdates gives a launch of which only the pages' digests are known.
func OfUpdates(name string, updates []snp.Update) Launch {
	l := Launch{Name: name}
	for _, u := range updates {
		l.Pages = append(l.Pages, Page{Update: u})
	}
	return l
}

// OfRecord gives a launch that was recorded. Save areas are there where the
// record has them.
func OfRecord(name string, f *record.File, x *record.Launch) Launch {
	l := Launch{Name: name}
	for _, c := range x.Calls {
		u, is := c.With.(*record.Update)
		if !is || c.Result.Failed() {
			continue
		}
		for n := range u.Length / snp.PageSize {
			p := Page{Update: snp.Update{Type: u.Type, GPA: u.GPA + n*snp.PageSize, Length: snp.PageSize}}
			if n < uint64(len(u.Contents)) {
				p.Bytes = f.Pages[u.Contents[n]]
				if u.Type.Measured() {
					p.Contents = u.Contents[n]
				}
			} else {
				p.Unknown = u.Type.Measured()
			}
			l.Pages = append(l.Pages, p)
		}
	}
	for _, b := range x.SaveAreas {
		if len(b) == snp.PageSize {
			l.Pages = append(l.Pages, Page{Update: snp.Update{Type: snp.PageVMSA, GPA: snp.VMSAGPA, Length: snp.PageSize, Contents: contents(b)}, What: "VMSA", Bytes: b})
		}
	}
	return l
}

// contents hashes a save area as the firmware does, which leaves the guest's TSC out.
func contents(page []byte) snp.ContentDigest {
	b := bytes.Clone(page)
	clear(b[0x2F0:0x300])
	return sha512.Sum384(b)
}

// Compare lays two launches side by side.
func Compare(a, b Launch) *Diff {
	d := &Diff{A: a.Name, B: b.Name, Index: -1, Pages: max(len(a.Pages), len(b.Pages))}
	for n := range d.Pages {
		switch {
		case n < len(a.Pages) && n < len(b.Pages) && same(&a.Pages[n], &b.Pages[n]):
			continue
		case d.Index < 0:
			d.Index = n
		}
		d.Differing++
	}
	if d.Index < 0 {
		d.Equal, d.Index = true, d.Pages
		return d
	}
	var pages [2]*Page
	for i, l := range []Launch{a, b} {
		if d.Index < len(l.Pages) {
			pages[i] = &l.Pages[d.Index]
			if d.What == "" {
				d.What = pages[i].What
			}
		}
	}
	if pages[0] != nil {
		d.PageA = &pages[0].Update
	}
	if pages[1] != nil {
		d.PageB = &pages[1].Update
	}
	if d.PageA == nil || d.PageB == nil || d.PageA.Type != d.PageB.Type || d.PageA.GPA != d.PageB.GPA {
		d.Known = true // there is no more to know
		return d
	}
	d.Known = pages[0].Bytes != nil && pages[1].Bytes != nil
	if d.Known {
		d.Fields = fields(d.PageA.Type, pages[0].Bytes, pages[1].Bytes, place(a, b, d.PageA.GPA))
	}
	return d
}

// same says whether pages are, as far as is known of them.
func same(a, b *Page) bool {
	return a.Type == b.Type && a.GPA == b.GPA && (a.Unknown || b.Unknown || a.Contents == b.Contents)
}

// place gives a function that says what lies at an offset of a page, where a firmware
// is at hand.
func place(a, b Launch, gpa uint64) func(int) string {
	image := a.Firmware
	if image == nil {
		image = b.Firmware
	}
	base := uint64(1<<32 - len(image))
	if image == nil || gpa < base {
		return func(int) string { return "" }
	}
	return func(off int) string {
		at := int64(gpa - base + uint64(off))
		return fmt.Sprintf("firmware at 0x%x, %s", at, ovmf.Locate(image, at))
	}
}

// fields says what differs in a page.
func fields(t snp.PageType, a, b []byte, place func(int) string) []Field {
	switch {
	case len(a) != snp.PageSize || len(b) != snp.PageSize:
		return nil
	case t == snp.PageVMSA:
		return Registers((*[snp.PageSize]byte)(a), (*[snp.PageSize]byte)(b))
	case t == snp.PageCPUID:
		return leaves(a, b)
	}
	if f := entries(a, b); f != nil {
		return f
	}
	return runs(a, b, place)
}

// Registers lists the fields of two save areas that differ, in the order of a's.
func Registers(a, b *[snp.PageSize]byte) []Field {
	type both struct{ a, b *vmsa.Field }
	var order []int
	at := map[int]*both{}
	for i, page := range []*[snp.PageSize]byte{a, b} {
		for _, f := range vmsa.Fields(page) {
			x := at[f.Offset]
			if x == nil {
				x = &both{}
				at[f.Offset] = x
				order = append(order, f.Offset)
			}
			if i == 0 {
				x.a = &f
			} else {
				x.b = &f
			}
		}
	}
	var out []Field
	for _, off := range order {
		d := Field{Offset: off, A: "0", B: "0"}
		if f := at[off].a; f != nil {
			d.Name, d.A, d.MeansA = f.Name, f.Value, f.What
		}
		if f := at[off].b; f != nil {
			d.Name, d.B, d.MeansB = f.Name, f.Value, f.What
		}
		if d.A != d.B && !unmeasured[d.Name] {
			out = append(out, d)
		}
	}
	return out
}

// unmeasured are fields that the firmware fills in and that no digest is about.
var unmeasured = map[string]bool{"GUEST_TSC_SCALE": true, "GUEST_TSC_OFFSET": true}

// entries compares hashes tables; nil where the pages are none.
func entries(a, b []byte) []Field {
	ta, off, inA := hashes.Find(a)
	tb, _, inB := hashes.Find(b)
	if !inA || !inB {
		return nil
	}
	var out []Field
	for _, e := range []struct {
		name string
		a, b [32]byte
	}{{"kernel", ta.Kernel, tb.Kernel}, {"initrd", ta.Initrd, tb.Initrd}, {"command line", ta.Cmdline, tb.Cmdline}} {
		if e.a != e.b {
			out = append(out, Field{Name: "hashes table: " + e.name, Offset: off, A: fmt.Sprintf("sha256 %x", e.a), B: fmt.Sprintf("sha256 %x", e.b)})
		}
	}
	return out
}

// CPUID page (AMD 56860, "CPUID page").
const (
	cpuidHeader = 16
	cpuidEntry  = 48
	cpuidMost   = 64
)

// leaves compares CPUID pages, of which the firmware does not measure the contents.
func leaves(a, b []byte) []Field {
	read := func(page []byte) (map[[2]uint32]string, [][2]uint32) {
		le := binary.LittleEndian
		out := map[[2]uint32]string{}
		var order [][2]uint32
		for n := range min(int(le.Uint32(page)), cpuidMost) {
			e := page[cpuidHeader+n*cpuidEntry:]
			k := [2]uint32{le.Uint32(e), le.Uint32(e[4:])}
			out[k] = fmt.Sprintf("eax %08x ebx %08x ecx %08x edx %08x", le.Uint32(e[24:]), le.Uint32(e[28:]), le.Uint32(e[32:]), le.Uint32(e[36:]))
			order = append(order, k)
		}
		return out, order
	}
	fa, order := read(a)
	fb, more := read(b)
	var out []Field
	seen := map[[2]uint32]bool{}
	for _, k := range append(order, more...) {
		if !seen[k] && fa[k] != fb[k] {
			out = append(out, Field{Name: fmt.Sprintf("CPUID leaf 0x%x, subleaf 0x%x", k[0], k[1]), A: or(fa[k], "absent"), B: or(fb[k], "absent")})
		}
		seen[k] = true
	}
	return out
}

func or(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

// words puts what a value means behind it.
func words(value, means string) string {
	if means == "" {
		return value
	}
	return value + " (" + means + ")"
}

// mostRuns bounds how many runs of bytes are listed, longestRun how much of each.
const (
	mostRuns   = 4
	longestRun = 16
)

// runs lists the first runs of bytes that differ.
func runs(a, b []byte, place func(int) string) []Field {
	var out []Field
	for off := 0; off < len(a) && len(out) < mostRuns; off++ {
		if a[off] == b[off] {
			continue
		}
		end := off
		for end < len(a) && a[end] != b[end] {
			end++
		}
		cut := min(end, off+longestRun)
		name := or(place(off), "bytes")
		out = append(out, Field{Name: fmt.Sprintf("%s, %d bytes", name, end-off), Offset: off, A: fmt.Sprintf("%x", a[off:cut]), B: fmt.Sprintf("%x", b[off:cut])})
		off = end
	}
	return out
}

// String says it for a reader, on a line or more.
func (d *Diff) String() string {
	if d.Equal {
		return fmt.Sprintf("%s and %s are the same launch: %d pages.", d.A, d.B, d.Pages)
	}
	var b bytes.Buffer
	page := func(u *snp.Update) string {
		if u == nil {
			return "no such page"
		}
		s := fmt.Sprintf("%s at 0x%x", u.Type, u.GPA)
		if u.Type.Measured() {
			s += ", contents " + u.Contents.String()[:16] + "…"
		}
		return s
	}
	what := ""
	if d.What != "" {
		what = " (" + d.What + ")"
	}
	fmt.Fprintf(&b, "Page %d of %d is the first that differs%s; %d differ.\n  %s: %s\n  %s: %s", d.Index, d.Pages, what, d.Differing, d.A, page(d.PageA), d.B, page(d.PageB))
	for _, f := range d.Fields {
		fmt.Fprintf(&b, "\n  %s, offset 0x%x: %s; %s", f.Name, f.Offset, words(f.A, f.MeansA), words(f.B, f.MeansB))
	}
	if !d.Known {
		b.WriteString("\n  The contents are not at hand on both sides, so what differs inside is not told.")
	}
	return b.String()
}
