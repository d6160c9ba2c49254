package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// expected reads the digests that measure/testdata/recipe.py computes.
func expected(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("../../measure/testdata/variants.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		name, digest, _ := strings.Cut(line, ": ")
		out[name] = digest
	}
	return out
}

// recipeImages writes the files of the recipe's launches: firmware, kernel,
// initrd, SVSM.
func recipeImages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	svsm := ovmftest.Spec{
		Sections: []ovmf.Section{{GPA: 0x800000, Size: 0x1000, Type: ovmf.SNPSecrets}, {GPA: 0x801000, Size: 0x1000, Type: ovmf.CPUID}},
		Extra:    []ovmftest.Entry{{GUID: ovmf.GUIDSVSMInfo, Data: binary.LittleEndian.AppendUint32(nil, 0x10)}},
	}
	for name, data := range map[string][]byte{
		"OVMF.fd": ovmftest.AmdSev().Build(), "vmlinuz": []byte("kernel"), "initrd.img": []byte("initrd"), "svsm.bin": svsm.Build(), "OVMF_VARS.fd": make([]byte, 0x8000),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDropIn: command lines as sev-snp-measure's README has them, and the
// spellings of other tools.
func TestDropIn(t *testing.T) {
	want := expected(t)
	t.Chdir(recipeImages(t))
	boot := " --kernel=vmlinuz --initrd=initrd.img --append=console=ttyS0"
	for line, name := range map[string]string{
		"--mode snp --vcpus=2 --vcpu-type=EPYC-v4 --ovmf=OVMF.fd" + boot:                                                         "base",
		"--mode snp --vcpus=2 --vcpu-sig=0x800f12 --ovmf=OVMF.fd" + boot:                                                         "base",
		"--mode snp --vcpus=2 --vcpu-sig 8392466 --ovmf OVMF.fd" + boot:                                                          "base",
		"--mode snp --vcpus=2 --vcpu-sig 0o40007422 --ovmf OVMF.fd" + boot:                                                       "base",
		"--mode snp --vcpus=2 --vcpu-family=23 --vcpu-model=1 --vcpu-stepping=2 --ovmf=OVMF.fd" + boot:                           "base",
		"--mode sev-snp --vcpus=2 --cpu EPYC-v4 --vcpu-sig 0x800f12 --vcpu-type EPYC-IBPB --vmm-type qemu --ovmf OVMF.fd" + boot: "base",
		"--mode snp --vcpus=1 --vcpu-type=EPYC-v4 --ovmf=OVMF.fd" + boot:                                                         "one vCPU",
		"--mode snp --vcpus=2 --vcpu-type=EPYC-Genoa --ovmf=OVMF.fd" + boot:                                                      "signature",
		"--mode snp --vcpus=2 --vcpu-type=EPYC-v4 --guest-features 0x21 --ovmf=OVMF.fd" + boot:                                   "features",
		"--mode snp --vcpus=2 --vcpu-type=EPYC-v4 --guest-features debugswap --ovmf=OVMF.fd" + boot:                              "features",
		"--mode snp --vcpus=2 --vcpu-type=EPYC-v4 --guest-features 0 --ovmf=OVMF.fd" + boot:                                      "features none",
		"--mode snp --vcpus=2 --vmm-type=ec2 --ovmf=OVMF.fd" + boot:                                                              "ec2",
		"--mode snp --vcpus=2 --vmm-type=ec2 --vcpu-sig 0x800f12 --ovmf=OVMF.fd" + boot:                                          "ec2",
		"--mode snp --vcpus=2 --vmm-type=gce --ovmf=OVMF.fd" + boot:                                                              "gce",
		"--mode snp --vcpus=2 --vmm-type=gce --vcpu-type EPYC-Genoa-v2 --ovmf=OVMF.fd" + boot:                                    "gce on Genoa",
		"--mode snp --vcpus=2 --vmm-type=krun --ovmf=OVMF.fd" + boot:                                                             "krun",
		"--mode snp --vcpus=2 --host-kernel amd-6.8 --ovmf=OVMF.fd" + boot:                                                       "amd-6.8",
		"--mode snp --vcpus=2 --host-kernel 6.6.0-rc1-snp-host-35f31dfb8101 --ovmf=OVMF.fd" + boot:                               "amd-6.6",
		"--mode snp --vcpus=2 --host-kernel amd-6.6 --guest-features=0x21 --ovmf=OVMF.fd" + boot:                                 "amd-6.6",
		"--mode seves --vcpus=2 --vcpu-type=EPYC-v4 --ovmf=OVMF.fd" + boot:                                                       "seves",
		"--mode sev-es --vcpus=2 --vcpu-type=EPYC-v4 --guest-features 0x21 --ovmf=OVMF.fd" + boot:                                "seves",
		"--mode seves --vcpus=2 --vcpu-type=EPYC-v4 --host-kernel 6.6 --ovmf=OVMF.fd" + boot:                                     "seves, 6.6",
		"--mode sev --ovmf=OVMF.fd" + boot:                                                                                       "sev",
		"--mode snp:svsm --vmm-type=QEMU --vcpus=2 --vcpu-type=EPYC-v4 --ovmf=OVMF.fd --svsm=svsm.bin --vars-file=OVMF_VARS.fd":  "svsm",
		"--mode snp:svsm --vcpus=2 --vcpu-type=EPYC-v4 --ovmf=OVMF.fd --svsm=svsm.bin --vars-size=540672":                        "svsm, other variable store",
		"--mode snp:svsm --vcpus=2 --ovmf=OVMF.fd --svsm=svsm.bin --vars-size=0x8000 --host-kernel amd-6.8":                      "svsm, amd-6.8",
		// What the mode before prints, in any of its forms.
		"--mode snp --vcpus=2 --ovmf=OVMF.fd --snp-ovmf-hash 1f94fb21793cba43f7fff1cac6078ed7ec839a45a0e70e500ee179a24cff7e6fc7743d136d9b4b3687d0b6e7fac1f314" + boot: "base",
		"--mode snp --vcpus=2 --ovmf=OVMF.fd --ovmf-hash H5T7IXk8ukP3//HKxgeO1+yDmkWg5w5QDuF5okz/fm/HdD0TbZtLNofQtuf6wfMU" + boot:                                     "base",
	} {
		t.Run(line, func(t *testing.T) {
			out, stderr, code := program(append([]string{"measure"}, strings.Fields(line)...)...)
			if code != exitOK || out != want[name]+"\n" || want[name] == "" {
				t.Errorf("exit code %d, stderr %s\n got %swant %s (%s)", code, stderr, out, want[name], name)
			}
		})
	}
	if out, _, _ := program("measure", "--mode", "snp:ovmf-hash", "--ovmf", "OVMF.fd"); out != "1f94fb21793cba43f7fff1cac6078ed7ec839a45a0e70e500ee179a24cff7e6fc7743d136d9b4b3687d0b6e7fac1f314\n" {
		t.Errorf("OVMF hash %s", out)
	}
}

// TestNoImages: metadata, digests of files, and the digest for one vCPU each
// stand for the images.
func TestNoImages(t *testing.T) {
	want := expected(t)
	t.Chdir(recipeImages(t))
	measure := func(args ...string) string {
		t.Helper()
		out, stderr, code := program(append([]string{"measure"}, args...)...)
		if code != exitOK || stderr != "" {
			t.Fatalf("%v: exit code %d, %s", args, code, stderr)
		}
		return strings.TrimSpace(out)
	}
	boot := []string{"--kernel", "vmlinuz", "--initrd", "initrd.img", "--append", "console=ttyS0"}
	var sums map[string]string
	out, _, _ := program(append([]string{"hashes", "--json"}, boot...)...)
	if err := json.Unmarshal([]byte(out), &sums); err != nil {
		t.Fatal(err)
	}
	digests := []string{"--kernel-sha256", sums["kernel"], "--initrd-sha256", sums["initrd"], "--append-sha256", sums["cmdline"]}

	whole := slices.Concat([]string{"--ovmf", "OVMF.fd", "--vcpus", "2", "--metadata-out", "md.json"}, boot)
	if got := measure(whole...); got != want["base"] {
		t.Errorf("with all images: %s", got)
	}
	if err := os.Remove("OVMF.fd"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		slices.Concat([]string{"--metadata", "md.json", "--vcpus", "2"}, boot),
		slices.Concat([]string{"--metadata", "md.json", "--vcpus", "2"}, digests),
		slices.Concat([]string{"--metadata", "md.json", "--vcpus", "2"}, boot, digests),
		{"--one-vcpu-digest", want["one vCPU"], "--ap-reset", "0x80b004", "--vcpus", "2"},
	} {
		if got := measure(append(args, "--strict")...); got != want["base"] {
			t.Errorf("%v: %s", args, got)
		}
	}
	if got := measure("--one-vcpu-digest", want["one vCPU"], "--ap-reset", "8433668", "--vcpus", "7"); got != want["seven vCPUs"] {
		t.Errorf("seven vCPUs: %s", got)
	}
	// The file that is written from a file is that file.
	measure("--metadata", "md.json", "--metadata-out", "again.json")
	a, err := os.ReadFile("md.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("again.json")
	if err != nil || string(a) != string(b) {
		t.Errorf("%v\n%s\n%s", err, a, b)
	}
}

// TestMeasureRefusals: one sentence, the right exit code, nothing on stdout.
func TestMeasureRefusals(t *testing.T) {
	t.Chdir(recipeImages(t))
	digest := strings.Repeat("00", 48)
	for line, c := range map[string]struct {
		code int
		want string
	}{
		"--vcpu-tpye EPYC":                          {exitUsage, "(did you mean --vcpu-type?)"},
		"--colour":                                  {exitUsage, "not defined: -colour;"},
		"--mode snp:svms":                           {exitUsage, "did you mean snp:svsm?"},
		"--vmm-type qmu":                            {exitUsage, "did you mean QEMU?"},
		"--output-format base46":                    {exitUsage, "did you mean base64?"},
		"--vcpu-type EPYC-Milano":                   {exitUsage, "did you mean EPYC-Milan?"},
		"--vcpu-type EPYC,family=300":               {exitUsage, "from 0 to 270"},
		"--vcpu-sig a00f11":                         {exitUsage, "write 0xa00f11 for hexadecimal"},
		"--vcpu-sig 0x1a00f1100":                    {exitUsage, "from 0 to 4294967295"},
		"--vcpu-family 25 --vcpu-model 1":           {exitUsage, "give all three"},
		"--vcpu-stepping 16":                        {exitUsage, "from 0 to 15"},
		"--vcpu-type EPYC-Rome --vcpu-sig 0x800f12": {exitUsage, "--vcpu-type EPYC-Rome means the CPU signature 0x830f10, but --vcpu-sig means 0x800f12"},
		"--vcpu-type EPYC-Rome --cpu EPYC-Milan":    {exitUsage, "give one of them"},
		"--vcpu-sig 1 --vcpu-family 25 --vcpu-model 1 --vcpu-stepping 1": {exitUsage, "give one of them"},
		"--host-kernel linux":                        {exitUsage, "use one of 6.11+"},
		"--host-kernel 5.4":                          {exitUsage, "older than any"},
		"--host-kernel amd-6.6 --guest-features 0x1": {exitNo, "host kernel amd-6.6 launches with 0x21"},
		"--guest-features 21":                        {exitUsage, "write 0x21"},
		"--guest-features debugswop":                 {exitUsage, "did you mean DebugSwap?"},
		"--vcpus 0":                                  {exitNo, "a guest has at least one"},
		"--vcpus 0x4":                                {exitUsage, "not a decimal number"},
		"--snp-ovmf-hash 00":                         {exitUsage, "want 96 hexadecimal digits, with or without 0x, or 64 base64 characters"},
		"--snp-ovmf-hash " + digest[:64]:             {exitUsage, "is a SHA-256 in hexadecimal"},
		"--snp-ovmf-hash " + digest + " --mode sev":  {exitNo, "in mode snp only"},
		"--kernel-sha256 12":                         {exitUsage, "SHA-256: got 2 characters"},
		"--mode snp:svsm":                            {exitUsage, "name it with --svsm"},
		"--mode snp:svsm --svsm svsm.bin":            {exitUsage, "give --vars-size or --vars-file"},
		"--mode snp:svsm --svsm svsm.bin --vars-size 1 --vars-file OVMF_VARS.fd": {exitUsage, "give one of them"},
		"--mode snp:svsm --svsm svsm.bin --vars-size 4k":                         {exitUsage, "not a number of bytes"},
		"--mode snp:svsm --svsm svsm.bin --vars-size 5":                          {exitNo, "variable store is not possible"},
		"--mode snp:svsm --svsm none.bin --vars-size 0":                          {exitNo, "SVSM image none.bin"},
		"--mode snp:svsm --svsm svsm.bin --vars-file none.fd":                    {exitNo, "none.fd"},
		"--svsm svsm.bin": {exitUsage, "are for --mode snp:svsm"},
		"--ap-reset 1":    {exitUsage, "is for --one-vcpu-digest"},
		"--one-vcpu-digest " + digest + " --ap-reset 1":   {exitUsage, "leave them out"},
		"--metadata vmlinuz":                              {exitUsage, "--metadata stands for the firmware, but OVMF.fd is named, too"},
		"--mode sev --metadata-out md.json":               {exitUsage, "has no firmware metadata"},
		"--metadata-out none/md.json":                     {exitNo, "--metadata-out: "},
		"--append x":                                      {exitNo, "only with a kernel"},
		"--initrd initrd.img":                             {exitNo, "only with a kernel"},
		"--kernel none":                                   {exitNo, "none"},
		"--kernel vmlinuz --kernel-sha256 " + digest[:64]: {exitNo, "vmlinuz has the SHA-256"},
	} {
		out, stderr, code := program(append([]string{"measure", "--ovmf", "OVMF.fd"}, strings.Fields(line)...)...)
		if code != c.code || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s\nexit code %d, want %d; stdout %q, stderr %q, want %q", line, code, c.code, out, stderr, c.want)
		}
	}
	for line, want := range map[string]string{
		"--one-vcpu-digest " + digest:                    "give --ap-reset",
		"--one-vcpu-digest 00 --ap-reset 1":              "want 96 hexadecimal digits",
		"--one-vcpu-digest " + digest + " --ap-reset 1g": "not an address",
	} {
		if _, stderr, code := program(append([]string{"measure"}, strings.Fields(line)...)...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %s", line, code, stderr)
		}
	}
}

// TestStrict: what would not launch has its digest and a warning; --strict
// makes an exit code of it.
func TestStrict(t *testing.T) {
	t.Chdir(recipeImages(t))
	if err := os.WriteFile("vmlinux", []byte("\x7fELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"measure", "--ovmf", "OVMF.fd", "--kernel", "vmlinux"}
	plain, stderr, code := program(args...)
	if code != exitOK || len(plain) != 97 || !strings.Contains(stderr, "warning: kernel vmlinux: it is an ELF file") {
		t.Errorf("exit code %d, %s%s", code, plain, stderr)
	}
	out, stderr, code := program(append(args, "--strict")...)
	if code != exitNo || out != plain || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, %s%s", code, out, stderr)
	}
	var object struct{ Warnings []string }
	out, _, _ = program(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &object); err != nil || len(object.Warnings) != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestHostCPU: `host` is this machine, and says what it stands for.
func TestHostCPU(t *testing.T) {
	sig, ok := host.CPUSignature()
	if !ok {
		t.Skip("no CPUID instruction (this is not x86-64)")
	}
	t.Chdir(recipeImages(t))
	flags := []string{"measure", "--ovmf", "OVMF.fd"}
	named, _, _ := program(append(flags, "--vcpu-sig", fmt.Sprint(sig))...)
	out, stderr, code := program(append(flags, "--vcpu-type", "host")...)
	if code != exitOK || out != named || !strings.Contains(stderr, fmt.Sprintf("signature 0x%08x", sig)) {
		t.Errorf("exit code %d, %s, %s; want %s", code, out, stderr, named)
	}
	// Properties change it as QEMU does.
	other, _, _ := program(append(flags, "--vcpu-type", "EPYC,family=25,model=1,stepping=1")...)
	if out, _, _ := program(append(flags, "--cpu", "max,family=25,model=1,stepping=1")...); out != other {
		t.Errorf("%s, want %s", out, other)
	}
	if _, stderr, code := program(append(flags, "--cpu", "host", "--vcpu-sig", "1")...); code != exitUsage || !strings.Contains(stderr, "give one of them") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestFileAndFlags: a flag overrides the file, what goes with the value too.
func TestFileAndFlags(t *testing.T) {
	want := expected(t)
	t.Chdir(recipeImages(t))
	boot := "firmware: OVMF.fd\nkernel: vmlinuz\ninitrd: initrd.img\nappend: console=ttyS0\nvcpus: 2\n"
	for _, c := range []struct{ file, flags, want string }{
		{"", "", "base"},
		{"cpu: EPYC-Genoa", "", "signature"},
		{"cpu: EPYC-Genoa", "--vcpu-type EPYC", "base"},
		{"cpu: EPYC-Genoa", "--vcpu-sig 0x800f12", "base"},
		{"cpu_sig: 0xa10f10", "", "signature"},
		{"cpu_sig: 0xa10f10", "--cpu EPYC-v2", "base"},
		{"cpu_sig: 0xa10f10", "--vcpu-family 23 --vcpu-model 1 --vcpu-stepping 2", "base"},
		{"host_kernel: amd-6.6", "", "amd-6.6"},
		{"host_kernel: amd-6.6", "--host-kernel 6.12", "base"},
		{"host_kernel: amd-6.6", "--guest-features 0x21", "amd-6.6"},
		{"host_kernel: amd-6.6", "--guest-features 0x1", "base"},
		{"guest_features: 0x21", "", "features"},
		{"guest_features: 0x21", "--host-kernel amd-6.8", "amd-6.8"},
		{"guest_features: 0x21", "--guest-features 1", "base"},
	} {
		if err := os.WriteFile("guest.yaml", []byte(boot+c.file+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, stderr, code := program(append([]string{"measure", "guest.yaml"}, strings.Fields(c.flags)...)...)
		if code != exitOK || out != want[c.want]+"\n" {
			t.Errorf("%q, %q: exit code %d, %s\n got %swant %s", c.file, c.flags, code, stderr, out, want[c.want])
		}
	}
}

// TestHostKernelOutput: nobody has to guess which kernel a digest assumes.
func TestHostKernelOutput(t *testing.T) {
	t.Chdir(recipeImages(t))
	for flags, want := range map[string]hostKernelOutput{
		"":                       {"6.11+", "Linux 6.11 and later", "", "0x1", "FPU reset state"},
		"--host-kernel 6.12.95":  {"6.11+", "Linux 6.11 and later", "6.12.95", "0x1", "FPU reset state"},
		"--host-kernel amd-6.7":  {"amd-6.6-6.7", "AMD's SNP host trees based on Linux 6.6 and 6.7", "amd-6.7", "0x21", "FPU state zero"},
		"--guest-features 0x221": {"6.11+", "Linux 6.11 and later", "", "0x1", "FPU reset state"},
	} {
		out, stderr, _ := program(append([]string{"measure", "--ovmf", "OVMF.fd", "--json"}, strings.Fields(flags)...)...)
		var got struct {
			HostKernel hostKernelOutput `json:"host_kernel"`
			Notes      []string
			APReset    string `json:"ap_reset"`
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.HostKernel != want || got.APReset != "0x80b004" {
			t.Errorf("%q: %v, %+v, %s", flags, err, got, stderr)
		}
		if noted := len(got.Notes) == 1; noted != (flags == "--guest-features 0x221") {
			t.Errorf("%q: notes %q", flags, got.Notes)
		}
	}
}
