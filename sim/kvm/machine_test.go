package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// testFolder holds the root that all tests use: making one takes seconds.
var testFolder string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "snplaunch-kvm-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testFolder = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var testCA = sync.OnceValues(func() (*psp.CA, error) { return psp.LoadOrCreateCA(testFolder, nil) })

// The numbers of ioctls, commands and offsets below are written out from
// include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h and
// include/uapi/linux/psp-sev.h, apart from the constants under test.
const (
	nrCreateVM        = 0xAE01
	nrCheckExtension  = 0xAE03
	nrCreateVCPU      = 0xAE41
	nrUserMemory      = 0x4020AE46
	nrUserMemory2     = 0x40A0AE49
	nrEncryptOp       = 0xC008AEBA
	nrAttributes      = 0x4020AED2
	nrCreateGuestMem  = 0xC040AED4
	nrRun             = 0xAE80
	nrGetRegs         = 0x8090AE81
	nrSetRegs         = 0x4090AE82
	nrGetMSRs         = 0xC008AE88
	nrSetMSRs         = 0x4008AE89
	nrSetCPUID2       = 0x4008AE90
	nrGetCPUID2       = 0xC008AE91
	nrSetDebugRegs    = 0x4080AEA2
	nrSetXSAVE        = 0x5000AEA5
	nrGetXSAVE2       = 0x9000AECF
	nrSetXCRS         = 0x4188AEA7
	nrSetSREGS2       = 0x4140AECD
	nrSEVIssueCommand = 0xC0105300

	cmdINIT2  = 22
	cmdSTART  = 100
	cmdUPDATE = 101
	cmdFINISH = 102

	typeSNP = 4
)

var le = binary.LittleEndian

// memory is a caller whose address space is one byte slice.
type memory struct {
	base     uint64
	b        []byte
	next     uint64
	readOnly map[uint64]bool // pages that cannot be written
	fds      map[int]Object
}

var errFault = errors.New("fault")

const pageSize = 4096

func newMemory(size int) *memory {
	return &memory{base: 0x10000, b: make([]byte, size), next: 0x10000, fds: map[int]Object{}, readOnly: map[uint64]bool{}}
}

func (m *memory) at(addr uint64, n int) ([]byte, error) {
	if addr < m.base || addr-m.base > uint64(len(m.b)) || uint64(n) > uint64(len(m.b))-(addr-m.base) {
		return nil, errFault
	}
	return m.b[addr-m.base:][:n], nil
}

func (m *memory) Read(addr uint64, p []byte) error {
	b, err := m.at(addr, len(p))
	copy(p, b)
	return err
}

func (m *memory) Write(addr uint64, p []byte) error {
	if m.readOnly[addr/pageSize] {
		return errFault
	}
	b, err := m.at(addr, len(p))
	copy(b, p)
	return err
}

func (m *memory) Object(fd int) Object { return m.fds[fd] }
func (m *memory) PID() int             { return 4711 }

// put places bytes on pages of their own and gives their address.
func (m *memory) put(b []byte) uint64 {
	addr := m.next
	if err := m.Write(addr, b); err != nil {
		panic("the test's memory is too small")
	}
	m.next += (uint64(len(b))/pageSize + 1) * pageSize
	return addr
}

// get reads what lies at an address.
func (m *memory) get(addr uint64, n int) []byte {
	b := make([]byte, n)
	if err := m.Read(addr, b); err != nil {
		panic(err)
	}
	return b
}

// machine is a simulated host with one VM, as QEMU meets it.
type machine struct {
	testing.TB
	*memory
	host   *Host
	vm     *VM
	gmem   *GuestMemfd
	vcpus  []*VCPU
	events []Event
}

const (
	gmemFD = 30
	sevFD  = 9
)

// newMachine gives a host and a VM of a type.
func newMachine(t testing.TB, typ uint64) *machine {
	t.Helper()
	return newMachineWith(t, newPlatform(t), typ)
}

func newPlatform(t testing.TB) *psp.Platform {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	p, err := psp.New(psp.DefaultConfig(), ca)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	platformCache sync.Map // of func() (*psp.Platform, error), by name
	nextASID      atomic.Uint32
)

// platforms gives one processor of each name, which many machines share: each
// has ASIDs of its own.
func platforms(name string) (*psp.Platform, error) {
	p, _ := platformCache.LoadOrStore(name, sync.OnceValues(func() (*psp.Platform, error) {
		ca, err := testCA()
		if err != nil {
			return nil, err
		}
		c, err := psp.ParsePlatform(name)
		if err != nil {
			return nil, err
		}
		return psp.New(c, ca)
	}))
	return p.(func() (*psp.Platform, error))()
}

// newMachineOf is a machine with a processor of psp.Platforms and a kernel of Profiles.
func newMachineOf(t testing.TB, platform, kernel string, o Options) *machine {
	t.Helper()
	p, err := platforms(platform)
	if err != nil {
		t.Fatal(err)
	}
	if o.Profile, err = ParseProfile(kernel); err != nil {
		t.Fatal(err)
	}
	m := &machine{TB: t, memory: newMemory(1 << 20)}
	o.Hold, o.Observe = true, func(e Event) { m.events = append(m.events, e) }
	m.host = NewHost(p, o)
	m.host.asids.fresh = nextASID.Add(1 << 10)
	m.fds[sevFD] = m.open("/dev/sev")
	m.vm = m.mustNew(m.open("/dev/kvm").Ioctl(m, nrCreateVM, typeSNP)).(*VM)
	return m
}

// newMachineWith is newMachine around a Secure Processor that is at hand:
// making one takes 20 ms. Two machines at a time cannot share one, as each
// counts ASIDs from 1.
func newMachineWith(t testing.TB, p *psp.Platform, typ uint64) *machine {
	t.Helper()
	m := &machine{TB: t, memory: newMemory(1 << 20)}
	m.host = NewHost(p, Options{Hold: true, Observe: func(e Event) { m.events = append(m.events, e) }})
	m.fds[sevFD] = m.open("/dev/sev")
	m.vm = m.mustNew(m.open("/dev/kvm").Ioctl(m, nrCreateVM, typ)).(*VM)
	return m
}

func (m *machine) open(path string) Object {
	m.Helper()
	o, err := m.host.Open(path)
	if err != nil || o == nil {
		m.Fatalf("%s: %v, %v", path, o, err)
	}
	m.Cleanup(o.Close)
	return o
}

func (m *machine) mustNew(a Answer) Object {
	m.Helper()
	if a.Errno != 0 || a.New == nil {
		m.Fatalf("no new object: %+v", a)
	}
	m.Cleanup(a.New.Close)
	return a.New
}

func (m *machine) must(a Answer) Answer {
	m.Helper()
	if a.Errno != 0 {
		m.Fatalf("failed: %v", a.Errno)
	}
	return a
}

// encode lays out fields of a C structure without padding of its own.
func encode(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		var err error
		if b, err = binary.Append(b, le, f); err != nil {
			panic(err)
		}
	}
	return b
}

// stale stands in kvm_sev_cmd.error before a call, to see whether it is written.
const stale = 0xDEADBEEF

// op makes a KVM_MEMORY_ENCRYPT_OP with data at an address and gives what
// stands in kvm_sev_cmd.error afterwards.
func (m *machine) op(id uint32, data uint64) (Answer, uint32) {
	m.Helper()
	cmd := m.put(encode(id, uint32(0), data, uint32(stale), uint32(sevFD)))
	a := m.vm.Ioctl(m, nrEncryptOp, cmd)
	return a, le.Uint32(m.get(cmd+16, 4))
}

func initParams(features uint64, flags uint32, ghcb uint16) []byte {
	return append(encode(features, flags, ghcb), make([]byte, 34)...)
}

func startParams(policy uint64, flags uint16) []byte {
	return append(encode(policy, [16]byte{0xC0, 1: 0xDE}, flags), make([]byte, 38)...)
}

func updateParams(gfn, uaddr, length uint64, typ uint8, flags uint16) []byte {
	return append(encode(gfn, uaddr, length, typ, uint8(0), flags, uint32(0)), make([]byte, 32)...)
}

type finish struct {
	block, auth             uint64
	blockEn, authEn, vcekNo uint8
	hostData                [32]byte
	flags                   uint16
}

func (f finish) bytes() []byte {
	return append(encode(f.block, f.auth, f.blockEn, f.authEn, f.vcekNo, f.hostData, [3]byte{}, f.flags), make([]byte, 32)...)
}

// initialise, start: the VM up to SNP_LAUNCH_START.
func (m *machine) initialise() {
	m.Helper()
	a, _ := m.op(cmdINIT2, m.put(initParams(0, 0, 0)))
	m.must(a)
}

func (m *machine) start() {
	m.Helper()
	m.initialise()
	a, _ := m.op(cmdSTART, m.put(startParams(0x30000, 0)))
	m.must(a)
}

// region gives the VM private memory of its own guest_memfd in a slot.
func (m *machine) region(slot uint32, gpa, size, offset uint64) Answer {
	m.Helper()
	if m.gmem == nil {
		m.gmem = m.mustNew(m.vm.Ioctl(m, nrCreateGuestMem, m.put(append(encode(uint64(1<<32), uint64(0)), make([]byte, 48)...)))).(*GuestMemfd)
		m.fds[gmemFD] = m.gmem
	}
	return m.vm.Ioctl(m, nrUserMemory2, m.put(append(encode(slot, uint32(4), gpa, size, uint64(0x7000_0000), offset, uint32(gmemFD)), make([]byte, 116)...)))
}

func (m *machine) attributes(gpa, size, attributes uint64) Answer {
	m.Helper()
	return m.vm.Ioctl(m, nrAttributes, m.put(encode(gpa, size, attributes, uint64(0))))
}

// memory16M gives the VM 16 MiB of private memory at 0 and 4 MiB below 4 GiB.
func (m *machine) memory16M() {
	m.Helper()
	m.must(m.region(0, 0, 16<<20, 0))
	m.must(m.attributes(0, 16<<20, 8))
	m.must(m.region(1, 0xFFC00000, 4<<20, 16<<20))
	m.must(m.attributes(0xFFC00000, 4<<20, 8))
}

// update makes an SNP_LAUNCH_UPDATE and gives the parameters as they came back.
func (m *machine) update(gfn, uaddr, length uint64, typ uint8, flags uint16) (a Answer, fwError uint32, back []byte) {
	m.Helper()
	addr := m.put(updateParams(gfn, uaddr, length, typ, flags))
	a, fwError = m.op(cmdUPDATE, addr)
	return a, fwError, m.get(addr, 64)
}

func (m *machine) finish(f finish) (Answer, uint32) {
	m.Helper()
	return m.op(cmdFINISH, m.put(f.bytes()))
}

func (m *machine) vcpu(id uint64) *VCPU {
	m.Helper()
	v := m.mustNew(m.vm.Ioctl(m, nrCreateVCPU, id)).(*VCPU)
	m.vcpus = append(m.vcpus, v)
	return v
}

// digest is the launch digest so far; zero before SNP_LAUNCH_START.
func (m *machine) digest() (d snp.LaunchDigest) {
	if g := m.vm.Guest(); g != nil {
		d = g.LaunchDigest()
	}
	return d
}

// errnoName makes messages readable.
func errnoName(e unix.Errno) string {
	if e == 0 {
		return "0"
	}
	return unix.ErrnoName(e)
}
