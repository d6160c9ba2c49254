package kvm

import (
	"bytes"
	"runtime/metrics"
	"testing"

	"golang.org/x/sys/unix"
)

// The fuzzers make sequences of ioctls with arguments and memory of the
// fuzzer's choice. One step is eight bytes:
//
//	0  object (bits 6:0); bit 7: the call is undone
//	1  ioctl, an index into known; from 0xF0 on: bytes 4 to 7
//	2  page of the argument in the caller's memory; 0xFF: bytes 4 to 7 are the argument
//	3  page whose start takes bytes 4 to 7 before the call, word 3 bits up: offset
//	4  u32
//
// and the rest of the input after a 0xFF byte fills the caller's memory.
const stepSize = 8

// step encodes one.
func step(object, ioctl, page, patch byte, value uint32) []byte {
	return append([]byte{object, ioctl, page, patch}, encode(value)...)
}

// allocated is how many bytes this process has allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// maxAllocation is what one ioctl may allocate: KVM_SEV_SNP_LAUNCH_UPDATE of
// its most, 32,768 pages, is the largest.
const maxAllocation = 64 << 20

const (
	maxSteps   = 64
	maxObjects = 16
)

// play runs a program on a machine. kinds says of which kind the first objects are.
func play(t *testing.T, m *machine, objects []Object, program []byte) {
	steps, contents, _ := bytes.Cut(program, []byte("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"))
	copy(m.b, contents)
	for fd, o := range objects {
		m.fds[fd] = o
	}
	for n := 0; len(steps) >= stepSize && n < maxSteps; n++ {
		s := steps[:stepSize]
		steps = steps[stepSize:]
		o := objects[int(s[0]&0x7F)%len(objects)]
		value := le.Uint32(s[4:])
		var list []uint32
		switch o.(type) {
		case *System:
			list = known["kvm"]
		case *SEV:
			list = known["sev"]
		case *VM:
			list = known["vm"]
		case *VCPU:
			list = known["vcpu"]
		default:
			list = []uint32{0}
		}
		request := list[int(s[1])%len(list)]
		isKnown := s[1] < 0xF0
		if !isKnown {
			request = value
			for _, k := range list {
				isKnown = isKnown || k == request
			}
		}
		arg := m.base + uint64(s[2])*256
		if s[2] == 0xFF {
			arg = uint64(value)
		}
		_ = m.Write(m.base+uint64(s[3]&0x1F)*256+uint64(s[3]>>5)*8, encode(value))

		before, had := m.state(), allocated()
		a := o.Ioctl(m, request, arg)
		if grown := allocated() - had; grown > maxAllocation {
			t.Fatalf("ioctl %#x of %T allocated %d bytes", request, o, grown)
		}
		if a.Errno != 0 && (a.New != nil || a.Wait != nil) {
			t.Fatalf("ioctl %#x of %T: an error with a result: %+v", request, o, a)
		}
		if !isKnown && a.Errno == 0 {
			t.Fatalf("ioctl %#x of %T is not known and succeeds", request, o)
		}
		if a.Value < 0 || a.Errno < 0 || a.Errno > unix.Errno(4095) {
			t.Fatalf("ioctl %#x of %T: %+v", request, o, a)
		}
		if a.Undo != nil && s[0]&0x80 != 0 {
			a.Undo()
			if after := m.state(); after != before {
				t.Fatalf("ioctl %#x of %T was undone and something is left of it", request, o)
			}
			continue
		}
		if a.Done != nil {
			a.Done()
		}
		if a.New == nil {
			continue
		}
		t.Cleanup(a.New.Close)
		if len(objects) < maxObjects {
			m.fds[len(objects)] = a.New
			objects = append(objects, a.New)
		}
	}
}

// at gives the index of an ioctl in the list of a kind.
func at(kind string, request uint32) byte {
	for i, nr := range known[kind] {
		if nr == request {
			return byte(i)
		}
	}
	panic("not in the list")
}

// seedAll adds one program per ioctl of a kind, each made twice with zero and with full
// memory, and once undone.
func seedAll(f *testing.F, kind string, object byte) {
	for i := range known[kind] {
		for _, fill := range []byte{0, 1, 0xFF} {
			p := append(step(object, byte(i), 4, 0x1F, 0), step(object|0x80, byte(i), 0xFF, 0x1F, 1)...)
			f.Add(append(append(p, step(object, byte(i), 4, 4, uint32(fill))...), append([]byte("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), bytes.Repeat([]byte{fill}, 4096)...)...))
		}
	}
}

func FuzzSystem(f *testing.F) {
	seedAll(f, "kvm", 0)
	seedAll(f, "sev", 1)
	p := newPlatform(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		m := newMachineWith(t, p, typeSNP)
		play(t, m, []Object{m.open("/dev/kvm"), m.open("/dev/sev")}, program)
	})
}

func FuzzVM(f *testing.F) {
	seedAll(f, "vm", 0)
	// A whole launch: INIT2, START, memory, an update, FINISH.
	sev := func(page byte) []byte { return step(0, at("vm", nrEncryptOp), page, 0x1F, 0) }
	memory := make([]byte, 16*256)
	for page, b := range map[int][]byte{
		0: encode(uint32(cmdINIT2), uint32(0), uint64(0x10100)), 1: initParams(0, 0, 0),
		2: encode(uint32(cmdSTART), uint32(0), uint64(0x10300)), 3: startParams(0x30000, 0),
		4: encode(uint64(1<<24), uint64(0)), 5: append(encode(uint32(0), uint32(4), uint64(0), uint64(1<<24), uint64(0x10000), uint64(0), uint32(1)), make([]byte, 116)...),
		6: encode(uint64(0), uint64(1<<24), uint64(8), uint64(0)),
		7: encode(uint32(cmdUPDATE), uint32(0), uint64(0x10800)), 8: updateParams(0x800, 0x10000, pageSize, 1, 0),
		9: encode(uint32(cmdFINISH), uint32(0), uint64(0x10A00)), 10: finish{}.bytes(),
		11: encode(uint32(cmdUPDATE), uint32(0), uint64(0x10C00)), 12: updateParams(0x900, 0x10000, 1<<23, 3, 0),
	} {
		copy(memory[page*256:], b)
	}
	for _, undo := range []byte{0, 0x80} {
		var program []byte
		for _, s := range [][]byte{
			sev(0), sev(2), step(0, at("vm", nrCreateGuestMem), 4, 0x1F, 0), step(0, at("vm", nrUserMemory2), 5, 0x1F, 0), step(0, at("vm", nrAttributes), 6, 0x1F, 0),
			sev(7), sev(11), step(0, at("vm", nrCreateVCPU), 0xFF, 0x1F, 0), sev(9), sev(9),
		} {
			if undo != 0 { // first undone, then made again
				undone := bytes.Clone(s)
				undone[0] |= undo
				program = append(program, undone...)
			}
			program = append(program, s...)
		}
		f.Add(append(append(program, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"...), memory...))
	}
	p := newPlatform(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		for _, typ := range []uint64{0, typeSNP} {
			m := newMachineWith(t, p, typ)
			play(t, m, []Object{m.vm}, program)
		}
	})
}

// FuzzLaunch begins where a guest has private memory and two vCPUs.
func FuzzLaunch(f *testing.F) {
	f.Add(uint32(cmdUPDATE), updateParams(0x800, 0x10000, pageSize, 1, 0), []byte{}, true)
	f.Add(uint32(cmdUPDATE), updateParams(0x7FF, 0x10000, 3*pageSize, 6, 0), []byte{2, 0, 0, 0}, true)
	f.Add(uint32(cmdUPDATE), updateParams(0, 0, 1<<40, 3, 0), []byte{}, false)
	f.Add(uint32(cmdUPDATE), updateParams(0xFFE, 0x10000, 3*pageSize, 5, 0), []byte{}, true)
	f.Add(uint32(cmdFINISH), finish{blockEn: 1, block: 0x10000, auth: 0x10100}.bytes(), make([]byte, 96), true)
	f.Add(uint32(cmdFINISH), finish{authEn: 1, vcekNo: 1}.bytes(), []byte{}, false)
	f.Add(uint32(cmdSTART), startParams(0x30000, 0), []byte{}, true)
	p := newPlatform(f)
	f.Fuzz(func(t *testing.T, id uint32, params, contents []byte, undo bool) {
		m := newMachineWith(t, p, typeSNP)
		m.start()
		m.memory16M()
		twoVCPUs(m)
		copy(m.b[:1<<19], contents)
		m.next = m.base + 1<<19
		at := m.put(append(params[:min(len(params), 88)], make([]byte, 88-min(len(params), 88))...))
		before, had := m.state(), allocated()
		a, _ := m.op(id, at)
		if grown := allocated() - had; grown > maxAllocation {
			t.Fatalf("allocated %d bytes", grown)
		}
		pages := len(m.vm.Guest().Updates())
		if a.Errno != 0 && id != cmdFINISH && m.state() != before {
			t.Errorf("command %d fails with %s and has changed something", id, errnoName(a.Errno))
		}
		if a.Errno == 0 && id == cmdUPDATE && pages == 0 {
			t.Error("an update that took no page succeeds: QEMU would repeat it for ever")
		}
		if undo && a.Undo != nil {
			a.Undo()
			if m.state() != before {
				t.Errorf("command %d was undone and something is left of it", id)
			}
		}
	})
}

func FuzzVCPU(f *testing.F) {
	seedAll(f, "vcpu", 0)
	seedAll(f, "vcpu", 0x81)
	p := newPlatform(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		m := newMachineWith(t, p, typeSNP)
		m.start()
		play(t, m, []Object{m.vcpu(0), m.vcpu(1), m.vm}, program)
		// Whatever was set, a save area can be made of it.
		for _, v := range m.vcpus {
			if n := len(v.vmsaPage(1)); n != pageSize {
				t.Errorf("a save area of %d bytes", n)
			}
		}
	})
}
