package kvm

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// setSlot makes a KVM_SET_USER_MEMORY_REGION2.
func (m *machine) setSlot(slot, flags uint32, gpa, size, uaddr, offset uint64, fd uint32) unix.Errno {
	m.Helper()
	return m.vm.Ioctl(m, nrUserMemory2, m.put(append(encode(slot, flags, gpa, size, uaddr, offset, fd), make([]byte, 116)...))).Errno
}

// Memory slots as Linux 6.12 virt/kvm/kvm_main.c, __kvm_set_memory_region.
func TestMemorySlots(t *testing.T) {
	const (
		private = 4 // KVM_MEM_GUEST_MEMFD
		fd      = gmemFD
		p       = pageSize
	)
	m := newMachine(t, typeSNP)
	m.gmem = m.mustNew(m.vm.Ioctl(m, nrCreateGuestMem, m.put(append(encode(uint64(64*p)), make([]byte, 56)...)))).(*GuestMemfd)
	m.fds[fd] = m.gmem
	other := m.mustNew(m.open("/dev/kvm").Ioctl(m, nrCreateVM, typeSNP)).(*VM)
	m.fds[31] = m.mustNew(other.Ioctl(m, nrCreateGuestMem, m.put(append(encode(uint64(64*p)), make([]byte, 56)...))))
	m.fds[32] = other

	for _, s := range []struct {
		what                     string
		slot, flags              uint32
		gpa, size, uaddr, offset uint64
		fd                       uint32
		want                     unix.Errno
	}{
		{"a slot that was never there is deleted", 0, 0, 0, 0, 0, 0, 0, unix.EINVAL},
		{"gpa unaligned", 0, private, 1, p, 0, 0, fd, unix.EINVAL},
		{"size unaligned", 0, private, 0, p + 1, 0, 0, fd, unix.EINVAL},
		{"uaddr unaligned", 0, private, 0, p, 8, 0, fd, unix.EINVAL},
		{"offset unaligned", 0, private, 0, p, 0, 8, fd, unix.EINVAL},
		{"gpa + size overflows", 0, private, 1<<64 - p, 2 * p, 0, 0, fd, unix.EINVAL},
		{"offset + size overflows", 0, private, 0, 2 * p, 0, 1<<64 - p, fd, unix.EINVAL},
		{"beyond the guest_memfd", 0, private, 0, 2 * p, 0, 63 * p, fd, unix.EINVAL},
		{"no such descriptor", 0, private, 0, p, 0, 0, 99, unix.EBADF},
		{"descriptor -1", 0, private, 0, p, 0, 0, 0xFFFFFFFF, unix.EBADF},
		{"descriptor of a VM", 0, private, 0, p, 0, 0, 32, unix.EINVAL},
		{"another VM's guest_memfd", 0, private, 0, p, 0, 0, 31, unix.EINVAL},
		{"unknown flag", 0, private | 8, 0, p, 0, 0, fd, unix.EINVAL},
		{"private with a log", 0, private | 1, 0, p, 0, 0, fd, unix.EINVAL},
		{"read-only in a VM with protected state", 0, 2, 0, p, 0, 0, 0, unix.EINVAL},
		{"slot number too high", 32764, private, 0, p, 0, 0, fd, unix.EINVAL},
		{"second address space", 1 << 16, private, 0, p, 0, 0, fd, unix.EINVAL},

		{"the highest slot", 32763, private, 32 * p, p, 0, 60 * p, fd, 0},
		{"its part of the guest_memfd, again", 7, private, 34 * p, p, 0, 60 * p, fd, unix.EINVAL},
		{"slot 0, 8 pages", 0, private, 0, 8 * p, 0, 0, fd, 0},
		{"overlaps its end", 1, private, 7 * p, p, 0, 8 * p, fd, unix.EEXIST},
		{"overlaps all of it", 1, private, 0, 16 * p, 0, 8 * p, fd, unix.EEXIST},
		{"overlaps without guest_memfd", 1, 0, 4 * p, p, 0, 0, 0, unix.EEXIST},
		{"touches it", 1, private, 8 * p, 8 * p, 0, 8 * p, fd, 0},
		{"a private slot is set again", 0, private, 0, 8 * p, 0, 0, fd, unix.EINVAL},
		{"a private slot becomes a shared one", 0, 0, 0, 8 * p, 0, 0, 0, unix.EINVAL},
		{"it is deleted", 0, private, 0, 0, 0, 0, fd, 0},
		{"it is deleted again", 0, private, 0, 0, 0, 0, fd, unix.EINVAL},
		{"and made in pieces, at other offsets", 0, private, 0, 2 * p, 0, 40 * p, fd, 0},
		{"second piece", 2, private, 2 * p, 6 * p, 0, 50 * p, fd, 0},
		{"a shared slot", 3, 0, 20 * p, p, 0x10000, 0, 0, 0},
		{"a shared slot moves", 3, 0, 21 * p, p, 0x10000, 0, 0, 0},
		{"a shared slot gets a log", 3, 1, 21 * p, p, 0x10000, 0, 0, 0},
		{"a shared slot grows", 3, 1, 21 * p, 2 * p, 0x10000, 0, 0, unix.EINVAL},
		{"a shared slot gets other memory", 3, 1, 21 * p, p, 0x11000, 0, 0, unix.EINVAL},
		{"a shared slot becomes a private one", 3, private, 21 * p, p, 0x10000, 58 * p, fd, unix.EINVAL},
		{"to the end of the address space", 4, 0, 1<<64 - 2*p, p, 0x10000, 0, 0, 0},
	} {
		if got := m.setSlot(s.slot, s.flags, s.gpa, s.size, s.uaddr, s.offset, s.fd); got != s.want {
			t.Errorf("%s: %s, want %s", s.what, errnoName(got), errnoName(s.want))
		}
	}
	for gpa, want := range map[uint64]struct {
		found  bool
		offset uint64
	}{
		0: {true, 40 * p}, 2*p - 1: {true, 41*p + p - 1}, 2 * p: {true, 50 * p}, 8 * p: {true, 8 * p}, 15 * p: {true, 15 * p},
		16 * p: {false, 0}, 20 * p: {false, 0}, 21 * p: {true, 0}, 32 * p: {true, 60 * p}, 33 * p: {false, 0}, 1<<64 - 1: {false, 0}, 1<<64 - 2*p: {true, 0},
	} {
		s, found := m.vm.slotAt(gpa)
		if found != want.found || found && s.gmem != nil && s.gmemOffset+gpa-s.gpa != want.offset {
			t.Errorf("at %#x: found %v, offset %#x; want %v, %#x", gpa, found, s.gmemOffset+gpa-s.gpa, want.found, want.offset)
		}
	}
	if a := m.vm.Ioctl(m, nrUserMemory2, m.base+uint64(len(m.b))-159); a.Errno != unix.EFAULT {
		t.Errorf("a region that cannot be read: %s", errnoName(a.Errno))
	}
	// The older call has no guest_memfd.
	if a := m.vm.Ioctl(m, nrUserMemory, m.put(encode(uint32(9), uint32(private), uint64(50*p), uint64(p), uint64(0)))); a.Errno != unix.EINVAL {
		t.Errorf("KVM_SET_USER_MEMORY_REGION with guest_memfd: %s, want EINVAL", errnoName(a.Errno))
	}
	// Nothing runs, so that no page is dirty; slots without a log have none to give.
	bitmap := m.put(bytes.Repeat([]byte{0xA5}, 16))
	if a := m.vm.Ioctl(m, 0x4010AE42, m.put(encode(uint32(3), uint32(0), bitmap))); a.Errno != 0 || !bytes.Equal(m.get(bitmap, 9), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0xA5}) {
		t.Errorf("KVM_GET_DIRTY_LOG: %s, % x", errnoName(a.Errno), m.get(bitmap, 9))
	}
	for _, slot := range []uint32{0, 99} {
		if a := m.vm.Ioctl(m, 0x4010AE42, m.put(encode(slot, uint32(0), bitmap))); a.Errno != unix.ENOENT {
			t.Errorf("KVM_GET_DIRTY_LOG of slot %d: %s, want ENOENT", slot, errnoName(a.Errno))
		}
	}
	// A VM of the default type has no private memory, and two address spaces.
	ordinary := newMachine(t, 0)
	ordinary.fds[fd] = m.gmem
	if got := ordinary.setSlot(0, private, 0, p, 0, 0, fd); got != unix.EINVAL {
		t.Errorf("private slot of an ordinary VM: %s", errnoName(got))
	}
	if a, b := ordinary.setSlot(0, 0, 0, p, 0, 0, 0), ordinary.setSlot(1<<16, 0, 0, p, 0, 0, 0); a != 0 || b != 0 {
		t.Errorf("ordinary slots of both address spaces: %s, %s", errnoName(a), errnoName(b))
	}
	if got := ordinary.setSlot(2<<16, 0, 0, p, 0, 0, 0); got != unix.EINVAL {
		t.Errorf("third address space: %s", errnoName(got))
	}
}

// A page that the firmware has taken stays taken when its slot is deleted and
// made again elsewhere, as QEMU does with RAM: it belongs to the guest_memfd.
// What counts is the offset in that, not the guest's address.
func TestPopulatedFollowsTheGuestMemfd(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	m.must(m.region(0, 0, 16*pageSize, 0))
	m.must(m.attributes(0, 64*pageSize, 8))
	a, _, _ := m.update(3, 0, pageSize, 3, 0) // offset 3
	m.must(a)
	if e := m.setSlot(0, 4, 0, 0, 0, 0, gmemFD); e != 0 {
		t.Fatal(e)
	}
	if a, _, _ := m.update(4, 0, pageSize, 3, 0); a.Errno != unix.EINVAL {
		t.Errorf("without its slot: %s, want EINVAL", errnoName(a.Errno))
	}
	m.must(m.region(0, 32*pageSize, 16*pageSize, 0))
	if a, _, _ := m.update(32+3, 0, pageSize, 3, 0); a.Errno != unix.EIO {
		t.Errorf("the same page at another address: %s, want EIO", errnoName(a.Errno))
	}
	m.must(m.region(1, 0, 16*pageSize, 16*pageSize))
	a, _, _ = m.update(3, 0, pageSize, 3, 0) // offset 19
	m.must(a)
	want := fold(fold(snp.LaunchDigest{}, 3, 3*pageSize, [48]byte{}), 3, 3*pageSize, [48]byte{})
	if m.digest() != want {
		t.Errorf("digest %s, want %s", m.digest(), want)
	}
}

// KVM_SET_MEMORY_ATTRIBUTES. Attributes belong to addresses: they outlive slots
// and may come before them.
func TestMemoryAttributes(t *testing.T) {
	m := newMachine(t, typeSNP)
	set := func(gpa, size, attributes, flags uint64) unix.Errno {
		return m.vm.Ioctl(m, nrAttributes, m.put(encode(gpa, size, attributes, flags))).Errno
	}
	for _, c := range []struct {
		what                    string
		gpa, size, attrs, flags uint64
		want                    unix.Errno
	}{
		{"private", 0, 8 * pageSize, 8, 0, 0},
		{"shared", 2 * pageSize, pageSize, 0, 0, 0},
		{"private again, in part", 2 * pageSize, pageSize, 8, 0, 0},
		{"shared at the end", 7 * pageSize, 4 * pageSize, 0, 0, 0},
		{"flags", 0, pageSize, 8, 1, unix.EINVAL},
		{"other attribute", 0, pageSize, 1, 0, unix.EINVAL},
		{"another besides private", 0, pageSize, 9, 0, unix.EINVAL},
		{"size 0", 0, 0, 8, 0, unix.EINVAL},
		{"address unaligned", 1, pageSize, 8, 0, unix.EINVAL},
		{"size unaligned", 0, 1, 8, 0, unix.EINVAL},
		{"overflow", 1<<64 - pageSize, 2 * pageSize, 8, 0, unix.EINVAL},
	} {
		if got := set(c.gpa, c.size, c.attrs, c.flags); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, errnoName(got), errnoName(c.want))
		}
	}
	for page, want := range map[uint64]bool{0: true, 1: true, 2: true, 6: true, 7: false, 8: false, 100: false} {
		if got := m.vm.attributes.contains(page * pageSize); got != want {
			t.Errorf("page %d is private: %v, want %v", page, got, want)
		}
	}
	if a := m.vm.Ioctl(m, nrAttributes, 8); a.Errno != unix.EFAULT {
		t.Errorf("unreadable: %s", errnoName(a.Errno))
	}
	ordinary := newMachine(t, 0)
	for _, n := range []uint64{233, 234, 244} {
		if got := ordinary.vm.Ioctl(m, nrCheckExtension, n).Value; got != 0 {
			t.Errorf("extension %d of an ordinary VM is %d", n, got)
		}
	}
	if a := ordinary.attributes(0, pageSize, 8); a.Errno != unix.EINVAL {
		t.Errorf("private memory of an ordinary VM: %s", errnoName(a.Errno))
	}
}

func TestCreateGuestMemfd(t *testing.T) {
	m := newMachine(t, typeSNP)
	create := func(vm *VM, size, flags uint64) Answer {
		return vm.Ioctl(m, nrCreateGuestMem, m.put(append(encode(size, flags), make([]byte, 48)...)))
	}
	for name, c := range map[string][2]uint64{"size 0": {0, 0}, "unaligned": {1, 0}, "flags": {pageSize, 1}, "too large": {1 << 48, 0}, "largest": {1<<64 - pageSize, 0}} {
		if a := create(m.vm, c[0], c[1]); a.Errno != unix.EINVAL || a.New != nil {
			t.Errorf("%s: %+v, want EINVAL", name, a)
		}
	}
	g := m.mustNew(create(m.vm, 1<<40, 0)) // more than there is: it takes no memory
	if st, err := g.File().Stat(); err != nil || st.Size() != 1<<40 {
		t.Errorf("its file has %d bytes, %v", st.Size(), err)
	}
	for nr := range uint32(0x100) {
		if a := g.Ioctl(m, 0xAE00|nr, 0); a.Errno != unix.ENOTTY {
			t.Errorf("ioctl %#x on it: %s, want ENOTTY", 0xAE00|nr, errnoName(a.Errno))
		}
	}
	if a := create(newMachine(t, 0).vm, pageSize, 0); a.Errno != unix.EINVAL {
		t.Errorf("of an ordinary VM: %s", errnoName(a.Errno))
	}
	if a := m.vm.Ioctl(m, nrCreateGuestMem, 8); a.Errno != unix.EFAULT {
		t.Errorf("unreadable: %s", errnoName(a.Errno))
	}
}
