package record

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

var le = binary.LittleEndian

// Heard is a call of a program, as sim/supervise tells it: a thread waits in it.
type Heard struct {
	Process, Thread int
	NR              int32 // system call number of x86-64
	Args            [6]uint64
	// Read reads the caller's memory.
	Read func(addr uint64, p []byte) error
	// Link is what one of the caller's descriptors refers to, empty for one that is not open.
	Link func(fd int) string
	// Same says whether two of the caller's descriptors are one open file, where that can be known.
	Same func(a, b int) (same, known bool)
}

// Options of a Recorder.
type Options struct {
	Tool    string
	Source  Source
	Command []string
	// Pages keeps the bytes of all pages, not only of those that updates of a single page bring.
	Pages bool
	// Version, when set, says what a program answers to --version; it is called on a
	// goroutine of its own.
	Version func(Program) string
	// Logf, when set, hears what could not be recorded.
	Logf func(format string, args ...any)
}

// Recorder makes a record of calls. Its methods must be called from one goroutine,
// but for File, which may be called when all others have been.
type Recorder struct {
	opts      Options
	file      *File
	processes map[int]*process
	pending   func() // what the call that was heard last does, once it was really made
	at        *vm    // the VM of that call
	hostSaid  *Host  // of that call
}

// process is a process that has made a heard call.
type process struct {
	program Program
	version chan string
	vms     []*vm
	files   map[int]any // descriptor to *vm, *vcpu or memfd
	stderr  []byte
	exit    *int
	told    bool // that a VM is not known
}

// vm is a VM that is being recorded.
type vm struct {
	launch   *Launch
	pending  int  // index in launch.Calls of the command whose end is not known; -1
	thread   int  // that made it
	done     bool // another VM has come after it
	keep     bool // it is more than an ordinary VM
	memfds   int
	unseen   []int                     // memfds whose descriptors were not seen yet
	created  []int                     // vCPUs, likewise: index in launch.VCPUs
	lastSets map[int]map[string][]byte // by index in launch.VCPUs and name
}

type vcpu struct {
	vm    *vm
	index int
}

type memfd struct {
	vm    *vm
	index int // from 1
}

// NewRecorder begins an empty record.
func NewRecorder(o Options) *Recorder {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return &Recorder{
		opts: o, processes: map[int]*process{},
		file: &File{Tool: o.Tool, Source: o.Source, Command: slices.Clone(o.Command), Pages: map[snp.ContentDigest][]byte{}},
	}
}

// Hear takes a call before it is answered.
func (r *Recorder) Hear(h Heard) {
	r.pending, r.at, r.hostSaid = nil, nil, nil
	switch h.NR {
	case sysIoctl:
		r.ioctl(&h)
	case sysWrite, sysWritev:
		r.write(&h)
	case sysExitGroup:
		p := r.processes[h.Process]
		if p == nil {
			return // it has neither made a VM nor said anything
		}
		status := int(uint8(h.Args[0]))
		r.pending = func() {
			p.exit = &status
			r.identify(h.Process, p)
		}
	}
}

// Taken says whether the call that was heard last was really made.
func (r *Recorder) Taken(made bool) {
	if made && r.pending != nil {
		r.pending()
	}
	if made && r.at != nil && r.hostSaid != nil {
		r.at.launch.Host = r.hostSaid
	}
	r.pending, r.at, r.hostSaid = nil, nil, nil
}

// Observed takes what the software host says of the call that was heard last.
func (r *Recorder) Observed(h Host) { r.hostSaid = &h }

// Ended takes the end of a process.
func (r *Recorder) Ended(pid int) {
	p := r.processes[pid]
	if p == nil {
		return
	}
	delete(r.processes, pid)
	r.close(p, true)
}

// SoFar gives the record of the processes that have ended. It may be read until the
// next call of a method.
func (r *Recorder) SoFar() *File { return r.file }

// File gives the record. Programs that still run are taken as they are.
func (r *Recorder) File() *File {
	for _, pid := range slices.Sorted(maps.Keys(r.processes)) {
		r.close(r.processes[pid], false)
		delete(r.processes, pid)
	}
	return r.file
}

func (r *Recorder) process(pid int) *process {
	p := r.processes[pid]
	if p == nil {
		p = &process{files: map[int]any{}}
		r.processes[pid] = p
	}
	return p
}

// identify says what a process runs, once.
func (r *Recorder) identify(pid int, p *process) {
	if p.program.Args != nil {
		return
	}
	dir := "/proc/" + strconv.Itoa(pid)
	if b, err := os.ReadFile(dir + "/cmdline"); err == nil && len(b) > 0 {
		p.program.Args = withoutSecrets(strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"))
	}
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		p.program.Path = exe
	}
}

// withoutSecrets leaves out what QEMU's secret objects hold when that stands on the command line.
func withoutSecrets(args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		if !strings.HasPrefix(a, "secret,") && !strings.HasPrefix(a, "secret_keyring,") && !strings.Contains(a, `"secret"`) {
			continue
		}
		out[i] = secretData.ReplaceAllString(a, "${1}(left out)")
	}
	return out
}

// close ends the launches of a process.
func (r *Recorder) close(p *process, ended bool) {
	if p.version != nil {
		p.program.Version = <-p.version
		p.version = nil
	}
	end := End{Exit: p.exit, Signal: ended && p.exit == nil, Stderr: text(p.stderr)}
	if len(p.vms) == 0 && p.exit != nil && *p.exit != 0 && wantsSNP(p.program.Args) {
		// It gave up before it made a VM.
		p.vms = append(p.vms, &vm{launch: &Launch{VMType: VMTypeSNP}, pending: -1, keep: true})
	}
	for _, v := range p.vms {
		r.settle(v, p, true)
		if !v.keep {
			r.file.OtherVMs++
			continue
		}
		v.launch.Program, v.launch.End = p.program, end
		r.file.Launches = append(r.file.Launches, *v.launch)
	}
	p.vms = nil
}

// wantsSNP says whether a command line is of a QEMU that is to launch an SNP guest.
func wantsSNP(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "sev-snp-guest,") || strings.HasPrefix(a, "{") && strings.Contains(a, `"sev-snp-guest"`) {
			return true
		}
	}
	return false
}

// write keeps what a program says on descriptor 2, where QEMU says what failed.
func (r *Recorder) write(h *Heard) {
	if h.Args[0]&0xFFFFFFFF != stderrFD {
		return
	}
	var said []byte
	if h.NR == sysWrite {
		said = readSome(h, h.Args[1], h.Args[2])
	} else {
		iov := make([]byte, 16*min(h.Args[2], maxIovecs))
		if h.Read(h.Args[1], iov) != nil {
			return
		}
		for ; len(iov) > 0; iov = iov[16:] {
			said = append(said, readSome(h, le.Uint64(iov), le.Uint64(iov[8:]))...)
		}
	}
	p := r.process(h.Process)
	r.pending = func() {
		p.stderr = append(p.stderr, said...)
		if n := len(p.stderr); n > maxStderr {
			p.stderr = bytes.Clone(p.stderr[n-maxStderr:])
		}
		for _, v := range p.vms {
			r.settle(v, p, false)
		}
	}
}

func readSome(h *Heard, addr, n uint64) []byte {
	b := make([]byte, min(n, maxWrite))
	if len(b) == 0 || h.Read(addr, b) != nil {
		return nil
	}
	return b
}

func text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// Kinds of files, by what /proc/PID/fd shows: the kernel's names, and those of the software host's.
const (
	kindNone = iota
	kindKVM
	kindSEV
	kindVM
	kindVCPU
	kindMemfd
)

func kindOf(link string) int {
	switch {
	case strings.HasPrefix(link, "anon_inode:kvm-vm"), strings.HasPrefix(link, "/memfd:snplaunch-vm "):
		return kindVM
	case strings.HasPrefix(link, "anon_inode:kvm-vcpu"), strings.HasPrefix(link, "/memfd:snplaunch-vcpu "):
		return kindVCPU
	case strings.Contains(link, "kvm-gmem"), strings.HasPrefix(link, "/memfd:snplaunch-guest-memfd "):
		return kindMemfd
	case link == "/dev/kvm", strings.HasPrefix(link, "/memfd:snplaunch-kvm "):
		return kindKVM
	case link == "/dev/sev", strings.HasPrefix(link, "/memfd:snplaunch-sev "):
		return kindSEV
	}
	return kindNone
}

// ioctl takes an ioctl.
func (r *Recorder) ioctl(h *Heard) {
	fd, request, arg := int(int32(h.Args[0])), uint32(h.Args[1]), h.Args[2]
	p := r.process(h.Process)
	switch kindOf(h.Link(fd)) {
	case kindKVM:
		if request == RequestCreateVM {
			r.createVM(h, p, arg)
		}
	case kindSEV:
		r.issue(h, p, request, arg)
	case kindVM:
		if v := r.vmAt(h, p, fd); v != nil {
			r.vmCall(h, p, v, request, arg)
		}
	case kindVCPU:
		if c := r.vcpuAt(h, p, fd); c != nil {
			r.vcpuCall(h, p, c, request, arg)
		}
	}
}

// createVM takes KVM_CREATE_VM, which the descriptor that it makes is not seen of yet.
func (r *Recorder) createVM(h *Heard, p *process, typ uint64) {
	r.identify(h.Process, p)
	if p.version == nil && r.opts.Version != nil && p.program.Version == "" {
		p.version = make(chan string, 1)
		go func(of Program, to chan<- string) { to <- r.opts.Version(of) }(p.program, p.version)
	}
	// Numbers that are free now may be given again.
	for fd := range p.files {
		if kindOf(h.Link(fd)) == kindNone {
			delete(p.files, fd)
		}
	}
	r.pending = func() {
		v := &vm{launch: &Launch{VMType: typ}, pending: -1, thread: h.Thread, keep: typ == VMTypeSNP, lastSets: map[int]map[string][]byte{}}
		for _, earlier := range p.vms {
			earlier.done = true
			r.settle(earlier, p, false)
		}
		p.vms = append(p.vms, v)
	}
}

// vmAt finds the VM behind a descriptor.
func (r *Recorder) vmAt(h *Heard, p *process, fd int) *vm {
	if v, known := p.files[fd].(*vm); known {
		return v
	}
	for other, f := range p.files {
		if v, isVM := f.(*vm); isVM {
			if same, known := h.Same(fd, other); same && known {
				p.files[fd] = v
				return v
			}
		}
	}
	if len(p.vms) == 0 {
		if !p.told {
			p.told = true
			r.opts.Logf("a VM of process %d was made before it could be heard of: not recorded", h.Process)
		}
		return nil
	}
	v := p.vms[len(p.vms)-1]
	p.files[fd] = v
	return v
}

// vcpuAt finds the vCPU behind a descriptor that was not seen before: the first that was made and not seen,
// or, where the kernel names it, the one of that id.
func (r *Recorder) vcpuAt(h *Heard, p *process, fd int) *vcpu {
	if c, known := p.files[fd].(*vcpu); known {
		return c
	}
	for i := len(p.vms) - 1; i >= 0; i-- {
		v := p.vms[i]
		if len(v.created) == 0 {
			continue
		}
		at := 0
		if _, id, named := strings.Cut(h.Link(fd), "kvm-vcpu:"); named {
			at = slices.IndexFunc(v.created, func(index int) bool { return strconv.Itoa(int(v.launch.VCPUs[index].ID)) == id })
			if at < 0 {
				continue
			}
		}
		c := &vcpu{v, v.created[at]}
		v.created = slices.Delete(v.created, at, at+1)
		p.files[fd] = c
		return c
	}
	return nil
}

// settle decides how the last launch command of a VM ended, as far as can be said.
func (r *Recorder) settle(v *vm, p *process, ended bool) {
	if v.pending < 0 {
		return
	}
	call := &v.launch.Calls[v.pending]
	if res, found := failureIn(call.With, text(p.stderr)); found {
		call.Result = &res
	} else if !ended {
		return
	} else if p.exit == nil || *p.exit == 0 {
		if _, finish := call.With.(*Finish); finish && p.exit != nil {
			call.Result = &Result{From: FromExit} // QEMU ends with 1 after a launch that failed
		}
	}
	v.pending = -1
}

// succeeded is told when a thread has gone on after the last launch command of its VM.
func (v *vm) succeeded() {
	if v.pending >= 0 {
		v.launch.Calls[v.pending].Result = &Result{From: FromNextCall}
		v.pending = -1
	}
}

// heardOf says that a VM is at work: by the thread that launches it, or after the launch by any.
func (v *vm) heardOf(thread int) {
	if thread == v.thread || v.finishing() {
		v.succeeded()
	}
}

// finishing says whether SNP_LAUNCH_FINISH is the last that was heard.
func (v *vm) finishing() bool {
	if v.pending < 0 {
		return false
	}
	_, finish := v.launch.Calls[v.pending].With.(*Finish)
	return finish
}

// add takes a call of a VM.
func (v *vm) add(with Payload, command bool, thread int) {
	c := Call{With: with}
	if command {
		c.Result = &Result{From: FromNothing}
	}
	v.launch.Calls = append(v.launch.Calls, c)
	if command {
		v.pending, v.thread = len(v.launch.Calls)-1, thread
	}
}

// launched says whether the launch is over and nothing more is recorded.
func (v *vm) launched() bool { return v.done || v.launch.Launched() }

func (r *Recorder) vmCall(h *Heard, p *process, v *vm, request uint32, arg uint64) {
	load := func(size int) []byte {
		b := make([]byte, size)
		if h.Read(arg, b) != nil {
			return nil
		}
		return b
	}
	r.at = v
	take := func(with Payload, command bool) {
		r.pending = func() {
			v.heardOf(h.Thread)
			if !v.launched() {
				v.add(with, command, h.Thread)
			}
		}
	}
	switch request {
	case RequestCreateVCPU:
		id := uint32(arg)
		r.pending = func() {
			v.heardOf(h.Thread)
			if v.launched() {
				return
			}
			v.launch.VCPUs = append(v.launch.VCPUs, VCPU{ID: id})
			v.created = append(v.created, len(v.launch.VCPUs)-1)
			v.add(&CreateVCPU{id}, false, h.Thread)
		}
	case RequestCreateGuestMemfd:
		if b := load(guestMemfdSize); b != nil {
			r.pending = func() {
				v.heardOf(h.Thread)
				if v.launched() {
					return
				}
				v.memfds++
				v.unseen = append(v.unseen, v.memfds)
				v.add(&CreateMemfd{Hex(le.Uint64(b)), Hex(le.Uint64(b[8:]))}, false, h.Thread)
			}
		}
	case RequestSetMemoryRegion, RequestSetMemoryRegion2:
		size := memoryRegion2Size
		if request == RequestSetMemoryRegion {
			size = memoryRegionSize
		}
		if b := load(size); b != nil {
			s := &SetSlot{Slot: le.Uint32(b), Flags: Hex(le.Uint32(b[4:])), GPA: Hex(le.Uint64(b[8:])), Size: Hex(le.Uint64(b[16:])), Old: request == RequestSetMemoryRegion}
			if s.Flags&memSlotGuestMemfd != 0 && !s.Old {
				s.Offset, s.Memfd = Hex(le.Uint64(b[32:])), r.memfdAt(h, p, v, int(int32(le.Uint32(b[40:]))))
			}
			take(s, false)
		}
	case RequestSetAttributes:
		if b := load(attributesSize); b != nil {
			take(&SetAttributes{Hex(le.Uint64(b)), Hex(le.Uint64(b[8:])), Hex(le.Uint64(b[16:]))}, false)
		}
	case RequestMemoryEncryptOp:
		if arg != 0 { // without an argument it asks whether there is memory encryption
			r.command(h, v, load(sevCmdSize), take)
		}
	default: // it says that the VM is at work
		r.pending = func() { v.heardOf(h.Thread) }
	}
}

// memfdAt finds out which of a VM's guest_memfds a descriptor is; 0 for none.
func (r *Recorder) memfdAt(h *Heard, p *process, v *vm, fd int) int {
	if m, known := p.files[fd].(memfd); known && m.vm == v {
		return m.index
	}
	if kindOf(h.Link(fd)) != kindMemfd || len(v.unseen) == 0 {
		return 0
	}
	m := memfd{v, v.unseen[0]}
	v.unseen = v.unseen[1:]
	p.files[fd] = m
	return m.index
}

// command takes a command of KVM_MEMORY_ENCRYPT_OP: struct kvm_sev_cmd.
func (r *Recorder) command(h *Heard, v *vm, cmd []byte, take func(Payload, bool)) {
	if cmd == nil {
		return
	}
	data := func(size int) []byte {
		b := make([]byte, size)
		if h.Read(le.Uint64(cmd[8:]), b) != nil {
			return nil
		}
		return b
	}
	unreadable := func() {
		r.opts.Logf("the arguments of a launch command of process %d could not be read", h.Process)
		take(&Other{"kvm", le.Uint32(cmd)}, true)
	}
	switch id := le.Uint32(cmd); id {
	case CommandInit2:
		b := data(sevInitSize)
		if b == nil {
			unreadable()
			return
		}
		take(&Init{Hex(le.Uint64(b)), Hex(le.Uint32(b[8:])), le.Uint16(b[12:])}, true)
	case CommandStart:
		b := data(snpStartSize)
		if b == nil {
			unreadable()
			return
		}
		take(&Start{snp.GuestPolicy(le.Uint64(b)), [16]byte(b[8:]), le.Uint16(b[24:])}, true)
	case CommandUpdate:
		b := data(snpUpdateSize)
		if b == nil {
			unreadable()
			return
		}
		r.update(h, v, b)
	case CommandFinish:
		b := data(snpFinishSize)
		if b == nil {
			unreadable()
			return
		}
		f := &Finish{IDBlockEnabled: b[16] != 0, AuthorKey: b[17] != 0, VCEKDisabled: b[18] != 0, HostData: snp.HostData(b[19:51]), Flags: le.Uint16(b[54:])}
		if f.IDBlockEnabled {
			f.IDBlock, f.IDAuth = r.blob(h, le.Uint64(b), snp.IDBlockSize), r.blob(h, le.Uint64(b[8:]), snp.IDAuthSize)
		}
		take(f, true)
	default:
		v.keep = true
		take(&Other{"kvm", id}, true)
	}
}

// blob reads an ID block or an ID auth; nil for one that is not there. As KVM reads more of
// an ID auth than QEMU may have, the rest, where it cannot be read, is zero.
func (r *Recorder) blob(h *Heard, addr uint64, size int) []byte {
	b := make([]byte, size)
	if addr == 0 {
		return nil
	}
	if h.Read(addr, b) == nil {
		return b
	}
	clear(b)
	if first := snp.PageSize - int(addr%snp.PageSize); first < size && h.Read(addr, b[:first]) == nil {
		return b
	}
	return nil
}

// update takes KVM_SEV_SNP_LAUNCH_UPDATE: gfn_start, uaddr, len u64, type u8, flags u16.
//
// KVM may do a part and let the caller ask again for the rest, and it may ask to be
// asked again. Such a call is no update of its own: the last one goes on.
func (r *Recorder) update(h *Heard, v *vm, b []byte) {
	u := &Update{Type: snp.PageType(b[24]), GPA: le.Uint64(b) * snp.PageSize, Length: le.Uint64(b[16:]), Flags: le.Uint16(b[26:])}
	uaddr := le.Uint64(b[8:])
	goesOn := v.pending >= 0 && v.thread == h.Thread && continues(v.launch.Calls[v.pending].With, u)
	pages := map[snp.ContentDigest][]byte{}
	if !goesOn && u.Type != snp.PageZero && u.Length <= maxUpdateBytes {
		page := make([]byte, snp.PageSize)
		for at := uint64(0); at+snp.PageSize <= u.Length; at += snp.PageSize {
			if h.Read(uaddr+at, page) != nil {
				break
			}
			d := snp.ContentDigest(sha512.Sum384(page))
			u.Contents = append(u.Contents, d)
			if (r.opts.Pages || u.Length == snp.PageSize) && r.file.Pages[d] == nil && pages[d] == nil && !isZero(page) {
				pages[d] = bytes.Clone(page)
			}
		}
	}
	r.pending = func() {
		if goesOn {
			return
		}
		v.heardOf(h.Thread)
		if !v.launched() {
			maps.Copy(r.file.Pages, pages)
			v.add(u, true, h.Thread)
		}
	}
}

// continues says whether an update is what is left of the one before, all of it included.
func continues(before Payload, u *Update) bool {
	b, isUpdate := before.(*Update)
	return isUpdate && u.Type == b.Type && u.Flags == b.Flags && u.GPA >= b.GPA && u.Length > 0 &&
		u.GPA-b.GPA < b.Length && u.Length == b.Length-(u.GPA-b.GPA)
}

// issue takes SEV_ISSUE_CMD, struct sev_issue_cmd: cmd u32.
func (r *Recorder) issue(h *Heard, p *process, request uint32, arg uint64) {
	if request != RequestSEVIssueCommand || len(p.vms) == 0 {
		return
	}
	v := p.vms[len(p.vms)-1]
	b := make([]byte, sevIssueSize)
	if v.launch.VMType != VMTypeSNP || h.Read(arg, b) != nil {
		return
	}
	r.pending = func() {
		v.heardOf(h.Thread)
		if !v.launched() {
			v.add(&Other{"sev", le.Uint32(b)}, true, h.Thread)
		}
	}
}

// vcpuCall takes a call that sets registers. One that sets what is set is left out.
func (r *Recorder) vcpuCall(h *Heard, p *process, c *vcpu, request uint32, arg uint64) {
	v := c.vm
	r.pending = func() { v.heardOf(h.Thread) }
	set, known := registerSets[request]
	if !known || v.launched() {
		return
	}
	size := set.size
	if size == 0 { // struct kvm_msrs: nmsrs u32, pad u32, {index u32, reserved u32, data u64}[]
		head := make([]byte, 8)
		if h.Read(arg, head) != nil || le.Uint32(head) > maxMSRs {
			return
		}
		size = 8 + msrEntrySize*int(le.Uint32(head))
	}
	b := make([]byte, size)
	if h.Read(arg, b) != nil {
		return
	}
	r.pending = func() {
		v.heardOf(h.Thread)
		if v.launched() {
			return
		}
		last := v.lastSets[c.index]
		if last == nil {
			last = map[string][]byte{}
			v.lastSets[c.index] = last
		}
		if bytes.Equal(last[set.name], b) {
			return
		}
		last[set.name] = b
		cpu := &v.launch.VCPUs[c.index]
		cpu.Sets = append(cpu.Sets, RegisterSet{set.name, b})
	}
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
