package kvm

import (
	"os"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// GuestMemfd is a guest_memfd: private memory of one VM. It holds no memory
// here; it remembers which of its pages the firmware has taken.
type GuestMemfd struct {
	host      *Host
	file      *os.File
	vm        *VM
	size      uint64
	populated map[uint64]struct{} // page index
}

// File implements Object.
func (g *GuestMemfd) File() *os.File { return g.file }

// Close implements Object.
func (g *GuestMemfd) Close() { g.file.Close() }

// Ioctl implements Object: a guest_memfd has none.
func (g *GuestMemfd) Ioctl(Caller, uint32, uint64) Answer { return fail(unix.ENOTTY) }

// slot is a memory slot, struct kvm_userspace_memory_region2.
type slot struct {
	gpa, size, uaddr uint64
	flags            uint32
	gmem             *GuestMemfd
	gmemOffset       uint64
}

// setMemory answers KVM_SET_USER_MEMORY_REGION and …_REGION2 (Linux
// virt/kvm/kvm_main.c, kvm_set_memory_region): slot u32, flags u32, gpa, size,
// uaddr, gmem_offset u64, gmem_fd u32.
func (vm *VM) setMemory(c Caller, arg uint64, size int) Answer {
	b, e := load(c, arg, size)
	if e != 0 {
		return fail(e)
	}
	id := readU32(b)
	s := slot{gpa: readU64(b[8:]), size: readU64(b[16:]), uaddr: readU64(b[24:]), flags: readU32(b[4:])}
	gmemFD := -1
	if size >= memoryRegion2Size {
		s.gmemOffset, gmemFD = readU64(b[32:]), int(int32(readU32(b[40:])))
	}
	if s.flags&^vm.slotFlags(s.flags, size) != 0 ||
		s.gpa%snp.PageSize != 0 || s.size%snp.PageSize != 0 || s.uaddr%snp.PageSize != 0 || s.gpa+s.size < s.gpa ||
		id&0xFFFF >= maxMemSlots || int64(id>>16) >= vm.host.extension(capMultiAddrSpace, vm) {
		return fail(unix.EINVAL)
	}
	if s.flags&memSlotGuestMemfd != 0 && (s.gmemOffset%snp.PageSize != 0 || s.gmemOffset+s.size < s.gmemOffset) {
		return fail(unix.EINVAL)
	}
	old, have := vm.slots[id]
	undo := vm.slotUndo(id)
	if s.size == 0 {
		if !have {
			return fail(unix.EINVAL)
		}
		delete(vm.slots, id)
		return Answer{Undo: undo}
	}
	// A slot that is there can be moved and its log turned on and off, but a
	// private one can only be deleted.
	if have && (old.gmem != nil || s.flags&memSlotGuestMemfd != 0 || s.uaddr != old.uaddr || s.size != old.size ||
		(s.flags^old.flags)&memSlotReadonly != 0) {
		return fail(unix.EINVAL)
	}
	for other, o := range vm.slots {
		if other != id && other>>16 == id>>16 && s.gpa < o.gpa+o.size && o.gpa < s.gpa+s.size {
			return fail(unix.EEXIST)
		}
	}
	if s.flags&memSlotGuestMemfd != 0 {
		g, isGmem := c.Object(gmemFD).(*GuestMemfd)
		switch {
		case c.Object(gmemFD) == nil:
			return fail(unix.EBADF)
		case !isGmem, g.vm != vm, s.gmemOffset+s.size > g.size, g.bound(vm, s):
			return fail(unix.EINVAL)
		}
		s.gmem = g
	}
	vm.slots[id] = s
	return Answer{Undo: undo}
}

// slotFlags are the flags that a slot with given flags may have (check_memory_region_flags).
func (vm *VM) slotFlags(flags uint32, size int) uint32 {
	valid := uint32(memSlotLogDirty)
	private := size >= memoryRegion2Size && vm.host.extension(capGuestMemfd, vm) != 0
	if private {
		valid |= memSlotGuestMemfd
	}
	if private && flags&memSlotGuestMemfd != 0 {
		return valid &^ memSlotLogDirty
	}
	if vm.host.extension(capReadonlyMem, vm) != 0 {
		valid |= memSlotReadonly
	}
	return valid
}

// bound says whether a part of the guest_memfd that a slot wants is another
// slot's already (kvm_gmem_bind).
func (g *GuestMemfd) bound(vm *VM, s slot) bool {
	for _, o := range vm.slots {
		if o.gmem == g && s.gmemOffset < o.gmemOffset+o.size && o.gmemOffset < s.gmemOffset+s.size {
			return true
		}
	}
	return false
}

// getDirtyLog answers KVM_GET_DIRTY_LOG: slot u32, pad u32, bitmap pointer.
// Nothing runs, so that no page is ever dirty.
func (vm *VM) getDirtyLog(c Caller, arg uint64) Answer {
	b, e := load(c, arg, 16)
	if e != 0 {
		return fail(e)
	}
	s, have := vm.slots[readU32(b)]
	if !have || s.flags&memSlotLogDirty == 0 {
		return fail(unix.ENOENT)
	}
	return store(c, readU64(b[8:]), make([]byte, (s.size/snp.PageSize+63)/64*8))
}

// slotUndo remembers a slot as it is now.
func (vm *VM) slotUndo(id uint32) func() {
	old, have := vm.slots[id]
	return func() {
		if have {
			vm.slots[id] = old
		} else {
			delete(vm.slots, id)
		}
	}
}

// Sizes of struct kvm_userspace_memory_region and …2, and flags of slots.
const (
	memoryRegionSize  = 32
	memoryRegion2Size = 160
	memSlotLogDirty   = 1 << 0
	memSlotReadonly   = 1 << 1
	memSlotGuestMemfd = 1 << 2
)

// Flags of KVM_CREATE_GUEST_MEMFD.
const (
	gmemMmap       = 1 << 0
	gmemInitShared = 1 << 1
)

// gmemFlags are those that a VM's guest_memfd may have: one whose memory is
// private cannot begin as shared.
func gmemFlags(vm *VM) uint64 {
	if vm != nil && vm.private() {
		return gmemMmap
	}
	return gmemMmap | gmemInitShared
}

// slotAt finds the slot that holds a guest-physical address, in the first
// address space.
func (vm *VM) slotAt(gpa uint64) (slot, bool) {
	for id, s := range vm.slots {
		if id>>16 == 0 && gpa >= s.gpa && gpa-s.gpa < s.size {
			return s, true
		}
	}
	return slot{}, false
}

// createGuestMemfd answers KVM_CREATE_GUEST_MEMFD: size u64, flags u64.
func (vm *VM) createGuestMemfd(c Caller, arg uint64) Answer {
	b, e := load(c, arg, 64)
	if e != 0 {
		return fail(e)
	}
	size, flags := readU64(b), readU64(b[8:])
	if vm.host.inject.lacks(LackGuestMemfd) {
		return fail(unix.ENOTTY)
	}
	if flags&^uint64(vm.host.extension(capGuestMemfdFlags, vm)) != 0 || vm.host.extension(capGuestMemfd, vm) == 0 ||
		size == 0 || size%snp.PageSize != 0 || size > 1<<47 {
		return fail(unix.EINVAL)
	}
	f, err := newFile("snplaunch-guest-memfd", int64(size))
	if err != nil {
		return fail(unix.ENOMEM)
	}
	return Answer{New: &GuestMemfd{host: vm.host, file: f, vm: vm, size: size, populated: map[uint64]struct{}{}}}
}

// setAttributes answers KVM_SET_MEMORY_ATTRIBUTES: address, size, attributes, flags u64.
func (vm *VM) setAttributes(c Caller, arg uint64) Answer {
	b, e := load(c, arg, 32)
	if e != 0 {
		return fail(e)
	}
	addr, size, attrs := readU64(b), readU64(b[8:]), readU64(b[16:])
	if readU64(b[24:]) != 0 || attrs&^uint64(vm.host.extension(capMemoryAttributes, vm)) != 0 || size == 0 || addr+size < addr ||
		addr%snp.PageSize != 0 || size%snp.PageSize != 0 {
		return fail(unix.EINVAL)
	}
	before := slices.Clone(vm.attributes)
	vm.attributes.set(addr, addr+size, attrs&memAttrPrivate != 0)
	return Answer{Undo: func() { vm.attributes = before }}
}

// ranges is a set of addresses as sorted, disjoint half-open intervals.
type ranges []struct{ from, to uint64 }

// set adds [from, to) to the set or takes it out.
func (r *ranges) set(from, to uint64, in bool) {
	var out ranges
	for _, x := range *r {
		if x.from < from {
			out = append(out, struct{ from, to uint64 }{x.from, min(x.to, from)})
		}
		if x.to > to {
			out = append(out, struct{ from, to uint64 }{max(x.from, to), x.to})
		}
	}
	if in {
		out = append(out, struct{ from, to uint64 }{from, to})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].from < out[j].from })
	merged := out[:0]
	for _, x := range out {
		if n := len(merged); n > 0 && merged[n-1].to >= x.from {
			merged[n-1].to = max(merged[n-1].to, x.to)
			continue
		}
		merged = append(merged, x)
	}
	*r = merged
}

// contains says whether an address is in the set.
func (r ranges) contains(a uint64) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i].to > a })
	return i < len(r) && r[i].from <= a
}
