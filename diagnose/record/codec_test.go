package record_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/snp"
)

func digest(b []byte) snp.ContentDigest { return sha512.Sum384(b) }

// example has one of everything.
func example() *record.File {
	page := bytes.Repeat([]byte("page"), snp.PageSize/4)
	exit := 1
	ld := snp.LaunchDigest(sha512.Sum384([]byte("launch")))
	next := &record.Result{From: record.FromNextCall}
	return &record.File{
		Tool: "snplaunch test", Source: record.SourceSoftware, Command: []string{"qemu", "-name", "a <b> & \"c\"\n"}, OtherVMs: 2,
		Launches: []record.Launch{
			{
				Program: record.Program{Path: "/usr/bin/qemu", Version: "QEMU emulator version 10", Args: []string{"qemu", ""}}, VMType: record.VMTypeSNP,
				Calls: []record.Call{
					{With: &record.Other{Device: "sev", Command: 1}, Result: next},
					{With: &record.Init{VMSAFeatures: 1, Flags: 2, GHCBVersion: 2}, Result: next},
					{With: &record.CreateVCPU{ID: 7}},
					{With: &record.CreateMemfd{Size: 1 << 30, Flags: 1}},
					{With: &record.SetSlot{Slot: 1, Flags: 4, GPA: 1 << 32, Size: 4096, Memfd: 1, Offset: 8192}},
					{With: &record.SetSlot{Old: true}},
					{With: &record.SetAttributes{GPA: 4096, Size: 4096, Attributes: 8}},
					{With: &record.Start{Policy: 0x30000, GOSVW: [16]byte{1, 2}, Flags: 3}, Result: next},
					{With: &record.Update{Type: snp.PageNormal, GPA: 1 << 40, Length: 2 * snp.PageSize, Flags: 1, VMPLs: [3]uint8{1, 2, 3}, Contents: []snp.ContentDigest{digest(page), {1}}}, Result: next},
					{With: &record.Update{Type: 9, GPA: 0, Length: 1}, Result: next},
					{With: &record.Finish{IDBlock: make([]byte, 96), IDAuth: bytes.Repeat([]byte{1}, 4096), IDBlockEnabled: true, AuthorKey: true, VCEKDisabled: true, HostData: snp.HostData{5}, Flags: 1},
						Result: &record.Result{Errno: 5, FWError: -1, From: record.FromStderr}},
				},
				VCPUs: []record.VCPU{{ID: 7, Sets: []record.RegisterSet{
					{Call: "KVM_SET_REGS", Data: append([]byte{1, 0, 2}, make([]byte, 141)...)},
					{Call: "KVM_SET_MSRS", Data: make([]byte, 24)},
				}}},
				End:  record.End{Exit: &exit, Stderr: "bad\n"},
				Host: &record.Host{Product: "Genoa", Firmware: "1.55.25", KernelProfile: "6.12", Command: "SNP_LAUNCH_FINISH", Errno: 5, FWError: 11, LaunchDigest: &ld},
			},
			{VMType: 4, SaveAreas: [][]byte{page, make([]byte, snp.PageSize)}, End: record.End{Signal: true}},
		},
		Pages: map[snp.ContentDigest][]byte{digest(page): page},
	}
}

func written(t testing.TB, f *record.File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	b := written(t, example())
	f, err := record.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f, example()) {
		t.Errorf("read\n%+v\nwritten\n%+v", f, example())
	}
	if again := written(t, f); !bytes.Equal(again, b) {
		t.Error("the same record has other bytes the second time")
	}
}

// A record that was cut off or altered anywhere is refused, with a sentence.
func TestDamagedRecords(t *testing.T) {
	b := written(t, example())
	for n := range len(b) {
		if _, err := record.Parse(b[:n]); err == nil {
			t.Fatalf("cut off after %d bytes of %d: it is taken", n, len(b))
		} else if n > 100 && n < len(b)-100 && !strings.Contains(err.Error(), "cut off") && !strings.Contains(err.Error(), "altered") {
			t.Fatalf("cut off after %d bytes: %v", n, err)
		}
	}
	for n := range len(b) {
		for _, flip := range []byte{1, 0x20} {
			bad := bytes.Clone(b)
			bad[n] ^= flip
			if _, err := record.Parse(bad); err == nil {
				t.Fatalf("byte %d of %d altered: it is taken\n%s", n, len(b), bad[max(0, n-40):min(len(b), n+40)])
			}
		}
	}
}

// signed puts the right checksum under lines.
func signed(lines ...string) []byte {
	body := strings.Join(lines, "\n") + "\n"
	return fmt.Appendf(nil, "%s{\"sha256\":\"%x\"}\n", body, sha256.Sum256([]byte(body)))
}

const head = `{"snplaunch_record":1,"tool":"t","source":"kernel"}`

func TestRefusals(t *testing.T) {
	launch := `{"launch":{"program":{},"vm_type":4}}`
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"PK"}, "no record"},
		{[]string{`{"snplaunch_record":2,"new":"field"}`}, "version 2 of its form, and this snplaunch reads version 1"},
		{[]string{`{"snplaunch_record":1,"other":1}`}, "line 1"},
		{[]string{head, `{"end":{}}`}, "belongs to a launch"},
		{[]string{head, launch}, "has no end"},
		{[]string{head, launch, launch}, "before the last has ended"},
		{[]string{head, `{"surprise":1}`}, "surprise"},
		{[]string{head, launch, `{"call":"KVM_RUN","with":{}}`, `{"end":{}}`}, "no call of a record"},
		{[]string{head, launch, `{"registers":"KVM_SET_REGS","size":144,"data":""}`, `{"end":{}}`}, "no vCPU"},
		{[]string{head, launch, `{"vcpu":0}`, `{"registers":"KVM_SET_REGS","size":145,"data":""}`, `{"end":{}}`}, "145 bytes"},
		{[]string{head, launch, `{"vcpu":0}`, `{"registers":"KVM_GET_REGS","size":144,"data":""}`, `{"end":{}}`}, "KVM_GET_REGS"},
		{[]string{head, launch, `{"call":"SNP_LAUNCH_UPDATE","with":{"type":"type 300","gpa":"0x0","length":"0x0","flags":"0x0"}}`, `{"end":{}}`}, "page type"},
		{[]string{head, launch, `{"call":"SNP_LAUNCH_UPDATE","with":{"type":"NORMAL","gpa":"12","length":"0x0","flags":"0x0"}}`, `{"end":{}}`}, "not a number"},
		{[]string{head, launch, `{"call":"SNP_LAUNCH_START","with":{"policy":"0x1","gosvw":"00","flags":"0x0"}}`, `{"end":{}}`}, "gosvw"},
		{[]string{head, `{"page":"` + strings.Repeat("00", 48) + `","deflate":"AA=="}`}, "does not unfold"},
	} {
		if _, err := record.Parse(signed(c.lines...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.lines, err, c.want)
		}
	}
	if _, err := record.Parse(signed(head)); err != nil {
		t.Errorf("an empty record: %v", err)
	}
}

// What is taken can be written and gives itself again.
func FuzzParse(f *testing.F) {
	whole := written(f, example())
	f.Add(string(whole[:bytes.LastIndex(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))]))
	f.Add(head)
	f.Fuzz(func(t *testing.T, body string) {
		r, err := record.Parse(signed(body))
		if err != nil {
			return
		}
		b := written(t, r)
		again, err := record.Parse(b)
		if err != nil {
			t.Fatalf("what it writes is refused: %v\n%s", err, b)
		}
		if !bytes.Equal(written(t, again), b) {
			t.Fatal("it writes something else the second time")
		}
	})
}
