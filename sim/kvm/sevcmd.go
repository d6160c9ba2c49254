package kvm

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// sevCommand is a struct kvm_sev_cmd: id u32, pad u32, data u64, error u32
// (out), sev_fd u32.
type sevCommand struct {
	Caller
	id     uint32
	data   uint64
	status snp.Status // error; stays what the caller put there unless the firmware is asked
	sevFD  int
}

// issue gives a command to the Secure Processor through the caller's
// descriptor of /dev/sev (__sev_issue_cmd).
func (vm *VM) issue(cmd *sevCommand, fd int, command string, do func() snp.Status) reply {
	if _, isSEV := cmd.Object(fd).(*SEV); !isSEV {
		return reply{errno: unix.EBADF}
	}
	r := vm.host.firmware(command, do)
	if r.told {
		cmd.status = r.status
	}
	return r
}

// encryptOp answers KVM_MEMORY_ENCRYPT_OP (Linux arch/x86/kvm/svm/sev.c,
// sev_mem_enc_ioctl). struct kvm_sev_cmd is copied back whatever the outcome,
// but for EFAULT, EPERM and an unknown id.
func (vm *VM) encryptOp(c Caller, arg uint64) Answer {
	if vm.host.inject.lacks(LackSEV) {
		return fail(unix.ENOTTY)
	}
	if arg == 0 { // how user space asks whether memory encryption exists
		return ok()
	}
	b, e := load(c, arg, kvmSevCmdSize)
	if e != 0 {
		return fail(e)
	}
	cmd := &sevCommand{Caller: c, id: readU32(b), data: readU64(b[8:]), status: snp.Status(readU32(b[16:])), sevFD: int(int32(readU32(b[20:])))}
	if vm.initialised && cmd.id < firstSNPCommand {
		return fail(unix.EPERM)
	}
	var do func(*sevCommand) Answer
	switch cmd.id {
	case sevInit2:
		do = vm.init2
	case snpLaunchStart:
		do = vm.launchStart
	case snpLaunchUpdate:
		do = vm.launchUpdate
	case snpLaunchFinish:
		do = vm.launchFinish
	case snpEnableReqCerts:
		if vm.host.opts.Profile.reqCerts {
			do = vm.enableReqCerts
		}
	}
	if do == nil {
		vm.host.opts.Logf("KVM_MEMORY_ENCRYPT_OP %d is not known: EINVAL", cmd.id)
		return fail(unix.EINVAL)
	}
	a := do(cmd)
	putU32(b[16:], uint32(cmd.status))
	if err := c.Write(arg, b); err != nil {
		if a.Undo != nil {
			a.Undo()
		}
		return fail(unix.EFAULT)
	}
	return a
}

// event is what an observer hears of a command.
func (vm *VM) event(kind EventKind, cmd *sevCommand, errno unix.Errno, asked snp.Status) {
	vm.host.observe(Event{Kind: kind, PID: cmd.PID(), VM: vm, Errno: int(errno), Status: asked, Guest: vm.guest})
}

// undone tells an observer that the last event never was.
func (vm *VM) undone(cmd *sevCommand) { vm.event(EventUndone, cmd, 0, 0) }

// init2 answers KVM_SEV_INIT2: vmsa_features u64, flags u32, ghcb_version u16.
// EBUSY where every ASID is in use.
// The platform is initialised already, so that the firmware has nothing to do.
func (vm *VM) init2(cmd *sevCommand) Answer {
	b, e := load(cmd, cmd.data, kvmSevInitSize)
	if e != 0 {
		return fail(e)
	}
	refuse := func(e unix.Errno, st snp.Status) Answer {
		vm.event(EventInit, cmd, e, st)
		return Answer{Errno: e, Undo: func() { vm.undone(cmd) }}
	}
	features, flags, ghcb := readU64(b), readU32(b[8:]), readU16(b[12:])
	if vm.typ != vmSNP || len(vm.vcpus) > 0 || flags != 0 || features&^vm.host.opts.Profile.vmsaFeatures() != 0 || ghcb > 2 {
		return refuse(unix.EINVAL, 0)
	}
	asid := vm.host.asids.take()
	if asid == 0 {
		return refuse(unix.EBUSY, 0)
	}
	if !vm.host.inject.dead {
		if r := vm.host.firmware(cmdInit2, func() snp.Status { return snp.StatusSuccess }); r.failed() {
			vm.host.asids.give(asid)
			cmd.status = r.status
			return refuse(r.errno, r.status)
		}
	}
	vm.initialised, vm.asid = true, asid
	vm.vmsaFeatures = features | featureSNPActive
	if vm.host.opts.Profile.debugSwap {
		vm.vmsaFeatures |= featureDebugSwap
	}
	return Answer{Undo: func() {
		vm.host.asids.give(asid)
		vm.initialised, vm.asid = false, 0
	}}
}

// launchStart answers KVM_SEV_SNP_LAUNCH_START: policy u64, gosvw[16], flags
// u16. The kernel gives the firmware three commands for it: SNP_GCTX_CREATE,
// whose failure is always ENOTTY, SNP_LAUNCH_START and SNP_ACTIVATE.
func (vm *VM) launchStart(cmd *sevCommand) Answer {
	if !vm.initialised {
		return fail(unix.ENOTTY)
	}
	b, e := load(cmd, cmd.data, snpStartSize)
	if e != 0 {
		return fail(e)
	}
	start := &startRequest{policy: snp.GuestPolicy(readU64(b)), gosvw: [16]byte(b[8:])}
	policy := start.policy
	if vm.guest == nil {
		vm.started = start
	}
	report := func(errno unix.Errno, st snp.Status) Answer {
		vm.event(EventStart, cmd, errno, st)
		return Answer{Errno: errno, Undo: func() { vm.undone(cmd) }}
	}
	if vm.guest != nil || readU16(b[24:]) != 0 || vm.host.opts.Profile.policyRefused(policy, vm.host.platform.Config()) {
		return report(unix.EINVAL, 0)
	}
	var g *psp.Guest
	r := vm.issue(cmd, cmd.sevFD, cmdGCTXCreate, func() snp.Status {
		g = vm.host.platform.CreateContext()
		return snp.StatusSuccess
	})
	switch {
	case r.forced:
		return report(r.errno, 0)
	case r.failed():
		return report(unix.ENOTTY, r.status)
	}
	if r := vm.issue(cmd, cmd.sevFD, cmdLaunchStart, func() snp.Status { return g.LaunchStart(policy, start.gosvw) }); r.failed() {
		g.Decommission()
		return report(r.errno, r.status)
	}
	// KVM has the firmware flush before it gives an ASID again (sev_flush_asids).
	vm.host.platform.DFFlush()
	if r := vm.issue(cmd, cmd.sevFD, cmdActivate, func() snp.Status { return g.Activate(vm.asid) }); r.failed() {
		g.Decommission()
		return report(r.errno, r.status)
	}
	vm.guest, vm.sevFD = g, cmd.sevFD
	a := report(0, 0)
	a.Undo = func() {
		vm.guest = nil
		g.Decommission()
		vm.undone(cmd)
	}
	return a
}

// enableReqCerts answers KVM_SEV_SNP_ENABLE_REQ_CERTS: certificates for a
// guest's extended report requests come from user space. It has no parameters,
// and as no guest runs here nothing follows from it.
func (vm *VM) enableReqCerts(*sevCommand) Answer {
	if !vm.initialised || len(vm.vcpus) > 0 {
		return fail(unix.EINVAL)
	}
	return ok()
}

// launchUpdate answers KVM_SEV_SNP_LAUNCH_UPDATE: gfn_start, uaddr, len u64,
// type u8, flags u16. What was done is taken off the request and written back.
//
// A failure of any kind on the first page is EIO (snp_launch_update). Where not
// even the page can be taken back from the firmware, KVM gives the VM up.
func (vm *VM) launchUpdate(cmd *sevCommand) Answer {
	if !vm.initialised || vm.guest == nil {
		return fail(unix.EINVAL)
	}
	b, e := load(cmd, cmd.data, snpUpdateSize)
	if e != 0 {
		return fail(e)
	}
	request := bytes.Clone(b)
	gfn, uaddr, length := readU64(b), readU64(b[8:]), readU64(b[16:])
	typ := snp.PageType(b[24])
	if length == 0 || length%snp.PageSize != 0 || readU16(b[26:]) != 0 {
		return fail(unix.EINVAL)
	}
	switch typ {
	case snp.PageNormal, snp.PageZero, snp.PageUnmeasured, snp.PageSecrets, snp.PageCPUID:
	default:
		return fail(unix.EINVAL)
	}
	if gfn > 1<<52/snp.PageSize {
		return fail(unix.EINVAL)
	}
	s, found := vm.slotAt(gfn * snp.PageSize)
	if !found || s.gmem == nil {
		return fail(unix.EINVAL)
	}
	// KVM does as much as the slot holds, or until a signal is pending; the
	// caller asks again for the rest.
	gpa := gfn * snp.PageSize
	n := min(length, s.gpa+s.size-gpa, maxUpdate)

	unasked, restore := cmd.status, vm.guest.Checkpoint()
	var taken []uint64
	kept := len(vm.pages)
	var corrected []byte // what a CPUID page held that the firmware has put right
	var correctedAt uint64
	undo := func() {
		restore()
		vm.dead, vm.pages = false, vm.pages[:kept:kept]
		for _, p := range taken {
			delete(s.gmem.populated, p)
		}
		if corrected != nil {
			_ = cmd.Write(correctedAt, corrected)
		}
	}
	page := make([]byte, snp.PageSize)
	var done uint64
	var errno unix.Errno
	var r reply
	for ; done < n; done += snp.PageSize {
		index := (s.gmemOffset + gpa + done - s.gpa) / snp.PageSize
		if _, have := s.gmem.populated[index]; have || !vm.attributes.contains(gpa+done) {
			errno = unix.EIO
			break
		}
		clear(page)
		digest, only := snp.ContentDigest{}, false
		if d, has := cmd.Caller.(Digests); has && typ == snp.PageNormal {
			digest, only = d.Contents(uaddr + done)
		}
		if typ != snp.PageZero && !only {
			if err := cmd.Read(uaddr+done, page); err != nil {
				errno = unix.EIO
				break
			}
		}
		var before []byte
		if typ == snp.PageCPUID {
			before = bytes.Clone(page)
		}
		var given []byte
		if vm.host.opts.KeepPages && typ != snp.PageZero {
			given = bytes.Clone(page)
		}
		update := func() snp.Status {
			if only {
				return vm.guest.LaunchUpdateContents(gpa+done, digest)
			}
			return vm.guest.LaunchUpdate(typ, gpa+done, page)
		}
		if done == 0 {
			r = vm.issue(cmd, cmd.sevFD, cmdLaunchUpdate, update)
		} else if st := update(); st != snp.StatusSuccess {
			r = reply{errno: unix.EIO, status: st}
		}
		if r.failed() {
			errno = unix.EIO
			if r.forced {
				errno = r.errno
			}
			vm.dead = r.hung()
			if typ == snp.PageCPUID && r.status == snp.StatusInvalidParam {
				// The firmware has put in what it would accept; QEMU prints the difference.
				_ = cmd.Write(uaddr+done, page)
				corrected, correctedAt = before, uaddr+done
			}
			break
		}
		vm.keepPage(given)
		s.gmem.populated[index] = struct{}{}
		taken = append(taken, index)
	}
	cmd.status = unasked // a page that was taken leaves it alone
	if done == 0 {
		if !r.forced {
			cmd.status = r.status
		}
		vm.host.observe(Event{Kind: EventUpdate, PID: cmd.PID(), VM: vm, Errno: int(errno), Status: r.status, Guest: vm.guest,
			Page: &snp.Update{Type: typ, GPA: gpa, Length: snp.PageSize}})
		return Answer{Errno: errno, Undo: func() {
			undo()
			vm.undone(cmd)
		}}
	}
	putU64(b, gfn+done/snp.PageSize)
	putU64(b[16:], length-done)
	if typ != snp.PageZero {
		putU64(b[8:], uaddr+done)
	}
	if err := cmd.Write(cmd.data, b); err != nil {
		undo()
		return fail(unix.EFAULT)
	}
	// What stopped it half-way is told when the caller asks again.
	return Answer{Undo: func() {
		undo()
		_ = cmd.Write(cmd.data, request)
	}}
}

// maxUpdate is how much one SNP_LAUNCH_UPDATE takes, 128 MiB, so that one call
// cannot keep the others waiting for ever. Firmware images have 4 to 16 MiB.
const maxUpdate = 1 << 27

// launchFinish answers KVM_SEV_SNP_LAUNCH_FINISH: id_block_uaddr, id_auth_uaddr
// u64, id_block_en, auth_key_en, vcek_disabled u8, host_data[32], pad[3], flags u16.
func (vm *VM) launchFinish(cmd *sevCommand) Answer {
	if !vm.initialised {
		return fail(unix.ENOTTY)
	}
	if vm.guest == nil {
		return fail(unix.EINVAL)
	}
	b, e := load(cmd, cmd.data, snpFinishSize)
	if e != 0 {
		return fail(e)
	}
	restore, launched := vm.guest.Checkpoint(), vm.launched
	kept := len(vm.pages)
	var sealed []*VCPU // by this call: an earlier one that failed has its own
	undo := func() {
		restore()
		vm.launched, vm.dead, vm.pages = launched, false, vm.pages[:kept:kept]
		for _, v := range sealed {
			v.protected, v.vmsa = false, nil
		}
	}
	report := func(errno unix.Errno, st snp.Status) Answer {
		vm.event(EventFinish, cmd, errno, st)
		a := fail(errno)
		a.Undo = func() {
			undo()
			vm.undone(cmd)
		}
		return a
	}
	if readU16(b[54:]) != 0 {
		return report(unix.EINVAL, 0)
	}
	for _, v := range vm.vcpus {
		if v.protected || v.debugged || v.dr7()&^dr7Fixed != 0 {
			return report(unix.EINVAL, 0)
		}
		page := v.vmsaPage(vm.vmsaFeatures)
		r := vm.issue(cmd, cmd.sevFD, cmdLaunchUpdateVMSA, func() snp.Status {
			return vm.guest.LaunchUpdate(snp.PageVMSA, snp.VMSAGPA, page)
		})
		if r.failed() {
			vm.dead = r.hung()
			return report(r.errno, r.status)
		}
		vm.keepPage(page)
		v.protected, v.vmsa = true, page
		sealed = append(sealed, v)
	}
	p := finishParams(b)
	vm.finished = &p
	if p.IDBlockEnabled {
		idBlock, idAuth := readU64(b), readU64(b[8:])
		if idBlock == 0 || idAuth == 0 {
			return report(unix.EINVAL, 0)
		}
		if p.IDBlock, e = load(cmd, idBlock, snp.IDBlockSize); e != 0 {
			return report(e, 0)
		}
		// KVM reads 4096 bytes, though QEMU allocates what the base64 gave: a
		// shorter ID auth is followed by whatever lies there. Where that is on
		// a page that cannot be read, the rest is zero.
		p.IDAuth = make([]byte, snp.IDAuthSize)
		first := snp.PageSize - idAuth%snp.PageSize
		if cmd.Read(idAuth, p.IDAuth[:first]) != nil {
			return report(unix.EFAULT, 0)
		}
		if cmd.Read(idAuth+first, p.IDAuth[first:]) != nil {
			clear(p.IDAuth[first:])
		}
	} else {
		p.AuthorKeyEnabled = false // KVM passes it on with an ID block only
	}
	if r := vm.issue(cmd, vm.sevFD, cmdLaunchFinish, func() snp.Status { return vm.guest.LaunchFinish(p) }); r.failed() {
		return report(r.errno, r.status)
	}
	vm.launched = true
	return report(0, 0)
}
