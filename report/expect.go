package report

import (
	"fmt"
	"strings"

	multierror "github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/snp"
)

// Expect is what a report has to say; nil fields are not looked at.
type Expect struct {
	Measurement     *snp.LaunchDigest
	ReportData      *snp.ReportData
	HostData        *snp.HostData
	Policy          *snp.GuestPolicy
	IDKeyDigest     *snp.KeyDigest
	AuthorKeyDigest *snp.KeyDigest
	FamilyID        *snp.FamilyID
	ImageID         *snp.ImageID
	GuestSVN        *uint32 // at least
	VMPL            *uint32
	MinTCB          *snp.TCBParts // REPORTED_TCB, each part at least
}

// FieldError is one field that is not as expected.
type FieldError struct{ Field, Want, Got string }

// Error names the field as the specification does.
func (e *FieldError) Error() string {
	return fmt.Sprintf("%s is %s, expected %s", e.Field, e.Got, e.Want)
}

// Check holds a report against expectations. Every difference is in the error,
// a *multierror.Error of *FieldError within ErrExpectation. It says nothing
// about whether the report is genuine: that is Verify's.
func Check(r *snp.Report, e Expect) error {
	var errs *multierror.Error
	add := func(field string, want, got any) {
		errs = multierror.Append(errs, &FieldError{field, fmt.Sprint(want), fmt.Sprint(got)})
	}
	if e.Measurement != nil && r.Measurement != *e.Measurement {
		add("MEASUREMENT", e.Measurement, r.Measurement)
	}
	if e.ReportData != nil && r.ReportData != *e.ReportData {
		add("REPORT_DATA", e.ReportData, r.ReportData)
	}
	if e.HostData != nil && r.HostData != *e.HostData {
		add("HOST_DATA", e.HostData, r.HostData)
	}
	if e.Policy != nil && r.Policy != *e.Policy {
		add("POLICY", e.Policy.Describe(), r.Policy.Describe())
	}
	if e.IDKeyDigest != nil && r.IDKeyDigest != *e.IDKeyDigest {
		add("ID_KEY_DIGEST", e.IDKeyDigest, r.IDKeyDigest)
	}
	if e.AuthorKeyDigest != nil && r.AuthorKeyDigest != *e.AuthorKeyDigest {
		add("AUTHOR_KEY_DIGEST", e.AuthorKeyDigest, r.AuthorKeyDigest)
	}
	if e.FamilyID != nil && r.FamilyID != *e.FamilyID {
		add("FAMILY_ID", e.FamilyID, r.FamilyID)
	}
	if e.ImageID != nil && r.ImageID != *e.ImageID {
		add("IMAGE_ID", e.ImageID, r.ImageID)
	}
	if e.GuestSVN != nil && r.GuestSVN < *e.GuestSVN {
		add("GUEST_SVN", fmt.Sprintf("at least %d", *e.GuestSVN), r.GuestSVN)
	}
	if e.VMPL != nil && r.VMPL != *e.VMPL {
		add("VMPL", *e.VMPL, r.VMPL)
	}
	if e.MinTCB != nil {
		got := tcbParts(r, r.ReportedTCB)
		for _, p := range []struct {
			name      string
			got, want uint8
		}{
			{"boot loader", got.BootLoader, e.MinTCB.BootLoader}, {"TEE", got.TEE, e.MinTCB.TEE},
			{"SNP", got.SNP, e.MinTCB.SNP}, {"microcode", got.Microcode, e.MinTCB.Microcode},
		} {
			if p.got < p.want {
				add("REPORTED_TCB "+p.name, fmt.Sprintf("at least %d", p.want), p.got)
			}
		}
	}
	if errs == nil {
		return nil
	}
	errs.ErrorFormat = func(list []error) string {
		lines := make([]string, len(list))
		for i, err := range list {
			lines[i] = err.Error()
		}
		return strings.Join(lines, "; ")
	}
	return fmt.Errorf("%w: %w", ErrExpectation, errs)
}
