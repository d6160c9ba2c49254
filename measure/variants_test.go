package measure_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/vmsa"
)

// svsmImage is a synthetic SVSM image: its own metadata, and where it starts,
// counted from its first byte.
func svsmImage(entry uint32) []byte {
	return ovmftest.Spec{
		Sections: []ovmf.Section{{GPA: 0x800000, Size: 0x1000, Type: ovmf.SNPSecrets}, {GPA: 0x801000, Size: 0x1000, Type: ovmf.CPUID}},
		Extra:    []ovmftest.Entry{{GUID: ovmf.GUIDSVSMInfo, Data: binary.LittleEndian.AppendUint32(nil, entry)}},
	}.Build()
}

// input makes an Input of bytes, as a caller without files does.
func input(name string, b []byte) *guest.Input {
	return guest.NewInput(name, bytes.NewReader(b), int64(len(b)))
}

// variant is one launch: the base guest, changed.
type variant struct {
	spec   ovmftest.Spec
	flip   int // offset of a byte of the firmware whose lowest bit is changed, when not 0
	kernel string
	initrd string
	g      guest.Guest
	opt    measure.Options
	svsm   []byte
}

func baseVariant() *variant {
	v := &variant{spec: ovmftest.AmdSev(), kernel: "kernel", initrd: "initrd", g: guest.Default()}
	v.g.Append, v.g.VCPUs = "console=ttyS0", 2
	return v
}

func (v *variant) measure() (*measure.Result, error) {
	img := v.spec.Build()
	if v.flip != 0 {
		img[v.flip] ^= 1
	}
	in := &guest.Inputs{Firmware: input("firmware", img)}
	if v.kernel != "" {
		in.Kernel = input("kernel", []byte(v.kernel))
	}
	if v.initrd != "" {
		in.Initrd = input("initrd", []byte(v.initrd))
	}
	if v.svsm != nil {
		v.opt.SVSM = input("svsm", v.svsm)
	}
	return measure.MeasureWith(&v.g, in, v.opt)
}

// variants say for each line of testdata/variants.txt what differs from the base.
var variants = map[string]func(*variant){
	"base":                         func(v *variant) {},
	"firmware size 128 KiB":        func(v *variant) { v.spec.Size = 128 << 10 },
	"firmware bit":                 func(v *variant) { v.flip = 0x100 },
	"reset address":                func(v *variant) { *v.spec.ResetEIP = 0x12345678 },
	"reset address, one vCPU":      func(v *variant) { *v.spec.ResetEIP, v.g.VCPUs = 0x12345678, 1 },
	"hashes table base":            func(v *variant) { v.spec.HashTable.Base = 0x810A00 },
	"hashes table size":            func(v *variant) { v.spec.HashTable.Size = 0x200 },
	"secret area":                  func(v *variant) { v.spec.SecretArea.Size = 0x800 },
	"section moved":                func(v *variant) { v.spec.Sections[0].GPA = 0x700000 },
	"section larger":               func(v *variant) { v.spec.Sections[1].Size = 0x2000 },
	"section of another type":      func(v *variant) { v.spec.Sections[4].Type = ovmf.SNPSecMem },
	"section of an unknown type":   func(v *variant) { v.spec.Sections[4].Type = 0x7F },
	"secrets page as unknown type": func(v *variant) { v.spec.Sections[2].Type = 0x7F },
	"sections in another order": func(v *variant) {
		s := v.spec.Sections
		for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
			s[i], s[j] = s[j], s[i]
		}
	},
	"hashes section of two pages": func(v *variant) {
		v.spec.Sections[5] = ovmf.Section{GPA: 0x812000, Size: 0x1E000, Type: ovmf.SNPSecMem}
		v.spec.Sections[6].Size = 0x2000
	},
	"no sections but the hashes'": func(v *variant) { v.spec.Sections = v.spec.Sections[6:] },
	"kernel":                      func(v *variant) { v.kernel = "Kernel" },
	"no initrd":                   func(v *variant) { v.initrd = "" },
	"command line with blanks":    func(v *variant) { v.g.Append = " console=ttyS0\n" },
	"no command line":             func(v *variant) { v.g.Append = "" },
	"no kernel":                   func(v *variant) { v.kernel, v.initrd, v.g.Append = "", "", "" },
	"signature":                   func(v *variant) { v.g.CPU = "EPYC-v4,family=25,model=17,stepping=0" },
	"features":                    func(v *variant) { v.g.GuestFeatures = 0x21 },
	"features none":               func(v *variant) { v.g.GuestFeatures = 0 },
	"features reserved":           func(v *variant) { v.g.GuestFeatures = 1<<63 | 1 },
	"one vCPU":                    func(v *variant) { v.g.VCPUs = 1 },
	"seven vCPUs":                 func(v *variant) { v.g.VCPUs = 7 },
	"amd-6.8":                     func(v *variant) { v.host("amd-6.8") },
	"amd-6.6":                     func(v *variant) { v.host("amd-6.6") },
	"ec2":                         func(v *variant) { v.opt.VMM = vmsa.EC2 },
	"gce":                         func(v *variant) { v.opt.VMM, v.g.CPU = vmsa.GCE, "EPYC-Milan" },
	// sev-snp-measure knows 48 bits only; gce-tcb-verifier has 52 for Genoa.
	"gce on Genoa":         func(v *variant) { v.opt.VMM, v.g.CPU = vmsa.GCE, "EPYC-Genoa" },
	"krun":                 func(v *variant) { v.opt.VMM = vmsa.Krun },
	"sev":                  func(v *variant) { v.opt.Mode = measure.SEV },
	"sev, no kernel":       func(v *variant) { v.opt.Mode, v.kernel, v.initrd, v.g.Append = measure.SEV, "", "", "" },
	"seves":                func(v *variant) { v.opt.Mode = measure.SEVES },
	"seves, Rome, 5 vCPUs": func(v *variant) { v.opt.Mode, v.g.CPU, v.g.VCPUs = measure.SEVES, "EPYC-Rome", 5 },
	"seves, 6.6":           func(v *variant) { v.opt.Mode = measure.SEVES; v.host("6.6") },
	"seves, no kernel":     func(v *variant) { v.opt.Mode, v.kernel, v.initrd, v.g.Append = measure.SEVES, "", "", "" },
	// sev-snp-measure leaves FCW zero, see wrongFCW.
	"svsm":                       func(v *variant) { v.withSVSM(0x10, 0x8000) },
	"svsm, other variable store": func(v *variant) { v.withSVSM(0x10, 0x84000) },
	"svsm, no variable store":    func(v *variant) { v.withSVSM(0x10, 0) },
	"svsm, entry":                func(v *variant) { v.withSVSM(0x2040, 0x8000) },
	"svsm, Turin, 4 vCPUs":       func(v *variant) { v.withSVSM(0x10, 0x8000); v.g.CPU, v.g.VCPUs = "EPYC-Turin", 4 },
	"svsm, amd-6.8":              func(v *variant) { v.withSVSM(0x10, 0x8000); v.host("amd-6.8") },
}

func (v *variant) host(name string) {
	if err := v.g.SetHostKernel(name); err != nil {
		panic(err)
	}
}

// withSVSM starts the guest with an SVSM.
func (v *variant) withSVSM(entry uint32, vars int64) {
	v.opt.Mode, v.opt.VarsSize, v.svsm = measure.SVSM, vars, svsmImage(entry)
	v.kernel, v.initrd, v.g.Append = "", "", ""
}

// TestVariants holds launches that differ from one in one thing each against
// what testdata/recipe.py computes. All are measured from bytes, without files.
func TestVariants(t *testing.T) {
	raw, err := os.ReadFile("testdata/variants.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen, digests := map[string]bool{}, map[string]string{}
	for _, line := range strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n") {
		name, want, ok := strings.Cut(line, ": ")
		change := variants[name]
		if !ok || change == nil {
			t.Errorf("line %q of variants.txt has no variant", line)
			continue
		}
		seen[name] = true
		if other, twice := digests[want]; twice {
			t.Errorf("%s has the digest of %s", name, other)
		}
		digests[want] = name
		v := baseVariant()
		change(v)
		r, err := v.measure()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := hex.EncodeToString(r.Digest); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
		if len(r.Pages) > 0 {
			equal(t, name+": fold of the pages", measure.Fold(r.Updates()), r.LaunchDigest)
		}
	}
	for name := range variants {
		if !seen[name] {
			t.Errorf("variant %q has no line in variants.txt", name)
		}
	}
}
