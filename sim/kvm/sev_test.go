package kvm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// What KVM_MEMORY_ENCRYPT_OP answers, and whether kvm_sev_cmd comes back
// (Linux 6.12 arch/x86/kvm/svm/sev.c, sev_mem_enc_ioctl and what it calls).
func TestEncryptOpErrors(t *testing.T) {
	const unchanged = stale
	none := func(*machine) {}
	initialised := (*machine).initialise
	started := (*machine).start
	ready := func(m *machine) { m.start(); m.memory16M() }
	launched := func(m *machine) {
		ready(m)
		a, _ := m.finish(finish{})
		m.must(a)
	}
	bytesAt := func(b []byte) func(*machine) uint64 { return func(m *machine) uint64 { return m.put(b) } }
	nowhere := func(*machine) uint64 { return 8 }
	page := func(gfn, length uint64, typ uint8, flags uint16) func(*machine) uint64 {
		return func(m *machine) uint64 {
			return m.put(updateParams(gfn, m.put(make([]byte, 8*pageSize)), length, typ, flags))
		}
	}
	for _, c := range []struct {
		name  string
		typ   uint64
		setup func(*machine)
		id    uint32
		data  func(*machine) uint64
		errno unix.Errno
		error uint32
	}{
		{"INIT2", typeSNP, none, cmdINIT2, bytesAt(initParams(0, 0, 0)), 0, unchanged},
		{"INIT2 with DebugSwap and GHCB 2", typeSNP, none, cmdINIT2, bytesAt(initParams(1<<5, 0, 2)), 0, unchanged},
		{"INIT2 twice", typeSNP, initialised, cmdINIT2, bytesAt(initParams(0, 0, 0)), unix.EPERM, unchanged},
		{"INIT2 with vCPUs", typeSNP, func(m *machine) { m.vcpu(0) }, cmdINIT2, bytesAt(initParams(0, 0, 0)), unix.EINVAL, unchanged},
		{"INIT2 flags", typeSNP, none, cmdINIT2, bytesAt(initParams(0, 1, 0)), unix.EINVAL, unchanged},
		{"INIT2 vTOM", typeSNP, none, cmdINIT2, bytesAt(initParams(1<<1, 0, 0)), unix.EINVAL, unchanged},
		{"INIT2 SNPActive", typeSNP, none, cmdINIT2, bytesAt(initParams(1, 0, 0)), unix.EINVAL, unchanged},
		{"INIT2 GHCB 3", typeSNP, none, cmdINIT2, bytesAt(initParams(0, 0, 3)), unix.EINVAL, unchanged},
		{"INIT2 fault", typeSNP, none, cmdINIT2, nowhere, unix.EFAULT, unchanged},
		{"INIT2 on a VM of another type", 0, none, cmdINIT2, bytesAt(initParams(0, 0, 0)), unix.EINVAL, unchanged},

		{"unknown command", typeSNP, initialised, 104, nowhere, unix.EINVAL, unchanged},
		{"unknown command before INIT2", typeSNP, none, 0xFFFFFFFF, nowhere, unix.EINVAL, unchanged},
		{"legacy command before INIT2", typeSNP, none, 0, nowhere, unix.EINVAL, unchanged},
		{"KVM_SEV_INIT after INIT2", typeSNP, initialised, 0, nowhere, unix.EPERM, unchanged},
		{"LAUNCH_MEASURE after INIT2", typeSNP, started, 6, nowhere, unix.EPERM, unchanged},
		{"id 99 after INIT2", typeSNP, initialised, 99, nowhere, unix.EPERM, unchanged},

		{"START", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x30000, 0)), 0, 0},
		{"START with DEBUG", typeSNP, initialised, cmdSTART, bytesAt(startParams(0xB0000, 0)), 0, 0},
		{"START ABI 1.55", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x30137, 0)), 0, 0},
		{"START before INIT2", typeSNP, none, cmdSTART, bytesAt(startParams(0x30000, 0)), unix.ENOTTY, unchanged},
		{"START on a VM of another type", 0, none, cmdSTART, bytesAt(startParams(0x30000, 0)), unix.ENOTTY, unchanged},
		{"START twice", typeSNP, started, cmdSTART, bytesAt(startParams(0x30000, 0)), unix.EINVAL, unchanged},
		{"START flags", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x30000, 1)), unix.EINVAL, unchanged},
		{"START bit 17 clear", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x10000, 0)), unix.EINVAL, unchanged},
		{"START SMT clear", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x20000, 0)), unix.EINVAL, unchanged},
		{"START MIGRATE_MA", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x70000, 0)), unix.EINVAL, unchanged},
		{"START SINGLE_SOCKET", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x130000, 0)), unix.EINVAL, unchanged},
		{"START CXL_ALLOW", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x230000, 0)), unix.EINVAL, unchanged},
		{"START PAGE_SWAP_DISABLE", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x2030000, 0)), unix.EINVAL, unchanged},
		{"START bit 26", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x4030000, 0)), unix.EINVAL, unchanged},
		{"START bit 63", typeSNP, initialised, cmdSTART, bytesAt(startParams(1<<63|0x30000, 0)), unix.EINVAL, unchanged},
		{"START ABI 1.56", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x30138, 0)), unix.EIO, 7},
		{"START ABI 2.0", typeSNP, initialised, cmdSTART, bytesAt(startParams(0x30200, 0)), unix.EIO, 7},
		{"START fault", typeSNP, initialised, cmdSTART, nowhere, unix.EFAULT, unchanged},

		{"UPDATE", typeSNP, ready, cmdUPDATE, page(1, pageSize, 1, 0), 0, unchanged},
		{"UPDATE before INIT2", typeSNP, none, cmdUPDATE, page(1, pageSize, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE before START", typeSNP, initialised, cmdUPDATE, page(1, pageSize, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE fault", typeSNP, ready, cmdUPDATE, nowhere, unix.EFAULT, unchanged},
		{"UPDATE len 0", typeSNP, ready, cmdUPDATE, page(1, 0, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE len unaligned", typeSNP, ready, cmdUPDATE, page(1, pageSize+1, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE flags", typeSNP, ready, cmdUPDATE, page(1, pageSize, 1, 1), unix.EINVAL, unchanged},
		{"UPDATE type 0", typeSNP, ready, cmdUPDATE, page(1, pageSize, 0, 0), unix.EINVAL, unchanged},
		{"UPDATE type VMSA", typeSNP, ready, cmdUPDATE, page(1, pageSize, 2, 0), unix.EINVAL, unchanged},
		{"UPDATE type 7", typeSNP, ready, cmdUPDATE, page(1, pageSize, 7, 0), unix.EINVAL, unchanged},
		{"UPDATE no slot", typeSNP, ready, cmdUPDATE, page(0x100000, pageSize, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE just behind a slot", typeSNP, ready, cmdUPDATE, page(0x1000, pageSize, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE gfn whose address overflows", typeSNP, ready, cmdUPDATE, page(1<<52, pageSize, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE slot without guest_memfd", typeSNP, func(m *machine) {
			ready(m)
			m.must(m.vm.Ioctl(m, nrUserMemory, m.put(encode(uint32(5), uint32(0), uint64(1<<30), uint64(pageSize), uint64(0x10000)))))
			m.must(m.attributes(1<<30, pageSize, 8))
		}, cmdUPDATE, page(1<<30/pageSize, pageSize, 1, 0), unix.EINVAL, unchanged},
		{"UPDATE not private", typeSNP, func(m *machine) { ready(m); m.must(m.attributes(0x1000, pageSize, 0)) }, cmdUPDATE, page(1, pageSize, 1, 0), unix.EIO, 0},
		{"UPDATE populated", typeSNP, func(m *machine) {
			ready(m)
			a, _, _ := m.update(1, 0, pageSize, 3, 0)
			m.must(a)
		}, cmdUPDATE, page(1, pageSize, 1, 0), unix.EIO, 0},
		{"UPDATE source fault", typeSNP, ready, cmdUPDATE, bytesAt(updateParams(1, 0, pageSize, 1, 0)), unix.EIO, 0},
		{"UPDATE CPUID refused", typeSNP, ready, cmdUPDATE, func(m *machine) uint64 {
			return m.put(updateParams(1, m.put([]byte{65}), pageSize, 6, 0))
		}, unix.EIO, 0x16},
		{"UPDATE after FINISH", typeSNP, launched, cmdUPDATE, page(1, pageSize, 1, 0), unix.EIO, 2},

		{"FINISH", typeSNP, started, cmdFINISH, bytesAt(finish{}.bytes()), 0, 0},
		{"FINISH before INIT2", typeSNP, none, cmdFINISH, bytesAt(finish{}.bytes()), unix.ENOTTY, unchanged},
		{"FINISH before START", typeSNP, initialised, cmdFINISH, bytesAt(finish{}.bytes()), unix.EINVAL, unchanged},
		{"FINISH fault", typeSNP, started, cmdFINISH, nowhere, unix.EFAULT, unchanged},
		{"FINISH flags", typeSNP, started, cmdFINISH, bytesAt(finish{flags: 1}.bytes()), unix.EINVAL, unchanged},
		{"FINISH twice", typeSNP, launched, cmdFINISH, bytesAt(finish{}.bytes()), unix.EIO, 2},
		{"FINISH twice with a vCPU", typeSNP, func(m *machine) { m.start(); m.vcpu(0); a, _ := m.finish(finish{}); m.must(a) }, cmdFINISH, bytesAt(finish{}.bytes()), unix.EINVAL, unchanged},
		{"FINISH id_block without id_auth", typeSNP, started, cmdFINISH, func(m *machine) uint64 {
			return m.put(finish{blockEn: 1, block: m.put(make([]byte, 96))}.bytes())
		}, unix.EINVAL, unchanged},
		{"FINISH id_auth without id_block", typeSNP, started, cmdFINISH, func(m *machine) uint64 {
			return m.put(finish{blockEn: 1, auth: m.put(make([]byte, 4096))}.bytes())
		}, unix.EINVAL, unchanged},
		{"FINISH id_block fault", typeSNP, started, cmdFINISH, func(m *machine) uint64 {
			return m.put(finish{blockEn: 1, block: 8, auth: m.put(make([]byte, 4096))}.bytes())
		}, unix.EFAULT, unchanged},
		{"FINISH auth_key_en without id_block_en", typeSNP, started, cmdFINISH, bytesAt(finish{authEn: 1}.bytes()), 0, 0},
		{"FINISH digest", typeSNP, ready1, cmdFINISH, func(m *machine) uint64 {
			return m.put(finish{blockEn: 1, block: m.put(make([]byte, 96)), auth: m.put(make([]byte, 4096))}.bytes())
		}, unix.EIO, 0x0B},
		{"FINISH with DR7 in use", typeSNP, func(m *machine) {
			m.start()
			d := make([]byte, 128)
			le.PutUint64(d[0x28:], 0x401)
			m.must(m.vcpu(0).Ioctl(m, nrSetDebugRegs, m.put(d)))
		}, cmdFINISH, bytesAt(finish{}.bytes()), unix.EINVAL, unchanged},
		{"FINISH with a debugger", typeSNP, func(m *machine) {
			m.start()
			m.must(m.vcpu(0).Ioctl(m, 0x4048AE9B, m.put(append([]byte{1}, make([]byte, 71)...))))
		}, cmdFINISH, bytesAt(finish{}.bytes()), unix.EINVAL, unchanged},
		{"FINISH after a debugger", typeSNP, func(m *machine) {
			m.start()
			v := m.vcpu(0)
			m.must(v.Ioctl(m, 0x4048AE9B, m.put(append([]byte{1}, make([]byte, 71)...))))
			m.must(v.Ioctl(m, 0x4048AE9B, m.put(make([]byte, 72))))
		}, cmdFINISH, bytesAt(finish{}.bytes()), 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.typ)
			c.setup(m)
			before := m.digest()
			a, fw := m.op(c.id, c.data(m))
			if a.Errno != c.errno || fw != c.error {
				t.Errorf("gives %s, error 0x%x; want %s, error 0x%x", errnoName(a.Errno), fw, errnoName(c.errno), c.error)
			}
			if a.Value != 0 || a.New != nil || a.Wait != nil {
				t.Errorf("answers %+v", a)
			}
			if c.errno != 0 && c.id != cmdFINISH && m.digest() != before {
				t.Error("failed and has changed the digest")
			}
		})
	}
}

// ready1 is a guest whose digest is no longer zero.
func ready1(m *machine) {
	m.start()
	m.memory16M()
	a, _, _ := m.update(0x800, 0, pageSize, 3, 0)
	m.must(a)
}

// A NULL argument asks whether memory encryption exists; QEMU's libvirt probe
// does. A command that cannot be read is EFAULT.
func TestEncryptOpNull(t *testing.T) {
	for _, typ := range []uint64{0, 1, typeSNP} {
		m := newMachine(t, typ)
		if a := m.vm.Ioctl(m, nrEncryptOp, 0); a.Errno != 0 || a.Value != 0 {
			t.Errorf("VM type %d: NULL: %+v", typ, a)
		}
		if a := m.vm.Ioctl(m, nrEncryptOp, 8); a.Errno != unix.EFAULT {
			t.Errorf("VM type %d: unreadable: %s", typ, errnoName(a.Errno))
		}
	}
}

// The answer that cannot be written back is EFAULT, and nothing has happened.
func TestEncryptOpReadOnly(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	m.memory16M()
	data := m.put(updateParams(1, m.put(make([]byte, pageSize)), pageSize, 1, 0))
	for _, frozen := range []string{"command", "parameters"} {
		cmd := m.put(encode(uint32(cmdUPDATE), uint32(0), data, uint32(0), uint32(sevFD)))
		at := map[string]uint64{"command": cmd, "parameters": data}[frozen]
		m.readOnly[at/pageSize] = true
		if a := m.vm.Ioctl(m, nrEncryptOp, cmd); a.Errno != unix.EFAULT {
			t.Errorf("%s read-only: %s", frozen, errnoName(a.Errno))
		}
		delete(m.readOnly, at/pageSize)
		if m.digest() != (snp.LaunchDigest{}) || len(m.gmem.populated) != 0 {
			t.Errorf("%s read-only: the page was taken", frozen)
		}
	}
	cmd := m.put(encode(uint32(cmdUPDATE), uint32(0), data, uint32(0), uint32(sevFD)))
	m.must(m.vm.Ioctl(m, nrEncryptOp, cmd))
}

// An ID auth whose page can be read only in part is filled up with zeros: QEMU
// allocates what the base64 gave, KVM reads 4096 bytes. Each byte that can
// be read counts.
func TestFinishShortIDAuth(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 04, X, Y
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 96) // of a guest without pages
	le.PutUint64(block[0x58:], 0x30000)
	sum := sha512.Sum384(block)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, 4096)
	auth[0] = 1
	le.PutUint32(auth[0x240:], 2)
	for at, number := range map[int][]byte{0x40: r.FillBytes(make([]byte, 48)), 0x40 + 72: s.FillBytes(make([]byte, 48)), 0x244: point[1:49], 0x244 + 72: point[49:]} {
		for i, c := range number {
			auth[at+47-i] = c
		}
	}
	const needed = 0x244 + 72 + 48 // Qy ends here
	for _, c := range []struct {
		readable int
		errno    unix.Errno
		error    uint32
	}{
		{4096, 0, 0}, {4095, 0, 0}, {0xC84, 0, 0}, {needed, 0, 0},
		{needed - 1, unix.EIO, 0x0A}, {1, unix.EIO, 0x0A},
		{0, unix.EFAULT, stale},
	} {
		m := newMachine(t, typeSNP)
		m.start()
		at := m.base + uint64(len(m.b)-c.readable)
		if err := m.Write(at, auth[:c.readable]); err != nil {
			t.Fatal(err)
		}
		if a, fw := m.finish(finish{blockEn: 1, block: m.put(block), auth: at}); a.Errno != c.errno || fw != c.error {
			t.Errorf("%d bytes readable: %s, error 0x%x; want %s, 0x%x", c.readable, errnoName(a.Errno), fw, errnoName(c.errno), c.error)
		}
	}
}
