package report_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	multierror "github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// expected is a report and everything that can be expected of it.
func expected() (*snp.Report, report.Expect) {
	r := &snp.Report{
		Version: 3, CPUFamily: 0x19, GuestSVN: 5, Policy: 0x30000, VMPL: 1,
		FamilyID: snp.FamilyID{1}, ImageID: snp.ImageID{2}, ReportData: snp.ReportData{3}, Measurement: snp.LaunchDigest{4},
		HostData: snp.HostData{5}, IDKeyDigest: snp.KeyDigest{6}, AuthorKeyDigest: snp.KeyDigest{7},
		ReportedTCB: 0x48_15_0000_0000_03_09, // microcode 0x48, SNP 0x15, TEE 3, boot loader 9
	}
	measurement, data, host, policy, id, author := r.Measurement, r.ReportData, r.HostData, r.Policy, r.IDKeyDigest, r.AuthorKeyDigest
	family, image, svn, vmpl := r.FamilyID, r.ImageID, r.GuestSVN, r.VMPL
	return r, report.Expect{
		Measurement: &measurement, ReportData: &data, HostData: &host, Policy: &policy, IDKeyDigest: &id, AuthorKeyDigest: &author,
		FamilyID: &family, ImageID: &image, GuestSVN: &svn, VMPL: &vmpl,
		MinTCB: &snp.TCBParts{BootLoader: 9, TEE: 3, SNP: 0x15, Microcode: 0x48},
	}
}

// wrong makes one field of the report differ from what is expected.
var wrong = []struct {
	field     string
	change    func(*snp.Report)
	want, got string
}{
	{"MEASUREMENT", func(r *snp.Report) { r.Measurement[47] = 1 }, "04" + strings.Repeat("00", 47), "04" + strings.Repeat("00", 46) + "01"},
	{"REPORT_DATA", func(r *snp.Report) { r.ReportData[63] = 1 }, "03" + strings.Repeat("00", 63), "03" + strings.Repeat("00", 62) + "01"},
	{"HOST_DATA", func(r *snp.Report) { r.HostData[31] = 1 }, "05" + strings.Repeat("00", 31), "05" + strings.Repeat("00", 30) + "01"},
	{"POLICY", func(r *snp.Report) { r.Policy |= snp.PolicyDebug }, "0x30000 (ABI 0.0, SMT)", "0xb0000 (ABI 0.0, SMT, DEBUG)"},
	{"ID_KEY_DIGEST", func(r *snp.Report) { r.IDKeyDigest = snp.KeyDigest{} }, "06" + strings.Repeat("00", 47), strings.Repeat("00", 48)},
	{"AUTHOR_KEY_DIGEST", func(r *snp.Report) { r.AuthorKeyDigest[0] = 8 }, "07" + strings.Repeat("00", 47), "08" + strings.Repeat("00", 47)},
	{"FAMILY_ID", func(r *snp.Report) { r.FamilyID[15] = 1 }, "01" + strings.Repeat("00", 15), "01" + strings.Repeat("00", 14) + "01"},
	{"IMAGE_ID", func(r *snp.Report) { r.ImageID[0] = 0 }, "02" + strings.Repeat("00", 15), strings.Repeat("00", 16)},
	{"GUEST_SVN", func(r *snp.Report) { r.GuestSVN = 4 }, "at least 5", "4"},
	{"VMPL", func(r *snp.Report) { r.VMPL = 0 }, "1", "0"},
	{"REPORTED_TCB boot loader", func(r *snp.Report) { r.ReportedTCB -= 1 }, "at least 9", "8"},
	{"REPORTED_TCB TEE", func(r *snp.Report) { r.ReportedTCB -= 1 << 8 }, "at least 3", "2"},
	{"REPORTED_TCB SNP", func(r *snp.Report) { r.ReportedTCB -= 1 << 48 }, "at least 21", "20"},
	{"REPORTED_TCB microcode", func(r *snp.Report) { r.ReportedTCB -= 1 << 56 }, "at least 72", "71"},
}

func TestCheckAccepts(t *testing.T) {
	r, e := expected()
	if err := report.Check(r, e); err != nil {
		t.Errorf("as expected: %v", err)
	}
	if err := report.Check(&snp.Report{}, report.Expect{}); err != nil {
		t.Errorf("nothing expected: %v", err)
	}
	// More than the least is fine.
	r.GuestSVN, r.ReportedTCB = 6, 0x49_16_0000_0000_04_0A
	if err := report.Check(r, e); err != nil {
		t.Errorf("newer than asked for: %v", err)
	}
	// A zero that is expected is held against, unlike one that is not.
	zero := snp.KeyDigest{}
	if err := report.Check(r, report.Expect{IDKeyDigest: &zero}); !errors.Is(err, report.ErrExpectation) {
		t.Errorf("no ID key expected, one there: %v", err)
	}
}

// Each field alone: one FieldError that names it, with both values, and the
// same field is not looked at when nothing is expected of it.
func TestCheckNamesTheField(t *testing.T) {
	for _, w := range wrong {
		r, e := expected()
		w.change(r)
		err := report.Check(r, e)
		if !errors.Is(err, report.ErrExpectation) {
			t.Errorf("%s: %v, want ErrExpectation", w.field, err)
			continue
		}
		var list *multierror.Error
		if !errors.As(err, &list) || len(list.Errors) != 1 {
			t.Errorf("%s: not one error: %v", w.field, err)
			continue
		}
		var f *report.FieldError
		if !errors.As(err, &f) || *f != (report.FieldError{Field: w.field, Want: w.want, Got: w.got}) {
			t.Errorf("got  %+v\nwant {%s %s %s}", f, w.field, w.want, w.got)
		}
		if want := fmt.Sprintf("the report does not say what was expected: %s is %s, expected %s", w.field, w.got, w.want); err.Error() != want {
			t.Errorf("%s: says %q, want %q", w.field, err, want)
		}
		if err := report.Check(r, report.Expect{}); err != nil {
			t.Errorf("%s: looked at though nothing was expected: %v", w.field, err)
		}
	}
}

// All at once: every one is in the list, in order, and in the text.
func TestCheckListsAll(t *testing.T) {
	r, e := expected()
	for _, w := range wrong {
		w.change(r)
	}
	err := report.Check(r, e)
	var list *multierror.Error
	if !errors.Is(err, report.ErrExpectation) || !errors.As(err, &list) {
		t.Fatal(err)
	}
	if len(list.Errors) != len(wrong) {
		t.Fatalf("%d errors, want %d: %v", len(list.Errors), len(wrong), err)
	}
	for i, w := range wrong {
		var f *report.FieldError
		if !errors.As(list.Errors[i], &f) || f.Field != w.field || f.Want != w.want || f.Got != w.got {
			t.Errorf("error %d is %v, want %s", i, list.Errors[i], w.field)
		}
		if !strings.Contains(err.Error(), w.field+" is ") {
			t.Errorf("the text does not name %s: %v", w.field, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

// Turin's TCB_VERSION has FMC, boot loader, TEE and SNP in bytes 0 to 3.
func TestCheckTCBOfTurin(t *testing.T) {
	r := &snp.Report{Version: 5, CPUFamily: 0x1A, CPUModel: 2, ReportedTCB: 0x48_000000_04_03_02_01}
	if err := report.Check(r, report.Expect{MinTCB: &snp.TCBParts{BootLoader: 2, TEE: 3, SNP: 4, Microcode: 0x48}}); err != nil {
		t.Error(err)
	}
	for field, least := range map[string]snp.TCBParts{
		"REPORTED_TCB boot loader": {BootLoader: 3}, "REPORTED_TCB TEE": {TEE: 4}, "REPORTED_TCB SNP": {SNP: 5}, "REPORTED_TCB microcode": {Microcode: 0x49},
	} {
		var f *report.FieldError
		if err := report.Check(r, report.Expect{MinTCB: &least}); !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
