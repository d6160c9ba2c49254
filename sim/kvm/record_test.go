package kvm

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// A record tells a launch so that its digest can be made again from the record alone.
func TestRecord(t *testing.T) {
	m := newMachineOf(t, "genoa", "6.12", Options{})
	m.start()
	m.memory16M()
	for i, typ := range []uint8{1, 3, 5, 6, 4} {
		a, _, _ := m.update(0x800+uint64(i), m.put(make([]byte, pageSize)), pageSize, typ, 0)
		m.must(a)
	}
	twoVCPUs(m)
	a, _ := m.finish(finish{vcekNo: 1, hostData: [32]byte{7}})
	m.must(a)
	r, ok := m.events[len(m.events)-1].Record()
	if !ok {
		t.Fatal("a finished launch has no record")
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	// Read again as a stranger would.
	var got struct {
		Simulated     bool
		Product       string
		Firmware      string
		KernelProfile string `json:"kernel_profile"`
		Command       string
		Errno         *int
		Status        *int   `json:"firmware_status"`
		Digest        string `json:"launch_digest"`
		Policy        string
		GOSVW         string
		Features      string `json:"sev_features"`
		HostData      string `json:"host_data"`
		VCEKDisabled  bool   `json:"vcek_disabled"`
		IDBlock       []byte `json:"id_block"`
		Updates       []struct {
			Type, GPA, Contents, Digest string
			Length                      int
		}
		VMSAs []struct {
			VCPU      int
			Bytes     []byte
			Segments  map[string]Segment
			Registers map[string]string
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !got.Simulated || got.Product != "Genoa" || got.Firmware != "1.55.25" || got.KernelProfile != "6.12" || got.Command != "SNP_LAUNCH_FINISH" ||
		*got.Errno != 0 || *got.Status != 0 || got.Policy != "0x30000" || got.GOSVW != "c0de0000000000000000000000000000" || got.Features != "0x1" ||
		got.HostData[:4] != "0700" || !got.VCEKDisabled || got.IDBlock != nil {
		t.Errorf("%s", text)
	}
	types := map[string]uint8{"NORMAL": 1, "VMSA": 2, "ZERO": 3, "UNMEASURED": 4, "SECRETS": 5, "CPUID": 6}
	var ld snp.LaunchDigest
	for i, u := range got.Updates {
		var gpa uint64
		var contents [48]byte
		var sum []byte
		fmt.Sscanf(u.GPA, "0x%x", &gpa)
		fmt.Sscanf(u.Contents, "%x", &sum)
		copy(contents[:], sum)
		ld = fold(ld, types[u.Type], gpa, contents)
		if u.Digest != ld.String() || u.Length != pageSize {
			t.Errorf("page %d: %+v, want digest %s", i, u, ld)
		}
	}
	if len(got.Updates) != 7 || got.Digest != ld.String() || got.Digest != m.digest().String() {
		t.Errorf("%d pages, digest %s; want 7, %s", len(got.Updates), got.Digest, m.digest())
	}
	if len(got.VMSAs) != 2 {
		t.Fatalf("%d save areas", len(got.VMSAs))
	}
	for i, reset := range []uint32{0, apReset} {
		v := got.VMSAs[i]
		if v.VCPU != i || !bytes.Equal(v.Bytes, expectedVMSA(reset)) {
			t.Errorf("save area %d is another one", i)
		}
		if v.Registers["rdx"] != "0x800f12" || v.Registers["mxcsr"] != "0x1f80" || v.Registers["sev_features"] != "0x1" || v.Registers["rax"] != "" {
			t.Errorf("registers %v", v.Registers)
		}
	}
	if cs := got.VMSAs[1].Segments["cs"]; cs != (Segment{"0xf000", "0x9b", "0xffff", "0x800000"}) || got.VMSAs[1].Registers["rip"] != "0xb004" {
		t.Errorf("the second vCPU begins at %+v, %s", cs, got.VMSAs[1].Registers["rip"])
	}
}

// What ends a launch and what does not.
func TestRecordOfFailures(t *testing.T) {
	for _, c := range []struct {
		fault, command, status string
		errno                  unix.Errno
		pages                  int
	}{
		{"INIT2=HWERROR_PLATFORM", "KVM_SEV_INIT2", "HWERROR_PLATFORM", unix.EIO, 0},
		{"SNP_ACTIVATE=RESOURCE_LIMIT", "SNP_LAUNCH_START", "RESOURCE_LIMIT", unix.EIO, 0},
		{"SNP_LAUNCH_UPDATE:2=INVALID_PAGE_STATE", "SNP_LAUNCH_UPDATE", "INVALID_PAGE_STATE", unix.EIO, 1},
		{"SNP_LAUNCH_FINISH=BAD_SIGNATURE", "SNP_LAUNCH_FINISH", "BAD_SIGNATURE", unix.EIO, 3},
	} {
		m := faulty(t, c.fault)
		launchWith(m)
		var records []Record
		for _, e := range m.events {
			if r, ok := e.Record(); ok {
				records = append(records, r)
			}
		}
		if len(records) != 1 {
			t.Errorf("%s: %d records", c.fault, len(records))
			continue
		}
		r := records[0]
		if r.Command != c.command || r.Errno != int(c.errno) || r.ErrnoName != unix.ErrnoName(c.errno) || r.FirmwareStatusName != c.status || len(r.Updates) != c.pages {
			t.Errorf("%s: %s, %d %s, %s, %d pages", c.fault, r.Command, r.Errno, r.ErrnoName, r.FirmwareStatusName, len(r.Updates))
		}
	}
	m := faulty(t, "SNP_LAUNCH_UPDATE:1=EAGAIN")
	launchWith(m)
	if _, ok := m.events[len(m.events)-1].Record(); ok {
		t.Error("a call that will be made again ends a launch")
	}
}

// An observer hears that a call was taken back.
func TestUndoneIsObserved(t *testing.T) {
	m := newMachine(t, typeSNP)
	m.start()
	a, _ := m.finish(finish{})
	a.Undo()
	if e := m.events[len(m.events)-1]; e.Kind != EventUndone || e.VM != m.vm {
		t.Errorf("observed %+v", e)
	}
}

// Options.KeepPages: every page as it was handed to the firmware, and nothing
// of a call that was undone.
func TestKeepPages(t *testing.T) {
	m := newMachineOf(t, "genoa", "6.12", Options{KeepPages: true})
	m.start()
	m.memory16M()
	normal, secrets := pattern(2*pageSize), bytes.Repeat([]byte{0x5A}, pageSize)
	update := func(gfn uint64, b []byte, typ uint8) Answer {
		a, _, _ := m.update(gfn, m.put(b), uint64(len(b)), typ, 0)
		return m.must(a)
	}
	update(0x800, normal, 1).Undo()
	update(0x800, normal, 1)
	update(0x802, make([]byte, pageSize), 3)
	update(0x803, secrets, 5)
	twoVCPUs(m)
	a, _ := m.finish(finish{})
	m.must(a).Undo()
	a, _ = m.finish(finish{})
	m.must(a)
	pages := m.vm.Pages()
	want := [][]byte{normal[:pageSize], normal[pageSize:], nil, secrets, expectedVMSA(0), expectedVMSA(apReset)}
	if len(pages) != len(want) {
		t.Fatalf("%d pages, want %d", len(pages), len(want))
	}
	for i, p := range pages {
		if !bytes.Equal(p.Bytes, want[i]) || p.Update != m.vm.Guest().Updates()[i] {
			t.Errorf("page %d is another one", i)
		}
		if p.Type.Measured() && p.Contents != snp.ContentDigest(sha512.Sum384(p.Bytes)) {
			t.Errorf("page %d: its digest is not that of its bytes", i)
		}
	}
	plain := newMachine(t, typeSNP)
	launchWith(plain)
	if n := len(plain.vm.Pages()); n != 0 {
		t.Errorf("%d pages kept unasked", n)
	}
}
