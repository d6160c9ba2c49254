package kvm

import (
	"bytes"
	"crypto/sha512"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// fold is the digest of one more page: SHA-384 of PAGE_INFO (AMD 56860,
// SNP_LAUNCH_UPDATE), laid out here on its own.
func fold(ld snp.LaunchDigest, typ uint8, gpa uint64, contents [48]byte) snp.LaunchDigest {
	info := make([]byte, 0x70)
	copy(info, ld[:])
	copy(info[0x30:], contents[:])
	info[0x60] = 0x70
	info[0x62] = typ
	le.PutUint64(info[0x68:], gpa)
	return sha512.Sum384(info)
}

// pattern gives n bytes that differ from page to page.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>12)
	}
	return b
}

// SNP_LAUNCH_UPDATE is in and out: what was done is taken off the request.
// QEMU repeats the call while len is not 0.
func TestUpdateTakesWhatWasDoneOffTheRequest(t *testing.T) {
	const pages = 3
	for _, c := range []struct {
		name     string
		typ      uint8
		measured bool
	}{{"NORMAL", 1, true}, {"ZERO", 3, false}, {"UNMEASURED", 4, false}, {"SECRETS", 5, false}, {"CPUID", 6, false}} {
		m := newMachine(t, typeSNP)
		m.start()
		m.memory16M()
		contents := make([]byte, pages*pageSize) // zero bytes are a CPUID page too
		if c.measured {
			contents = pattern(len(contents))
		}
		src := m.put(contents)
		a, fw, back := m.update(0x800, src, pages*pageSize, c.typ, 0)
		if a.Errno != 0 || a.Value != 0 || fw != stale {
			t.Errorf("%s: %+v, error %#x", c.name, a, fw)
		}
		wantUaddr := src + pages*pageSize
		if c.typ == 3 {
			wantUaddr = src // ZERO has no source
		}
		if want := updateParams(0x800+pages, wantUaddr, 0, c.typ, 0); !bytes.Equal(back, want) {
			t.Errorf("%s: came back as\n% x\nwant\n% x", c.name, back, want)
		}
		if got := m.get(src, len(contents)); !bytes.Equal(got, contents) {
			t.Errorf("%s: the caller's pages were changed", c.name)
		}
		var ld snp.LaunchDigest
		for i := range pages {
			var sum [48]byte
			if c.measured {
				sum = sha512.Sum384(contents[i*pageSize:][:pageSize])
			}
			gpa := uint64(0x800+i) * pageSize
			ld = fold(ld, c.typ, gpa, sum)
			want := snp.Update{Type: snp.PageType(c.typ), GPA: gpa, Length: pageSize, Contents: sum}
			if u := m.vm.Guest().Updates(); len(u) != pages || u[i] != want {
				t.Errorf("%s: page %d recorded as %+v, want %+v", c.name, i, u[i], want)
			}
		}
		if m.digest() != ld {
			t.Errorf("%s: digest %s, want %s", c.name, m.digest(), ld)
		}
	}
}

// A ZERO page needs no readable source.
func TestUpdateZeroReadsNothing(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	m.memory16M()
	a, _, back := m.update(0x800, 8, pageSize, 3, 0)
	m.must(a)
	if got := le.Uint64(back[8:]); got != 8 {
		t.Errorf("uaddr became %#x", got)
	}
}

// What stops an update half-way is told when the caller asks for the rest: the
// first call gives 0 with what is left, the next one the error.
func TestUpdateStopsHalfWay(t *testing.T) {
	const pages = 4
	for _, c := range []struct {
		name  string
		typ   uint8
		gfn   uint64
		setup func(*machine, uint64) // with the source address
		done  uint64
		errno unix.Errno
		error uint32
	}{
		{"end of the slot", 1, 0xFFE, func(*machine, uint64) {}, 2, unix.EINVAL, stale},
		{"shared page", 1, 0x10, func(m *machine, _ uint64) { m.must(m.attributes(0x13*pageSize, pageSize, 0)) }, 3, unix.EIO, 0},
		{"populated page", 1, 0x10, func(m *machine, _ uint64) { a, _, _ := m.update(0x11, 0, pageSize, 3, 0); m.must(a) }, 1, unix.EIO, 0},
		{"source ends", 1, 0x10, nil, 2, unix.EIO, 0},
		{"CPUID page refused", 6, 0x10, func(m *machine, src uint64) { m.must(answerOf(m.Write(src+2*pageSize, []byte{65}))) }, 2, unix.EIO, 0x16},
	} {
		m := newMachine(t, typeSNP)
		m.start()
		m.memory16M()
		src := m.put(make([]byte, pages*pageSize))
		if c.setup == nil {
			src = m.base + uint64(len(m.b)) - c.done*pageSize
		} else {
			c.setup(m, src)
		}
		a, fw, back := m.update(c.gfn, src, pages*pageSize, c.typ, 0)
		if a.Errno != 0 || fw != stale {
			t.Errorf("%s: first call gives %s, error %#x; want 0 and no error told", c.name, errnoName(a.Errno), fw)
		}
		left := updateParams(c.gfn+c.done, src+c.done*pageSize, (pages-c.done)*pageSize, c.typ, 0)
		if !bytes.Equal(back, left) {
			t.Errorf("%s: came back as\n% x\nwant\n% x", c.name, back, left)
		}
		before := m.digest()
		a, fw = m.op(cmdUPDATE, m.put(back))
		if a.Errno != c.errno || fw != c.error {
			t.Errorf("%s: second call gives %s, error %#x; want %s, %#x", c.name, errnoName(a.Errno), fw, errnoName(c.errno), c.error)
		}
		if m.digest() != before {
			t.Errorf("%s: the failing call changed the digest", c.name)
		}
	}
}

func answerOf(err error) Answer {
	if err != nil {
		return fail(unix.EFAULT)
	}
	return ok()
}

// A rejected CPUID page comes back with what the firmware would accept; QEMU
// prints the difference. The parameters stay as they were.
func TestUpdateCPUIDComesBackCorrected(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	m.memory16M()
	page := make([]byte, pageSize)
	page[0] = 2
	le.PutUint32(page[16:], 0x80000000)
	le.PutUint32(page[16+48:], 1)
	le.PutUint32(page[16+48+24:], 0x00B00F21) // a Turin, on a Genoa (A10F11)
	src := m.put(page)
	a, fw, back := m.update(0x800, src, pageSize, 6, 0)
	if a.Errno != unix.EIO || fw != 0x16 {
		t.Errorf("gives %s, error %#x; want EIO, 0x16", errnoName(a.Errno), fw)
	}
	if !bytes.Equal(back, updateParams(0x800, src, pageSize, 6, 0)) {
		t.Error("the parameters were changed")
	}
	want := bytes.Clone(page)
	le.PutUint32(want[16+48+24:], 0x00A10F11)
	if !bytes.Equal(m.get(src, pageSize), want) {
		t.Error("the page did not come back with the processor's own signature")
	}
	if e := m.events[len(m.events)-1]; e.Kind != EventUpdate || e.Errno != int(unix.EIO) || e.Status != snp.StatusInvalidParam || e.Page.GPA != 0x800000 || e.Page.Type != snp.PageCPUID {
		t.Errorf("observed %+v", e)
	}
	// A call that was interrupted is restarted by the kernel with the same
	// page: it must fail again, and say the same.
	a.Undo()
	if !bytes.Equal(m.get(src, pageSize), page) {
		t.Error("undone, and the page is still corrected: the restarted call would succeed")
	}
	if a, fw, _ := m.update(0x800, src, pageSize, 6, 0); a.Errno != unix.EIO || fw != 0x16 {
		t.Errorf("restarted: %s, error %#x", errnoName(a.Errno), fw)
	}
	// As QEMU's next try would: the corrected page is taken.
	a, _, _ = m.update(0x800, src, pageSize, 6, 0)
	m.must(a)
}

// One call takes 128 MiB at most, and the caller asks again.
func TestUpdateIsBounded(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	m.must(m.region(0, 0, 1<<30, 0))
	m.must(m.attributes(0, 1<<30, 8))
	a, _, back := m.update(0, 0, 1<<30, 3, 0)
	m.must(a)
	if gfn, left := le.Uint64(back), le.Uint64(back[16:]); gfn != 1<<27/pageSize || left != 1<<30-1<<27 {
		t.Errorf("gfn %#x, %#x bytes left", gfn, left)
	}
}

// Published vectors, through the ioctls: an independent script's digests of the
// lists ZERO @800000; NORMAL, 4096 zero bytes, @FFC00000; SECRETS @80D000 and
// CPUID @80E000; one vCPU of QEMU's model EPYC.
func TestVectors(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	m.memory16M()
	src := m.put(make([]byte, pageSize))
	for _, c := range []struct {
		updates [][2]uint64 // type, gpa
		want    string
	}{
		{[][2]uint64{{3, 0x800000}}, "4472405c6dbc65e5629805f2be1b3df74eb119841eff12466c24f43e67083c23df5e645b2742b6d9aa0f943e095cebaa"},
		{[][2]uint64{{1, 0xFFC00000}}, "bc9bc5b3f16081d96e1a3780d25085616972cd8342caa89d1d35854ef1295068f23b67f20792a1edc8df01d6ddf0cd1f"},
		{[][2]uint64{{5, 0x80D000}, {6, 0x80E000}}, "c7e98bac96dc476651dbf6b8ee7bc3a9b1821a90f208ba95714c585f9979a6ebb47a37bfb45511cea968f7c0b293ae34"},
	} {
		for _, u := range c.updates {
			a, _, _ := m.update(u[1]/pageSize, src, pageSize, uint8(u[0]), 0)
			m.must(a)
		}
		if got := m.digest().String(); got != c.want {
			t.Errorf("after %x: %s, want %s", c.updates, got, c.want)
		}
	}
	v := m.vcpu(0)
	m.setQEMURegisters(v, qemuVCPU{})
	a, _ := m.finish(finish{})
	m.must(a)
	if got, want := m.digest().String(), "0c6fc05ba350350faed3b4c3816d1fd22a87bcf9eb748947c2c3525693ef912e0a9b999079379fdbeb80ed186beccbe8"; got != want {
		t.Errorf("with the VMSA: %s, want %s", got, want)
	}
	if e := m.events[len(m.events)-1]; e.Kind != EventFinish || e.Errno != 0 || e.Status != 0 || e.Guest != m.vm.Guest() || e.VM != m.vm || e.PID != 4711 {
		t.Errorf("observed %+v", e)
	}
}
