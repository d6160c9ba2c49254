package host

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/snp"
)

// soundLaunch is a command line that SNP takes.
func soundLaunch() []string {
	return []string{"-machine", "q35,smm=off,confidential-guest-support=sev0", "-accel", "kvm",
		"-object", "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x30000,kernel-hashes=on", "-cpu", "EPYC-v4", "-smp", "2", "-m", "512M",
		"-bios", "OVMF.amdsev.fd", "-kernel", "vmlinuz", "-nographic"}
}

// with replaces one argument.
func withArgument(flag, value string) []string {
	args := soundLaunch()
	for i := range args {
		if args[i] == flag {
			args[i+1] = value
			return args
		}
	}
	return append(args, flag, value)
}

func without(flag string) []string {
	args := soundLaunch()
	i := slices.Index(args, flag)
	return slices.Delete(args, i, i+2)
}

// signed gives an ID block for a policy in the form of QEMU's properties.
func signed(t *testing.T, policy snp.GuestPolicy, author bool) (block, auth string) {
	t.Helper()
	key, err := idblock.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	b := &snp.IDBlock{Version: snp.IDBlockVersion, Policy: policy}
	a, err := idblock.Sign(b, key, nil)
	if author {
		a, err = idblock.Sign(b, key, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw := b.Bytes()
	return ",id-block=" + base64.StdEncoding.EncodeToString(raw[:]), ",id-auth=" + base64.StdEncoding.EncodeToString(a.Bytes())
}

func TestCheckArguments(t *testing.T) {
	const object = "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1"
	block, auth := signed(t, 0x30000, false)
	other, otherAuth := signed(t, 0xb0000, false)
	authored, authoredAuth := signed(t, 0x30000, true)
	offers := &QEMU{Path: "qemu", HasObject: true, Properties: []string{"policy", "kernel-hashes", "host-data", "id-block", "id-auth", "author-key-enabled"}}
	sound := Conditions{KernelMajor: 6, KernelMinor: 12, FirmwareAPI: 0x137, SMT: true, Sockets: 2, QEMU: offers, FreeMiB: 4096, CBitPos: 51, CBitPosKnown: true}
	at := func(change func(*Conditions)) Conditions {
		c := sound
		change(&c)
		return c
	}
	policy := func(p string) []string { return withArgument("-object", object+",policy="+p) }
	for _, tc := range []struct {
		name    string
		args    []string
		on      Conditions
		id      string
		verdict Verdict
		reason  string
		remedy  string
	}{
		{"sound", soundLaunch(), sound, "launch-object", OK, "", ""},
		{"sound, nothing known", soundLaunch(), Conditions{}, "launch-policy-kvm", OK, "", ""},
		{"no object", without("-object"), sound, "launch-object", Obstacle, "no SNP launch", "-object"},
		{"object not named", withArgument("-machine", "q35"), sound, "launch-object", Obstacle, "does not name it", "confidential-guest-support"},
		{"another object named", withArgument("-machine", "q35,confidential-guest-support=sev1"), sound, "launch-object", Obstacle, `"sev1"`, "one id"},
		{"older name", withArgument("-machine", "q35,memory-encryption=sev0"), sound, "launch-object", OK, "", ""},
		{"JSON's name of the kind", withArgument("-object", "qom-type=sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1"), sound, "launch-object", OK, "", ""},
		{"object in JSON", withArgument("-object", `{"qom-type":"sev-snp-guest","id":"sev0","cbitpos":51,"reduced-phys-bits":1,"policy":196608,"kernel-hashes":true}`), sound, "launch-object", OK, "", ""},
		{"policy in JSON", withArgument("-object", `{"qom-type":"sev-snp-guest","id":"sev0","cbitpos":51,"reduced-phys-bits":1,"policy":65536}`), sound, "launch-policy", Obstacle, "bit 17", "bit 17"},
		{"author key in JSON", withArgument("-object", `{"qom-type":"sev-snp-guest","id":"sev0","cbitpos":51,"reduced-phys-bits":1,"author-key-enabled":true}`), sound, "launch-id-block", Warning, "does nothing", "drop it"},
		{"JSON that is none", withArgument("-object", `{"qom-type":"sev-snp-guest"`), sound, "launch-object", Obstacle, "not understood", "JSON"},
		{"C-bit", soundLaunch(), sound, "launch-cbitpos", OK, "51", ""},
		{"C-bit in hexadecimal", withArgument("-object", "sev-snp-guest,id=sev0,cbitpos=0x33,reduced-phys-bits=1"), sound, "launch-cbitpos", OK, "51", ""},
		{"C-bit of another machine", withArgument("-object", "sev-snp-guest,id=sev0,cbitpos=47,reduced-phys-bits=1"), sound, "launch-cbitpos", Obstacle, "47, and QEMU demands this machine's, which is 51", "cbitpos=51"},
		{"C-bit in JSON", withArgument("-object", `{"qom-type":"sev-snp-guest","id":"sev0","cbitpos":47,"reduced-phys-bits":1}`), sound, "launch-cbitpos", Obstacle, "47", "cbitpos=51"},
		{"no C-bit", withArgument("-object", "sev-snp-guest,id=sev0,reduced-phys-bits=1"), sound, "launch-cbitpos", Obstacle, "none", "cbitpos=51"},
		{"C-bit in words", withArgument("-object", "sev-snp-guest,id=sev0,cbitpos=high,reduced-phys-bits=1"), sound, "launch-cbitpos", Obstacle, `"high"`, "cbitpos=51"},
		{"C-bit, software host", withArgument("-object", "sev-snp-guest,id=sev0,cbitpos=47,reduced-phys-bits=1"), at(func(c *Conditions) { c.CBitPosFitted = true }), "launch-cbitpos", Warning, "47", "cbitpos=51"},
		{"C-bit not known", withArgument("-object", "sev-snp-guest,id=sev0,cbitpos=47,reduced-phys-bits=1"), Conditions{}, "launch-cbitpos", OK, "47", ""},
		{"no reduced-phys-bits", withArgument("-object", "sev-snp-guest,id=sev0,cbitpos=51"), sound, "launch-cbitpos", Obstacle, "reduced-phys-bits", "reduced-phys-bits=1"},
		{"vCPUs", soundLaunch(), sound, "launch-vcpus", OK, "2", ""},
		{"one vCPU", without("-smp"), sound, "launch-vcpus", OK, "1", ""},
		{"vCPUs by name", withArgument("-smp", "cpus=4,maxcpus=4"), sound, "launch-vcpus", OK, "4", ""},
		{"vCPUs by sockets", withArgument("-smp", "sockets=1,cores=2,threads=2"), sound, "launch-vcpus", OK, "4", ""},
		{"room for more vCPUs", withArgument("-smp", "2,maxcpus=8"), sound, "launch-vcpus", Warning, "2 vCPUs, and room for 8", "drop maxcpus"},
		{"vCPUs in words", withArgument("-smp", "two"), sound, "launch-vcpus", Unknown, "-smp", ""},
		{"TCG", withArgument("-accel", "tcg"), sound, "launch-accel", Obstacle, "tcg", "-accel kvm"},
		{"no accelerator", without("-accel"), sound, "launch-accel", Obstacle, "TCG", "-accel kvm"},
		{"-enable-kvm", append(without("-accel"), "-enable-kvm"), sound, "launch-accel", OK, "kvm", ""},
		{"-machine accel", append(without("-accel"), "-machine", "q35,confidential-guest-support=sev0,accel=kvm"), sound, "launch-accel", OK, "kvm", ""},
		{"pflash drive", append(without("-bios"), "-drive", "if=pflash,format=raw,unit=0,file=OVMF_CODE.fd,readonly=on"), sound, "launch-flash", Obstacle, "pflash", "-bios"},
		{"pflash machine", withArgument("-machine", "q35,confidential-guest-support=sev0,pflash0=code"), sound, "launch-flash", Obstacle, "pflash0", "-bios"},
		{"pflash option", append(without("-bios"), "-pflash", "OVMF.fd"), sound, "launch-flash", Obstacle, "-pflash", "-bios"},
		{"no firmware", without("-bios"), sound, "launch-flash", Obstacle, "SeaBIOS", "-bios"},
		{"SMM", withArgument("-machine", "q35,smm=on,confidential-guest-support=sev0"), sound, "launch-smm", Obstacle, "smm=on", "smm=off"},
		{"SMM left to QEMU", withArgument("-machine", "q35,confidential-guest-support=sev0"), sound, "launch-smm", OK, "left to QEMU", ""},
		{"split irqchip", withArgument("-machine", "q35,kernel-irqchip=split,confidential-guest-support=sev0"), sound, "launch-irqchip", Obstacle, "split", "kernel-irqchip=on"},
		{"irqchip off by the accelerator", withArgument("-accel", "kvm,kernel-irqchip=off"), sound, "launch-irqchip", Obstacle, "off", "kernel-irqchip=on"},
		{"private memory backend", append(soundLaunch(), "-object", "memory-backend-memfd-private,id=ram1,size=1M"), sound, "launch-memory-backend", Obstacle, "private", "memory-backend-memfd"},
		{"two backends", append(soundLaunch(), "-object", "memory-backend-ram,id=a,size=1M", "-object", "memory-backend-ram,id=b,size=1M"), sound, "launch-memory-backend", Warning, "memory-backend-ram", "one backend"},
		{"no CPU model", without("-cpu"), sound, "launch-cpu", Obstacle, "none", "EPYC-v4"},
		{"complex indexing", append(withArgument("-machine", "pc-q35-9.0,confidential-guest-support=sev0"), "-cpu", "EPYC,+x2apic"), sound, "launch-cpu", Obstacle, "complex indexing", "EPYC-v4"},
		{"complex indexing, repaired", append(withArgument("-machine", "pc-q35-9.1,confidential-guest-support=sev0"), "-cpu", "EPYC"), sound, "launch-cpu", OK, "EPYC", ""},
		{"newer version on an older machine", append(withArgument("-machine", "pc-q35-8.2,confidential-guest-support=sev0"), "-cpu", "EPYC-Milan-v2"), sound, "launch-cpu", OK, "", ""},

		{"policy in words", policy("smt"), sound, "launch-policy", Obstacle, `"smt"`, "0x30000"},
		{"policy without bit 17", policy("0x10000"), sound, "launch-policy", Obstacle, "bit 17", "bit 17"},
		{"policy of SEV", policy("0x5"), sound, "launch-policy", Obstacle, "bit 17", "SEV-ES"},
		{"no policy", withArgument("-object", object), sound, "launch-policy", OK, "0x30000", ""},
		{"MIGRATE_MA", policy("0x70000"), sound, "launch-policy-kvm", Obstacle, "0x40000", "leave them out"},
		{"reserved bit", policy("0x8000000000030000"), Conditions{}, "launch-policy-kvm", Obstacle, "0x8000000000000000", "leave them out"},
		{"SINGLE_SOCKET on 6.12", policy("0x130000"), sound, "launch-policy-kvm", Obstacle, "0x100000", "newer host kernel"},
		{"no SMT on 6.12", policy("0x20000"), at(func(c *Conditions) { c.SMT = false }), "launch-policy-kvm", Obstacle, "without SMT", "bit 16"},
		{"no SMT later", policy("0x20000"), at(func(c *Conditions) { c.KernelMinor, c.SMT = 17, false }), "launch-policy-kvm", OK, "", ""},
		{"KVM tells its bits", policy("0x230000"), at(func(c *Conditions) { c.KernelMajor, c.PolicyBits = 7, 0x1bffff }), "launch-policy-kvm", Obstacle, "0x200000", "leave them out"},
		{"KVM takes the bits", policy("0x230000"), at(func(c *Conditions) { c.KernelMajor, c.PolicyBits = 7, 0x3bffff }), "launch-policy-kvm", OK, "", ""},
		{"firmware too old", policy("0x30138"), sound, "launch-policy-firmware", Obstacle, "1.56, and this is 1.55", "update the SEV firmware"},
		{"firmware as old as asked", policy("0x30137"), sound, "launch-policy-firmware", OK, "", ""},
		{"firmware not known", policy("0x30137"), Conditions{}, "launch-policy-firmware", Unknown, "not known", ""},
		{"SMT forbidden", policy("0x20000"), sound, "launch-policy-firmware", Obstacle, "forbids SMT", "bit 16"},
		{"one socket", policy("0x130000"), sound, "launch-policy-firmware", Obstacle, "there are 2", "bit 20"},

		{"host data", withArgument("-object", object+",host-data=AAAA"), sound, "launch-host-data", Obstacle, "32 bytes", "base64"},
		{"host data of 32 bytes", withArgument("-object", object+",host-data="+base64.StdEncoding.EncodeToString(make([]byte, 32))), sound, "launch-host-data", OK, "32 bytes", ""},
		{"ID block", withArgument("-object", object+block+auth), sound, "launch-id-block", OK, "policy 0x30000", ""},
		{"ID block alone", withArgument("-object", object+block), sound, "launch-id-block", Obstacle, "without ID auth", "together"},
		{"ID auth alone", withArgument("-object", object+auth), sound, "launch-id-block", Warning, "no id-block", "together"},
		{"ID block of another policy", withArgument("-object", object+other+otherAuth), sound, "launch-id-block", Obstacle, "made for policy 0xb0000", "launch's policy"},
		{"ID block of a launch with its policy", withArgument("-object", object+",policy=0xb0000"+other+otherAuth), sound, "launch-id-block", OK, "", ""},
		{"ID block's path", withArgument("-object", object+",id-block=/tmp/block,id-auth=/tmp/auth"), sound, "launch-id-block", Obstacle, "", "base64"},
		{"short ID auth", withArgument("-object", object+block+",id-auth=AAAA"), sound, "launch-id-block", Obstacle, "", "4096"},
		{"author key not switched on", withArgument("-object", object+authored+authoredAuth), sound, "launch-id-block", Warning, "nobody looks at", "author-key-enabled=on"},
		{"author key", withArgument("-object", object+authored+authoredAuth+",author-key-enabled=on"), sound, "launch-id-block", OK, "", ""},
		{"author key that is not there", withArgument("-object", object+block+auth+",author-key-enabled=on"), sound, "launch-id-block", Obstacle, "no author key", "drop author-key-enabled"},
		{"author key without an ID block", withArgument("-object", object+",author-key-enabled=on"), sound, "launch-id-block", Warning, "does nothing", "drop it"},

		{"much memory", withArgument("-m", "8G"), sound, "launch-memory", Warning, "8192 MiB", "less memory"},
		{"memory in words", withArgument("-m", "lots"), sound, "launch-memory", Unknown, "-m", ""},
		{"no -m", without("-m"), sound, "launch-memory", OK, "128 MiB", ""},
		{"memory with slots", withArgument("-m", "size=1024,slots=2,maxmem=4G"), sound, "launch-memory", OK, "1024 MiB", ""},

		{"QEMU without the object", soundLaunch(), at(func(c *Conditions) { c.QEMU = &QEMU{Path: "qemu"} }), "launch-qemu", Obstacle, "does not know", "9.1"},
		{"QEMU that cannot be asked", soundLaunch(), at(func(c *Conditions) { c.QEMU = &QEMU{Err: errors.New("gone")} }), "launch-qemu", Unknown, "gone", ""},
		{"QEMU without the property", withArgument("-object", object+",auth-key-enabled=on"), sound, "launch-qemu-properties", Obstacle, `"auth-key-enabled"`, "author-key-enabled"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checks := CheckArguments(tc.args, tc.on)
			i := slices.IndexFunc(checks, func(c Check) bool { return c.ID == tc.id })
			if i < 0 {
				t.Fatalf("no check %s", tc.id)
			}
			c := checks[i]
			if c.Verdict != tc.verdict || !strings.Contains(c.Reason, tc.reason) || !strings.Contains(c.Remedy, tc.remedy) || (c.Remedy == "") != (tc.remedy == "") {
				t.Errorf("got %+v\nwant %s, reason %q, remedy %q", c, tc.verdict, tc.reason, tc.remedy)
			}
			for _, c := range checks {
				if c.Category != Launch || c.Name == "" || c.Reason == "" || c.Verdict == "" {
					t.Errorf("something is empty in %+v", c)
				}
				if tc.verdict == OK && tc.args[0] != "" && c.Verdict == Obstacle {
					t.Errorf("%s: %+v", tc.name, c)
				}
			}
		})
	}
}

func TestCheckKernel(t *testing.T) {
	for kind, want := range map[guest.KernelKind]Verdict{
		guest.KernelBzImage: OK, guest.KernelPE: OK, guest.KernelOther: Obstacle, guest.KernelELF: Obstacle, guest.KernelMultiboot: Obstacle,
	} {
		if c := CheckKernel(kind, 8000); c.Verdict != want || c.Reason == "" || (c.Remedy != "") != (want == Obstacle) {
			t.Errorf("%s: got %+v", kind, c)
		}
	}
}

// The list is QEMU 10.0.2's.
func TestReadProperties(t *testing.T) {
	const help = "sev-snp-guest options:\n  author-key-enabled=<bool>\n  guest-visible-workarounds=<string>\n  host-data=<string>\n" +
		"  kernel-hashes=<bool>   - add kernel hashes to guest firmware for measured Linux boot\n  policy=<uint64>\n"
	if q := readProperties("qemu", help, nil); !q.HasObject || q.Err != nil || strings.Join(q.Properties, " ") != "author-key-enabled guest-visible-workarounds host-data kernel-hashes policy" {
		t.Errorf("got %+v", q)
	}
	refused := errors.New("exit status 1")
	if q := readProperties("qemu", "qemu: -object sev-snp-guest,help: Parameter 'qom-type' does not accept value 'sev-snp-guest'\n", refused); q.HasObject || q.Err != nil {
		t.Errorf("got %+v", q)
	}
	if q := readProperties("qemu", "Illegal instruction\n", refused); q.HasObject || q.Err == nil {
		t.Errorf("got %+v", q)
	}
	if q := readProperties("true", "", nil); q.HasObject || q.Err == nil {
		t.Errorf("got %+v", q)
	}
}

// A program is asked once for as long as its file is the same.
func TestAskQEMU(t *testing.T) {
	dir := t.TempDir()
	path, count := filepath.Join(dir, "qemu"), filepath.Join(dir, "count")
	script := "#!/bin/sh\necho x >>" + count + "\necho 'sev-snp-guest options:'\necho '  policy=<uint64>'\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if q := AskQEMU(t.Context(), path); !q.HasObject || q.Err != nil {
			t.Fatalf("got %+v", q)
		}
	}
	if b, err := os.ReadFile(count); err != nil || string(b) != "x\n" {
		t.Errorf("asked %q, %v", b, err)
	}
	// One that could not be asked is asked again.
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho y >>"+count+"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if q := AskQEMU(t.Context(), path); q.Err == nil {
			t.Errorf("got %+v", q)
		}
	}
	if b, err := os.ReadFile(count); err != nil || string(b) != "x\ny\ny\n" {
		t.Errorf("asked %q, %v", b, err)
	}
	if q := AskQEMU(context.Background(), filepath.Join(dir, "gone")); q.Err == nil {
		t.Errorf("got %+v", q)
	}
}

func FuzzCheckArguments(f *testing.F) {
	f.Add(strings.Join(soundLaunch(), "\n"))
	f.Add("-object\n{\"qom-type\":\"sev-snp-guest\",\"cbitpos\":[1]}\n-smp\n2,maxcpus=9,sockets=99999999999999999999\n-object\n{")
	f.Add("-object\nsev-snp-guest,id=,policy=,id-block=,,,id-auth=\n-m\n1e400T\n-machine\n,=,")
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range CheckArguments(strings.Split(s, "\n"), Conditions{KernelMajor: 6, KernelMinor: 12, FirmwareAPI: 1, FreeMiB: 1}) {
			if c.ID == "" || c.Verdict == "" || (c.Verdict == Obstacle || c.Verdict == Warning) && c.Remedy == "" {
				t.Errorf("%+v", c)
			}
		}
	})
}
