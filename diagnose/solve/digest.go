package solve

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"hash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// noInitrd is the SHA-256 of no bytes, which a hashes table has without an initrd.
var noInitrd = sha256.Sum256(nil)

// frameKey is what decides all pages before the save areas but the contents of
// the hashes page.
type frameKey struct {
	firmware *firmware
	svsm     *svsmImage
	order    *order
	vmm      vmsa.VMM
	hashes   bool
}

// frame is the part of a launch before the save areas, with a gap for the
// hashes page.
type frame struct {
	ok     bool // there is such a launch
	before measure.Context
	after  []snp.Update // behind the hashes page
	gpa    uint64       // of the hashes page
	offset int          // of the table in it
}

func newFrame(k frameKey) *frame {
	f := &frame{}
	img := k.firmware.image
	f.before.LD = k.firmware.digest
	if k.svsm != nil {
		img = k.svsm.image
		for _, u := range k.svsm.pages {
			f.before.Extend(u)
		}
	}
	arranged := *img
	if k.order.arrange != nil {
		arranged.Sections = k.order.arrange(slices.Clone(img.Sections))
	}
	var table *measure.HashPage
	if k.hashes {
		var err error
		table = &measure.HashPage{}
		if table.GPA, f.offset, err = arranged.HashPage(); err != nil {
			return f
		}
		f.gpa = table.GPA
	}
	f.ok = true
	pages := measure.SectionPages(&arranged, table, k.vmm)
	for i, p := range pages {
		if table != nil && p.Type == snp.PageNormal && p.GPA == table.GPA {
			for _, q := range pages[i+1:] {
				f.after = append(f.after, q.Update)
			}
			return f
		}
		f.before.Extend(p.Update)
	}
	return f
}

// tableKey is what the hashes page holds.
type tableKey struct{ kernel, initrd, line [32]byte }

// areaKey is what decides the save areas.
type areaKey struct {
	vmm      vmsa.VMM
	noFPU    bool
	rdx      uint32
	features uint64
	reset    uint32
	entry    uint64 // of an SVSM; 0: none
}

// area is the save areas of one kind of vCPU.
type area struct {
	key     areaKey
	bsp, ap snp.ContentDigest
}

// launch is what a description's digest is folded from: two descriptions with
// one launch cannot be told apart.
type launch struct {
	prefix  snp.LaunchDigest // before the save areas
	bsp, ap snp.ContentDigest
	gpa     uint64 // of the save areas
	vcpus   int
}

// digester makes launches of descriptions. It is for one goroutine; what is
// worth keeping is shared.
type digester struct {
	*shared

	page    hash.Hash // of a page
	zeros   []byte    // page's state behind the zeros before the table
	zeroLen int

	// The last prefix, as neighbours in a search mostly have the same.
	lastFrame  *frame
	lastFrameK frameKey
	lastTable  tableKey
	lastPrefix snp.LaunchDigest
	lastOK     bool
	filled     bool

	lastArea        *area
	area            [snp.PageSize]byte // the one that is hashed, here lest each be allocated
	bspHead, apHead head
}

// shared is what all digesters of a search share.
type shared struct {
	frames sync.Map // frameKey: *frame
	opt    measure.Options
}

func newDigester(s *shared) *digester {
	return &digester{shared: s, page: sha512.New384(), zeroLen: -1}
}

// prefix gives the digest before the save areas. ok is false where there is no
// such launch: the firmware has no place for the hashes, say.
func (d *digester) prefix(p *point) (ld snp.LaunchDigest, ok bool) {
	k := frameKey{p.firmware, p.svsm, p.order, p.vmm, p.hashed()}
	var t tableKey
	if k.hashes {
		t = tableKey{p.kernel.sum, noInitrd, p.line.sum}
		if p.initrd != nil {
			t.initrd = p.initrd.sum
		}
	}
	if d.filled && k == d.lastFrameK && t == d.lastTable {
		return d.lastPrefix, d.lastOK
	}
	if !d.filled || k != d.lastFrameK {
		f, have := d.frames.Load(k)
		if !have {
			f, _ = d.frames.LoadOrStore(k, newFrame(k))
		}
		d.lastFrame = f.(*frame)
	}
	f := d.lastFrame
	c := f.before
	if k.hashes && f.ok {
		c.Extend(snp.Update{Type: snp.PageNormal, GPA: f.gpa, Contents: d.hashPage(f.offset, &t)})
		for _, u := range f.after {
			c.Extend(u)
		}
	}
	d.filled, d.lastFrameK, d.lastTable, d.lastPrefix, d.lastOK = true, k, t, c.LD, f.ok
	return c.LD, f.ok
}

// hashPage gives the contents digest of a hashes page. The zeros before the
// table are hashed once.
func (d *digester) hashPage(offset int, t *tableKey) (digest snp.ContentDigest) {
	if d.zeroLen != offset {
		d.page.Reset()
		d.page.Write(make([]byte, offset))
		d.zeros, _ = d.page.(encoding.BinaryMarshaler).MarshalBinary() // never fails
		d.zeroLen = offset
	}
	_ = d.page.(encoding.BinaryUnmarshaler).UnmarshalBinary(d.zeros) // its own state
	table := (&hashes.Table{Kernel: t.kernel, Initrd: t.initrd, Cmdline: t.line}).Bytes()
	d.page.Write(table[:])
	d.page.Write(zeroPage[:snp.PageSize-offset-hashes.Size])
	d.page.Sum(digest[:0])
	return digest
}

var zeroPage [snp.PageSize]byte

// areaKeyOf gives what decides p's save areas. one says that nothing tells where
// further vCPUs start, so that there can be one only.
func areaKeyOf(p *point) (k areaKey, one bool) {
	k = areaKey{vmm: p.vmm, noFPU: p.noFPU, rdx: p.rdx(), features: p.features}
	if p.svsm != nil {
		k.entry, _ = p.svsm.image.SVSMEntry()
		return k, false
	}
	reset, ok := p.firmware.image.ResetEIP()
	k.reset = reset
	return k, !ok && p.vmm.UsesResetAddr()
}

// areaGPA is where p's save areas lie.
func (d *digester) areaGPA(p *point) uint64 {
	if d.opt.VMSAGPA != 0 {
		return d.opt.VMSAGPA
	}
	return p.vmm.SaveAreaGPA(p.cpu.signature)
}

// newArea hashes save areas.
func (d *digester) newArea(k areaKey) *area {
	cfg := vmsa.Config{Signature: k.rdx, Features: k.features, VMM: k.vmm, NoFPU: k.noFPU}
	a := &area{key: k}
	if k.entry != 0 {
		d.area = vmsa.SVSMPage(cfg, k.entry)
		a.bsp = sha512.Sum384(d.area[:])
		a.ap = a.bsp
		return a
	}
	d.area = vmsa.Page(cfg, true, k.reset)
	a.bsp = d.bspHead.sum(&d.area)
	d.area = vmsa.Page(cfg, false, k.reset)
	a.ap = d.apHead.sum(&d.area)
	return a
}

// headSize is up to where save areas of one search are mostly equal: RDX is at offset
// 0x310 and SEV_FEATURES at 0x3B0 (AMD64 APM volume 2, table B-4), and this is the
// block of the hash with RDX in it.
const headSize = 0x300

// head hashes pages that mostly begin as the one before did.
type head struct {
	bytes [headSize]byte
	hash  hash.Hash // nil: of no page yet
	state []byte    // of hash behind bytes
}

func (h *head) sum(page *[snp.PageSize]byte) (digest snp.ContentDigest) {
	if h.hash == nil || !bytes.Equal(h.bytes[:], page[:headSize]) {
		copy(h.bytes[:], page[:])
		h.hash = sha512.New384()
		h.hash.Write(h.bytes[:])
		h.state, _ = h.hash.(encoding.BinaryMarshaler).MarshalBinary() // never fails
	}
	_ = h.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(h.state) // its own state
	h.hash.Write(page[headSize:])
	h.hash.Sum(digest[:0])
	return digest
}

// saveAreas gives p's save areas, of known where they are among them. one says that
// there is one vCPU only, own that the areas were hashed for p alone.
func (d *digester) saveAreas(p *point, known ...*prepared) (a *area, one, own bool) {
	k, one := areaKeyOf(p)
	if d.lastArea != nil && d.lastArea.key == k {
		return d.lastArea, one, false
	}
	for _, x := range known {
		if x.key == k {
			d.lastArea = x.saveAreas(d)
			return d.lastArea, one, false
		}
	}
	d.lastArea = d.newArea(k)
	return d.lastArea, one, true
}

// prepared is an alternative with what it makes of the description by itself.
type prepared struct {
	*alternative
	alone point // normal
	key   areaKey
	areas atomic.Pointer[area]
}

// prepare makes alternatives ready to be combined.
func (s *space) prepare(alts []*alternative) []*prepared {
	out := make([]*prepared, len(alts))
	for i, a := range alts {
		p := apply(s.base, a)
		out[i] = &prepared{alternative: a, alone: p.normal()}
		out[i].key, _ = areaKeyOf(&p)
	}
	return out
}

// saveAreas hashes them when they are first asked for.
func (x *prepared) saveAreas(d *digester) *area {
	if a := x.areas.Load(); a != nil {
		return a
	}
	a := d.newArea(x.key)
	x.areas.Store(a)
	return a
}

// launch gives what p's digest is folded from, where p covers the save areas.
func (d *digester) launch(p *point) (l launch, ok bool) {
	prefix, ok := d.prefix(p)
	if !ok {
		return l, false
	}
	a, one, _ := d.saveAreas(p)
	l = launch{prefix, a.bsp, a.ap, d.areaGPA(p), p.vcpus}
	if p.vcpus == 1 {
		l.ap = snp.ContentDigest{} // there is none
	}
	return l, !one || p.vcpus == 1
}

// chain folds save areas onto a digest, the first vCPU's and others', and calls
// the digest for from to upto vCPUs each by its number. It ends with the first that is in
// question.
func chain(forms []form, ld snp.LaunchDigest, a *area, gpa uint64, from, upto int) (vcpus int, f *form) {
	first := snp.PageInfo{DigestCur: ld, Contents: a.bsp, Type: snp.PageVMSA, GPA: gpa}
	info := first.Bytes()
	others := snp.PageInfo{Contents: a.ap, Type: snp.PageVMSA, GPA: gpa}
	next := others.Bytes()
	for n := 1; ; n++ {
		sum := snp.LaunchDigest(sha512.Sum384(info[:]))
		if n >= from {
			if f := match(forms, &sum); f != nil {
				return n, f
			}
		}
		if n == upto {
			return 0, nil
		}
		if n == 1 {
			info = next
		}
		copy(info[:], sum[:])
	}
}
