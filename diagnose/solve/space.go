package solve

import (
	"context"
	"fmt"
	mathbits "math/bits"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// space is what a search goes through.
type space struct {
	q      *Question
	base   point
	alts   [dimensions][]*alternative
	unread []string
}

// newSpace reads the description. described is its own digest.
func newSpace(q *Question) (s *space, described snp.LaunchDigest, err error) {
	if q.Options.Mode != measure.SNP && q.Options.Mode != measure.SVSM {
		return nil, described, fmt.Errorf("mode %s has no launch digest that could be looked into (use mode %s or %s)", q.Options.Mode, measure.SNP, measure.SVSM)
	}
	r, err := measure.MeasureWith(q.Guest, q.Inputs, q.Options)
	if err != nil {
		return nil, described, err
	}
	g := q.Guest
	s = &space{q: q, base: point{
		vmm: q.Options.VMM, order: &order{}, hashes: g.KernelHashes, features: r.GuestFeatures,
		noFPU: q.Options.NoFPU || r.Host.NoFPU, vcpus: r.VCPUs, firmware: &firmware{path: g.Firmware, image: r.Image, digest: r.FirmwareDigest},
	}}
	b := &s.base
	sig, err := g.Signature()
	b.cpu = cpu{signature: sig}
	if q.Options.RDX != nil || err != nil {
		b.cpu = cpu{sig, r.CPUSig, true}
	}
	if in := q.Inputs.Firmware; in != nil {
		b.firmware.size = in.Size
	}
	if q.Options.Mode == measure.SVSM {
		if err := s.readSVSM(); err != nil {
			return nil, described, err
		}
	}
	if err := s.readKernel(); err != nil {
		return nil, described, err
	}
	return s, r.LaunchDigest, nil
}

// readSVSM takes firmware and SVSM apart: measure.Result has one image for both.
func (s *space) readSVSM() error {
	in, svsm := s.q.Inputs.Firmware, s.q.Options.SVSM
	own := s.base.firmware
	f, err := firmwareOf(own.path, in, in.Size)
	if err != nil || f == nil {
		// Below an SVSM any image will do; there are no launches without it, then.
		img, err := ovmf.Pages(in.Size)
		if err != nil {
			return err
		}
		f = &firmware{path: own.path, size: in.Size, image: img, digest: own.digest}
	}
	s.base.firmware = f
	s.base.svsm, err = svsmBelow(svsm.Path, svsm, svsm.Size, f, s.q.Options.VarsSize)
	return err
}

// readKernel hashes what a hashes table would hold, whether there is one or not.
func (s *space) readKernel() error {
	g, in := s.q.Guest, s.q.Inputs
	for _, f := range []struct {
		in  *guest.Input
		dst **blob
	}{{in.Kernel, &s.base.kernel}, {in.Initrd, &s.base.initrd}} {
		if f.in == nil {
			continue
		}
		sum, err := f.in.SHA256()
		if err != nil {
			return err
		}
		*f.dst = &blob{f.in.Path, sum}
	}
	s.base.line = &line{g.Append, sumOf(g.Append, false)}
	if g.AppendSHA256 != nil {
		s.base.line.sum = *g.AppendSHA256
	}
	return nil
}

// textKnown says whether the command line is known, and not only its digest.
func (s *space) textKnown() bool {
	return s.base.line.sum == sumOf(s.base.line.text, false)
}

const (
	maxVCPUs = 512 // how many vCPUs are tried
	// Signatures that no model of QEMU has are tried with so many steppings, words
	// of SEV_FEATURES with so many bits.
	rareSteppings uint32 = 4
	rareFeatures         = 5
)

func (s *space) add(a *alternative) { s.alts[a.dim] = append(s.alts[a.dim], a) }

// plausible fills in what needs no file but the description's own.
func (s *space) plausible() {
	s.cpus()
	s.features()
	s.hosts()
	s.hashing()
	s.lines()
	s.vmms()
	s.orders()
	s.extents()
}

func describeCPU(name string, c cpu) string {
	if c.exact {
		return fmt.Sprintf("%s (RDX 0x%x)", name, c.rdx)
	}
	return fmt.Sprintf("%s (signature 0x%x)", name, c.signature)
}

// cpuName is what the guest's kind of vCPU is called in sentences.
func (s *space) cpuName() string {
	switch g := s.q.Guest; {
	case s.q.Options.RDX != nil:
		return fmt.Sprintf("RDX 0x%x", *s.q.Options.RDX)
	case g.CPU != "":
		return g.CPU
	case g.CPUSig != nil:
		return fmt.Sprintf("CPU signature 0x%x", *g.CPUSig)
	}
	return "no model"
}

// chips are signatures of AMD's server processors themselves, which guests have with
// -cpu host. Steppings are those sold and their neighbours.
var chips = []struct {
	family, model, first, last uint32
	name                       string
}{
	{23, 0x01, 1, 2, "Naples"}, {23, 0x31, 0, 0, "Rome"}, {25, 0x01, 0, 2, "Milan"}, {25, 0x11, 0, 2, "Genoa"}, {25, 0xA0, 1, 2, "Bergamo or Siena"},
	{26, 0x02, 0, 1, "Turin"}, {26, 0x11, 0, 0, "Turin Dense"},
}

func (s *space) cpus() {
	base := s.base.cpu
	sig := func(rare bool, names []string, c cpu, note string) {
		own, other := s.base, s.base
		if other.cpu = c; own.rdx() == other.rdx() && s.base.vmm != vmsa.GCE {
			return
		}
		s.add(&alternative{dim: dimCPU, rare: rare, set: func(p *point) { p.cpu = c }, words: func() words {
			return words{found: describeCPU(strings.Join(names, " or "), c), described: describeCPU(s.cpuName(), base), with: names[0], without: s.cpuName(), note: note, names: names}
		}})
	}
	known := map[uint32]bool{}
	for _, m := range vmsa.Models() {
		if known[m.Signature()] {
			continue
		}
		known[m.Signature()] = true
		var names []string
		for _, other := range vmsa.Models() {
			if other.Signature() == m.Signature() {
				names = append(names, other.Name)
			}
		}
		sig(false, names, cpu{signature: m.Signature()}, "with any version suffix, which does not change the signature")
	}
	if h := s.q.HostSignature; h != nil && !known[*h] {
		known[*h] = true
		sig(false, []string{"host"}, cpu{signature: *h}, "this machine's processor")
	}
	sig(false, []string{"CPU signature 0"}, cpu{exact: true}, "as tools leave it that do not know the model")
	known[0] = true
	sig(false, []string{"RDX 0x600"}, cpu{rdx: vmsa.CloudSignature, exact: true}, "KVM's own reset value, which other VMMs than QEMU leave")
	known[vmsa.CloudSignature] = true
	for _, c := range chips {
		for stepping := c.first; stepping <= c.last; stepping++ {
			n := vmsa.Signature(c.family, c.model, stepping)
			if !known[n] {
				known[n] = true
				sig(false, []string{"host on " + c.name}, cpu{signature: n}, fmt.Sprintf("the processor's own signature, family %d, model %d, stepping %d", c.family, c.model, stepping))
			}
		}
	}
	for _, family := range []uint32{23, 25, 26} {
		for model := uint32(0); model < 256; model++ {
			for stepping := range rareSteppings {
				if n := vmsa.Signature(family, model, stepping); !known[n] {
					sig(true, []string{fmt.Sprintf("signature 0x%x", n)}, cpu{signature: n}, "no model of QEMU's; perhaps -cpu host, or properties family=, model=, stepping=")
				}
			}
		}
	}
}

// usual are words of SEV_FEATURES that have been seen, or that come of
// misreading one.
var usual = []struct {
	word uint64
	note string
}{
	{vmsa.SNPActive, "what Linux 6.11 and later launch QEMU's guests with"},
	{vmsa.SNPActive | vmsa.DebugSwap, "DebugSwap, as kernels set it where kvm_amd has debug_swap on"},
	{0x15, "perhaps 21 that was meant in hexadecimal"},
	{0, "as tools for SEV-ES leave it"},
	{vmsa.SNPActive | vmsa.SecureTSC, "Secure TSC"},
	{vmsa.SNPActive | vmsa.SecureTSC | vmsa.DebugSwap, ""},
	{vmsa.SNPActive | vmsa.RestrictedInjection, "as SVSMs and Hyper-V use it"},
	{vmsa.SNPActive | vmsa.AlternateInjection, ""},
	{vmsa.SNPActive | vmsa.ReflectVC, ""},
	{vmsa.SNPActive | vmsa.VTOM, ""},
	{vmsa.SNPActive | vmsa.SecureAVIC, ""},
}

func (s *space) features() {
	known := map[uint64]bool{s.base.features: true}
	word := func(rare bool, f uint64, note string) {
		if known[f] {
			return
		}
		known[f] = true
		s.add(&alternative{dim: dimFeatures, rare: rare, set: func(p *point) { p.features = f }, words: func() words {
			found, own := vmsa.DescribeFeatures(f), vmsa.DescribeFeatures(s.base.features)
			return words{found: found, described: own, with: "with guest features " + found, without: "with " + own, note: note}
		}})
	}
	for _, u := range usual {
		word(false, u.word, u.note)
	}
	bits := vmsa.FeatureBits()
	for _, b := range bits {
		word(false, s.base.features^b, "")
		word(false, vmsa.SNPActive|b, "")
	}
	for n := range 1 << len(bits) {
		if mathbits.OnesCount(uint(n)) > rareFeatures {
			continue
		}
		var f uint64
		for i, b := range bits {
			if n>>i&1 != 0 {
				f |= b
			}
		}
		if f&vmsa.SNPActive != 0 {
			word(true, f, "")
		}
	}
}

// hosts are the host kernels' profiles: the FPU state, and the features with it.
func (s *space) hosts() {
	type state struct {
		features uint64
		noFPU    bool
	}
	own := vmsa.DefaultHost()
	if p, err := s.q.Guest.HostProfile(); err == nil {
		own = p
	}
	groups := map[state][]vmsa.HostProfile{}
	var order []state
	for _, p := range vmsa.HostProfiles() {
		if k := (state{p.Features, p.NoFPU}); p.SNP {
			if groups[k] == nil {
				order = append(order, k)
			}
			groups[k] = append(groups[k], p)
		}
	}
	for _, k := range order {
		if k == (state{s.base.features, s.base.noFPU}) {
			continue
		}
		if k.noFPU == s.base.noFPU {
			continue // a matter of the features alone
		}
		profiles := groups[k]
		s.add(&alternative{dim: dimHost, set: func(p *point) { p.features, p.noFPU = k.features, k.noFPU }, words: func() words {
			var names []string
			for _, p := range profiles {
				names = append(names, p.Name)
			}
			found := fmt.Sprintf("%s (SEV_FEATURES %s, %s)", strings.Join(names, " or "), vmsa.DescribeFeatures(k.features), profiles[0].FPU())
			return words{found: found, described: own.Describe(), with: "for a host kernel " + found, without: "for " + own.Name, names: names}
		}})
	}
	if k := (state{s.base.features, !s.base.noFPU}); groups[k] == nil {
		s.add(&alternative{dim: dimHost, set: func(p *point) { p.noFPU = k.noFPU }, words: func() words {
			zero := vmsa.HostProfile{NoFPU: k.noFPU}
			return words{found: zero.FPU(), described: own.FPU(), with: "with " + zero.FPU(), without: "with " + own.FPU(), note: "host kernels copy the FPU state since about 6.9"}
		}})
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// hashing is whether there is a hashes table, and whether it has all its parts.
func (s *space) hashing() {
	on := s.base.hashes
	s.add(&alternative{dim: dimHashes, set: func(p *point) { p.hashes = !on }, words: func() words {
		return words{found: onOff(!on), described: onOff(on), with: "with kernel hashes " + onOff(!on), without: "with them " + onOff(on)}
	}})
	if own := s.base.kernel; own != nil {
		s.add(&alternative{dim: dimKernel, set: func(p *point) { p.kernel = nil }, words: func() words {
			return words{found: "none", described: own.path, with: "without a kernel", without: "with the kernel " + own.path, note: "without one there is no hashes table"}
		}})
		empty := &blob{"", noInitrd}
		s.add(&alternative{dim: dimKernel, set: func(p *point) { p.kernel = empty }, words: func() words {
			return words{found: "an empty file", described: own.path, with: "with an empty kernel", without: "with the kernel " + own.path}
		}})
	}
	if own := s.base.initrd; own != nil {
		s.add(&alternative{dim: dimInitrd, set: func(p *point) { p.initrd = nil }, words: func() words {
			return words{found: "none", described: own.path, with: "without an initrd", without: "with the initrd " + own.path}
		}})
	}
	if k, i := s.base.kernel, s.base.initrd; k != nil && i != nil {
		s.add(&alternative{dim: dimKernel, set: func(p *point) { p.kernel = i }, words: func() words {
			return words{found: "the initrd " + i.path, described: k.path, with: "with the initrd in the kernel's place", without: "with the kernel " + k.path}
		}})
		s.add(&alternative{dim: dimInitrd, set: func(p *point) { p.initrd = k }, words: func() words {
			return words{found: "the kernel " + k.path, described: i.path, with: "with the kernel in the initrd's place", without: "with the initrd " + i.path}
		}})
		s.add(&alternative{dim: dimSwap, set: func(p *point) { p.kernel, p.initrd = p.initrd, p.kernel }, words: func() words {
			return words{found: "exchanged", described: "as described", with: "with kernel and initrd exchanged", without: "with each in its place"}
		}})
	}
}

func (s *space) lines() {
	if !s.textKnown() {
		nothing := &line{"", sumOf("", false)}
		s.add(s.lineAlternative(edit{what: "nothing in it"}, nothing))
		return
	}
	for _, e := range edits(s.base.line.text) {
		s.add(s.lineAlternative(e, &line{e.text, sumOf(e.text, e.raw)}))
	}
}

func (s *space) lineAlternative(e edit, l *line) *alternative {
	return &alternative{dim: dimLine, rare: e.rare, set: func(p *point) { p.line = l }, words: func() words { return s.lineWords(e, l) }}
}

func (s *space) lineWords(e edit, l *line) words {
	own := s.base.line
	w := words{found: fmt.Sprintf("%q", l.text), described: fmt.Sprintf("%q", own.text), with: "with a command line that differs: " + e.what, without: "with the command line as described", note: e.what}
	if !s.textKnown() {
		w.described = fmt.Sprintf("SHA-256 %x", own.sum)
	}
	return w
}

func (s *space) vmms() {
	for v := vmsa.QEMU; v <= vmsa.Krun; v++ {
		if v == s.base.vmm || s.base.svsm != nil {
			continue
		}
		s.add(&alternative{dim: dimVMM, set: func(p *point) { p.vmm = v }, words: func() words {
			return words{found: v.String(), described: s.base.vmm.String(), with: "as " + v.String() + " launches it", without: "as " + s.base.vmm.String() + " does"}
		}})
	}
}

// orders are those that firmware builds and tools have had.
func (s *space) orders() {
	add := func(rare bool, what string, f func([]ovmf.Section) []ovmf.Section) {
		img := s.base.firmware.image
		if s.base.svsm != nil {
			img = s.base.svsm.image
		}
		if slices.Equal(f(slices.Clone(img.Sections)), img.Sections) {
			return
		}
		o := &order{f}
		s.add(&alternative{dim: dimOrder, rare: rare, set: func(p *point) { p.order = o }, words: func() words {
			return words{found: what, described: "as they stand in the firmware", with: "with the metadata sections " + what, without: "with them as they stand in the firmware", note: "a tool that lists them so and not as the firmware does"}
		}})
	}
	is := func(t ovmf.SectionType) func(ovmf.Section) bool {
		return func(x ovmf.Section) bool { return x.Type == t }
	}
	add(false, "in the order of their addresses (kernel hashes before the end, as EDK2 had them until its pull request 6054)", func(x []ovmf.Section) []ovmf.Section {
		slices.SortStableFunc(x, func(a, b ovmf.Section) int { return int(int64(a.GPA) - int64(b.GPA)) })
		return x
	})
	add(false, "with the kernel hashes last (as EDK2 has them since its pull request 6054)", func(x []ovmf.Section) []ovmf.Section { return moved(x, is(ovmf.SNPKernelHashes), len(x)) })
	add(false, "with the kernel hashes first", func(x []ovmf.Section) []ovmf.Section { return moved(x, is(ovmf.SNPKernelHashes), 0) })
	add(false, "with the CPUID page last", func(x []ovmf.Section) []ovmf.Section { return moved(x, is(ovmf.CPUID), len(x)) })
	add(false, "without the SVSM calling area (a type that older tools do not know)", func(x []ovmf.Section) []ovmf.Section { return slices.DeleteFunc(x, is(ovmf.SVSMCAA)) })
	add(false, "without the kernel hashes section", func(x []ovmf.Section) []ovmf.Section { return slices.DeleteFunc(x, is(ovmf.SNPKernelHashes)) })
	for n := 1; n < len(s.base.firmware.image.Sections)-1; n++ {
		add(true, fmt.Sprintf("with the kernel hashes as number %d", n), func(x []ovmf.Section) []ovmf.Section { return moved(x, is(ovmf.SNPKernelHashes), n) })
	}
}

// moved puts what is meant at a place.
func moved(x []ovmf.Section, is func(ovmf.Section) bool, place int) []ovmf.Section {
	i := slices.IndexFunc(x, is)
	if i < 0 {
		return x
	}
	one := x[i]
	x = slices.Delete(x, i, i+1)
	return slices.Insert(x, min(place, len(x)), one)
}

func (s *space) extents() {
	for _, e := range []struct {
		extent
		what, note string
	}{
		{noSaveAreas, "all but the save areas of the vCPUs", ""},
		{firmwareOnly, "the firmware's pages alone", "mode snp:ovmf-hash: the beginning of a launch digest, not one"},
	} {
		s.add(&alternative{dim: dimExtent, set: func(p *point) { p.extent = e.extent }, words: func() words {
			return words{found: e.what, described: "the whole launch", with: "measured over " + e.what, without: "measured as a whole", note: e.note}
		}})
	}
}

// files fills in what the folders hold.
func (s *space) files(ctx context.Context) {
	s.firmwares(ctx)
	s.blobs(ctx, dimKernel)
	s.blobs(ctx, dimInitrd)
}

// varsSizes are those of OVMF's variable stores, in bytes: builds of 4 MiB and 2
// MiB, and none.
var varsSizes = []int64{0x84000, 0x20000, 0}

func (s *space) firmwares(ctx context.Context) {
	l := list(ctx, s.q.Folders.Firmware)
	s.unread = append(s.unread, l.unread...)
	seen := map[snp.LaunchDigest][]string{}
	var order []*firmware
	for _, path := range l.paths {
		if ctx.Err() != nil {
			return
		}
		f, err := readFirmware(path)
		if err != nil {
			s.unread = append(s.unread, fmt.Sprintf("%s: %v", path, err))
			continue
		}
		if f == nil {
			continue
		}
		if _, svsm := f.image.SVSMEntry(); svsm {
			s.addSVSMs(path, f.size)
			continue
		}
		if f.digest == s.base.firmware.digest {
			continue
		}
		if seen[f.digest] == nil {
			order = append(order, f)
		}
		seen[f.digest] = append(seen[f.digest], path)
	}
	for _, f := range order {
		names := seen[f.digest]
		own := s.base.firmware
		s.add(&alternative{dim: dimFirmware, file: true, set: func(p *point) { p.firmware = f }, words: func() words {
			flavour := fmt.Sprintf("%s (%s)", f.path, f.image.Flavour())
			return words{found: flavour, described: fmt.Sprintf("%s (%s)", own.path, own.image.Flavour()), with: "with the firmware " + flavour, without: "with " + own.path, names: names}
		}})
	}
	if s.base.svsm != nil {
		own := s.base.svsm
		s.add(&alternative{dim: dimSVSM, file: true, set: func(p *point) { p.svsm = nil }, words: func() words {
			return words{found: "none", described: own.path, with: "without an SVSM", without: "with the SVSM " + own.path}
		}})
	}
}

// addSVSMs adds launches with an SVSM below the guest's firmware.
func (s *space) addSVSMs(path string, size int64) {
	in, err := guest.OpenInput(path)
	if err != nil {
		s.unread = append(s.unread, fmt.Sprintf("%s: %v", path, err))
		return
	}
	defer in.File.Close()
	own := "none"
	if s.base.svsm != nil {
		own = s.base.svsm.path
	}
	for _, vars := range varsSizes {
		v, err := svsmBelow(path, in, size, s.base.firmware, vars)
		if err != nil {
			continue // no room for it
		}
		s.add(&alternative{dim: dimSVSM, file: true, set: func(p *point) {
			if p.firmware == s.base.firmware { // it lies below that one
				p.svsm, p.vmm = v, vmsa.QEMU
			}
		}, words: func() words {
			found := fmt.Sprintf("%s with a variable store of 0x%x bytes", path, vars)
			return words{found: found, described: own, with: "with the SVSM " + found, without: map[bool]string{true: "without one", false: "with " + own}[own == "none"]}
		}})
	}
}

// blobs adds kernels or initrds from folders.
func (s *space) blobs(ctx context.Context, dim dimension) {
	what, folders, own := "kernel", s.q.Folders.Kernels, s.base.kernel
	if dim == dimInitrd {
		what, folders, own = "initrd", s.q.Folders.Initrds, s.base.initrd
	}
	l := list(ctx, folders)
	s.unread = append(s.unread, l.unread...)
	ownPath := "none"
	if own != nil {
		ownPath = own.path
	}
	seen := map[[32]byte]*[]string{}
	for _, path := range l.paths {
		if ctx.Err() != nil {
			return
		}
		if dim == dimKernel {
			if is, err := isKernel(path); err != nil || !is {
				continue
			}
		}
		b, err := readBlob(path)
		if err != nil {
			s.unread = append(s.unread, fmt.Sprintf("%s: %v", path, err))
			continue
		}
		if own != nil && b.sum == own.sum {
			continue
		}
		if have := seen[b.sum]; have != nil {
			*have = append(*have, path)
			continue
		}
		names := &[]string{path}
		seen[b.sum] = names
		s.add(&alternative{dim: dim, file: true, set: func(p *point) {
			if dim == dimKernel {
				p.kernel = b
			} else {
				p.initrd = b
			}
		}, words: func() words {
			found := strings.Join(*names, " or ")
			without := "with " + ownPath
			if own == nil {
				without = "without one"
			}
			return words{found: found, described: ownPath, with: "with the " + what + " " + found, without: without, names: *names}
		}})
	}
}
