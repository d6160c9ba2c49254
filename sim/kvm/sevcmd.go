package kvm

import (
	"bytes"

	"github.com/snplaunch/snplaunch/snp"
	"golang.org/x/sys/unix"
)

// policyMask are the policy bits that Linux 6.12 passes to the firmware
// (SNP_POLICY_MASK_VALID): versions, SMT, bit 17, DEBUG, SINGLE_SOCKET.
const policyMask = snp.GuestPolicy(0xFFFF) | snp.PolicySMT | snp.PolicyReservedOne | snp.PolicyDebug | snp.PolicySingleSocket

// encryptOp answers KVM_MEMORY_ENCRYPT_OP (Linux arch/x86/kvm/svm/sev.c,
// sev_mem_enc_ioctl): struct kvm_sev_cmd is id u32, pad u32, data u64, error
// u32 (out), sev_fd u32. It is copied back whatever the outcome, but for
// EFAULT, EPERM and an unknown id.
func (vm *VM) encryptOp(c Caller, arg uint64) Answer {
	if arg == 0 { // how user space asks whether memory encryption exists
		return ok()
	}
	cmd, e := load(c, arg, kvmSevCmdSize)
	if e != 0 {
		return fail(e)
	}
	id, data := readU32(cmd), readU64(cmd[8:])
	if vm.initialised && id < firstSNPCommand {
		return fail(unix.EPERM)
	}
	var do func(Caller, uint64) (Answer, snp.Status)
	switch id {
	case sevInit2:
		do = vm.init2
	case snpLaunchStart:
		do = vm.launchStart
	case snpLaunchUpdate:
		do = vm.launchUpdate
	case snpLaunchFinish:
		do = vm.launchFinish
	default:
		vm.host.opts.Logf("KVM_MEMORY_ENCRYPT_OP %d is not known: EINVAL", id)
		return fail(unix.EINVAL)
	}
	a, st := do(c, data)
	putU32(cmd[16:], uint32(st))
	if err := c.Write(arg, cmd); err != nil {
		if a.Undo != nil {
			a.Undo()
		}
		return fail(unix.EFAULT)
	}
	return a
}

// init2 answers KVM_SEV_INIT2: vmsa_features u64, flags u32, ghcb_version u16.
func (vm *VM) init2(c Caller, data uint64) (Answer, snp.Status) {
	b, e := load(c, data, kvmSevInitSize)
	if e != 0 {
		return fail(e), 0
	}
	features, flags, ghcb := readU64(b), readU32(b[8:]), readU16(b[12:])
	if vm.typ != vmSNP || len(vm.vcpus) > 0 || flags != 0 || features&^supportedVMSAFeatures != 0 || ghcb > 2 {
		return fail(unix.EINVAL), 0
	}
	vm.initialised = true
	vm.vmsaFeatures = features | 1 // SNPActive
	return Answer{Undo: func() { vm.initialised = false }}, 0
}

// launchStart answers KVM_SEV_SNP_LAUNCH_START: policy u64, gosvw[16], flags u16.
func (vm *VM) launchStart(c Caller, data uint64) (Answer, snp.Status) {
	if !vm.initialised {
		return fail(unix.ENOTTY), 0
	}
	b, e := load(c, data, snpStartSize)
	if e != 0 {
		return fail(e), 0
	}
	policy := snp.GuestPolicy(readU64(b))
	report := func(errno unix.Errno, st snp.Status) (Answer, snp.Status) {
		vm.host.observe(Event{Kind: EventStart, PID: c.PID(), VM: vm, Errno: int(errno), Status: st, Guest: vm.guest})
		return fail(errno), st
	}
	if vm.guest != nil || readU16(b[24:]) != 0 || policy&^policyMask != 0 || policy&snp.PolicyReservedOne == 0 ||
		policy&snp.PolicySMT == 0 || policy&snp.PolicySingleSocket != 0 {
		return report(unix.EINVAL, 0)
	}
	g := vm.host.platform.CreateContext()
	var gosvw [16]byte
	copy(gosvw[:], b[8:])
	if st := g.LaunchStart(policy, gosvw); st != snp.StatusSuccess {
		g.Decommission()
		return report(unix.EIO, st)
	}
	vm.host.nextASID++
	if st := g.Activate(vm.host.nextASID); st != snp.StatusSuccess {
		g.Decommission()
		return report(unix.EIO, st)
	}
	vm.guest = g
	a, st := report(0, 0)
	a.Undo = func() {
		vm.guest = nil
		g.Decommission()
	}
	return a, st
}

// launchUpdate answers KVM_SEV_SNP_LAUNCH_UPDATE: gfn_start, uaddr, len u64,
// type u8, flags u16. What was done is taken off the request and written back.
func (vm *VM) launchUpdate(c Caller, data uint64) (Answer, snp.Status) {
	if !vm.initialised || vm.guest == nil {
		return fail(unix.EINVAL), 0
	}
	b, e := load(c, data, snpUpdateSize)
	if e != 0 {
		return fail(e), 0
	}
	request := bytes.Clone(b)
	gfn, uaddr, length := readU64(b), readU64(b[8:]), readU64(b[16:])
	typ := snp.PageType(b[24])
	if length == 0 || length%snp.PageSize != 0 || readU16(b[26:]) != 0 {
		return fail(unix.EINVAL), 0
	}
	switch typ {
	case snp.PageNormal, snp.PageZero, snp.PageUnmeasured, snp.PageSecrets, snp.PageCPUID:
	default:
		return fail(unix.EINVAL), 0
	}
	if gfn > 1<<52/snp.PageSize {
		return fail(unix.EINVAL), 0
	}
	s, found := vm.slotAt(gfn * snp.PageSize)
	if !found || s.gmem == nil {
		return fail(unix.EINVAL), 0
	}
	// KVM does as much as the slot holds, or until a signal is pending; the
	// caller asks again for the rest.
	gpa := gfn * snp.PageSize
	n := min(length, s.gpa+s.size-gpa, maxUpdate)

	restore := vm.guest.Checkpoint()
	var taken []uint64
	var corrected []byte // what a CPUID page held that the firmware has put right
	var correctedAt uint64
	undo := func() {
		restore()
		for _, p := range taken {
			delete(s.gmem.populated, p)
		}
		if corrected != nil {
			_ = c.Write(correctedAt, corrected)
		}
	}
	page := make([]byte, snp.PageSize)
	var done uint64
	var errno unix.Errno
	var st snp.Status
	for ; done < n; done += snp.PageSize {
		index := (s.gmemOffset + gpa + done - s.gpa) / snp.PageSize
		if _, have := s.gmem.populated[index]; have || !vm.private.contains(gpa+done) {
			errno = unix.EIO
			break
		}
		clear(page)
		if typ != snp.PageZero {
			if err := c.Read(uaddr+done, page); err != nil {
				errno = unix.EIO
				break
			}
		}
		var before []byte
		if typ == snp.PageCPUID {
			before = bytes.Clone(page)
		}
		if st = vm.guest.LaunchUpdate(typ, gpa+done, page); st != snp.StatusSuccess {
			errno = unix.EIO
			if typ == snp.PageCPUID {
				// The firmware has put in what it would accept; QEMU prints the difference.
				_ = c.Write(uaddr+done, page)
				corrected, correctedAt = before, uaddr+done
			}
			break
		}
		s.gmem.populated[index] = struct{}{}
		taken = append(taken, index)
	}
	if done == 0 {
		vm.host.observe(Event{Kind: EventUpdate, PID: c.PID(), VM: vm, Errno: int(errno), Status: st, Guest: vm.guest,
			Page: &snp.Update{Type: typ, GPA: gpa, Length: snp.PageSize}})
		return Answer{Errno: errno, Undo: undo}, st
	}
	putU64(b, gfn+done/snp.PageSize)
	putU64(b[16:], length-done)
	if typ != snp.PageZero {
		putU64(b[8:], uaddr+done)
	}
	if err := c.Write(data, b); err != nil {
		undo()
		return fail(unix.EFAULT), 0
	}
	// What stopped it half-way is told when the caller asks again.
	return Answer{Undo: func() {
		undo()
		_ = c.Write(data, request)
	}}, 0
}

// maxUpdate is how much one SNP_LAUNCH_UPDATE takes, 128 MiB, so that one call
// cannot keep the others waiting for ever. Firmware images have 4 to 16 MiB.
const maxUpdate = 1 << 27

// launchFinish answers KVM_SEV_SNP_LAUNCH_FINISH: id_block_uaddr, id_auth_uaddr
// u64, id_block_en, auth_key_en, vcek_disabled u8, host_data[32], pad[3], flags u16.
func (vm *VM) launchFinish(c Caller, data uint64) (Answer, snp.Status) {
	if !vm.initialised {
		return fail(unix.ENOTTY), 0
	}
	if vm.guest == nil {
		return fail(unix.EINVAL), 0
	}
	b, e := load(c, data, snpFinishSize)
	if e != 0 {
		return fail(e), 0
	}
	restore, launched := vm.guest.Checkpoint(), vm.launched
	var sealed []*VCPU // by this call: an earlier one that failed has its own
	undo := func() {
		restore()
		vm.launched = launched
		for _, v := range sealed {
			v.protected = false
		}
	}
	report := func(errno unix.Errno, st snp.Status) (Answer, snp.Status) {
		vm.host.observe(Event{Kind: EventFinish, PID: c.PID(), VM: vm, Errno: int(errno), Status: st, Guest: vm.guest})
		a := fail(errno)
		a.Undo = undo
		return a, st
	}
	if readU16(b[54:]) != 0 {
		return report(unix.EINVAL, 0)
	}
	for _, v := range vm.vcpus {
		if v.protected || v.dr7()&^dr7Fixed != 0 {
			return report(unix.EINVAL, 0)
		}
		if st := vm.guest.LaunchUpdate(snp.PageVMSA, snp.VMSAGPA, v.vmsaPage(vm.vmsaFeatures)); st != snp.StatusSuccess {
			return report(unix.EIO, st)
		}
		v.protected = true
		sealed = append(sealed, v)
	}
	p := finishParams(b)
	if p.IDBlockEnabled {
		idBlock, idAuth := readU64(b), readU64(b[8:])
		if idBlock == 0 || idAuth == 0 {
			return report(unix.EINVAL, 0)
		}
		if p.IDBlock, e = load(c, idBlock, snp.IDBlockSize); e != 0 {
			return report(e, 0)
		}
		// KVM reads 4096 bytes, though QEMU allocates what the base64 gave: a
		// shorter ID auth is followed by whatever lies there. Where that is on
		// a page that cannot be read, the rest is zero.
		p.IDAuth = make([]byte, snp.IDAuthSize)
		first := snp.PageSize - idAuth%snp.PageSize
		if c.Read(idAuth, p.IDAuth[:first]) != nil {
			return report(unix.EFAULT, 0)
		}
		if c.Read(idAuth+first, p.IDAuth[first:]) != nil {
			clear(p.IDAuth[first:])
		}
	} else {
		p.AuthorKeyEnabled = false // KVM passes it on with an ID block only
	}
	if st := vm.guest.LaunchFinish(p); st != snp.StatusSuccess {
		return report(unix.EIO, st)
	}
	vm.launched = true
	return report(0, 0)
}
