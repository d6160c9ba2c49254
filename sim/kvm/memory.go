package kvm

import (
	"os"
	"sort"

	"github.com/snplaunch/snplaunch/snp"
	"golang.org/x/sys/unix"
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
	gmem             *GuestMemfd
	gmemOffset       uint64
}

// setMemory answers KVM_SET_USER_MEMORY_REGION and …_REGION2: slot u32, flags
// u32, gpa, size, uaddr, gmem_offset u64, gmem_fd u32.
func (vm *VM) setMemory(c Caller, arg uint64, size int) Answer {
	b, e := load(c, arg, size)
	if e != 0 {
		return fail(e)
	}
	id, flags := readU32(b), readU32(b[4:])
	s := slot{gpa: readU64(b[8:]), size: readU64(b[16:]), uaddr: readU64(b[24:])}
	if s.gpa%snp.PageSize != 0 || s.size%snp.PageSize != 0 || s.uaddr%snp.PageSize != 0 || s.gpa+s.size < s.gpa {
		return fail(unix.EINVAL)
	}
	if id&0xFFFF >= maxMemSlots || int64(id>>16) >= vm.host.extension(capMultiAddrSpace, vm) {
		return fail(unix.EINVAL)
	}
	if s.size == 0 {
		if _, have := vm.slots[id]; !have {
			return fail(unix.EINVAL)
		}
		undo := vm.slotUndo(id)
		delete(vm.slots, id)
		return Answer{Undo: undo}
	}
	if flags&memSlotGuestMemfd != 0 {
		if vm.typ != vmSNP && vm.typ != vmSWProtected || size < snpMemoryRegion2Size {
			return fail(unix.EINVAL)
		}
		s.gmemOffset = readU64(b[32:])
		g, isGmem := c.Object(int(int32(readU32(b[40:])))).(*GuestMemfd)
		if !isGmem || g.vm != vm {
			return fail(unix.EBADF)
		}
		if s.gmemOffset%snp.PageSize != 0 || s.gmemOffset+s.size < s.gmemOffset || s.gmemOffset+s.size > g.size {
			return fail(unix.EINVAL)
		}
		s.gmem = g
	}
	if old, have := vm.slots[id]; have && old.gmem != nil {
		return fail(unix.EINVAL) // a slot with guest_memfd can only be deleted
	}
	for other, o := range vm.slots {
		if other != id && other>>16 == id>>16 && s.gpa < o.gpa+o.size && o.gpa < s.gpa+s.size {
			return fail(unix.EEXIST)
		}
	}
	undo := vm.slotUndo(id)
	vm.slots[id] = s
	return Answer{Undo: undo}
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

// snpMemoryRegion2Size is the size of struct kvm_userspace_memory_region2.
const (
	memoryRegionSize     = 32
	snpMemoryRegion2Size = 160
)

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
	if vm.typ != vmSNP && vm.typ != vmSWProtected || flags != 0 || size == 0 || size%snp.PageSize != 0 || size > 1<<47 {
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
	if readU64(b[24:]) != 0 || attrs&^memAttrPrivate != 0 || size == 0 || addr+size < addr ||
		addr%snp.PageSize != 0 || size%snp.PageSize != 0 {
		return fail(unix.EINVAL)
	}
	if attrs != 0 && vm.typ != vmSNP && vm.typ != vmSWProtected {
		return fail(unix.EINVAL)
	}
	vm.private.set(addr, addr+size, attrs&memAttrPrivate != 0)
	return ok()
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
