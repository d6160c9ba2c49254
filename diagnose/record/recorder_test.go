package record_test

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/snp"
)

// fake is a program whose calls are heard: its memory and its open files.
type fake struct {
	r       *record.Recorder
	memory  map[uint64][]byte
	links   map[int]string
	process int
	same    map[[2]int]bool
	made    bool // false: the next call is interrupted
}

func newFake(o record.Options) *fake {
	return &fake{r: record.NewRecorder(o), memory: map[uint64][]byte{}, process: 1 << 30, made: true,
		links: map[int]string{3: "/dev/kvm", 4: "anon_inode:kvm-vm", 5: "/dev/sev", 6: "anon_inode:kvm-vcpu:0", 7: "anon_inode:kvm-vcpu:1", 8: "anon_inode:[kvm-gmem]"}}
}

func (f *fake) hear(thread int, nr int32, args ...uint64) {
	var a [6]uint64
	copy(a[:], args)
	f.r.Hear(record.Heard{Process: f.process, Thread: thread, NR: nr, Args: a,
		Read: func(addr uint64, p []byte) error {
			for base, b := range f.memory {
				if addr >= base && addr+uint64(len(p)) <= base+uint64(len(b)) {
					copy(p, b[addr-base:])
					return nil
				}
			}
			return errors.New("fault")
		},
		Link: func(fd int) string { return f.links[fd] },
		Same: func(a, b int) (bool, bool) { return f.same[[2]int{a, b}], true },
	})
	f.r.Taken(f.made)
}

func (f *fake) ioctl(fd int, request uint32, arg uint64) {
	f.hear(f.process, 16, uint64(fd), uint64(request), arg)
}

// at puts a structure of little-endian numbers into the program's memory.
func (f *fake) at(addr uint64, size int, numbers map[int]uint64) uint64 {
	b := make([]byte, size)
	for off, v := range numbers {
		binary.LittleEndian.PutUint64(b[off:], v)
	}
	f.memory[addr] = b
	return addr
}

const (
	createVM  = 0xAE01
	createCPU = 0xAE41
	encryptOp = 0xC008AEBA
	setRegs   = 0x4090AE82
	irqLine   = 0xC008AE67
)

func (f *fake) command(fd int, id uint64, data uint64) {
	f.ioctl(fd, encryptOp, f.at(0x100, 24, map[int]uint64{0: id, 8: data}))
}

func (f *fake) update(gfn, length uint64) {
	f.command(4, 101, f.at(0x1000, 64, map[int]uint64{0: gfn, 8: 0x100000, 16: length, 24: 1}))
}

// said is what the program writes on descriptor 2.
func (f *fake) said(s string) {
	f.memory[0x8000] = []byte(s)
	f.hear(f.process, 1, 2, 0x8000, uint64(len(s)))
}

func (f *fake) start() {
	f.ioctl(3, createVM, 4)
	f.command(4, 22, f.at(0x2000, 48, nil))
	f.command(4, 100, f.at(0x3000, 64, map[int]uint64{0: 0x30000}))
	f.memory[0x100000] = make([]byte, 4*snp.PageSize)
}

func updates(l record.Launch) (out []record.Update) {
	for _, c := range l.Calls {
		if u, is := c.With.(*record.Update); is {
			out = append(out, *u)
		}
	}
	return out
}

// An update of which KVM has done a part, or nothing yet, goes on; it is one update.
func TestUpdateInParts(t *testing.T) {
	f := newFake(record.Options{})
	f.start()
	f.update(16, 4*snp.PageSize)
	f.update(16, 4*snp.PageSize) // EAGAIN
	f.update(18, 2*snp.PageSize) // the rest
	f.update(32, snp.PageSize)
	f.ioctl(4, irqLine, 0)
	u := updates(f.r.File().Launches[0])
	if len(u) != 2 || u[0].Length != 4*snp.PageSize || len(u[0].Contents) != 4 || u[0].Contents[3] != sha512.Sum384(make([]byte, snp.PageSize)) || u[1].GPA != 32*snp.PageSize {
		t.Errorf("%+v", u)
	}
}

// A call that a signal interrupts while it is held was not made; it is heard again.
func TestInterruptedCalls(t *testing.T) {
	f := newFake(record.Options{})
	f.start()
	f.made = false
	f.update(16, snp.PageSize)
	f.ioctl(4, createCPU, 0)
	f.made = true
	f.update(16, snp.PageSize)
	f.ioctl(4, createCPU, 0)
	l := f.r.File().Launches[0]
	if len(updates(l)) != 1 || len(l.VCPUs) != 1 {
		t.Errorf("%d updates, %d vCPUs", len(updates(l)), len(l.VCPUs))
	}
}

// How a launch command ended: by what the program does next, says, or ends with.
func TestInference(t *testing.T) {
	const refusal = "qemu: SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'\n"
	for _, c := range []struct {
		name string
		then func(*fake)
		want record.Result
	}{
		{"it goes on", func(f *fake) { f.ioctl(4, irqLine, 0) }, record.Result{From: record.FromNextCall}},
		{"another thread goes on", func(f *fake) { f.hear(f.process+1, 16, 4, irqLine, 0) }, record.Result{From: record.FromNextCall}},
		{"it says so", func(f *fake) { f.said(refusal); f.hear(f.process, 231, 1) }, record.Result{Errno: 5, FWError: 11, From: record.FromStderr}},
		{"it says so in two parts", func(f *fake) {
			f.memory[0x9000], f.memory[0xa000] = []byte(refusal[:10]), []byte(refusal[10:])
			f.at(0xb000, 32, map[int]uint64{0: 0x9000, 8: 10, 16: 0xa000, 24: uint64(len(refusal) - 10)})
			f.hear(f.process, 20, 2, 0xb000, 2)
		}, record.Result{Errno: 5, FWError: 11, From: record.FromStderr}},
		{"it ends with 0", func(f *fake) { f.hear(f.process, 231, 0); f.r.Ended(f.process) }, record.Result{From: record.FromExit}},
		{"it ends with 1", func(f *fake) { f.hear(f.process, 231, 1); f.r.Ended(f.process) }, record.Result{From: record.FromNothing}},
		{"it is killed", func(f *fake) { f.r.Ended(f.process) }, record.Result{From: record.FromNothing}},
		{"it speaks of another command", func(f *fake) { f.said("SNP_LAUNCH_START ret=-5 fw_error=7 ''\n"); f.r.Ended(f.process) }, record.Result{From: record.FromNothing}},
	} {
		f := newFake(record.Options{})
		f.start()
		f.command(4, 102, f.at(0x4000, 88, nil))
		c.then(f)
		l := f.r.File().Launches[0]
		if got := *l.Calls[l.Last()].Result; got != c.want || l.Launched() != (c.want.From != record.FromNothing && c.want.Errno == 0) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if u := l.Calls[0].Result; u.From != record.FromNextCall {
			t.Errorf("%s: %+v", c.name, u)
		}
	}
}

// A new VM is told from the one before, also where it gets the same descriptor; a
// descriptor that was duplicated is the VM that it was.
func TestSeveralVMs(t *testing.T) {
	f := newFake(record.Options{})
	f.start()
	f.links[9] = "anon_inode:kvm-vm"
	f.same = map[[2]int]bool{{9, 4}: true}
	f.command(9, 102, f.at(0x4000, 88, nil)) // by the duplicate
	f.ioctl(9, irqLine, 0)
	delete(f.links, 4) // QEMU 11 closes a VM when it resets its guest, and makes another
	delete(f.links, 9)
	f.ioctl(3, createVM, 4)
	f.links[4] = "anon_inode:kvm-vm"
	f.command(4, 22, f.at(0x2000, 48, nil))
	f.ioctl(3, createVM, 0)
	file := f.r.File()
	if len(file.Launches) != 2 || file.OtherVMs != 1 || !file.Launches[0].Launched() || len(file.Launches[1].Calls) != 1 {
		t.Errorf("%+v", file)
	}
}

// Registers belong to the vCPU of the descriptor; what is set again as it is, is left out.
func TestRegisters(t *testing.T) {
	f := newFake(record.Options{})
	f.start()
	f.ioctl(4, createCPU, 0)
	f.ioctl(4, createCPU, 1)
	for _, fd := range []int{7, 6, 7} {
		f.ioctl(fd, setRegs, f.at(0x5000, 144, map[int]uint64{0: uint64(fd)}))
	}
	f.command(4, 102, f.at(0x4000, 88, nil))
	f.ioctl(4, irqLine, 0)
	f.ioctl(6, setRegs, f.at(0x5000, 144, map[int]uint64{0: 99})) // after the launch
	l := f.r.File().Launches[0]
	for i, want := range []byte{6, 7} {
		if sets := l.VCPUs[i].Sets; len(sets) != 1 || sets[0].Call != "KVM_SET_REGS" || sets[0].Data[0] != want {
			t.Errorf("vCPU %d: %+v", i, sets)
		}
	}
}

// What memory cannot be read of, and what makes no sense, does not get into a record as if it did.
func TestUnreadable(t *testing.T) {
	said := 0
	f := newFake(record.Options{Logf: func(string, ...any) { said++ }})
	f.start()
	f.command(4, 101, 0xdead0000)
	f.ioctl(4, encryptOp, 0xdead0000)
	f.command(4, 101, f.at(0x1000, 64, map[int]uint64{0: 1, 8: 0xdead0000, 16: 2 * snp.PageSize, 24: 1}))
	f.links[30] = "anon_inode:kvm-vcpu:5"
	f.ioctl(30, setRegs, 0)
	l := f.r.File().Launches[0]
	if u := updates(l); said != 1 || len(u) != 1 || u[0].Contents != nil || l.VCPUs != nil {
		t.Errorf("%d words, %+v", said, l)
	}
}

func TestPagesAreKept(t *testing.T) {
	for _, all := range []bool{false, true} {
		f := newFake(record.Options{Pages: all})
		f.start()
		f.memory[0x100000][0] = 1
		f.update(16, 2*snp.PageSize)
		f.memory[0x100000] = slices.Repeat([]byte{2}, snp.PageSize)
		f.update(32, snp.PageSize)
		f.ioctl(4, irqLine, 0)
		if n, want := len(f.r.File().Pages), map[bool]int{false: 1, true: 2}[all]; n != want {
			t.Errorf("%v: %d pages are kept, want %d", all, n, want)
		}
	}
}
