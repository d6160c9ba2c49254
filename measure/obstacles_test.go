package measure_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/vmsa"
)

// TestObstacles: what would not launch is measured all the same, and the
// sentence that Measure refuses it with comes beside the digest.
func TestObstacles(t *testing.T) {
	kind := func(field string) func(error) bool {
		return func(err error) bool {
			var f *guest.FieldError
			return errors.As(err, &f) && f.Field == field
		}
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	says := func(text string) func(error) bool {
		return func(err error) bool { return strings.Contains(err.Error(), text) }
	}
	for name, c := range map[string]struct {
		change func(*variant)
		want   func(error) bool
	}{
		"size for -bios":  {func(v *variant) { v.spec.Size = 4096 }, is(ovmf.ErrBIOSSize)},
		"no metadata":     {func(v *variant) { v.spec.NoMetadata, v.kernel, v.initrd, v.g.Append = true, "", "", "" }, is(measure.ErrNoMetadata)},
		"little memory":   {func(v *variant) { v.spec.Sections[0].GPA, v.g.MemoryMiB = 32<<20, 32 }, is(measure.ErrMemory)},
		"no reset block":  {func(v *variant) { v.spec.ResetEIP, v.g.VCPUs = nil, 1 }, is(measure.ErrNoResetEIP)},
		"hashes off":      {func(v *variant) { v.spec.Code, v.g.KernelHashes = blobVerifier, false }, is(measure.ErrHashesOff)},
		"ELF kernel":      {func(v *variant) { v.kernel = "\x7fELF" }, is(measure.ErrNotHashable)},
		"UKI and initrd":  {func(v *variant) { v.kernel, v.initrd = "MZ"+strings.Repeat("x", 1000), "initrd" }, is(measure.ErrUKIInitrd)},
		"features":        {func(v *variant) { v.g.GuestFeatures = 0x20 }, kind("guest_features")},
		"reserved bits":   {func(v *variant) { v.g.GuestFeatures = 1<<11 | 1 }, kind("guest_features")},
		"absurd memory":   {func(v *variant) { v.g.MemoryMiB = 1 << 25 }, kind("memory_mib")},
		"kernel too old":  {func(v *variant) { v.g.HostKernel = "6.9" }, says("host kernel 6.8-6.9 launches no SNP guests")},
		"AMD kernel name": {func(v *variant) { v.g.HostKernel = "6.2.0-generic" }, says("e.g. amd-6.8")},
	} {
		t.Run(name, func(t *testing.T) {
			v := baseVariant()
			c.change(v)
			r, err := v.measure()
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Digest) != 48 || len(r.Obstacles) != 1 || !c.want(r.Obstacles[0]) || !strings.Contains(r.Obstacles[0].Error(), "(") {
				t.Errorf("digest %x, obstacles %v", r.Digest, r.Obstacles)
			}
			v.opt.Strict = true
			if r, err := v.measure(); r != nil || !c.want(err) {
				t.Errorf("strict: %v", err)
			}
		})
	}
	// More than one comes as a list.
	v := baseVariant()
	v.spec.Size, v.kernel, v.opt.Strict = 4096, "\x7fELF", true
	_, err := v.measure()
	if !errors.Is(err, ovmf.ErrBIOSSize) || !errors.Is(err, measure.ErrNotHashable) || !strings.HasPrefix(err.Error(), "2 things stand in the way") {
		t.Errorf("got %v", err)
	}
}

// TestNoDigest: what cannot be measured, with its own sentence for each.
func TestNoDigest(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*variant)
		want   string
	}{
		"no place for the hashes":          {func(v *variant) { v.spec.HashTable, v.spec.Sections = nil, v.spec.Sections[:6] }, "firmware has no place for kernel hashes (use an AmdSev build"},
		"hashes area that is not measured": {func(v *variant) { v.spec.Sections = v.spec.Sections[:6] }, "so the table would not be measured (use"},
		"no vCPUs":                         {func(v *variant) { v.g.VCPUs = 0 }, "a guest has at least one"},
		"host kernel":                      {func(v *variant) { v.g.HostKernel = "5.4" }, "older than any"},
		"features of another kernel":       {func(v *variant) { v.g.HostKernel = "amd-6.7" }, "host kernel amd-6.7 launches with 0x21"},
		"unknown CPU":                      {func(v *variant) { v.g.CPU = "EPYC-Milano" }, "did you mean EPYC-Milan?"},
		"unknown CPU under EC2":            {func(v *variant) { v.g.CPU, v.opt.VMM = "EPYC-Milano", vmsa.EC2 }, "did you mean EPYC-Milan?"},
		"kernel of another digest":         {func(v *variant) { v.g.AppendSHA256 = new([32]byte) }, "append with its NUL byte has the SHA-256"},
		"SEV without a place":              {func(v *variant) { v.opt.Mode, v.spec.HashTable = measure.SEV, nil }, "firmware has no place for kernel hashes"},
		"SEV with base 0":                  {func(v *variant) { v.opt.Mode, v.spec.HashTable.Base = measure.SEV, 0 }, "has base 0"},
		"SEV-ES with a small place":        {func(v *variant) { v.opt.Mode, v.spec.HashTable.Size = measure.SEVES, 175 }, "smaller than the table"},
		"SEV-ES without a start":           {func(v *variant) { v.opt.Mode, v.spec.ResetEIP = measure.SEVES, nil }, "no SEV-ES reset block"},
		"no SVSM":                          {func(v *variant) { v.opt.Mode = measure.SVSM }, "needs an SVSM image"},
		"SVSM in another mode":             {func(v *variant) { v.svsm = svsmImage(0) }, "measured in mode snp:svsm only"},
		"SVSM elsewhere":                   {func(v *variant) { v.withSVSM(0, 0); v.opt.VMM = vmsa.EC2 }, "known for QEMU only"},
		"SVSM that does not start":         {func(v *variant) { v.withSVSM(0, 0); v.svsm = baseVariant().spec.Build() }, "does not say where it starts"},
		"SVSM without a table":             {func(v *variant) { v.withSVSM(0, 0); v.svsm = make([]byte, 8192) }, "SVSM image svsm: no OVMF GUID table"},
		"variable store of half a page":    {func(v *variant) { v.withSVSM(0, 0x8800) }, "variable store is not possible"},
		"negative variable store":          {func(v *variant) { v.withSVSM(0, -4096) }, "variable store is not possible"},
		"firmware of half a page":          {func(v *variant) { v.opt.Mode = measure.OVMFHash; v.spec.Size = 65537 }, "measured by page"},
		"firmware digest for SEV":          {func(v *variant) { v.opt.Mode = measure.SEV; v.opt.FirmwareDigest = &zeroDigest }, "in mode snp only"},
		"metadata for SVSM": {func(v *variant) { v.withSVSM(0, 0); v.opt.Metadata = &measure.Metadata{} },
			"files are not those of this guest"},
	} {
		t.Run(name, func(t *testing.T) {
			v := baseVariant()
			c.change(v)
			r, err := v.measure()
			if r != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "(") {
				t.Errorf("no remedy in: %v", err)
			}
		})
	}
}

// Any file can be the firmware of a plain SEV guest without kernel hashes.
func TestAnyFirmwareForSEV(t *testing.T) {
	in := &guest.Inputs{Firmware: input("bios", []byte("not even a page"))}
	g := guest.Default()
	r, err := measure.MeasureWith(&g, in, measure.Options{Mode: measure.SEV})
	if err != nil || len(r.Digest) != 32 {
		t.Errorf("%v", err)
	}
	if _, err := measure.MeasureWith(&g, in, measure.Options{Mode: measure.SEVES}); err == nil {
		t.Error("SEV-ES measures a file that says nothing about vCPUs")
	}
}

// An SVSM launch measures no kernel, and says so.
func TestSVSMAndKernel(t *testing.T) {
	v := baseVariant()
	v.withSVSM(0x10, 0x8000)
	plain, err := v.measure()
	if err != nil {
		t.Fatal(err)
	}
	v.kernel = "kernel"
	r, err := v.measure()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "digest", r.LaunchDigest, plain.LaunchDigest)
	if len(plain.Warnings) != 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "measures no kernel") {
		t.Errorf("warnings %q and %q", plain.Warnings, r.Warnings)
	}
}

func TestParseMode(t *testing.T) {
	for _, name := range measure.Modes() {
		m, err := measure.ParseMode(strings.ToUpper(name))
		if err != nil || m.String() != name {
			t.Errorf("%s: %s, %v", name, m, err)
		}
	}
	for s, want := range map[string]measure.Mode{"sev-snp": measure.SNP, "sevsnp": measure.SNP, "sev-es": measure.SEVES} {
		if m, err := measure.ParseMode(s); err != nil || m != want {
			t.Errorf("%s: %s, %v", s, m, err)
		}
	}
	if _, err := measure.ParseMode("snp:svms"); err == nil || !strings.Contains(err.Error(), "did you mean snp:svsm?") {
		t.Errorf("got %v", err)
	}
}
