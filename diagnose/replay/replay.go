// Package replay makes a recorded launch once more, without the program that made it:
// on the kernel and the Secure Processor of the software SNP host.
package replay

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/snp"
)

var le = binary.LittleEndian

// Result is what came of a launch when it was made once more.
type Result struct {
	// Command is the launch command that it ended with, and Errno and FWError are how:
	// 0 and 0 for success.
	Command        string `json:"command"`
	Errno, FWError int
	// LaunchDigest is that of all pages so far; nil without SNP_LAUNCH_START.
	LaunchDigest *snp.LaunchDigest
	// Launch is all that the software host saw; nil where no launch command ended it.
	Launch *kvm.Record
	// Unchecked are sentences about what the record lacks, so that it was not looked at.
	Unchecked []string
	// Different are sentences about where the record says something else. What it does not say differs from nothing.
	Different []string
}

// ErrNoLaunch is for a launch in which no launch command was heard.
var ErrNoLaunch = errors.New("no launch command was heard")

// ErrNoRegisters is for a record that has neither registers nor memory slots.
var ErrNoRegisters = errors.New("the record was read from QEMU's trace or a report of launches, which do not have the calls that a launch is made with")

// Launch makes one launch of a record on a host. host makes that host with the options
// that it is given: Observe is Launch's own.
func Launch(f *record.File, l *record.Launch, host func(observe func(kvm.Event)) *kvm.Host) (*Result, error) {
	if !l.SNP() {
		return nil, fmt.Errorf("the VM has type %d and is no SNP guest (%d): it cannot be launched on the software SNP host", l.VMType, record.VMTypeSNP)
	}
	if l.Last() < 0 {
		return nil, ErrNoLaunch
	}
	if f.Source == record.SourceTrace || f.Source == record.SourceReport {
		return nil, ErrNoRegisters
	}
	r := &player{file: f, launch: l, result: &Result{}, caller: newCaller(f.Pages)}
	h := host(func(ev kvm.Event) {
		if said, ends := ev.Record(); ends {
			r.result.Launch = &said
		}
	})
	defer r.close()
	if err := r.open(h); err != nil {
		return nil, err
	}
	if err := r.play(); err != nil {
		return nil, err
	}
	r.compare()
	return r.result, nil
}

// player makes the calls of a launch.
type player struct {
	file   *record.File
	launch *record.Launch
	result *Result
	caller *caller
	system kvm.Object
	sev    kvm.Object
	vm     *kvm.VM
	vcpus  map[uint32]kvm.Object
	opened []kvm.Object
}

func (r *player) close() {
	for i := len(r.opened) - 1; i >= 0; i-- {
		r.opened[i].Close()
	}
}

func (r *player) open(h *kvm.Host) error {
	r.vcpus = map[uint32]kvm.Object{}
	for path, to := range map[string]*kvm.Object{"/dev/kvm": &r.system, "/dev/sev": &r.sev} {
		o, err := h.Open(path)
		if err != nil {
			return fmt.Errorf("%s of the software SNP host: %w", path, err)
		}
		*to = o
		r.opened = append(r.opened, o)
	}
	r.caller.files[sevFD] = r.sev
	a := r.system.Ioctl(r.caller, record.RequestCreateVM, r.launch.VMType)
	vm, made := a.New.(*kvm.VM)
	if a.Errno != 0 || !made {
		return fmt.Errorf("KVM_CREATE_VM on the software SNP host: %w", a.Errno)
	}
	r.vm = vm
	r.opened = append(r.opened, vm)
	return nil
}

// play makes the calls in their order, to the first launch command that fails.
func (r *player) play() error {
	last := r.launch.Last()
	for i, c := range r.launch.Calls {
		if _, finish := c.With.(*record.Finish); finish {
			r.setRegisters()
		}
		errno, fw, err := r.call(c.With)
		if err != nil {
			return err
		}
		if c.Result == nil {
			if errno != 0 {
				r.differs("%s %s: errno %d (%s) here; the record goes on after it", c.With.Name(), about(c.With), int(errno), errno)
			}
			continue
		}
		r.result.Command, r.result.Errno, r.result.FWError = commandName(c.With), int(errno), fw
		r.judge(i, c, int(errno), fw)
		if errno != 0 || i == last {
			break
		}
	}
	if g := r.vm.Guest(); g != nil {
		d := g.LaunchDigest()
		r.result.LaunchDigest = &d
	}
	return nil
}

func (r *player) differs(format string, args ...any) {
	r.result.Different = append(r.result.Different, fmt.Sprintf(format, args...))
}

// judge holds how a launch command ended against the record.
func (r *player) judge(i int, c record.Call, errno, fw int) {
	said := c.Result
	if said.From == record.FromNothing || said.Errno == errno && said.FWError == fw {
		return
	}
	here := &record.Result{Errno: errno, FWError: fw, From: record.FromHost}
	r.differs("%s %s (call %d): here it %s; the record says that it %s", c.With.Name(), about(c.With), i+1, here.Describe(), said.Describe())
}

// compare holds the digest against what the record says of it.
func (r *player) compare() {
	d := r.result.LaunchDigest
	if d == nil {
		return
	}
	if h := r.launch.Host; h != nil && h.LaunchDigest != nil && *h.LaunchDigest != *d {
		r.differs("the launch digest is %s here; the host that was recorded says %s", d, h.LaunchDigest)
	}
	finish, _ := r.launch.Calls[r.launch.Last()].With.(*record.Finish)
	if finish == nil || finish.IDBlock == nil || !r.launch.Launched() {
		return
	}
	// A firmware that accepted an ID block had computed its digest.
	if block, err := snp.ParseIDBlock(finish.IDBlock); err == nil && block.LD != *d {
		r.differs("the launch digest is %s here; the firmware that was recorded accepted an ID block over %s", d, block.LD)
	}
}

// setRegisters sets the registers of all vCPUs, as they were before the launch was finished.
func (r *player) setRegisters() {
	for _, cpu := range r.launch.VCPUs {
		o := r.vcpus[cpu.ID]
		if o == nil {
			continue // its KVM_CREATE_VCPU failed, which is told
		}
		for _, s := range cpu.Sets {
			request, _, _ := record.RegisterRequest(s.Call)
			if a := o.Ioctl(r.caller, request, r.caller.put(argument, s.Data)); a.Errno != 0 {
				r.differs("%s of vCPU %d: errno %d (%s) here; the record goes on after it", s.Call, cpu.ID, int(a.Errno), a.Errno)
			}
		}
	}
}

// call makes a call on the VM and gives how it ended.
func (r *player) call(with record.Payload) (errno unix.Errno, fw int, err error) {
	vm := func(request uint32, b []byte) kvm.Answer {
		return r.vm.Ioctl(r.caller, request, r.caller.put(argument, b))
	}
	switch c := with.(type) {
	case *record.CreateVCPU:
		a := r.vm.Ioctl(r.caller, record.RequestCreateVCPU, uint64(c.ID))
		if a.Errno == 0 {
			r.vcpus[c.ID] = a.New
			r.opened = append(r.opened, a.New)
		}
		return a.Errno, 0, nil
	case *record.CreateMemfd:
		b := make([]byte, 64)
		le.PutUint64(b, uint64(c.Size))
		le.PutUint64(b[8:], uint64(c.Flags))
		a := vm(record.RequestCreateGuestMemfd, b)
		r.caller.memfds++
		if a.Errno == 0 {
			r.caller.files[memfdFD+r.caller.memfds] = a.New
			r.opened = append(r.opened, a.New)
		}
		return a.Errno, 0, nil
	case *record.SetSlot:
		b := make([]byte, 160)
		le.PutUint32(b, c.Slot)
		le.PutUint32(b[4:], uint32(c.Flags))
		le.PutUint64(b[8:], uint64(c.GPA))
		le.PutUint64(b[16:], uint64(c.Size))
		le.PutUint64(b[24:], uint64(c.GPA)) // where user space has it is of no matter, but that it is aligned
		le.PutUint64(b[32:], uint64(c.Offset))
		le.PutUint32(b[40:], uint32(memfdFD+c.Memfd))
		if c.Old {
			return vm(record.RequestSetMemoryRegion, b[:32]).Errno, 0, nil
		}
		return vm(record.RequestSetMemoryRegion2, b).Errno, 0, nil
	case *record.SetAttributes:
		b := make([]byte, 32)
		le.PutUint64(b, uint64(c.GPA))
		le.PutUint64(b[8:], uint64(c.Size))
		le.PutUint64(b[16:], uint64(c.Attributes))
		return vm(record.RequestSetAttributes, b).Errno, 0, nil
	case *record.Init:
		b := make([]byte, 48)
		le.PutUint64(b, uint64(c.VMSAFeatures))
		le.PutUint32(b[8:], uint32(c.Flags))
		le.PutUint16(b[12:], c.GHCBVersion)
		errno, fw = r.command(record.CommandInit2, b)
		return errno, fw, nil
	case *record.Start:
		b := make([]byte, 64)
		le.PutUint64(b, uint64(c.Policy))
		copy(b[8:], c.GOSVW[:])
		le.PutUint16(b[24:], c.Flags)
		errno, fw = r.command(record.CommandStart, b)
		return errno, fw, nil
	case *record.Update:
		return r.update(c)
	case *record.Finish:
		errno, fw = r.finish(c)
		return errno, fw, nil
	case *record.Other:
		if c.Device == "sev" {
			b := make([]byte, 16)
			le.PutUint32(b, c.Command)
			le.PutUint64(b[4:], parameters)
			r.caller.put(parameters, make([]byte, 64))
			a := r.sev.Ioctl(r.caller, record.RequestSEVIssueCommand, r.caller.put(argument, b))
			return a.Errno, int(int32(le.Uint32(r.caller.at(argument)[12:]))), nil
		}
		errno, fw = r.command(c.Command, nil)
		return errno, fw, nil
	}
	return 0, 0, fmt.Errorf("%s is no call that can be made once more", with.Name())
}

// command makes a KVM_MEMORY_ENCRYPT_OP: struct kvm_sev_cmd, with its parameters.
func (r *player) command(id uint32, data []byte) (unix.Errno, int) {
	cmd := make([]byte, 24)
	le.PutUint32(cmd, id)
	le.PutUint64(cmd[8:], r.caller.put(parameters, data))
	le.PutUint32(cmd[20:], sevFD)
	a := r.vm.Ioctl(r.caller, record.RequestMemoryEncryptOp, r.caller.put(argument, cmd))
	return a.Errno, int(int32(le.Uint32(r.caller.at(argument)[16:])))
}

// update asks again for as long as KVM has done a part.
func (r *player) update(u *record.Update) (unix.Errno, int, error) {
	if u.Type == snp.PageNormal && u.Contents == nil && u.Length > 0 {
		return 0, 0, fmt.Errorf("the record does not have what the %d bytes at 0x%x held, not even their digests", u.Length, u.GPA)
	}
	base := r.caller.pages(u, r.unchecked)
	b := make([]byte, 64)
	le.PutUint64(b, u.GPA/snp.PageSize)
	le.PutUint64(b[8:], base)
	le.PutUint64(b[16:], u.Length)
	b[24] = byte(u.Type)
	le.PutUint16(b[26:], u.Flags)
	for {
		left := le.Uint64(b[16:])
		errno, fw := r.command(record.CommandUpdate, b)
		if errno != 0 {
			return errno, fw, nil
		}
		copy(b, r.caller.at(parameters))
		if now := le.Uint64(b[16:]); now == 0 || now >= left {
			return 0, 0, nil
		}
	}
}

func (r *player) unchecked(sentence string) {
	r.result.Unchecked = append(r.result.Unchecked, sentence)
}

func (r *player) finish(f *record.Finish) (unix.Errno, int) {
	b := make([]byte, 88)
	if f.IDBlock != nil {
		le.PutUint64(b, r.caller.put(idBlock, f.IDBlock))
	}
	if f.IDAuth != nil {
		le.PutUint64(b[8:], r.caller.put(idAuth, f.IDAuth))
	}
	for at, set := range map[int]bool{16: f.IDBlockEnabled, 17: f.AuthorKey, 18: f.VCEKDisabled} {
		if set {
			b[at] = 1
		}
	}
	copy(b[19:], f.HostData[:])
	le.PutUint16(b[54:], f.Flags)
	return r.command(record.CommandFinish, b)
}

// commandName names a launch command.
func commandName(with record.Payload) string {
	if o, other := with.(*record.Other); other {
		return o.Describe()
	}
	return with.Name()
}

// about says which of several calls of one name this is.
func about(with record.Payload) string {
	switch c := with.(type) {
	case *record.Update:
		return fmt.Sprintf("%s 0x%x", c.Type, c.GPA)
	case *record.SetSlot:
		return fmt.Sprintf("slot %d 0x%x", c.Slot, uint64(c.GPA))
	case *record.SetAttributes:
		return fmt.Sprintf("0x%x", uint64(c.GPA))
	case *record.CreateVCPU:
		return fmt.Sprintf("%d", c.ID)
	case *record.Other:
		return c.Describe()
	}
	return ""
}

var zeroPage = snp.ContentDigest(sha512.Sum384(make([]byte, snp.PageSize)))
