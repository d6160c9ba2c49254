// Package vouch says for which inputs of a guest a report speaks. Start with Claims.
package vouch

import (
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Claim is something about a guest, and whether a report vouches for it: whether the
// guest could not have been launched otherwise with this report as the outcome.
type Claim struct {
	What    string `json:"what"`  // "kernel", "vCPUs"
	Value   string `json:"value"` // as the description has it
	Vouched bool   `json:"vouched"`
	Why     string `json:"why"`
}

// Claims says for which parts of a description a report speaks. m is what measuring the
// description gave (measure.MeasureWith with in). A report speaks for whoever signed
// it: without report.Verify it speaks for nobody.
func Claims(r *snp.Report, g *guest.Guest, in *guest.Inputs, m *measure.Result) ([]Claim, error) {
	var out []Claim
	same := m.LaunchDigest == r.Measurement
	// What a field of the report itself says holds whatever the measurement is.
	field := func(what string, vouched bool, why, format string, args ...any) {
		out = append(out, Claim{what, fmt.Sprintf(format, args...), vouched, why})
	}
	claim := func(what string, vouched bool, why, format string, args ...any) {
		if !same {
			vouched, why = false, "the measurement of the description is another one"
		}
		field(what, vouched, why, format, args...)
	}
	if in.Firmware != nil && in.Firmware.HasContents() {
		sum, err := in.Firmware.SHA256()
		if err != nil {
			return nil, err
		}
		claim("firmware", true, "every page of it is measured", "sha256 %x", sum)
	} else {
		claim("firmware", true, "every page of it is measured", "launch digest of its pages %s", m.FirmwareDigest)
	}
	if t := m.HashTable; t != nil {
		const why = "its hash is in the measured hashes page, which an AmdSev firmware holds it against"
		claim("kernel", true, why, "sha256 %x", t.Kernel)
		claim("initrd", true, why, "sha256 %x", t.Initrd)
		claim("command line", true, why, "sha256 %x, %q", t.Cmdline, g.Append)
	} else {
		const why = "kernel hashes are off: the firmware boots what the host gives it"
		for _, f := range []struct{ what, path string }{{"kernel", g.Kernel}, {"initrd", g.Initrd}, {"command line", g.Append}} {
			if f.path != "" {
				claim(f.what, false, why, "%q", f.path)
			}
		}
	}
	claim("vCPUs", true, "the save area of each is measured", "%d", m.VCPUs)
	claim("CPU signature", true, "it is in the save areas; models that share it are not told apart", "0x%x (%s)", m.CPUSig, g.CPU)
	claim("SEV_FEATURES", true, "they are in the save areas", "%s", vmsa.DescribeFeatures(m.GuestFeatures))
	field("policy", r.Policy == g.Policy, sayWhether(r.Policy == g.Policy, "POLICY"), "%s", g.Policy)
	field("host data", r.HostData == g.HostData, sayWhether(r.HostData == g.HostData, "HOST_DATA"), "%s", g.HostData)
	field("memory, disks, devices", false, "they are not measured", "%d MiB", g.MemoryMiB)
	return out, nil
}

func sayWhether(same bool, field string) string {
	if same {
		return field + " of the report is the same"
	}
	return field + " of the report is another one"
}
