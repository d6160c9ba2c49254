package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/qmp"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
)

// plainQEMU is a QEMU command line of an SNP guest as one writes it by hand.
func plainQEMU(t testing.TB, qemu, cpu string, more ...string) []string {
	t.Helper()
	return append([]string{
		qemu, "-nodefaults", "-no-user-config", "-display", "none", "-cpu", cpu, "-m", "256M",
		"-machine", "q35,accel=kvm,confidential-guest-support=sev0,memory-backend=ram1",
		"-object", "memory-backend-memfd,id=ram1,size=256M,share=true",
		"-object", fmt.Sprintf("sev-snp-guest,id=sev0,cbitpos=%d,reduced-phys-bits=1", host.CBitPos()),
		"-bios", parts(t).Firmware.Path,
	}, more...)
}

// simExec runs a command under sim exec with flags before it.
func simExec(t testing.TB, flags, command []string) (stderr string, err error) {
	t.Helper()
	cmd, _ := simExecCommand(t, flags, command)
	var out bytes.Buffer
	cmd.Stderr = &out
	err = cmd.Run()
	return out.String(), err
}

// makeRoot lets no launch tell that it makes the simulated root.
var makeRoot sync.Once

func simExecCommand(t testing.TB, flags, line []string) (*exec.Cmd, string) {
	t.Helper()
	makeRoot.Do(func() {
		cmd, _ := command(t, t.Name(), "sim", "root")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sim root: %v\n%s", err, out)
		}
	})
	return command(t, t.Name(), slices.Concat([]string{"sim", "exec"}, flags, []string{"--"}, line)...)
}

// cpuModels lists the EPYC models of a QEMU, with versions and aliases.
func cpuModels(t testing.TB, qemu string) []string {
	t.Helper()
	out, err := exec.Command(qemu, "-cpu", "help").Output()
	if err != nil {
		t.Fatalf("%s -cpu help: %v", qemu, err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\s*(?:x86 )?(EPYC\S*)`).FindAllStringSubmatch(string(out), -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	if len(names) < 10 {
		t.Fatalf("%s -cpu help: EPYC models %q", qemu, names)
	}
	return names
}

// A host has what the CPU models of its generation and of those before ask for,
// so that QEMU starts without a warning. A Turin needs a kernel that tells its
// newest features: under 6.12 QEMU misses two of them, as on hardware.
func TestModelsStartWithoutWarnings(t *testing.T) {
	digest := regexp.MustCompile(`^snplaunch: launch digest [0-9a-f]{96} \(SIMULATED\)\n$`)
	for _, qemu := range []string{parts(t).QEMU.Path, nextQEMU(t)} {
		var turins int
		for _, model := range cpuModels(t, qemu) {
			hosts := [][2]string{{"milan", "6.12"}, {"genoa", "6.12"}}
			switch {
			case strings.HasPrefix(model, "EPYC-Turin"):
				hosts = [][2]string{{"turin", "7.2"}}
				turins++
			case strings.HasPrefix(model, "EPYC-Genoa"):
				hosts = [][2]string{{"genoa", "6.12"}, {"turin", "7.2"}}
			}
			for _, h := range hosts {
				stderr, err := simExec(t, []string{"--platform", h[0], "--kernel-profile", h[1], "--cpuid-check", "off"}, plainQEMU(t, qemu, model))
				if err != nil || !digest.MatchString(stderr) {
					t.Errorf("%s of %s on %s under %s: %v\n%s", model, qemu, h[0], h[1], err, stderr)
				}
			}
		}
		if qemu == parts(t).QEMU.Path {
			continue
		}
		if turins == 0 {
			t.Errorf("%s has no Turin", qemu)
		}
		stderr, _ := simExec(t, []string{"--platform", "turin", "--cpuid-check", "off"}, plainQEMU(t, qemu, "EPYC-Turin"))
		for _, feature := range []string{"prefetchi", "srso-user-kernel-no"} {
			if !strings.Contains(stderr, "warning: host doesn't support requested feature: ") || !strings.Contains(stderr, feature) {
				t.Errorf("Linux 6.12 on a Turin: QEMU does not miss %s:\n%s", feature, stderr)
			}
		}
		if n := strings.Count(stderr, "warning:"); n != 2 {
			t.Errorf("Linux 6.12 on a Turin: %d warnings, want 2:\n%s", n, stderr)
		}
	}
}

// probe starts a QEMU without a machine, as libvirt does to find out what a host
// can do, and asks it by QMP.
func probe(t testing.TB, flags []string, qemu string, ask func(*qmp.Client)) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "qmp")
	cmd, _ := simExecCommand(t, flags, []string{qemu, "-S", "-no-user-config", "-nodefaults", "-nographic",
		"-machine", "none,accel=kvm:tcg", "-qmp", "unix:" + socket + ",server=on,wait=off"})
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	q := dialQMP(t, socket, ended, &stderr)
	ask(q)
	if err := q.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, stderr.String())
	}
}

// dialQMP waits for a QEMU's socket.
func dialQMP(t testing.TB, socket string, ended <-chan error, stderr *lockedBuffer) *qmp.Client {
	t.Helper()
	var conn net.Conn
	for conn == nil {
		select {
		case err := <-ended:
			t.Fatalf("QEMU ended: %v\n%s", err, stderr.String())
		case <-time.After(20 * time.Millisecond):
		}
		conn, _ = net.Dial("unix", socket)
	}
	t.Cleanup(func() { conn.Close() })
	q, err := qmp.Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// What libvirt asks a QEMU on each host: an ordinary VM has every CPU model
// up to its generation in full, and SEV tells certificates and the chip's id.
func TestCapabilities(t *testing.T) {
	generation := map[string]int{"EPYC": 0, "EPYC-IBPB": 0, "EPYC-Rome": 0, "EPYC-Milan": 1, "EPYC-Genoa": 2, "EPYC-Turin": 3}
	version := regexp.MustCompile(`-v\d+$`)
	for _, qemu := range []string{parts(t).QEMU.Path, nextQEMU(t)} {
		for i, h := range [][2]string{{"milan", "6.12"}, {"genoa", "6.12"}, {"turin", "7.2"}} {
			probe(t, []string{"--platform", h[0], "--kernel-profile", h[1]}, qemu, func(q *qmp.Client) {
				var models []struct {
					Name        string
					Unavailable []string `json:"unavailable-features"`
				}
				if err := q.Execute(t.Context(), "query-cpu-definitions", nil, &models); err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, m := range models {
					g, isEPYC := generation[version.ReplaceAllString(m.Name, "")]
					if !isEPYC {
						continue
					}
					n++
					if here := g <= i+1; here != (len(m.Unavailable) == 0) {
						t.Errorf("%s of %s on %s: unavailable %q", m.Name, qemu, h[0], m.Unavailable)
					}
				}
				if n < 10 {
					t.Errorf("%s knows %d EPYC models", qemu, n)
				}
				var sev struct {
					PDH   []byte
					Chain []byte `json:"cert-chain"`
					ID    []byte `json:"cpu0-id"`
					CBit  *int   `json:"cbitpos"`
				}
				if err := q.Execute(t.Context(), "query-sev-capabilities", nil, &sev); err != nil {
					t.Fatal(err)
				}
				if len(sev.PDH) != 2084 || len(sev.Chain) != 6252 || len(sev.ID) != 64 || sev.CBit == nil || *sev.CBit != int(host.CBitPos()) {
					t.Errorf("query-sev-capabilities: %d, %d, %d bytes", len(sev.PDH), len(sev.Chain), len(sev.ID))
				}
			})
		}
	}
	probe(t, []string{"--fault", "no-sev"}, nextQEMU(t), func(q *qmp.Client) {
		if err := q.Execute(t.Context(), "query-sev-capabilities", nil, nil); err == nil {
			t.Error("a host without SEV has capabilities")
		}
	})
}

// launchRecord is a line of --report, as a stranger reads it.
type launchRecord struct {
	Simulated     bool
	Product       string
	KernelProfile string `json:"kernel_profile"`
	Command       string
	Errno         int
	Status        string `json:"firmware_status_name"`
	Digest        string `json:"launch_digest"`
	Features      string `json:"sev_features"`
	Policy        string
	HostData      string `json:"host_data"`
	IDBlock       []byte `json:"id_block"`
	IDAuth        []byte `json:"id_auth"`
	Updates       []struct{ Type, GPA, Digest string }
	VMSAs         []struct{ Bytes []byte }
}

func readReport(t testing.TB, path string) (out []launchRecord) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var r launchRecord
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %.200s", err, line)
		}
		out = append(out, r)
	}
	return out
}

// QEMU 11 makes a new VM when its guest is reset, with a new context: each
// launch is measured by itself, and comes out the same.
func TestResetLaunchesAgain(t *testing.T) {
	report := filepath.Join(t.TempDir(), "launches.json")
	socket := filepath.Join(t.TempDir(), "qmp")
	cmd, _ := simExecCommand(t, []string{"--hold", "--report", report},
		plainQEMU(t, nextQEMU(t), "EPYC-v4", "-smp", "2", "-qmp", "unix:"+socket+",server=on,wait=off"))
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	q := dialQMP(t, socket, ended, &stderr)
	for n := 2; n <= 3; n++ {
		if err := q.Execute(t.Context(), "system_reset", nil, nil); err != nil {
			t.Fatalf("system_reset: %v\n%s", err, stderr.String())
		}
		for len(readReport(t, report)) < n {
			select {
			case err := <-ended:
				t.Fatalf("QEMU ended: %v\n%s", err, stderr.String())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if err := q.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, stderr.String())
	}
	records := readReport(t, report)
	if len(records) != 3 {
		t.Fatalf("%d launches, want 3", len(records))
	}
	for i, r := range records {
		if r.Digest == "" || r.Digest != records[0].Digest || len(r.Updates) != len(records[0].Updates) || len(r.VMSAs) != 2 || r.Errno != 0 {
			t.Errorf("launch %d: %s, %d pages, %d save areas, errno %d", i+1, r.Digest, len(r.Updates), len(r.VMSAs), r.Errno)
		}
	}
}

// What --report holds of launches by two programs at once, one of which fails.
func TestSimExecReport(t *testing.T) {
	report := filepath.Join(t.TempDir(), "launches.json")
	good := plainQEMU(t, parts(t).QEMU.Path, "EPYC-Genoa", "-smp", "2")
	bad := plainQEMU(t, parts(t).QEMU.Path, "EPYC-Genoa")
	for i, a := range bad {
		if strings.HasPrefix(a, "sev-snp-guest") {
			bad[i] += ",policy=0x30138" // ABI 1.56, and the firmware has 1.55
		}
	}
	script := fmt.Sprintf("%s & %s; wait", strings.Join(good, " "), strings.Join(bad, " "))
	stderr, err := simExec(t, []string{"--report", report, "--kernel-profile", "6.11"}, []string{"sh", "-c", script})
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	records := readReport(t, report)
	if len(records) != 2 {
		t.Fatalf("%d launches, want 2:\n%s", len(records), stderr)
	}
	slices.SortFunc(records, func(a, b launchRecord) int { return a.Errno - b.Errno })
	ok, refused := records[0], records[1]
	if !ok.Simulated || ok.Product != "Genoa" || ok.KernelProfile != "6.11" || ok.Command != "SNP_LAUNCH_FINISH" || ok.Errno != 0 || ok.Policy != "0x30000" ||
		len(ok.VMSAs) != 2 || !strings.Contains(stderr, "launch digest "+ok.Digest+" (SIMULATED)") || ok.Updates[len(ok.Updates)-1].Digest != ok.Digest {
		t.Errorf("the launch that succeeded: %+v", ok)
	}
	if refused.Command != "SNP_LAUNCH_START" || refused.Errno != 5 || refused.Status != "POLICY_FAILURE" || refused.Policy != "0x30138" || refused.Digest != "" {
		t.Errorf("the launch that was refused: %+v", refused)
	}
}

// On AMD's SNP host tree of 2023 each save area has DebugSwap and no floating
// point state, which gives the commonest of unexpected digests. It is what
// measure computes for such a host.
func TestLaunchOnAMDs66Tree(t *testing.T) {
	report := filepath.Join(t.TempDir(), "launches.json")
	qemu := plainQEMU(t, parts(t).QEMU.Path, "EPYC-Milan", "-smp", "2")
	for _, profile := range []string{"amd-6.6", "6.12"} {
		stderr, err := simExec(t, []string{"--report", report, "--kernel-profile", profile}, qemu)
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		g := aGuest(t)
		g.Kernel, g.Initrd, g.Append, g.KernelHashes, g.CPU, g.VCPUs = "", "", "", false, "EPYC-Milan", 2
		if err := g.SetHostKernel(profile); err != nil {
			t.Fatal(err)
		}
		inputs, err := g.Open()
		if err != nil {
			t.Fatal(err)
		}
		want, err := measure.Measure(g, inputs)
		if err := errors.Join(err, inputs.Close()); err != nil {
			t.Fatal(err)
		}
		r := readReport(t, report)[0]
		features := map[string]string{"amd-6.6": "0x21", "6.12": "0x1"}[profile]
		if r.Digest != want.LaunchDigest.String() || r.Features != features {
			t.Errorf("%s: launched %s with features %s, computed %s; want features %s", profile, r.Digest, r.Features, want.LaunchDigest, features)
		}
	}
}

// run meets the same machines: another processor, another kernel, faults.
func TestRunOnOtherMachines(t *testing.T) {
	milan, err := psp.ParsePlatform("milan")
	if err != nil {
		t.Fatal(err)
	}
	amd, err := kvm.ParseProfile("amd-6.6")
	if err != nil {
		t.Fatal(err)
	}
	refusing, err := kvm.ParseFault("SNP_LAUNCH_FINISH:1=BAD_SIGNATURE")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		machine launcher.Simulation
		verdict launcher.Verdict
		stderr  string
	}{
		{"Milan", launcher.Simulation{Platform: &milan}, launcher.VerdictMatch, ""},
		{"AMD's 6.6 tree", launcher.Simulation{Kernel: amd}, launcher.VerdictLaunchFailed, "SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'"},
		{"firmware that refuses", launcher.Simulation{Faults: []kvm.Fault{refusing}}, launcher.VerdictLaunchFailed, "SNP_LAUNCH_FINISH ret=-5 fw_error=10 'Bad signature'"},
	} {
		o := options(t)
		o.LaunchOnly, o.Simulation = true, c.machine
		res := launch(t, aGuest(t), o)
		if res.Verdict != c.verdict || !contains(res.Stderr, c.stderr) {
			t.Errorf("%s: verdict %s, want %s\n%s", c.name, res.Verdict, c.verdict, res.Stderr)
		}
	}
}

// Values that do not exist are told with the nearest that does.
func TestSimExecUsage(t *testing.T) {
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--fault", "SNP_LAUNCH_FINSH=EIO"}, "did you mean SNP_LAUNCH_FINISH?"},
		{[]string{"--kernel-profile", "6.122"}, "did you mean 6.12?"},
		{[]string{"--platform", "genova"}, "genoa"},
		{[]string{"--cpuid-check", "maybe"}, "on or off"},
	} {
		stderr, err := simExec(t, c.flags, []string{"true"})
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: %v\n%s", c.flags, err, stderr)
		}
	}
	stderr, err := simExec(t, []string{"--report", filepath.Join(t.TempDir(), "missing", "r.json")}, []string{"false"})
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 125 || !strings.Contains(stderr, "--report") {
		t.Errorf("a report that cannot be written: %v\n%s", err, stderr)
	}
}
