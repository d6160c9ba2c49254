package kvm

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// issue makes a SEV_ISSUE_CMD and gives what stands in error afterwards.
func (m *machine) issue(cmd uint32, data uint64) (Answer, uint32) {
	m.Helper()
	at := m.put(encode(cmd, data, uint32(stale)))
	a := m.fds[sevFD].Ioctl(m, nrSEVIssueCommand, at)
	return a, le.Uint32(m.get(at+12, 4))
}

// PDH_CERT_EXPORT as QEMU and libvirt ask for it: first for the lengths, which
// come with INVALID_LEN, then for the certificates.
func TestPDHCertExport(t *testing.T) {
	m := newMachine(t, typeSNP)
	const pdh, chain = 2084, 6252
	ask := func(pdhAt uint64, pdhRoom uint32, chainAt uint64, chainRoom uint32) (Answer, uint32, uint64) {
		at := m.put(encode(pdhAt, pdhRoom, chainAt, chainRoom))
		a, fw := m.issue(5, at)
		return a, fw, at
	}
	lengths := func(at uint64) [2]uint32 { return [2]uint32{le.Uint32(m.get(at+8, 4)), le.Uint32(m.get(at+20, 4))} }
	to, chainTo := m.put(bytes.Repeat([]byte{0xA5}, pdh+1)), m.put(bytes.Repeat([]byte{0xA5}, chain+1))
	for name, c := range map[string]struct {
		pdhAt     uint64
		pdhRoom   uint32
		chainAt   uint64
		chainRoom uint32
	}{
		"nothing": {}, "no addresses": {0, pdh, 0, chain}, "no length": {to, 0, chainTo, chain}, "PDH too short": {to, pdh - 1, chainTo, chain}, "chain too short": {to, pdh, chainTo, chain - 1},
	} {
		a, fw, at := ask(c.pdhAt, c.pdhRoom, c.chainAt, c.chainRoom)
		if a.Errno != unix.EIO || fw != 4 || lengths(at) != [2]uint32{pdh, chain} || m.get(to, 1)[0] != 0xA5 {
			t.Errorf("%s: %s, error %#x, lengths %v", name, errnoName(a.Errno), fw, lengths(at))
		}
	}
	a, fw, at := ask(to, pdh, chainTo, chain)
	if a.Errno != 0 || fw != 0 || lengths(at) != [2]uint32{pdh, chain} {
		t.Errorf("%s, error %#x, lengths %v", errnoName(a.Errno), fw, lengths(at))
	}
	if m.get(to+pdh, 1)[0] != 0xA5 || m.get(chainTo+chain, 1)[0] != 0xA5 {
		t.Error("more is written than there is room for")
	}
	for i, want := range []uint32{0x1002, 0x1001, 0x1004} { // PEK, OCA, CEK
		if got := le.Uint32(m.get(chainTo+uint64(i)*pdh+8, 4)); got != want {
			t.Errorf("certificate %d of the chain has usage %#x, want %#x", i, got, want)
		}
	}
	if got := le.Uint32(m.get(to+8, 4)); got != 0x1003 {
		t.Errorf("the PDH has usage %#x", got)
	}
	if a, _, _ := ask(to, 1<<20, chainTo, chain); a.Errno != unix.EFAULT {
		t.Errorf("more than the kernel gives to the firmware: %s", errnoName(a.Errno))
	}
	if a, _, _ := ask(8, pdh, chainTo, chain); a.Errno != unix.EFAULT {
		t.Errorf("PDH nowhere: %s", errnoName(a.Errno))
	}
	if a, _ := m.issue(5, 8); a.Errno != unix.EFAULT {
		t.Errorf("parameters nowhere: %s", errnoName(a.Errno))
	}
}

// GET_ID and GET_ID2 tell the chip of reports.
func TestGetID(t *testing.T) {
	m := newMachine(t, typeSNP)
	both, one := m.put(bytes.Repeat([]byte{0xA5}, 129)), m.put(make([]byte, 64))
	if a, fw := m.issue(7, both); a.Errno != 0 || fw != 0 {
		t.Errorf("GET_ID: %s, error %#x", errnoName(a.Errno), fw)
	}
	if a, fw := m.issue(8, m.put(encode(one, uint32(64)))); a.Errno != 0 || fw != 0 {
		t.Errorf("GET_ID2: %s, error %#x", errnoName(a.Errno), fw)
	}
	id := m.host.platform.ChipID()
	if got := m.get(both, 129); !bytes.Equal(got[:64], id[:]) || !bytes.Equal(got[64:128], make([]byte, 64)) || got[128] != 0xA5 || !bytes.Equal(m.get(one, 64), id[:]) {
		t.Error("not the chip's id")
	}
	ask := m.put(encode(uint64(0), uint32(64)))
	if a, fw := m.issue(8, ask); a.Errno != unix.EIO || fw != 4 || le.Uint32(m.get(ask+8, 4)) != 64 {
		t.Errorf("GET_ID2 without an address: %s, error %#x", errnoName(a.Errno), fw)
	}
}

// SNP_SET_CONFIG, SNP_COMMIT and SNP_VLEK_LOAD change what SNP_PLATFORM_STATUS
// says; what is wrong in them is refused by the kernel or by the firmware.
func TestConfigCommands(t *testing.T) {
	m := newMachine(t, typeSNP)
	status := func() (flags uint32, reported uint64) {
		at := m.put(make([]byte, 32))
		a, _ := m.issue(9, at)
		m.must(a)
		return le.Uint32(m.get(at+8, 4)), le.Uint64(m.get(at+24, 8))
	}
	if flags, _ := status(); flags != 0 {
		t.Errorf("flags %#x at first", flags)
	}
	config := func(tcb uint64, bits uint32, rest byte) uint64 {
		return m.put(append(encode(tcb, bits), bytes.Repeat([]byte{rest}, 52)...))
	}
	const older = 20<<48 | 72<<56 | 9 // SNP 20, microcode 72, boot loader 9
	load := func(n uint32, version uint8, at uint64) uint64 { return m.put(encode(n, version, [3]uint8{}, at)) }
	stick := m.put(make([]byte, 432))
	for _, c := range []struct {
		what  string
		cmd   uint32
		data  uint64
		errno unix.Errno
		fw    uint32
	}{
		{"SET_CONFIG", 11, config(older, 3, 0), 0, 0},
		{"SET_CONFIG, TCB above the committed one", 11, config(99<<48, 0, 0), unix.EIO, 0x21},
		{"SET_CONFIG, reserved bit", 11, config(0, 4, 0), unix.EIO, 0x16},
		{"SET_CONFIG, reserved byte", 11, config(0, 0, 1), unix.EIO, 0x16},
		{"SET_CONFIG of nothing", 11, 0, unix.EINVAL, stale},
		{"SET_CONFIG from nowhere", 11, 8, unix.EFAULT, stale},
		{"COMMIT", 10, 0, 0, 0},
		{"VLEK_LOAD", 12, load(16, 0, stick), 0, 0},
		{"VLEK_LOAD, length", 12, load(17, 0, stick), unix.EINVAL, stale},
		{"VLEK_LOAD, version", 12, load(16, 1, stick), unix.EINVAL, stale},
		{"VLEK_LOAD of nothing", 12, load(16, 0, 0), unix.EINVAL, stale},
		{"VLEK_LOAD without parameters", 12, 0, unix.EINVAL, stale},
		{"VLEK_LOAD from nowhere", 12, load(16, 0, 8), unix.EFAULT, stale},
		{"SNP_PLATFORM_STATUS to nothing", 9, 0, unix.EINVAL, stale},
	} {
		if a, fw := m.issue(c.cmd, c.data); a.Errno != c.errno || fw != c.fw {
			t.Errorf("%s: %s, error %#x; want %s, %#x", c.what, errnoName(a.Errno), fw, errnoName(c.errno), c.fw)
		}
	}
	if flags, reported := status(); flags != 7 || reported != older { // both masks, VLEK
		t.Errorf("flags %#x, reported TCB %#x", flags, reported)
	}
	turin := newMachineOf(t, "turin", "7.2", Options{})
	at := turin.put(make([]byte, 32))
	a, _ := turin.issue(9, at)
	turin.must(a)
	if got := le.Uint32(turin.get(at+8, 4)); got != 1<<3|1<<5 { // feature info, ciphertext hiding
		t.Errorf("Turin: flags %#x", got)
	}
}

// Faults hit these commands by name too.
func TestFaultsAtDevSEV(t *testing.T) {
	for fault, cmd := range map[string]uint32{
		"PLATFORM_STATUS=INVALID_PLATFORM_STATE": 1, "PDH_CERT_EXPORT=INVALID_PLATFORM_STATE": 5, "GET_ID=INVALID_PLATFORM_STATE": 7, "GET_ID2=INVALID_PLATFORM_STATE": 8,
		"SNP_PLATFORM_STATUS=INVALID_PLATFORM_STATE": 9, "SNP_COMMIT=INVALID_PLATFORM_STATE": 10, "SNP_CONFIG=INVALID_PLATFORM_STATE": 11, "SNP_VLEK_LOAD=INVALID_PLATFORM_STATE": 12,
	} {
		m := faulty(t, fault)
		data := m.put(make([]byte, 128))
		if cmd == 12 {
			data = m.put(encode(uint32(16), uint32(0), data))
		}
		if a, fw := m.issue(cmd, data); a.Errno != unix.EIO || fw != 1 {
			t.Errorf("%s: %s, error %#x", fault, errnoName(a.Errno), fw)
		}
	}
	m := faulty(t, "SEV_ISSUE_CMD:2=ENOTTY")
	data := m.put(make([]byte, 64))
	for i, want := range []unix.Errno{0, unix.ENOTTY, 0} {
		if a, _ := m.issue(1, data); a.Errno != want {
			t.Errorf("call %d: %s", i+1, errnoName(a.Errno))
		}
	}
}
