package guest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	multierror "github.com/hashicorp/go-multierror"

	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

const (
	maxVCPUs     = 4096    // KVM_MAX_VCPUS and the limit of QEMU's q35
	minMemoryMiB = 16      // OVMF's launch sections lie between 8 and 9 MiB
	maxMemoryMiB = 1 << 24 // 16 TiB
	maxNameBytes = 64
	gosvwBytes   = 16
)

// FieldError is one thing wrong with a description.
type FieldError struct {
	Field  string // key of the YAML form
	Value  string
	Reason string
	Remedy string

	// Measurable says that there is a launch digest all the same: the finding is about
	// launching.
	Measurable bool
}

// Error names field, value, reason and remedy in one sentence.
func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: %s: %s (%s)", e.Field, e.Value, e.Reason, e.Remedy)
}

// findings collects FieldErrors.
type findings struct{ errs *multierror.Error }

func (f *findings) add(field, value, reason, remedy string) {
	f.errs = multierror.Append(f.errs, &FieldError{Field: field, Value: value, Reason: reason, Remedy: remedy})
}

// launch adds what keeps a guest from being launched, but not from being measured.
func (f *findings) launch(field, value, reason, remedy string) {
	f.errs = multierror.Append(f.errs, &FieldError{field, value, reason, remedy, true})
}

// result gives all findings as one error, or nil.
func (f *findings) result(what string) error {
	if f.errs == nil {
		return nil
	}
	f.errs.ErrorFormat = func(errs []error) string {
		if len(errs) == 1 {
			return what + ": " + errs[0].Error()
		}
		lines := []string{fmt.Sprintf("%s: %d things are wrong:", what, len(errs))}
		for _, e := range errs {
			lines = append(lines, "  "+e.Error())
		}
		return strings.Join(lines, "\n")
	}
	return f.errs
}

// Validate checks everything that can be judged without opening a file. All
// findings come at once: the error is a *multierror.Error of *FieldError.
func (g *Guest) Validate() error {
	f := g.findings()
	g.validateWhole(&f)
	return f.result("guest description")
}

// ValidateMeasure is Validate for those who only measure: obstacles are the
// findings that leave a launch digest, err has the others.
func (g *Guest) ValidateMeasure() (obstacles []error, err error) {
	all := g.findings()
	if all.errs == nil {
		return nil, nil
	}
	var f findings
	for _, e := range all.errs.Errors {
		var field *FieldError
		if errors.As(e, &field) && field.Measurable {
			obstacles = append(obstacles, e)
		} else {
			f.errs = multierror.Append(f.errs, e)
		}
	}
	return obstacles, f.result("guest description")
}

func (g *Guest) findings() findings {
	var f findings
	g.validateParts(&f)
	g.validateMachine(&f)
	g.validateLaunch(&f)
	g.IDBlock.validate(&f)
	g.validateDevices(&f)
	return f
}

// validateWhole finds what is enough to measure, but not to launch.
func (g *Guest) validateWhole(f *findings) {
	if g.CPUSig != nil && g.CPU == "" {
		f.add("cpu", "missing", "cpu_sig says what is measured, not what QEMU runs", "give a QEMU CPU model")
	}
	empty := sha256.Sum256([]byte{0})
	for _, d := range []struct {
		field, of, given string
		sum              *[32]byte
	}{
		{"kernel_sha256", "kernel", g.Kernel, g.KernelSHA256},
		{"initrd_sha256", "initrd", g.Initrd, g.InitrdSHA256},
		{"append_sha256", "append", g.Append, g.AppendSHA256},
	} {
		if d.sum != nil && d.given == "" && !(d.of == "append" && *d.sum == empty) {
			f.add(d.field, fmt.Sprintf("%x", *d.sum), "a digest is enough to measure, but not to launch", "give "+d.of+" beside it")
		}
	}
}

func (g *Guest) validateParts(f *findings) {
	if len(g.Name) > maxNameBytes || strings.Trim(g.Name, nameChars) != "" || strings.HasPrefix(g.Name, ".") || strings.HasPrefix(g.Name, "-") {
		f.add("name", quote(g.Name), "it becomes part of file names", fmt.Sprintf("use at most %d letters, digits, '.', '_' and '-', beginning with none of '.-'", maxNameBytes))
	}
	if g.Firmware == "" {
		f.add("firmware", "missing", "an SNP guest starts from an OVMF image", "give the path of OVMF.amdsev.fd")
	}
	if !g.HasKernel() && g.Initrd != "" {
		f.add("initrd", quote(g.Initrd), "QEMU takes an initrd only with a kernel", "give a kernel or leave the initrd out")
	}
	if !g.HasKernel() && g.Append != "" {
		f.add("append", quote(g.Append), "QEMU takes a command line only with a kernel", "give a kernel or leave the command line out")
	}
	for _, d := range []struct {
		field string
		sum   *[32]byte
	}{
		{"kernel_sha256", g.KernelSHA256},
		{"initrd_sha256", g.InitrdSHA256},
		{"append_sha256", g.AppendSHA256},
	} {
		if d.sum == nil {
			continue
		}
		if !g.HasKernel() {
			f.add(d.field, fmt.Sprintf("%x", *d.sum), "QEMU takes it only with a kernel", "give a kernel or kernel_sha256, or leave it out")
		}
	}
	if g.AppendSHA256 != nil && g.Append != "" {
		if sum, err := hashes.Cmdline(g.Append); err == nil && sum != *g.AppendSHA256 {
			f.add("append_sha256", fmt.Sprintf("%x", *g.AppendSHA256), fmt.Sprintf("append with its NUL byte has the SHA-256 %x", sum), "give one of them")
		}
	}
	for _, p := range []struct{ field, value string }{{"firmware", g.Firmware}, {"kernel", g.Kernel}, {"initrd", g.Initrd}, {"append", g.Append}} {
		noNUL(f, p.field, p.value)
	}
}

func (g *Guest) validateMachine(f *findings) {
	if g.VCPUs < 1 || g.VCPUs > maxVCPUs {
		f.add("vcpus", fmt.Sprint(g.VCPUs), "each vCPU is measured, and a guest has at least one", fmt.Sprintf("use 1 to %d", maxVCPUs))
	}
	// Where a signature is given the model may be one that only QEMU knows.
	if g.CPUSig == nil {
		if _, err := vmsa.Lookup(g.CPU); err != nil {
			f.add("cpu", quote(g.CPU), err.Error(), "or set cpu_sig to EAX of the guest's CPUID function 1")
		}
	}
	noNUL(f, "cpu", g.CPU)
	if g.MemoryMiB < minMemoryMiB || g.MemoryMiB > maxMemoryMiB {
		f.launch("memory_mib", fmt.Sprint(g.MemoryMiB), "the firmware's launch pages must lie in memory", fmt.Sprintf("use %d to %d; 512 suits a small Linux", minMemoryMiB, maxMemoryMiB))
	}
	if g.Timeout < 0 {
		f.add("timeout", g.Timeout.String(), "it is negative", "use e.g. 60s, or 0 for the launcher's own")
	}
	for i, word := range g.Command {
		noNUL(f, fmt.Sprintf("command[%d]", i), word)
	}
}

func (g *Guest) validateLaunch(f *findings) {
	if g.GuestFeatures&vmsa.SNPActive == 0 {
		f.launch("guest_features", vmsa.DescribeFeatures(g.GuestFeatures), "bit 0 (SNPActive) is clear, which makes it no SNP guest", "use 0x1")
	}
	if r := vmsa.ReservedFeatures(g.GuestFeatures); r != 0 {
		f.launch("guest_features", vmsa.DescribeFeatures(g.GuestFeatures), fmt.Sprintf("bits 0x%x are reserved", r), "use 0x1, or 0x21 for old host kernels with DebugSwap")
	}
	if p, err := g.HostProfile(); err != nil {
		f.add("host_kernel", quote(g.HostKernel), err.Error(), "or leave it out for "+vmsa.DefaultHost().Name)
	} else if g.HostKernel != "" && p.SNP && p.Features != g.GuestFeatures {
		f.add("guest_features", vmsa.DescribeFeatures(g.GuestFeatures), fmt.Sprintf("host kernel %s launches with %s", g.HostKernel, vmsa.DescribeFeatures(p.Features)), "give one of them")
	}
	// The policy is not judged here: what KVM and the firmware refuse must be
	// launchable, so that their refusal can be seen. PolicyRemarks has the words.
	if !g.HostDataSet && g.HostData != (snp.HostData{}) {
		f.add("host_data", g.HostData.String(), "there is a value, but it is not marked as given", "set HostDataSet too")
	}
	if len(g.GuestVisibleWorkarounds) > gosvwBytes {
		f.add("guest_visible_workarounds", fmt.Sprintf("%d bytes", len(g.GuestVisibleWorkarounds)), "the firmware's field has 16", "give at most 32 hexadecimal digits")
	}
}

// PolicyRemarks says which bits of the policy no launch is going to get past,
// and who refuses them.
func (g *Guest) PolicyRemarks() []string {
	var out []string
	if g.Policy&snp.PolicyReservedOne == 0 {
		out = append(out, fmt.Sprintf("policy %s: bit 17 is clear, and KVM refuses such a policy with EINVAL (use %s)", g.Policy, g.Policy|snp.PolicyReservedOne))
	}
	if r := g.Policy & policyReserved; r != 0 {
		out = append(out, fmt.Sprintf("policy %s: bits 0x%x are reserved, and KVM refuses them with EINVAL (use %s)", g.Policy, uint64(r), g.Policy&^r))
	}
	if g.Policy&snp.PolicyMigrateMA != 0 {
		out = append(out, fmt.Sprintf("policy %s: bit 18 (MIGRATE_MA) is set, and KVM knows no migration agents (use %s)", g.Policy, g.Policy&^snp.PolicyMigrateMA))
	}
	return out
}

// policyReserved are the bits that no firmware has given a meaning to.
const policyReserved snp.GuestPolicy = ^(1<<26 - 1) & (1<<64 - 1)

func (b *IDBlock) validate(f *findings) {
	paths := []struct{ field, value string }{
		{"id_block.id_key", b.IDKey}, {"id_block.author_key", b.AuthorKey},
		{"id_block.id_block_file", b.IDBlockFile}, {"id_block.id_auth_file", b.IDAuthFile},
	}
	for _, p := range paths {
		noNUL(f, p.field, p.value)
	}
	noKeys := func() {
		for _, p := range paths[:2] {
			if p.value != "" {
				f.add(p.field, quote(p.value), fmt.Sprintf("nothing is signed with id_block.mode %s", b.Mode), "use mode sign or leave the key out")
			}
		}
		if b.FamilyID != (snp.FamilyID{}) {
			f.add("id_block.family_id", b.FamilyID.String(), fmt.Sprintf("no ID block is made with id_block.mode %s", b.Mode), "use mode sign or leave it out")
		}
		if b.ImageID != (snp.ImageID{}) {
			f.add("id_block.image_id", b.ImageID.String(), fmt.Sprintf("no ID block is made with id_block.mode %s", b.Mode), "use mode sign or leave it out")
		}
		if b.GuestSVN != 0 {
			f.add("id_block.guest_svn", fmt.Sprint(b.GuestSVN), fmt.Sprintf("no ID block is made with id_block.mode %s", b.Mode), "use mode sign or leave it out")
		}
	}
	noFiles := func() {
		for _, p := range paths[2:] {
			if p.value != "" {
				f.add(p.field, quote(p.value), fmt.Sprintf("no file is read with id_block.mode %s", b.Mode), "use mode files or leave the file out")
			}
		}
	}
	switch b.Mode {
	case IDBlockSign:
		noFiles()
	case IDBlockNone:
		noKeys()
		noFiles()
	case IDBlockFiles:
		noKeys()
		for _, p := range paths[2:] {
			if p.value == "" {
				f.add(p.field, "missing", "QEMU takes an ID block and its ID auth only together", "give both files")
			}
		}
	default:
		f.add("id_block.mode", quote(string(b.Mode)), "it is none of sign, none, files", "use sign")
	}
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// noNUL refuses what no program argument can carry.
func noNUL(f *findings, field, value string) {
	if strings.IndexByte(value, 0) >= 0 {
		f.add(field, quote(value), "it has a NUL byte, which no program argument can carry", "remove it")
	}
}

// quote keeps long values out of messages.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:77] + "..."
	}
	return fmt.Sprintf("%q", s)
}
