package launcher

import (
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// The lines are those of QEMU 10.0.2 and 11.1.3.
func TestLastUpdateOfATrace(t *testing.T) {
	const begin = "kvm_sev_init \nkvm_sev_snp_launch_start policy 0x30000 gosvw (null)\nkvm_sev_change_state uninit -> launch-update\n"
	for _, c := range []struct {
		name, trace string
		want        *snp.Update
	}{
		{"nothing", "", nil},
		{"before the first page", begin, nil},
		{"firmware", begin + "kvm_sev_snp_launch_update src 0x7f116ec00000 gpa 0xffc00000 len 0x400000 (Normal page)\n",
			&snp.Update{Type: snp.PageNormal, GPA: 0xFFC00000, Length: 0x400000}},
		{"the last of two", begin + "kvm_sev_snp_launch_update src 0x1 gpa 0x800000 len 0x9000 (Zero page)\nkvm_sev_snp_launch_update src 0x1 gpa 0x80e000 len 0x1000 (Cpuid page)",
			&snp.Update{Type: snp.PageCPUID, GPA: 0x80E000, Length: 0x1000}},
		{"a page of another kind", "kvm_sev_snp_launch_update src 0x1 gpa 0x80e000 len 0x1000 (Other page)\n", nil},
		{"no number", "kvm_sev_snp_launch_update src 0x1 gpa there len 0x1000 (Cpuid page)\n", nil},
		{"cut off", begin + "kvm_sev_snp_launch_update src 0x1 gpa", nil},
	} {
		got := lastUpdate(c.trace)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func FuzzLastUpdate(f *testing.F) {
	f.Add("kvm_sev_snp_launch_update src 0x1 gpa 0x80e000 len 0x1000 (Cpuid page)\n")
	f.Fuzz(func(t *testing.T, s string) { lastUpdate(s) })
}
